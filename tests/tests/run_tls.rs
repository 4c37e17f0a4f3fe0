//! `spillway run -- CLIENT --ssl-…`: what the client's own options ask of TLS holds on the way to the server, for the
//! clients of MySQL 9, MariaDB 10.11 and 11, and mydumper.

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use anyhow::{Context as _, Result, ensure};
use spillway_tests::certificates::{Authority, Certificate, Leaf};
use spillway_tests::fault::Direction;
use spillway_tests::process::Finished;
use spillway_tests::server::{PASSWORD, USER};
use spillway_tests::{Endpoint, Fault, Server, client, mariadb11, mysql9, run};

/// Servers, clients, and who has signed for whom.
struct World {
    authority: Authority,
    stranger: Authority,
    mysql: Server,
    mariadb: Server,
    /// A MariaDB whose certificate is for another name.
    elsewhere: Server,
    /// A MariaDB without TLS.
    plain: Server,
    clients: Clients,
    _dir: tempfile::TempDir,
}

/// Programs of this machine, and of the cache.
struct Clients {
    mysql9: String,
    mysqldump9: String,
    mariadb11: String,
    dump11: String,
}

fn world() -> &'static World {
    static WORLD: LazyLock<World> =
        LazyLock::new(|| World::start().unwrap_or_else(|error| panic!("{error:#}")));
    &WORLD
}

impl World {
    fn start() -> Result<Self> {
        let authority = Authority::new("The tests' authority")?;
        let dir = tempfile::tempdir()?;
        let options = |certificate: &Certificate| {
            let ca = format!("--ssl-ca={}", authority.file().display());
            [certificate.option("ssl-cert"), certificate.option("ssl-key"), ca]
        };
        let good = options(&authority.issue(&Leaf::server().rsa())?);
        let good = good.each_ref().map(String::as_str);
        let other = options(&authority.issue(&Leaf::server().names(&["elsewhere.invalid"]))?);
        let (mysql, mariadb) = (mysql9::start(&good)?, Server::start(&good)?);
        for server in [&mysql, &mariadb] {
            server.sql(SCRIPT)?;
        }
        // MySQL remembers the password then, and no client must send it whole.
        let script = |program| mysql9::script(program, dir.path());
        let clients = Clients {
            mysql9: script("mysql")?,
            mysqldump9: script("mysqldump")?,
            mariadb11: mariadb11::script("mariadb", dir.path())?,
            dump11: mariadb11::script("mariadb-dump", dir.path())?,
        };
        let login = run::arguments(&clients.mysql9, &mysql.tcp(), &["--user=careful", "--ssl-mode=REQUIRED"]);
        run::direct(&[login, run::words(&["--execute=DO 0"])].concat())?.success()?;
        Ok(Self {
            stranger: Authority::new("Nobody knows it")?,
            elsewhere: Server::start(&other.each_ref().map(String::as_str))?,
            plain: Server::start(&["--skip-ssl"])?,
            authority,
            mysql,
            mariadb,
            clients,
            _dir: dir,
        })
    }

    fn ca(&self) -> String {
        format!("--ssl-ca={}", self.authority.file().display())
    }

    fn wrong_ca(&self) -> String {
        format!("--ssl-ca={}", self.stranger.file().display())
    }
}

const CIPHER: &[&str] = &["--batch", "--skip-column-names", "--execute=SHOW STATUS LIKE 'Ssl_cipher'"];

/// What the server's end of the session says of TLS: its cipher, empty without TLS.
fn cipher(finished: Finished) -> Result<String> {
    let text = finished.success()?.text();
    Ok(text.trim_end().strip_prefix("Ssl_cipher").context("no Ssl_cipher")?.trim().to_owned())
}

/// Runs `client` with these options for TLS.
fn asks(client: &str, server: &Server, options: &[&str]) -> Result<Finished> {
    run::to_end(&[], &run::arguments(client, &server.tcp(), &[options, CIPHER].concat()))
}

