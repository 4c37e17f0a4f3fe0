//! Unix sockets on either side, and the rule that nobody gets another's `unix_socket` account through the proxy.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use spillway_tests::process::{self, Finished};
use spillway_tests::server::{PASSWORD, USER};
use spillway_tests::stored::credentials;
use spillway_tests::wire::{NATIVE, proxy_header};
use spillway_tests::{Endpoint, Raw, Server, Spillway, client, data, mysql9, spillway_bin};

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
    let finished = as_nobody(spillway.endpoint(), USER, PASSWORD)?;
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
    ensure!(as_nobody(spillway.endpoint(), USER, PASSWORD)?.success()?.text().contains("in"), "no answer");
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

/// The account `root`, which this system's user root has without a password, and the server asks nobody else for one.
#[test]
fn no_listener_makes_anybody_a_unix_socket_account() -> Result<()> {
    let server = Server::start(&["--proxy-protocol-networks=127.0.0.1,localhost"])?;
    // There are others of the name that have no password at all, for loopback and this host.
    server.sql(
        "DELETE FROM mysql.global_priv WHERE user = 'root' AND host <> 'localhost';
         FLUSH PRIVILEGES;
         CREATE USER root@'%' IDENTIFIED VIA unix_socket;
         ALTER USER root@localhost IDENTIFIED VIA unix_socket;",
    )?;
    over_tcp_to_tcp(&server, &[])?;
    // The server believes what the headers say of the client's address.
    over_tcp_to_tcp(&server, &["--proxy-protocol-networks=*", "--upstream-proxy-protocol"])?;
    over_a_socket(&server)?;
    where_it_is_allowed(&server)
}

#[test]
fn no_listener_makes_anybody_an_auth_socket_account() -> Result<()> {
    let server = mysql9::start(&[])?;
    server.sql(
        "INSTALL PLUGIN auth_socket SONAME 'auth_socket.so';
         CREATE USER root@'%' IDENTIFIED WITH auth_socket;
         ALTER USER root@localhost IDENTIFIED WITH auth_socket;",
    )?;
    over_tcp_to_tcp(&server, &[])?;
    over_a_socket(&server)?;
    where_it_is_allowed(&server)
}

/// What a PROXY header may say of a client to have it taken for one of this host.
fn lies() -> Vec<Vec<u8>> {
    let [v4, v6]: [SocketAddr; 2] = [([127, 0, 0, 1], 1).into(), (std::net::Ipv6Addr::LOCALHOST, 1).into()];
    // One of a Unix socket: two paths of 108 bytes.
    let socket = [&proxy_header(None)[..12], &[0x21, 0x31, 0, 216], &[0; 216]].concat();
    vec![proxy_header(Some((v4, v4))), proxy_header(Some((v6, v6))), proxy_header(None), socket]
}

fn over_tcp_to_tcp(server: &Server, options: &[&str]) -> Result<()> {
    let credentials = credentials()?;
    let path = credentials.path().display().to_string();
    let headers = if options.is_empty() { vec![Vec::new()] } else { lies() };
    let mut changes = 0;
    for auth in [&[][..], &["--auth=stored", "--credentials", &path]] {
        // MySQL's server may want the password itself at its first login.
        let auth = [auth, &["--get-server-public-key"]].concat();
        let spillway = Spillway::to(&server.tcp()).options(options).options(&auth).start()?;
        for header in &headers {
            let connect = || -> Result<Raw> {
                let mut stream = TcpStream::connect(spillway.address()?)?;
                stream.set_read_timeout(Some(LIMIT))?;
                stream.write_all(header)?;
                Raw::over(stream)
            };
            let become_root = connect()?.log_in(NATIVE, "root", "", None).and_then(|end| end.ok());
            ensure!(become_root.is_err(), "{auth:?} {header:?}: became root");
            let mut raw = connect()?;
            if raw.log_in(NATIVE, USER, PASSWORD, None).is_ok_and(|end| end.ok().is_ok()) {
                let become_root = raw.change_user("root", "", "").and_then(|end| end.ok());
                ensure!(become_root.is_err(), "{auth:?} {header:?}: changed to root");
                changes += 1;
            }
        }
    }
    ensure!(changes > 0, "no change of user was tried");
    Ok(())
}

