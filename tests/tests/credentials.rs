//! `--auth stored`: where user and password come from, what is refused, and that no password is shown anywhere.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use spillway_tests::process::{self, Finished};
use spillway_tests::server::{PASSWORD, USER};
use spillway_tests::{Server, Spillway, client, run, spillway_bin};

fn server() -> &'static Server {
    static SERVER: LazyLock<Server> =
        LazyLock::new(|| Server::start(&[]).unwrap_or_else(|error| panic!("{error:#}")));
    &SERVER
}

/// A file with this text and these permissions.
fn file(dir: &Path, text: &str, mode: u32) -> Result<PathBuf> {
    let path = dir.join(format!("file-{mode:o}"));
    fs::write(&path, text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    Ok(path)
}

/// `spillway serve` with settings that end it.
fn serve(options: &[&str], password: Option<&str>) -> Result<Finished> {
    let spool = tempfile::tempdir()?;
    let mut command = client::clean(spillway_bin());
    command.args(["serve", "--upstream", "127.0.0.1:1", "--listen", "127.0.0.1:0", "--spool-dir"]);
    command.arg(spool.path()).args(options).envs(password.map(|password| ("SPILLWAY_PASSWORD", password)));
    process::run(&mut command, LIMIT)
}

fn assert_refused(finished: &Finished, parts: &[&str]) -> Result<()> {
    ensure!(finished.code() == 78, "status {}: {}", finished.code(), finished.stderr);
    ensure!(parts.iter().all(|part| finished.stderr.contains(part)), "{parts:?}: {}", finished.stderr);
    ensure!(finished.stderr.trim_end().lines().count() == 1, "{}", finished.stderr);
    ensure!(!finished.stderr.contains("s3cret"), "shows the password: {}", finished.stderr);
    Ok(())
}

#[test]
fn files_that_are_of_no_use() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let stored = |text: &str, mode| {
        let path = file(dir.path(), text, mode)?.display().to_string();
        Ok::<_, anyhow::Error>((serve(&["--auth", "stored", "--credentials", &path], None)?, path))
    };
    let good = "[client]\nuser = backup\npassword = s3cret\n";
    for mode in [0o644, 0o640, 0o602] {
        let (finished, path) = stored(good, mode)?;
        assert_refused(&finished, &[&path, "chmod 600"])?;
    }
    for (text, part) in [
        ("", "[client]"),
        ("user = backup\npassword = s3cret\n", "line 1"),
        ("[client]\nuser = backup\ns3cret !\n", "line 3"),
        ("[client]\nuser = backup\n", "password ="),
        ("[client]\npassword = s3cret\n", "user ="),
    ] {
        assert_refused(&stored(text, 0o600)?.0, &[part]).with_context(|| text.to_owned())?;
    }
    assert_refused(&serve(&["--auth=stored", "--credentials=/no/such/file"], None)?, &["/no/such/file"])?;
    assert_refused(&serve(&["--auth=stored", "--credentials=/"], None)?, &["no regular file"])
}

#[test]
fn settings_that_do_not_fit() -> Result<()> {
    for (options, password, parts) in [
        (&["--auth=stored"][..], None, &["--credentials", "SPILLWAY_PASSWORD"][..]),
        (&["--auth=stored", "--user=a"], None, &["SPILLWAY_PASSWORD"]),
        (&["--auth=stored"], Some("s3cret"), &["--user"]),
        (&["--auth=stored", "--credentials=/c"], Some("s3cret"), &["twice", "--credentials"]),
        (&["--credentials=/c"], None, &["--auth stored"]),
        (&["--auth=passthrough"], Some("s3cret"), &["SPILLWAY_PASSWORD", "--auth stored"]),
        (&["--auth-timeout=0s"], None, &["--auth-timeout"]),
        (&["--handshake-timeout=0s"], None, &["--handshake-timeout"]),
    ] {
        assert_refused(&serve(options, password)?, parts).with_context(|| format!("{options:?}"))?;
    }
    Ok(())
}

#[test]
fn configuration_files_with_a_password() -> Result<()> {
    let dir = tempfile::tempdir()?;
    for (text, mode, parts) in [
        ("auth = 'stored'\nuser = 'a'\npassword = 's3cret'\n", 0o644, &["chmod 600"][..]),
        ("auth = 'stored'\nuser = 'a'\npassword = 's3cret'\n", 0o660, &["chmod 600"]),
        ("auth = 'stored'\nuser = 'a'\npasword = 's3cret'\n", 0o600, &["line 3", "pasword"]),
        ("auth = 'stored'\nuser = 'a'\npassword = s3cret\n", 0o600, &["line 3"]),
        ("auth = 'none'\nuser = 'a'\npassword = 's3cret'\n", 0o600, &["line 1", "none"]),
        ("user = 'a'\npassword = 's3cret'\n", 0o600, &["--auth stored"]),
        ("auth = 'stored'\nuser = 'a'\n", 0o644, &["SPILLWAY_PASSWORD"]),
    ] {
        let config = file(dir.path(), text, mode)?.display().to_string();
        assert_refused(&serve(&["--config", &config], None)?, parts).with_context(|| text.to_owned())?;
    }
    Ok(())
}

