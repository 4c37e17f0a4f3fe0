//! `spillway check`: what it finds, and by which status it ends.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::Value;
use spillway_tests::certificates::{Authority, Leaf};
use spillway_tests::check::Check;
use spillway_tests::dns::Mode;
use spillway_tests::mounts::Mounts;
use spillway_tests::process::{self, Finished};
use spillway_tests::server::{PASSWORD, USER};
use spillway_tests::stored::credentials;
use spillway_tests::{Dns, Endpoint, Netns, Server, SpoolOn, client, mysql9, spillway_bin};
use tempfile::NamedTempFile;

/// A MariaDB and a MySQL with TLS, and who has signed for them.
struct World {
    authority: Authority,
    stranger: Authority,
    credentials: NamedTempFile,
    mariadb: Server,
    mysql: Server,
}

fn world() -> &'static World {
    static WORLD: LazyLock<World> =
        LazyLock::new(|| World::start().unwrap_or_else(|error| panic!("{error:#}")));
    &WORLD
}

impl World {
    fn start() -> Result<Self> {
        let authority = Authority::new("The tests' authority")?;
        let servers = authority.issue(&Leaf::server().rsa())?;
        let options = [servers.option("ssl-cert"), servers.option("ssl-key")];
        let options = options.each_ref().map(String::as_str);
        Ok(Self {
            mariadb: Server::start(&options)?,
            mysql: mysql9::start(&options)?,
            stranger: Authority::new("Nobody knows it")?,
            credentials: credentials()?,
            authority,
        })
    }

    /// A check with the account of the tests.
    fn stored(&self, upstream: &(impl ToString + ?Sized)) -> Check {
        with_account(Check::of(upstream), self.credentials.path())
    }
}

fn with_account(check: Check, file: &Path) -> Check {
    check.options(&["--auth=stored", "--credentials", &file.display().to_string()])
}

#[test]
fn a_login_over_tcp_and_over_tls() -> Result<()> {
    let world = world();
    let ca = format!("--upstream-tls-ca={}", world.authority.file().display());
    for (server, maker, plugin) in [
        (&world.mariadb, "MariaDB", "mysql_native_password"),
        (&world.mysql, "MySQL 9", "caching_sha2_password"),
    ] {
        for (options, tls) in [
            (&["--upstream-tls=off"][..], "none: --upstream-tls off"),
            (&[], "TLS 1.3, the certificate is not checked"),
            (
                &["--upstream-tls=verify-identity", &ca],
                "TLS 1.3, the certificate is of a known CA and for this name",
            ),
        ] {
            let checked = world.stored(&server.tcp()).options(options).run()?;
            assert_status(&checked, 0)?;
            let address = server.address().to_string();
            let login = format!("{USER}, by {plugin}");
            for (step, part) in [
                ("connect", address.as_str()),
                ("greeting", maker),
                ("greeting", "offers TLS"),
                ("tls", tls),
                ("login", &login),
                ("settings", "net_write_timeout 86400 s"),
                ("settings", "max_allowed_packet 1.0 GiB"),
                ("file", "O_TMPFILE"),
                ("space", "room for a backlog of 8.0 MiB"),
                ("write", "8.0 MiB, "),
                ("read", "8.0 MiB, "),
            ] {
                let line = line(&checked, "ok", step)?;
                ensure!(line.contains(part), "no {part:?} in {line:?}");
            }
            let is_open = checked.text().contains("is not encrypted");
            ensure!(is_open == (options == ["--upstream-tls=off"]), "{}", checked.text());
            ensure!(!checked.text().contains("problems\n"), "{}", checked.text());
        }
    }
    Ok(())
}