#[test]
fn dumps_are_the_direct_ones_and_go_over_tls() -> Result<()> {
    let world = world();
    let (ca, careful) = (world.ca(), "--user=careful");
    let Clients { mysqldump9, dump11, .. } = &world.clients;
    let (mysql, mariadb) = (&world.mysql, &world.mariadb);
    let dump = ["--single-transaction", "--skip-dump-date", "--databases", "shop"];
    let identity = ["--ssl-mode=VERIFY_IDENTITY", &ca];
    let verified = ["--ssl-verify-server-cert", &ca];
    for (client, server, tls) in [
        (mysqldump9.as_str(), mysql, &["--ssl-mode=REQUIRED"][..]),
        (mysqldump9, mysql, &[&ca]),
        (mysqldump9, mysql, &identity),
        ("mysqldump", mariadb, &["--ssl"]),
        ("mariadb-dump", mariadb, &[&ca]),
        ("mariadb-dump", mariadb, &verified),
        (dump11, mariadb, &verified),
        (dump11, mariadb, &[&ca, "--tls-version=TLSv1.3"]),
    ] {
        // The account is for TLS only, so that any dump at all proves it.
        let line = run::arguments(client, &server.tcp(), &[tls, &[careful], &dump].concat());
        let direct = run::direct(&line)?.success().with_context(|| format!("{line:?}"))?;
        let through = run::to_end(&[], &line)?.success().with_context(|| format!("{line:?}"))?;
        ensure!(!through.stderr.contains("WARNING"), "{}", through.stderr);
        let [expected, got] = [direct, through].map(|dump| client::normalised(&dump.stdout));
        let difference = client::difference(&expected, &got);
        ensure!(difference.is_none(), "{line:?}: {}", difference.unwrap_or_default());
    }
    Ok(())
}

#[test]
fn what_a_client_asks_for_it_gets() -> Result<()> {
    let world = world();
    let (ca, wrong) = (world.ca(), world.wrong_ca());
    let Clients { mysql9, mariadb11, .. } = &world.clients;
    let World { mysql, mariadb, elsewhere, .. } = world;
    let (encrypted, plain) = (Ok(true), Ok(false));
    let (unknown, name) = (Err("name its CA by --upstream-tls-ca"), Err("subjectAltName"));
    for (client, server, options, expected) in [
        (mysql9.as_str(), mysql, &[][..], encrypted),
        (mysql9, mysql, &["--ssl-mode=DISABLED"], plain),
        (mysql9, mysql, &["--ssl-mode=PREFERRED"], encrypted),
        (mysql9, mysql, &[&wrong], unknown),
        (mysql9, mysql, &["--ssl-mode=REQUIRED", &wrong], encrypted), // not checked, as directly
        (mysql9, mysql, &["--ssl-mode=VERIFY_IDENTITY", &wrong], unknown),
        ("mariadb", mariadb, &[], encrypted),
        ("mariadb", mariadb, &["--ssl"], encrypted),
        ("mariadb", mariadb, &["--skip-ssl"], plain),
        ("mariadb", mariadb, &[&ca, "--skip-ssl"], plain),
        ("mariadb", mariadb, &[&wrong], unknown),
        ("mariadb", mariadb, &["--ssl-verify-server-cert"], unknown), // none of the system's
        ("mariadb", elsewhere, &[&ca], encrypted),
        ("mariadb", elsewhere, &[&ca, "--ssl-verify-server-cert"], name),
        (mariadb11, mariadb, &[], encrypted),
        (mariadb11, &world.plain, &[], plain), // nothing asked, but for a default
        (mariadb11, mariadb, &["--skip-ssl"], plain),
        (mariadb11, mariadb, &[&wrong], unknown),
        (mariadb11, mariadb, &[&ca], encrypted),
        (mariadb11, elsewhere, &[&ca], encrypted), // not checked at this address, as directly
        (mariadb11, elsewhere, &[&ca, "--ssl-verify-server-cert"], name),
    ] {
        let finished = asks(client, server, options)?;
        let what = format!("{client} {options:?}: {finished:?}");
        match expected {
            Ok(encrypted) => ensure!(cipher(finished).context(what.clone())?.is_empty() != encrypted, what),
            Err(told) => {
                ensure!(finished.code() == 1 && finished.stdout.is_empty(), what);
                ensure!(finished.stderr.contains("spillway: ") && finished.stderr.contains(told), what);
            }
        }
    }
    Ok(())
}

#[test]
fn a_ca_vouches_for_the_name_too_with_newer_clients_of_mariadb() -> Result<()> {
    let world = world();
    let ca = world.ca();
    // They do not call this address their own host's.
    let relay = Fault::start_at("127.0.0.2:0".parse()?, world.elsewhere.address())?;
    let asks = |client: &str, options: &[&str]| {
        let at = Endpoint::Tcp(relay.address());
        run::to_end(&[], &run::arguments(client, &at, &[options, CIPHER].concat()))
    };
    for options in [&[&*ca][..], &[&ca, "--skip-ssl-verify-server-cert"]] {
        let newer = asks(&world.clients.mariadb11, options)?;
        ensure!(newer.code() == 1 && newer.stderr.contains("subjectAltName"), "{options:?}: {newer:?}");
        ensure!(!cipher(asks("mariadb", options)?)?.is_empty());
    }
    Ok(())
}

