//! TLS that goes wrong: files that are of no use, and clients and servers that begin TLS and do something else.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use spillway_tests::certificates::{Authority, Leaf};
use spillway_tests::process::{self, Finished};
use spillway_tests::raw::greeting_packet;
use spillway_tests::{Raw, Server, Spillway, client, mysql9, spillway_bin};

fn server() -> &'static Server {
    static SERVER: LazyLock<Server> =
        LazyLock::new(|| Server::start(&[]).unwrap_or_else(|error| panic!("{error:#}")));
    &SERVER
}

/// `spillway serve` with settings that end it.
fn serve(options: &[String]) -> Result<Finished> {
    let spool = tempfile::tempdir()?;
    let mut command = client::clean(spillway_bin());
    command.args(["serve", "--upstream", "127.0.0.1:1", "--listen", "127.0.0.1:0", "--spool-dir"]);
    process::run(command.arg(spool.path()).args(options), LIMIT)
}

#[test]
fn files_that_are_of_no_use() -> Result<()> {
    let authority = Authority::new("The tests' authority")?;
    let (one, other) = (authority.issue(&Leaf::server())?, authority.issue(&Leaf::server().rsa())?);
    let garbage = one.beside("garbage.pem", "-----BEGIN CERTIFICATE-----\nnonsense!\n")?;
    let (cert, key) = (one.option("tls-cert"), one.option("tls-key"));
    let garbage = |option: &str| format!("--{option}={}", garbage.display());
    let nowhere = |option: &str| format!("--{option}=/no/such/file.pem");
    let words = |options: &[&str]| options.iter().map(|&option| option.to_owned()).collect::<Vec<_>>();
    for (options, parts) in [
        (vec![nowhere("tls-cert"), key.clone()], &["--tls-cert /no/such/file.pem"][..]),
        (vec![cert.clone(), nowhere("tls-key")], &["--tls-key /no/such/file.pem"]),
        (vec![garbage("tls-cert"), key.clone()], &["--tls-cert ", "garbage.pem", "PEM"]),
        (vec![cert.clone(), garbage("tls-key")], &["--tls-key ", "garbage.pem", "PEM"]),
        (vec![cert.clone()], &["no private key in it"]),
        (vec![cert.clone(), other.option("tls-key")], &["cannot be used with the key in"]),
        (vec![key.clone()], &["--tls-key is of no use without --tls-cert"]),
        (vec![cert, key, "--tls-self-signed".to_owned()], &["drop one of the two"]),
        (words(&["--tls=required"]), &["--tls-self-signed"]),
        (words(&["--tls=preferred"]), &["--tls-self-signed"]),
        (vec![nowhere("tls-client-ca")], &["--tls-client-ca is of no use without --tls-cert"]),
        (
            vec!["--tls-self-signed".to_owned(), one.option("tls-client-ca"), "--tls=preferred".to_owned()],
            &["--tls preferred lets clients in without TLS"],
        ),
        (words(&["--tls-self-signed", "--tls-client-cert=optional"]), &["without --tls-client-ca"]),
        (vec!["--tls-self-signed".to_owned(), garbage("tls-client-ca")], &["--tls-client-ca "]),
        (vec![nowhere("upstream-tls-ca")], &["--upstream-tls-ca /no/such/file.pem"]),
        (vec![garbage("upstream-tls-ca")], &["--upstream-tls-ca ", "PEM"]),
        (
            vec![one.option("upstream-tls-ca"), "--upstream-tls=required".to_owned()],
            &["--upstream-tls-ca is given", "verify-ca"],
        ),
        (
            vec![one.option("upstream-tls-key")],
            &["--upstream-tls-key is of no use without --upstream-tls-cert"],
        ),
        (
            vec![one.option("upstream-tls-cert"), other.option("upstream-tls-key")],
            &["cannot be used with the key in"],
        ),
    ] {
        let finished = serve(&options)?;
        let told = &finished.stderr;
        ensure!(finished.code() == 78, "{options:?}: status {}: {told}", finished.code());
        ensure!(parts.iter().all(|part| told.contains(part)), "{options:?}: {parts:?}: {told}");
        ensure!(!told.contains("nonsense!"), "shows the file: {told}");
        ensure!(!told.contains("  "), "{told}");
    }
    let finished = serve(&words(&["--upstream-tls=sometimes"]))?;
    ensure!(finished.code() == 2 && finished.stderr.contains("verify-identity"), "{}", finished.stderr);
    Ok(())
}

#[test]
fn an_expired_certificate_of_spillways_own_is_told_at_start() -> Result<()> {
    let expired = Authority::new("The tests' authority")?.issue(&Leaf::server().expired())?;
    let own = [expired.option("tls-cert"), expired.option("tls-key")];
    let spillway = Spillway::to(&server().tcp()).options(&own.each_ref().map(String::as_str)).start()?;
    let line = spillway.wait_for_log("clients that check the certificate will refuse it", LIMIT)?;
    ensure!(line.contains("it has expired"), "{line}");
    Ok(())
}