#[test]
fn without_credentials_the_way_ends_at_the_greeting() -> Result<()> {
    let world = world();
    for endpoint in [world.mariadb.tcp(), world.mariadb.unix(), world.mysql.tcp()] {
        let checked = Check::of(&endpoint).run()?;
        assert_status(&checked, 0)?;
        line(&checked, "ok", "greeting")?;
        ensure!(line(&checked, "-", "login")?.contains("no credentials"), "{}", checked.text());
        ensure!(checked.text().contains("--auth stored"), "{}", checked.text());
        let is_socket = matches!(endpoint, Endpoint::Unix(_));
        ensure!(
            checked.text().contains("over a Unix socket as this user") == is_socket,
            "{}",
            checked.text()
        );
    }
    let server = Server::start(&["--skip-ssl"])?;
    let checked = Check::of(&server.tcp()).options(&["--upstream-tls=required"]).run()?;
    assert_status(&checked, 69)?;
    ensure!(line(&checked, "FAILED", "tls")?.contains("the server offers no TLS"), "{}", checked.text());
    Ok(())
}

#[test]
fn a_login_that_is_refused() -> Result<()> {
    let world = world();
    let wrong = NamedTempFile::new()?;
    fs::write(&wrong, format!("[client]\nuser={USER}\npassword=\"Wr0ng s3cret\"\n"))?;
    for (server, more) in [(&world.mariadb, "--upstream-tls=off"), (&world.mysql, "--upstream-tls=required")]
    {
        for json in [&[][..], &["--json"]] {
            let check = with_account(Check::of(&server.tcp()), wrong.path());
            let refused = check.options(&[more]).options(json).run()?;
            assert_status(&refused, 69)?;
            let text = refused.text();
            for part in ["the server says 1045: Access denied", "see that user and password are right"] {
                ensure!(text.contains(part), "no {part:?} in {text}");
            }
            ensure!(!(text + &refused.stderr).contains("s3cret"), "shows the password");
        }
    }
    let stranger = format!("--upstream-tls-ca={}", world.stranger.file().display());
    let refused = world.stored(&world.mariadb.tcp()).options(&[&stranger]).run()?;
    assert_status(&refused, 69)?;
    ensure!(line(&refused, "FAILED", "tls")?.contains("--upstream-tls-ca"), "{}", refused.text());
    Ok(())
}