#[test]
fn the_help_shows_no_password() -> Result<()> {
    for command in ["serve", "run"] {
        let mut help = client::clean(spillway_bin());
        let help = process::run(help.args([command, "--help"]).env("SPILLWAY_PASSWORD", "s3cret"), LIMIT)?
            .success()?;
        ensure!(
            help.text().contains("--credentials") && help.text().contains("SPILLWAY_PASSWORD"),
            "{}",
            help.text()
        );
        ensure!(!help.text().contains("s3cret") && !help.text().contains("--password"), "{}", help.text());
    }
    Ok(())
}

/// `spillway run --auth stored --log-level trace -- mysql …` through which a statement answers 7, and what it logged.
fn answer(command: &mut Command) -> Result<String> {
    let finished = process::run(command.args(["-e", "SELECT 7"]), LIMIT)?.success()?;
    ensure!(finished.text().contains('7'), "no answer: {}", finished.text());
    ensure!(
        finished.stderr.contains("TRACE") || finished.stderr.contains("DEBUG"),
        "no log: {}",
        finished.stderr
    );
    ensure!(!finished.stderr.contains(PASSWORD), "shows the password: {}", finished.stderr);
    Ok(finished.stderr)
}

#[test]
fn the_clients_own_account() -> Result<()> {
    let (dir, spool) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let options = ["--auth", "stored", "--log-level", "trace"];
    let port = format!("--port={}", server().port());
    let mysql = |defaults: &str| {
        let mut command = run::command(spool.path(), &options);
        command.args(["mysql", defaults, "--host=127.0.0.1", &port]);
        command
    };
    let user = format!("--user={USER}");
    answer(mysql("--no-defaults").args([&user, &format!("--password={PASSWORD}")]))?;
    answer(mysql("--no-defaults").args([&user, &format!("-p{PASSWORD}")]))?;
    answer(mysql("--no-defaults").arg(&user).env("MYSQL_PWD", PASSWORD))?;
    let options = file(dir.path(), &format!("[client]\nuser={USER}\npassword=\"{PASSWORD}\"\n"), 0o600)?;
    answer(&mut mysql(&format!("--defaults-file={}", options.display())))?;
    Ok(())
}

#[test]
fn an_account_that_only_the_client_knows() -> Result<()> {
    for (line, part) in [
        (&["mysqldump", "--no-defaults", "-p", "test"][..], "`--password` makes it ask"),
        (&["mysql", "--no-defaults", "-ps3cret", "--password"], "`--password` makes it ask"),
        (
            &["mydumper", "--defaults-file=/dev/null", "-h", "127.0.0.1", "--ask-password"],
            "`--ask-password` makes",
        ),
    ] {
        let finished = run::to_end(&["--auth=stored", "--upstream=127.0.0.1:1"], &run::words(line))?;
        assert_refused(&finished, &[part, "--credentials"]).with_context(|| format!("{line:?}"))?;
    }
    Ok(())
}

#[test]
fn an_account_of_spillways_own() -> Result<()> {
    let (dir, spool) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let at = server().address().to_string();
    let account = [format!("--user={USER}"), format!("--password={PASSWORD}")];
    let path = file(dir.path(), &format!("[client]\nuser={USER}\npassword=\"{PASSWORD}\"\n"), 0o600)?;
    let path = path.display().to_string();
    let options = ["--auth=stored", "--upstream", &at, "--log-level=trace"];

    let with_file = [&options[..], &["--credentials", &path]].concat();
    answer(run::command(spool.path(), &with_file).args(["mysql", "--no-defaults"]).args(&account))?;

    let with_user = [&options[..], &["--user", USER]].concat();
    let mut mysql = run::command(spool.path(), &with_user);
    answer(mysql.args(["mysql", "--no-defaults"]).args(&account).env("SPILLWAY_PASSWORD", PASSWORD))?;

    // The client does not inherit the variable.
    let mut mysql = run::command(spool.path(), &with_user);
    mysql.args(["mysql", "--no-defaults", "-e", "system printenv SPILLWAY_PASSWORD SPILLWAY_TEST"]);
    mysql.args(&account).env("SPILLWAY_PASSWORD", PASSWORD).env("SPILLWAY_TEST", "inherited");
    let printed = process::run(&mut mysql, LIMIT)?.success()?.text();
    ensure!(printed.contains("inherited") && !printed.contains(PASSWORD), "{printed}");
    Ok(())
}

#[test]
fn a_shared_proxy_logs_no_password() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let config = format!("auth = 'stored'\nuser = '{USER}'\npassword = \"{PASSWORD}\"\n");
    let config = file(dir.path(), &config, 0o600)?.display().to_string();
    let spillway =
        Spillway::to(&server().tcp()).options(&["--config", &config, "--log-level", "trace"]).start()?;
    let mut mysql = client::command("mysql", spillway.endpoint());
    mysql.args(client::account()).args(["-e", "SELECT 7"]);
    ensure!(process::run(&mut mysql, LIMIT)?.success()?.text().contains('7'), "no answer");
    spillway.wait_for_session_end(1, LIMIT)?;
    ensure!(!spillway.log().lines().iter().any(|line| line.contains(PASSWORD)), "shows the password");
    Ok(())
}

const LIMIT: Duration = Duration::from_secs(60);