#[test]
fn clients_that_begin_tls_and_do_something_else() -> Result<()> {
    let spillway = Spillway::to(&server().tcp()).options(&["--tls-self-signed"]).start()?;
    let mut undisturbed = Raw::login(spillway.address()?)?;
    // A ClientHello that says of itself that 512 bytes follow.
    let hello = [&[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3][..], &[7; 100]].concat();
    let plain_login = b"\x20\0\0\x02 as if nothing had been said of TLS".to_vec();
    for (bytes, hangs_up) in
        [(plain_login, false), (b"GET / HTTP/1.1\r\n\r\n".to_vec(), false), (hello, true), (vec![], true)]
    {
        let mut raw = Raw::connect(spillway.address()?)?;
        raw.write_packet(&ssl_request())?;
        raw.stream().write_all(&bytes)?;
        if hangs_up {
            raw.stream().shutdown(std::net::Shutdown::Write)?;
        }
        // TLS's own word for it may come first; a packet of the protocol never does.
        let mut rest = Vec::new();
        raw.set_limit(LIMIT)?;
        let _ = raw.stream().read_to_end(&mut rest);
        ensure!(rest.is_empty() || rest[0] == 21, "{rest:?}");
        ensure!(undisturbed.value("SELECT 'still here'")? == "still here");
    }
    let told = || spillway.log().lines().iter().filter(|line| line.contains("the client began TLS")).count();
    spillway_tests::wait_until(LIMIT, "four lines in the log", || told() == 4)?;
    // Nothing of this was the server's: it has let the next one in.
    Raw::login(spillway.address()?)?;
    Ok(())
}

#[test]
fn a_client_that_asks_for_tls_where_there_is_none() -> Result<()> {
    let spillway = Spillway::to(&server().tcp()).start()?;
    let mut raw = Raw::connect(spillway.address()?)?;
    raw.write_packet(&ssl_request())?;
    let error = raw.end()?.err()?;
    ensure!(error.code == 1043 && error.message.contains("asks for TLS, which was not offered"), "{error:?}");
    Ok(())
}

#[test]
fn what_a_client_sends_behind_its_wish_for_tls_is_not_taken_for_what_is_under_it() -> Result<()> {
    let spillway = Spillway::to(&server().tcp()).options(&["--tls-self-signed"]).start()?;
    let raw = Raw::connect(spillway.address()?)?;
    // In one segment, as somebody between the two would do it.
    let request = ssl_request();
    let mut segment = vec![request.len() as u8, 0, 0, 1];
    segment.extend(&request);
    segment.extend(b"\x01\0\0\x02\x03");
    raw.stream().write_all(&segment)?;
    raw.stream().shutdown(std::net::Shutdown::Write)?;
    spillway.wait_for_log("the client began TLS and did not end the beginning", LIMIT)?;
    Ok(())
}

#[test]
fn servers_that_offer_tls_and_do_something_else() -> Result<()> {
    let greeting = offering_tls(&greeting_packet(server().address())?)?;
    for answer in [&b"\x07\0\0\x02\0\0\0\x02\0\0\0"[..], b"", b"\x15\x03\x03\0\x02\x02\x28"] {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (greeting, given) = (greeting.clone(), answer.to_vec());
        let fake = std::thread::spawn(move || misbehave(listener.accept()?.0, &greeting, &given));
        let spillway =
            Spillway::to(&address).options(&["--upstream-tls=required", "--handshake-timeout=2s"]).start()?;
        let mut mysql = mysql9::dumper("mysql", spillway.endpoint());
        let finished = process::run(mysql.args(["--execute", "DO 0"]), LIMIT)?;
        let told = &finished.stderr;
        ensure!(finished.code() == 1 && told.contains("spillway: "), "{answer:?}: {told}");
        spillway.wait_for_log("phase=\"tls\"", LIMIT)?;
        let heard = fake.join().map_err(|_| anyhow::anyhow!("the server panicked"))??;
        ensure!(heard == 4 + 32, "{heard} bytes in the clear");
    }
    Ok(())
}

/// Greets, reads the SSLRequest and gives this answer. Gives the number of bytes that came before TLS's own.
fn misbehave(mut stream: TcpStream, greeting: &[u8], answer: &[u8]) -> Result<usize> {
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(greeting)?;
    let mut request = [0; 4 + 32];
    stream.read_exact(&mut request)?;
    stream.write_all(answer)?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut behind = Vec::new();
    let _ = stream.read_to_end(&mut behind);
    ensure!(behind.is_empty() || behind[0] == 22, "not TLS: {behind:?}");
    Ok(request.len())
}

/// The same greeting with CLIENT_SSL.
fn offering_tls(greeting: &[u8]) -> Result<Vec<u8>> {
    let mut greeting = greeting.to_vec();
    let version_end = 5 + greeting[5..].iter().position(|&byte| byte == 0).context("no version")?;
    // Behind the version: id (4), scramble (8), filler (1), capabilities, whose second byte holds bit 11.
    greeting[version_end + 1 + 4 + 8 + 1 + 1] |= 8;
    Ok(greeting)
}

/// CLIENT_SSL | CLIENT_PROTOCOL_41 | CLIENT_SECURE_CONNECTION | CLIENT_PLUGIN_AUTH, and no more than an SSLRequest has.
fn ssl_request() -> Vec<u8> {
    let capabilities: u32 = 1 << 11 | 1 << 9 | 1 << 15 | 1 << 19 | 1;
    let mut request = capabilities.to_le_bytes().to_vec();
    request.extend((16_u32 << 20).to_le_bytes());
    request.resize(32, 0);
    request
}

const LIMIT: Duration = Duration::from_secs(60);