#[test]
fn servers_out_of_reach() -> Result<()> {
    let world = world();
    let nowhere = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    // The other one is all right, and a dump may meet the first all the same.
    let both = format!("{nowhere},{}", world.mariadb.address());
    for upstream in [nowhere.to_string(), both] {
        let refused = world.stored(&upstream).run()?;
        assert_status(&refused, 69)?;
        ensure!(line(&refused, "FAILED", "connect")?.contains("Connection refused"), "{}", refused.text());
        ensure!(refused.text().contains("bind_address"), "{}", refused.text());
        ensure!(line(&refused, "ok", "login").is_ok() == upstream.contains(','), "{}", refused.text());
    }

    let silent = TcpListener::bind("127.0.0.1:0")?;
    let checked = Check::of(&silent.local_addr()?).options(&["--greeting-timeout=300ms"]).run()?;
    assert_status(&checked, 69)?;
    ensure!(line(&checked, "FAILED", "greeting")?.contains("no answer within 0.3 s"), "{}", checked.text());

    let other = TcpListener::bind("127.0.0.1:0")?;
    let address = other.local_addr()?;
    let served = thread::spawn(move || other.accept()?.0.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
    let checked = Check::of(&address).run()?;
    served.join().map_err(|_| anyhow!("the listener panicked"))??;
    assert_status(&checked, 69)?;
    ensure!(checked.text().contains("that is no MySQL or MariaDB server"), "{}", checked.text());
    Ok(())
}

#[test]
fn a_black_hole_takes_the_time_that_is_given() -> Result<()> {
    let netns = Netns::new()?;
    netns.cut_off()?;
    let upstream = format!("{}:3306", netns.inside());
    let checked = Check::of(&upstream).options(&["--connect-timeout=300ms"]).run()?;
    assert_status(&checked, 69)?;
    ensure!(line(&checked, "FAILED", "connect")?.contains("no answer within 0.3 s"), "{}", checked.text());
    ensure!(checked.text().contains("firewall"), "{}", checked.text());
    ensure!(checked.took < Duration::from_secs(9), "took {:?}, the default's time", checked.took);
    Ok(())
}

#[test]
fn names() -> Result<()> {
    let world = world();
    let dns = Dns::start("db.test", Ipv4Addr::LOCALHOST)?;
    let upstream = format!("db.test:{}", world.mariadb.port());
    let check = || world.stored(&upstream).wrapper(&dns.prefix());
    let checked = check().run()?;
    assert_status(&checked, 0)?;
    ensure!(line(&checked, "ok", "resolve")?.contains("127.0.0.1"), "{}", checked.text());
    line(&checked, "ok", "login")?;
    for (mode, advice) in [(Mode::NoSuchName, "getent"), (Mode::Dead, "resolv.conf")] {
        dns.set(mode);
        let checked = check().options(&["--resolve-timeout=500ms"]).run()?;
        assert_status(&checked, 69)?;
        line(&checked, "FAILED", "resolve")?;
        ensure!(checked.text().contains(&upstream) && checked.text().contains(advice), "{}", checked.text());
    }
    Ok(())
}

#[test]
fn a_dead_address_beside_a_good_one_is_only_noted() -> Result<()> {
    let world = world();
    let mounts =
        Mounts::new()?.host_lookup("files")?.file("/etc/hosts", "127.0.0.1 db.test\n127.0.0.2 db.test\n")?;
    let upstream = format!("db.test:{}", world.mariadb.port());
    let checked = world.stored(&upstream).wrapper(&mounts.prefix()).run()?;
    assert_status(&checked, 0)?;
    ensure!(line(&checked, "FAILED", "connect")?.contains("127.0.0.2"), "{}", checked.text());
    line(&checked, "ok", "login")?;
    ensure!(checked.text().contains("another address of the same name is taken"), "{}", checked.text());
    Ok(())
}

#[test]
fn spool_directories() -> Result<()> {
    let world = world();
    let missing = world.stored(&world.mariadb.tcp()).spool_dir(Path::new("/no/such/directory")).run()?;
    assert_status(&missing, 1)?;
    line(&missing, "ok", "login")?;
    ensure!(line(&missing, "FAILED", "file")?.contains("No such file"), "{}", missing.text());
    ensure!(missing.text().contains("name a directory by --spool-dir"), "{}", missing.text());

    let check = |spool| world.stored(&world.mariadb.tcp()).spool(spool);
    for (spool, name) in [(SpoolOn::Tmpfs(64), "tmpfs"), (SpoolOn::Ramfs, "ramfs")] {
        let checked = check(spool).run()?;
        assert_status(&checked, 0)?;
        ensure!(line(&checked, "ok", "file")?.contains(name), "{}", checked.text());
        ensure!(checked.text().contains(&format!("is on {name}: memory, not disk")), "{}", checked.text());
    }
    // A ramfs tells of no room, as it has no limit; a tmpfs does.
    let checked = check(SpoolOn::Tmpfs(4)).run()?;
    assert_status(&checked, 0)?;
    ensure!(checked.text().contains("--spool-max is 8.0 MiB, and"), "{}", checked.text());
    let full = check(SpoolOn::Tmpfs(4)).options(&["--spool-min-free=1GiB"]).run()?;
    assert_status(&full, 1)?;
    line(&full, "FAILED", "space")?;
    ensure!(line(&full, "FAILED", "write")?.contains("--spool-min-free"), "{}", full.text());
    Ok(())
}

#[test]
fn more_memory_than_there_is() -> Result<()> {
    let checked = Check::of(&world().mariadb.tcp()).options(&["--memory=1000TiB"]).run()?;
    assert_status(&checked, 1)?;
    line(&checked, "FAILED", "memory")?;
    ensure!(checked.text().contains("would be killed"), "{}", checked.text());
    Ok(())
}

#[test]
fn what_the_servers_settings_mean() -> Result<()> {
    let world = world();
    let init = ["SET SESSION wait_timeout = 6", "SET SESSION no_such_variable = 1"];
    let init = init.map(|sql| format!("--session-init={sql}"));
    let checked = world.stored(&world.mariadb.tcp()).options(&init.each_ref().map(String::as_str)).run()?;
    assert_status(&checked, 0)?;
    for part in [
        "ends idle sessions after 6 s: spillway gives a sign of life every 2.0 s",
        "net_write_timeout is 60 s in spillway's sessions",
        "a session-init statement is refused, and sessions go on without it: SET SESSION no_such_variable = 1: the server \
         says 1193",
    ] {
        ensure!(checked.text().contains(part), "no {part:?} in {}", checked.text());
    }
    let checked = world.stored(&world.mariadb.tcp()).options(&["--upstream-compression=zstd"]).run()?;
    assert_status(&checked, 0)?;
    ensure!(checked.text().contains("offers no compression by zstd"), "{}", checked.text());
    let checked = world.stored(&world.mysql.tcp()).options(&["--upstream-compression=zstd"]).run()?;
    assert_status(&checked, 0)?;
    line(&checked, "ok", "settings")?;
    Ok(())
}

#[test]
fn the_json_says_the_same() -> Result<()> {
    let world = world();
    let upstream = world.mariadb.address().to_string();
    let checked = world.stored(&upstream).options(&["--json"]).run()?;
    let report = json(&checked, 0)?;
    ensure!(report["version"] == 1 && report["verdict"] == "fine", "{report}");
    ensure!(report["upstreams"][0]["upstream"] == upstream.as_str(), "{report}");
    let address = &report["upstreams"][0]["addresses"][0];
    let steps: Vec<&str> = address["steps"]
        .as_array()
        .context("no steps")?
        .iter()
        .filter(|step| step["outcome"] == "ok" && step["seconds"].is_f64())
        .filter_map(|step| step["step"].as_str())
        .collect();
    ensure!(steps == ["connect", "greeting", "tls", "login", "settings"], "{report}");
    let server = &address["server"];
    ensure!(server["kind"] == "mariadb" && server["tls_offered"] == true, "{report}");
    let version = world.mariadb.query("SELECT @@version")?;
    ensure!(server["version"] == version[0].as_str(), "{report}");
    let session = &server["session"];
    ensure!(session["tls"] == "1.3" && session["plugin"] == "mysql_native_password", "{report}");
    for (name, value) in [
        ("session.net_write_timeout", 86_400),
        ("global.net_write_timeout", 60),
        ("session.wait_timeout", 28_800),
        ("session.idle_transaction_timeout", 0),
        ("session.max_allowed_packet", 1 << 30),
    ] {
        ensure!(session["variables"][name] == value, "{name}: {report}");
    }
    ensure!(report["spool"]["usable"] == 8 << 20 && report["spool"]["nameless"] == true, "{report}");
    ensure!(report["spool"]["write_bytes_per_second"].as_u64() > Some(0), "{report}");
    ensure!(report["memory"]["machine"].as_u64() > Some(1 << 20), "{report}");

    let nowhere = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let report = json(&Check::of(&nowhere).options(&["--json"]).run()?, 69)?;
    ensure!(report["verdict"] == "unreachable" && report["problems"][0]["about"] == "upstream", "{report}");
    let missing =
        Check::of(&upstream).spool_dir(Path::new("/no/such/directory")).options(&["--json"]).run()?;
    let report = json(&missing, 1)?;
    ensure!(report["verdict"] == "unfit" && report["problems"][0]["about"] == "spool", "{report}");
    Ok(())
}

#[test]
fn no_check_counts_towards_max_connect_errors() -> Result<()> {
    let netns = Netns::new()?;
    let options = ["--performance-schema=ON", "--max-connect-errors=2"];
    let server = Server::start_in(&netns, &options)?;
    let wrong = NamedTempFile::new()?;
    fs::write(&wrong, format!("[client]\nuser={USER}\npassword=\"wrong\"\n"))?;
    let right = credentials()?;
    // A login that is let in would set the count to zero, so it comes last.
    for (check, status) in [
        (Check::of(&server.tcp()), 0),
        (Check::of(&server.tcp()).options(&["--upstream-tls=required"]), 69),
        (with_account(Check::of(&server.tcp()), wrong.path()), 69),
        (with_account(Check::of(&server.tcp()), right.path()), 0),
    ] {
        let what = format!("{check:?}");
        let finished = check.run()?;
        assert_status(&finished, status)?;
        server.wait_for_no_thread(LIMIT, "the handshakes to end", |thread| {
            thread.user == "unauthenticated user"
        })?;
        let errors = server.connect_errors()?;
        ensure!(errors == 0, "{errors} errors after {what}: {}", finished.text());
    }
    process::run(client::dumper("mysqldump", &server.tcp()).arg("test"), LIMIT)?.success()?;
    Ok(())
}

#[test]
fn settings_that_cannot_be_used() -> Result<()> {
    for (options, part) in [
        (&[][..], "--upstream"),
        (&["--upstream=db1", "--auth=stored"], "--credentials"),
        (&["--upstream=unix:/s", "--listen=127.0.0.1:0"], "--allow-socket-upstream"),
        (&["--upstream=db1", "--connect-timeout=0s"], "--connect-timeout"),
        (&["--upstream=db1", "--tls=required"], "--tls-cert"),
    ] {
        let mut command = client::clean(spillway_bin());
        let refused = process::run(command.arg("check").args(options), LIMIT)?;
        ensure!(refused.code() == 78 && refused.stdout.is_empty(), "{options:?}: {refused:?}");
        ensure!(refused.stderr.contains(part) && refused.stderr.lines().count() == 1, "{}", refused.stderr);
    }
    Ok(())
}

/// What serve is given, check can be given as well.
#[test]
fn the_configuration_of_serve_is_taken_as_it_is() -> Result<()> {
    let world = world();
    let (dir, config) = (tempfile::tempdir()?, NamedTempFile::new()?);
    fs::write(
        &config,
        format!(
            "upstream = '{}'\nlisten = '127.0.0.1:0'\nspool_dir = '{}'\nspool_max = '8MiB'\nspool_min_free = '0'\n\
             auth = 'stored'\nuser = '{USER}'\npassword = \"{PASSWORD}\"\nbusy_poll = '0'\nshutdown_grace = '1s'\n\
             tls_self_signed = true\nspool_compress = 'lz4'\n",
            world.mysql.address(),
            dir.path().display()
        ),
    )?;
    let mut command = client::clean(spillway_bin());
    let checked = process::run(command.args(["check", "--config"]).arg(config.path()), LIMIT)?;
    assert_status(&checked, 0)?;
    line(&checked, "ok", "login")?;
    Ok(())
}

#[test]
fn the_help_tells_the_statuses() -> Result<()> {
    let mut help: Command = client::clean(spillway_bin());
    let help = process::run(help.args(["check", "--help"]), LIMIT)?.success()?.text();
    for part in ["--json", "--credentials", "--connect-timeout", "Exit status:", "69", "78"] {
        ensure!(help.contains(part), "no {part:?} in {help}");
    }
    for part in ["--listen", "--busy-poll", "--tls-cert "] {
        ensure!(!help.contains(part), "{part:?} in {help}");
    }
    Ok(())
}

fn assert_status(checked: &Finished, status: i32) -> Result<()> {
    ensure!(checked.code() == status, "status {}\n{}{}", checked.code(), checked.text(), checked.stderr);
    ensure!(checked.stderr.is_empty(), "{}", checked.stderr);
    Ok(())
}

/// The line of a step that ended so.
fn line(checked: &Finished, outcome: &str, step: &str) -> Result<String> {
    let text = checked.text();
    let is_it = |line: &&str| {
        let mut words = line.split_whitespace();
        words.next() == Some(outcome) && words.next() == Some(step)
    };
    let found = text.lines().find(is_it).map(str::to_owned);
    found.with_context(|| format!("no {step} that is {outcome} in {text}"))
}

fn json(checked: &Finished, status: i32) -> Result<Value> {
    assert_status(checked, status)?;
    ensure!(checked.text().lines().count() == 1, "{}", checked.text());
    serde_json::from_slice(&checked.stdout).with_context(|| checked.text())
}

const LIMIT: Duration = Duration::from_secs(60);
