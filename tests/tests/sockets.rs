//! Unix sockets on either side, and the rule that nobody gets another's `unix_socket` account through the proxy.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use spillway_tests::process::{self, Finished};
use spillway_tests::server::{PASSWORD, USER};
use spillway_tests::{Endpoint, Server, Spillway, client, data, spillway_bin};

fn server() -> &'static Server {
    static SERVER: LazyLock<Server> = LazyLock::new(|| {
        let server = Server::start(&[]).and_then(|server| {
            data::report::load(&server, "report", 4 << 20)?;
            Ok(server)
        });
        server.unwrap_or_else(|error| panic!("{error:#}"))
    });
    &SERVER
}

/// A directory that another user may look into, and the path of a socket in it.
fn open_dir() -> Result<(tempfile::TempDir, PathBuf)> {
    let dir = tempfile::tempdir()?;
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
    let socket = dir.path().join("proxy");
    Ok((dir, socket))
}

#[test]
fn dumps_over_every_pair_of_sockets() -> Result<()> {
    let expected = dump(&server().tcp())?;
    for upstream in [server().tcp(), server().unix()] {
        let (_dir, socket) = open_dir()?;
        let spillway = Spillway::to(&upstream).listen(&format!("unix:{}", socket.display())).start()?;
        ensure!(*spillway.endpoint() == Endpoint::Unix(socket), "listens on {}", spillway.endpoint());
        let difference = client::difference(&expected, &dump(spillway.endpoint())?);
        ensure!(difference.is_none(), "{upstream}: {}", difference.unwrap_or_default());
    }
    Ok(())
}

#[test]
fn the_own_user_may_use_a_socket_upstream() -> Result<()> {
    let (_dir, socket) = open_dir()?;
    server().sql("CREATE USER IF NOT EXISTS root@localhost IDENTIFIED VIA unix_socket")?;
    let spillway = Spillway::to(&server().unix()).listen(&format!("unix:{}", socket.display())).start()?;
    let finished = process::run(
        client::command("mysql", spillway.endpoint()).args(["-uroot", "-e", "SELECT 'in'"]),
        LIMIT,
    )?;
    ensure!(finished.success()?.text().contains("in"), "no answer");
    Ok(())
}

#[test]
fn another_user_may_not_use_a_socket_upstream() -> Result<()> {
    let (_dir, socket) = open_dir()?;
    let spillway = Spillway::to(&server().unix()).listen(&format!("unix:{}", socket.display())).start()?;
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o777))?;
    // Not even with a password: the server would judge the proxy's uid, not this one's.
    let finished = as_nobody(spillway.endpoint())?;
    ensure!(finished.code() == 1 && finished.stderr.contains("1698"), "{finished:?}");
    // And the own user is not disturbed.
    dump(spillway.endpoint())?;
    Ok(())
}

#[test]
fn another_user_may_use_a_tcp_upstream() -> Result<()> {
    let (_dir, socket) = open_dir()?;
    let spillway = Spillway::to(&server().tcp()).listen(&format!("unix:{}", socket.display())).start()?;
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o777))?;
    ensure!(as_nobody(spillway.endpoint())?.success()?.text().contains("in"), "no answer");
    Ok(())
}

#[test]
fn a_tcp_listener_before_a_socket_upstream_is_refused() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut command = Command::new(spillway_bin());
    command.args([
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--upstream",
        &server().unix().to_string(),
        "--spool-dir",
    ]);
    let finished = process::run(command.arg(dir.path()), LIMIT)?;
    ensure!(finished.code() == 78, "{finished:?}");
    ensure!(finished.stderr.contains("--allow-socket-upstream"), "{}", finished.stderr);
    ensure!(finished.stdout.is_empty(), "it listened: {}", finished.text());
    Ok(())
}

#[test]
fn a_tcp_listener_before_a_socket_upstream_may_be_allowed() -> Result<()> {
    let spillway = Spillway::to(&server().unix()).options(&["--allow-socket-upstream"]).start()?;
    let difference = client::difference(&dump(&server().tcp())?, &dump(spillway.endpoint())?);
    ensure!(difference.is_none(), "{}", difference.unwrap_or_default());
    Ok(())
}

fn dump(endpoint: &Endpoint) -> Result<Vec<u8>> {
    let mut command = client::dumper("mysqldump", endpoint);
    let finished =
        process::run(command.arg("report"), LIMIT)?.success().with_context(|| endpoint.to_string())?;
    Ok(client::normalised(&finished.stdout))
}

/// A query by the user `nobody`; only root can become that.
fn as_nobody(endpoint: &Endpoint) -> Result<Finished> {
    ensure!(nix::unistd::getuid().is_root(), "this test needs root: it has to connect as another user");
    let Endpoint::Unix(socket) = endpoint else { anyhow::bail!("a Unix socket") };
    let mut command = client::clean("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "mysql", "--no-defaults"]);
    command.args([
        format!("--user={USER}"),
        format!("--password={PASSWORD}"),
        format!("--socket={}", socket.display()),
    ]);
    process::run(command.args(["-e", "SELECT 'in'"]), LIMIT)
}

const LIMIT: Duration = Duration::from_secs(60);