#[test]
fn nothing_is_sent_in_clear() -> Result<()> {
    let world = world();
    let ca = world.ca();
    let Clients { mysql9, mariadb11, .. } = &world.clients;
    for (client, options) in [
        (mysql9.as_str(), &["--ssl-mode=REQUIRED"][..]),
        (mysql9, &["--ssl-mode=VERIFY_CA", &ca]),
        ("mariadb", &["--ssl"]),
        ("mariadb", &[&ca]), // directly it goes on without TLS
        (mariadb11, &["--ssl"]),
        (mariadb11, &[&ca]),
    ] {
        let relay = Fault::start(world.plain.address())?;
        let line = run::arguments(client, &Endpoint::Tcp(relay.address()), &[options, CIPHER].concat());
        let finished = run::to_end(&[], &line)?;
        ensure!(finished.code() == 1, "{line:?}: {finished:?}");
        ensure!(finished.stderr.contains("the server offers no TLS"), "{line:?}: {}", finished.stderr);
        ensure!(relay.connections() == 1, "{} connections", relay.connections());
        let sent = relay.head(0, Direction::ToServer);
        ensure!(!contains(&sent, USER), "{line:?}: {}", sent.escape_ascii());
    }
    // The relay would have seen it.
    let relay = Fault::start(world.plain.address())?;
    let line = run::arguments("mariadb", &Endpoint::Tcp(relay.address()), CIPHER);
    run::to_end(&[], &line)?.success()?;
    ensure!(contains(&relay.head(0, Direction::ToServer), USER), "no user name in a plain login");
    Ok(())
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn the_servers_key_for_passwords_is_the_clients() -> Result<()> {
    let world = world();
    let password = PASSWORD.replace('\'', "''");
    // Of an account that the server has not seen, it wants the password itself.
    for (user, option, is_good) in [
        ("asking", Some("--get-server-public-key"), true),
        ("knowing", Some("--server-public-key-path"), true),
        ("neither", None, false),
    ] {
        world.mysql.sql(&format!("CREATE USER {user}@'%' IDENTIFIED BY '{password}'"))?;
        let key = world.mysql.query("SELECT @@datadir")?.concat() + "public_key.pem";
        let option = option.map(|option| match option {
            "--server-public-key-path" => format!("{option}={key}"),
            option => option.to_owned(),
        });
        let options = [Some("--ssl-mode=DISABLED".to_owned()), Some(format!("--user={user}")), option];
        let options: Vec<&str> = options.iter().flatten().map(String::as_str).collect();
        let finished = asks(&world.clients.mysql9, &world.mysql, &options)?;
        ensure!(finished.status.success() == is_good, "{user}: {}", finished.stderr);
        ensure!(is_good || finished.stderr.contains("--get-server-public-key"), "{}", finished.stderr);
    }
    Ok(())
}

#[test]
fn option_files() -> Result<()> {
    let world = world();
    let (ca, wrong) = (world.authority.file().display(), world.stranger.file().display());
    let Clients { mysql9, mariadb11, .. } = &world.clients;
    let (mysql, mariadb) = (&world.mysql, &world.mariadb);
    let dir = tempfile::tempdir()?;
    for (client, server, lines, good) in [
        (mysql9.as_str(), mysql, "ssl-mode = REQUIRED".to_owned(), true),
        (mysql9, mysql, format!("ssl-mode = VERIFY_IDENTITY\nssl-ca = {ca}"), true),
        (mysql9, mysql, format!("ssl-ca = {wrong}"), false),
        ("mariadb", mariadb, "ssl".to_owned(), true),
        ("mariadb", mariadb, format!("ssl-verify-server-cert\nssl-ca = {ca}"), true),
        ("mariadb", mariadb, format!("ssl-ca = {wrong}"), false),
        (mariadb11, mariadb, format!("ssl-verify-server-cert\nssl-ca = {ca}"), true),
        (mariadb11, mariadb, format!("ssl-ca = {wrong}"), false),
    ] {
        let file = option_file(dir.path(), server, &lines)?;
        let line = [client, &file].iter().chain(CIPHER).map(|&word| word.to_owned()).collect::<Vec<_>>();
        let finished = run::to_end(&[], &line)?;
        let what = format!("{client} {lines}: {finished:?}");
        if good {
            ensure!(!cipher(finished).context(what.clone())?.is_empty(), what);
        } else {
            ensure!(finished.stderr.contains("name its CA by --upstream-tls-ca"), what);
        }
    }
    Ok(())
}

/// An option file with the server and the account.
fn option_file(dir: &Path, server: &Server, lines: &str) -> Result<String> {
    let path = dir.join("options.cnf");
    let port = server.port();
    let text = format!(
        "[client]\nhost = 127.0.0.1\nport = {port}\nuser = {USER}\npassword = \"{PASSWORD}\"\n{lines}\n"
    );
    fs::write(&path, text)?;
    Ok(format!("--defaults-file={}", path.display()))
}

#[test]
fn certificates_of_clients() -> Result<()> {
    let world = world();
    let own = world.authority.issue(&Leaf::client("backup"))?;
    let own = [own.option("ssl-cert"), own.option("ssl-key")];
    let [certificate, key] = own.each_ref().map(String::as_str);
    for (client, server) in [("mariadb", &world.mariadb), (&world.clients.mariadb11, &world.mariadb)] {
        let certified = "--user=certified";
        ensure!(!cipher(asks(client, server, &[certificate, key, certified])?)?.is_empty());
        let without = asks(client, server, &["--ssl", certified])?;
        ensure!(without.stderr.contains("ERROR 1045"), "{}", without.stderr);
    }
    Ok(())
}

#[test]
fn mydumper() -> Result<()> {
    let world = world();
    let dir = tempfile::tempdir()?;
    let [right, wrong] =
        [&world.authority, &world.stranger].map(|ca| format!("--ca={}", ca.file().display()));
    let dump = |name: &str, server: &Server, tls: &[&str]| -> Result<(Finished, usize)> {
        let output = dir.path().join(name);
        let into = format!("--outputdir={}", output.display());
        let more = [tls, &["--database=shop", &into]].concat();
        let finished = run::to_end(&[], &run::arguments("mydumper", &server.tcp(), &more))?;
        Ok((finished, fs::read_dir(output)?.count()))
    };
    let careful = "--user=careful";
    for (name, tls) in [("ssl", &["--ssl"][..]), ("ca", &[&right]), ("both", &["--ssl", &right])] {
        let (finished, files) = dump(name, &world.mariadb, &[tls, &[careful]].concat())?;
        finished.success().with_context(|| format!("{tls:?}"))?;
        ensure!(files > 3, "{files} files");
    }
    let (finished, files) = dump("wrong", &world.mariadb, &[&wrong])?;
    ensure!(files == 0 && finished.stderr.contains("name its CA"), "{}", finished.stderr);
    let (finished, files) = dump("plain", &world.plain, &["--ssl"])?;
    ensure!(files == 0 && finished.stderr.contains("offers no TLS"), "{}", finished.stderr);
    Ok(())
}

#[test]
fn what_cannot_be_had_is_refused_before_the_client_starts() -> Result<()> {
    let world = world();
    let (ca, forbidden) = (world.ca(), &["--upstream-tls=off"][..]);
    let Clients { mysql9, mariadb11, .. } = &world.clients;
    for (client, spillways, options, told) in [
        ("mariadb", &[][..], &["--ssl-crl=/crl"][..], "`--ssl-crl` cannot be kept"),
        ("mariadb", &[], &["--ssl-cipher=AES128-SHA"], "`--ssl-cipher` cannot be kept"),
        (mariadb11, &[], &["--ssl-fp=00"], "`--ssl-fp` cannot be kept"),
        (
            mysql9,
            &[],
            &["--ssl-mode=REQUIRED", "--tls-ciphersuites=x"],
            "`--tls-ciphersuites` cannot be kept",
        ),
        (mysql9, &[], &["--ssl-mode=VERIFY_CA"], "needs a CA"),
        ("mariadb", &[], &["--ssl-ca=/nowhere/ca.pem"], "/nowhere/ca.pem: No such file"),
        ("mariadb", forbidden, &["--ssl"], "`--ssl` asks for TLS"),
        (mysql9, forbidden, &[&ca], "`--ssl-ca` asks for TLS"),
    ] {
        let relay = Fault::start(world.mariadb.address())?;
        let line = run::arguments(client, &Endpoint::Tcp(relay.address()), &[options, CIPHER].concat());
        let finished = run::to_end(spillways, &line)?;
        ensure!(finished.code() == 78 && finished.stdout.is_empty(), "{line:?}: {finished:?}");
        ensure!(
            finished.stderr.starts_with("spillway: ") && finished.stderr.contains(told),
            "{}",
            finished.stderr
        );
        ensure!(relay.connections() == 0, "the server was reached");
    }
    // Who tells Spillway itself has decided.
    let decided = ["--upstream-tls=required"];
    let line =
        run::arguments("mariadb", &world.mariadb.tcp(), &[&["--ssl-cipher=AES128-SHA"], CIPHER].concat());
    ensure!(!cipher(run::to_end(&decided, &line)?)?.is_empty());
    Ok(())
}

/// With accounts that are for TLS only.
const SCRIPT: &str = "
    CREATE DATABASE shop;
    CREATE TABLE shop.large (id INT PRIMARY KEY, value LONGBLOB);
    INSERT INTO shop.large VALUES (1, REPEAT('0123456789abcdef', 200000)), (2, ''), (3, NULL);
    CREATE USER careful@'%' IDENTIFIED BY 'Sp1ll''way #8' REQUIRE SSL;
    GRANT ALL ON *.* TO careful@'%';
    CREATE USER certified@'%' IDENTIFIED BY 'Sp1ll''way #8' REQUIRE X509;
    GRANT ALL ON *.* TO certified@'%'";