fn over_a_socket(server: &Server) -> Result<()> {
    let credentials = credentials()?;
    let path = credentials.path().display().to_string();
    for (auth, upstream) in [
        (&[][..], server.unix()),
        (&["--auth=stored", "--credentials", &path], server.unix()),
        // One that has a way over TCP as well.
        (&["--upstream", &server.tcp().to_string()], server.unix()),
        (&[], server.tcp()),
    ] {
        let (_dir, socket) = open_dir()?;
        let listen = format!("unix:{}", socket.display());
        let spillway = Spillway::to(&upstream).options(auth).listen(&listen).start()?;
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o777))?;
        assert_denied(&as_nobody(spillway.endpoint(), "root", "")?)?;
        if upstream == server.unix() {
            // Not even into the account whose password it knows: the server would not ask for it.
            assert_denied(&as_nobody(spillway.endpoint(), USER, PASSWORD)?)?;
        }
        drop(spillway);
        let spillway = Spillway::to(&upstream)
            .options(auth)
            .options(&["--proxy-protocol-networks=localhost"])
            .listen(&listen)
            .start()?;
        for header in lies() {
            let said = said_to_root(spillway.endpoint(), &header)?;
            ensure!(upstream == server.tcp() || said.get(4..7) == Some(&[0xff, 0xa2, 6]), "{said:?}");
        }
    }
    Ok(())
}

/// What shows that the server would have let them in.
fn where_it_is_allowed(server: &Server) -> Result<()> {
    let spillway = Spillway::to(&server.unix()).options(&["--allow-socket-upstream"]).start()?;
    let mut mysql = client::command("mysql", spillway.endpoint());
    let finished =
        process::run(mysql.args(["--user=root", "--execute=SELECT CURRENT_USER()"]), LIMIT)?.success()?;
    ensure!(finished.text().contains("root@localhost"), "{}", finished.text());
    Ok(())
}

fn assert_denied(finished: &Finished) -> Result<()> {
    // MariaDB's client has words of its own around an error before the login.
    let denied = ["1045", "1698"].iter().any(|code| finished.stderr.contains(code));
    ensure!(finished.code() == 1 && denied, "{finished:?}");
    Ok(())
}

/// The first that a client of this process's own user is told, behind such a header.
fn said_to_root(endpoint: &Endpoint, header: &[u8]) -> Result<Vec<u8>> {
    let Endpoint::Unix(socket) = endpoint else { anyhow::bail!("a Unix socket") };
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(header)?;
    let mut said = vec![0; 4096];
    let len = stream.read(&mut said)?;
    said.truncate(len);
    Ok(said)
}

fn dump(endpoint: &Endpoint) -> Result<Vec<u8>> {
    let mut command = client::dumper("mysqldump", endpoint);
    let finished =
        process::run(command.arg("report"), LIMIT)?.success().with_context(|| endpoint.to_string())?;
    Ok(client::normalised(&finished.stdout))
}

/// A query of this account by the user `nobody`; only root can become that.
fn as_nobody(endpoint: &Endpoint, user: &str, password: &str) -> Result<Finished> {
    ensure!(nix::unistd::getuid().is_root(), "this test needs root: it has to connect as another user");
    let Endpoint::Unix(socket) = endpoint else { anyhow::bail!("a Unix socket") };
    let mut command = client::clean("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "mysql", "--no-defaults"]);
    command.args([
        format!("--user={user}"),
        format!("--password={password}"),
        format!("--socket={}", socket.display()),
    ]);
    process::run(command.args(["-e", "SELECT 'in'"]), LIMIT)
}

const LIMIT: Duration = Duration::from_secs(60);
