use super::*;
use crate::rsa::OwnKey;
use crate::secrecy::Way::{self, Open, Socket, Tls};

const SCRAMBLE: &Scramble = b"01234567890123456789";
const SHA256: &[u8] = b"\xfesha256_password\x0001234567890123456789\0";
const CACHING: &[u8] = b"\xfecaching_sha2_password\x0001234567890123456789\0";
const CLEAR: &[u8] = b"\xfemysql_clear_password\0\0";
const DIALOG: &[u8] = b"\xfedialog\0\x04Password: ";

fn bridge(secrecy: &Secrecy, client: Way, server: Way) -> Bridge<'_> {
    let mut bridge = Bridge::new(secrecy, Capabilities::PLUGIN_AUTH, b"mysql_native_password", SCRAMBLE);
    bridge.start(Exposure::for_test(client, server));
    bridge
}

/// A bridge on which the server has asked for the password by this switch.
fn asked<'a>(mut bridge: Bridge<'a>, switch: &[u8]) -> Bridge<'a> {
    assert_eq!(from_server(&mut bridge, switch), to_client(switch));
    if switch == CACHING {
        let full = &PERFORM_FULL_AUTHENTICATION;
        assert_eq!(from_server(&mut bridge, full), to_client(full));
    }
    bridge
}

/// Where a packet goes, or the kind of the error.
type Gone = Result<Step, &'static str>;

fn gone(step: Result<Step, BridgeError>) -> Gone {
    step.map_err(|error| match error {
        BridgeError::Server(_) => "bad server",
        BridgeError::Client(Refusal::ServerKey(_)) => "bad key",
        BridgeError::Client(Refusal::Cleartext { .. }) => "clear text",
        BridgeError::Client(Refusal::NoServerKey { .. }) => "no server key",
        BridgeError::Client(Refusal::OtherKey { .. }) => "other key",
        BridgeError::Client(_) => "other",
    })
}

fn to_client(payload: &[u8]) -> Gone {
    Ok(Step::ToClient(Zeroizing::new(payload.to_vec())))
}

fn to_server(payload: &[u8]) -> Gone {
    Ok(Step::ToServer(Zeroizing::new(payload.to_vec())))
}

fn from_server(bridge: &mut Bridge<'_>, payload: &[u8]) -> Gone {
    gone(bridge.on_server(Zeroizing::new(payload.to_vec())))
}

async fn from_client(bridge: &mut Bridge<'_>, payload: &[u8]) -> Gone {
    gone(bridge.on_client(Zeroizing::new(payload.to_vec())).await)
}

fn key_packet(key: &OwnKey) -> Vec<u8> {
    [&[AUTH_MORE_DATA], key.pem().as_bytes()].concat()
}

fn request(switch: &[u8]) -> &'static [u8] {
    if switch == CACHING { &[2] } else { &[1] }
}

/// What a client encrypts with the key of this packet.
fn encrypted(packet: &Gone) -> Vec<u8> {
    let Ok(Step::ToClient(packet)) = packet else { panic!("no key for the client: {packet:?}") };
    PublicKey::from_pem(&packet[1..]).unwrap().encrypt(b"secret", SCRAMBLE).unwrap()
}

#[tokio::test]
async fn packets_pass_where_both_sides_do_the_same() {
    let secrecy = Secrecy::default();
    let cipher = [7; 256];
    for (client, server, switch, says) in [
        (Open, Open, SHA256, &b"\x01"[..]),
        (Open, Open, SHA256, &cipher),
        (Open, Open, CACHING, b"\x02"),
        // Over its own open way it may do what it likes: as MariaDB's client does.
        (Open, Open, CACHING, b"secret\0"),
        (Open, Tls, CACHING, b"secret\0"),
        (Open, Tls, SHA256, b"secret\0"),
        (Socket, Socket, SHA256, b"\x01"),
        (Open, Socket, SHA256, b"\x01"),
        (Open, Socket, SHA256, &cipher),
        (Socket, Socket, CACHING, b"secret\0"),
        (Tls, Socket, CACHING, b"secret\0"),
        (Socket, Tls, CACHING, b"secret\0"),
        (Tls, Tls, SHA256, b"secret\0"),
        (Socket, Tls, SHA256, b"secret\0"),
        // It brings the server's key along.
        (Socket, Open, SHA256, &cipher),
        (Tls, Open, CACHING, &cipher),
        // No password is none anywhere.
        (Open, Tls, SHA256, b"\0"),
        (Tls, Open, SHA256, b"\0"),
        (Tls, Open, SHA256, b""),
    ] {
        let mut bridge = asked(bridge(&secrecy, client, server), switch);
        let context = format!("{client:?} {server:?} {switch:?} {says:?}");
        assert_eq!(from_client(&mut bridge, says).await, to_server(says), "{context}");
        if says == request(switch) {
            let pem = b"\x01some key";
            assert_eq!(from_server(&mut bridge, pem), to_client(pem), "{context}");
            assert_eq!(from_client(&mut bridge, &cipher).await, to_server(&cipher), "{context}");
        }
    }
}

#[tokio::test]
async fn a_client_that_encrypts_reaches_a_server_that_takes_it_in_clear() {
    let secrecy = Secrecy::default();
    for (client, server, switch) in [
        (Open, Socket, CACHING),
        (Open, Tls, CACHING),
        (Open, Tls, SHA256),
        (Socket, Tls, SHA256),
        (Socket, Tls, CACHING),
    ] {
        let mut bridge = asked(bridge(&secrecy, client, server), switch);
        let key = from_client(&mut bridge, request(switch)).await;
        let cipher = encrypted(&key);
        assert_eq!(from_client(&mut bridge, &cipher).await, to_server(b"secret\0"), "{client:?} {server:?}");
    }
}

#[tokio::test]
async fn a_password_by_another_key_goes_nowhere() {
    let secrecy = Secrecy::default();
    for says in [&[7; 256][..], b"\x01x", b"secret", &[7; 1000]] {
        let mut before = asked(bridge(&secrecy, Open, Tls), SHA256);
        assert_eq!(from_client(&mut before, says).await, Err("other key"), "{says:?}");
        let mut behind = asked(bridge(&secrecy, Open, Tls), SHA256);
        assert!(from_client(&mut behind, b"\x01").await.is_ok());
        assert_eq!(from_client(&mut behind, says).await, Err("other key"), "{says:?}");
    }
    // A key is given once.
    let mut bridge = asked(bridge(&secrecy, Open, Tls), SHA256);
    assert!(from_client(&mut bridge, b"\x01").await.is_ok());
    assert_eq!(from_client(&mut bridge, b"\x01").await, Err("other key"));
}

/// Some libraries keep to the greeting's scramble where a switch has brought another one.
#[tokio::test]
async fn a_password_for_the_greetings_scramble_is_read_as_well() {
    let secrecy = Secrecy::default();
    let mut bridge = bridge(&secrecy, Open, Tls);
    let switch = b"\xfesha256_password\0abcdefghijklmnopqrst\0";
    assert!(from_server(&mut bridge, switch).is_ok());
    let key = from_client(&mut bridge, b"\x01").await;
    let cipher = encrypted(&key);
    assert_eq!(from_client(&mut bridge, &cipher).await, to_server(b"secret\0"));
}

#[tokio::test]
async fn a_clear_password_is_encrypted_for_a_server_on_an_open_way() {
    let server_key = OwnKey::generate().unwrap();
    let known = || Some(PublicKey::from_pem(server_key.pem().as_bytes()).unwrap());
    let strict = Secrecy::new(None, false, true);
    let (given, fetching) = (Secrecy::new(known(), false, false), Secrecy::new(None, true, false));
    let right = |gone: &Gone| {
        let Ok(Step::ToServer(cipher)) = gone else { panic!("{gone:?}") };
        assert_eq!(*server_key.decrypt(cipher, [SCRAMBLE]).unwrap(), b"secret\0");
    };
    for (client, switch) in [(Socket, CACHING), (Tls, CACHING), (Tls, SHA256), (Socket, SHA256)] {
        // Without its NUL, and as long as a ciphertext, it is one all the same.
        let long = [&[b'x'; 255][..], b"\0"].concat();
        for says in [&b"secret\0"[..], b"secret", &long] {
            let mut bridge = asked(bridge(&strict, client, Open), switch);
            assert_eq!(from_client(&mut bridge, says).await, Err("no server key"), "{client:?} {says:?}");
        }
        right(&from_client(&mut asked(bridge(&given, client, Open), switch), b"secret\0").await);

        let mut bridge = asked(bridge(&fetching, client, Open), switch);
        assert_eq!(from_client(&mut bridge, b"secret\0").await, to_server(request(switch)));
        right(&from_server(&mut bridge, &key_packet(&server_key)));
    }
    // Sent in clear over an open way, it is encrypted all the same if that can be done.
    right(&from_client(&mut asked(bridge(&given, Open, Open), CACHING), b"secret\0").await);
    // Over a Unix socket nobody can give another key.
    let mut bridge = asked(bridge(&strict, Tls, Socket), SHA256);
    assert_eq!(from_client(&mut bridge, b"secret\0").await, to_server(b"\x01"));
    right(&from_server(&mut bridge, &key_packet(&server_key)));
}

/// A client that asks for a key over its socket is not given one that came over an open way.
#[tokio::test]
async fn a_key_is_not_passed_from_an_open_way_to_a_safe_one() {
    let server_key = OwnKey::generate().unwrap();
    let strict = Secrecy::default();
    let mut refused = asked(bridge(&strict, Socket, Open), SHA256);
    assert_eq!(from_client(&mut refused, b"\x01").await, Err("no server key"));
    let fetching = Secrecy::new(None, true, false);
    let mut bridge = asked(bridge(&fetching, Socket, Open), SHA256);
    let key = from_client(&mut bridge, b"\x01").await;
    let cipher = encrypted(&key);
    assert_eq!(from_client(&mut bridge, &cipher).await, to_server(b"\x01"));
    let Ok(Step::ToServer(cipher)) = from_server(&mut bridge, &key_packet(&server_key)) else { panic!() };
    assert_eq!(*server_key.decrypt(&cipher, [SCRAMBLE]).unwrap(), b"secret\0");
}

#[tokio::test]
async fn a_servers_key_that_is_none_is_an_error() {
    let secrecy = Secrecy::new(None, true, false);
    for garbage in [&b"\x01"[..], b"\x01nonsense", SHA256, &[0x01; 100_000]] {
        let mut bridge = asked(bridge(&secrecy, Socket, Open), CACHING);
        assert_eq!(from_client(&mut bridge, b"secret\0").await, to_server(b"\x02"));
        assert_eq!(from_server(&mut bridge, garbage), Err("bad key"));
    }
    let short = b"\xfesha256_password\0short\0";
    let mut bridge = asked(bridge(&secrecy, Tls, Open), short);
    assert_eq!(from_client(&mut bridge, b"secret\0").await, to_server(b"\x01"));
    let pem = key_packet(&OwnKey::generate().unwrap());
    assert_eq!(from_server(&mut bridge, &pem), Err("bad server"));
}

#[test]
fn what_is_sent_in_clear_stays_on_safe_ways() {
    let (strict, lax) = (Secrecy::default(), Secrecy::new(None, false, true));
    let factor = &b"\x02authentication_webauthn_client\0"[..];
    for packet in [CLEAR, DIALOG, b"\xfesomething_new\0", factor] {
        for client in [Socket, Tls] {
            assert_eq!(
                from_server(&mut bridge(&strict, client, Open), packet),
                Err("clear text"),
                "{packet:?}"
            );
            assert_eq!(from_server(&mut bridge(&lax, client, Open), packet), to_client(packet));
            assert_eq!(from_server(&mut bridge(&strict, client, Socket), packet), to_client(packet));
        }
        assert_eq!(from_server(&mut bridge(&strict, Open, Open), packet), to_client(packet));
        assert_eq!(from_server(&mut bridge(&strict, Open, Tls), packet), to_client(packet));
    }
    for packet in
        [&b"\xfemysql_native_password\0salt\0"[..], b"\xfeclient_ed25519\0nonce", b"\xfeparsec\0nonce"]
    {
        assert_eq!(from_server(&mut bridge(&strict, Socket, Open), packet), to_client(packet));
    }
}

#[test]
fn a_first_answer_that_gives_the_password_away_does_not_go_on() {
    let (strict, lax) = (Secrecy::default(), Secrecy::new(None, false, true));
    let first = |secrecy, plugin: &str, answer: &[u8], client, server| {
        let mut bridge = Bridge::new(secrecy, Capabilities::PLUGIN_AUTH, plugin.as_bytes(), SCRAMBLE);
        bridge.start(Exposure::for_test(client, server));
        bridge.takes_first(answer)
    };
    let cipher = [7; 256];
    for (plugin, answer, client, server, taken) in [
        ("mysql_native_password", &[7; 20][..], Socket, Open, true),
        ("caching_sha2_password", &[7; 32], Socket, Open, true),
        ("caching_sha2_password", b"\0", Socket, Open, true),
        ("client_ed25519", b"", Socket, Open, true),
        ("sha256_password", b"", Socket, Open, true),
        ("sha256_password", b"\0", Tls, Open, true),
        ("sha256_password", b"\x01", Open, Open, true),
        ("sha256_password", b"\x01", Socket, Socket, true),
        ("sha256_password", b"\x01", Socket, Open, false),
        ("sha256_password", b"\x01", Open, Tls, false),
        ("sha256_password", &cipher, Open, Open, true),
        ("sha256_password", &cipher, Socket, Open, true),
        ("sha256_password", &cipher, Open, Tls, false),
        ("sha256_password", b"secret\0", Tls, Tls, true),
        ("sha256_password", b"secret\0", Tls, Open, false),
        ("sha256_password", b"secret\0", Tls, Socket, false),
        ("sha256_password", b"secret\0", Socket, Open, false),
        ("mysql_clear_password", b"secret\0", Tls, Open, false),
        ("mysql_clear_password", b"secret\0", Tls, Socket, true),
        ("mysql_clear_password", b"secret\0", Open, Open, true),
        ("mysql_clear_password", b"", Tls, Open, true),
        ("dialog", b"secret\0", Socket, Open, false),
    ] {
        assert_eq!(
            first(&strict, plugin, answer, client, server),
            taken,
            "{plugin} {answer:?} {client:?} {server:?}"
        );
    }
    assert!(first(&lax, "mysql_clear_password", b"secret\0", Tls, Open));
    // A client from before the plugins names none and sends no password.
    let mut old = Bridge::new(&strict, Capabilities::PROTOCOL_41, b"", SCRAMBLE);
    old.start(Exposure::for_test(Socket, Open));
    assert!(old.takes_first(&[7; 20]));
}

/// Clients read it without the byte that marks it, too: nobody on an open way may make use of that.
#[tokio::test]
async fn the_bare_request_for_the_password_is_understood() {
    let secrecy = Secrecy::default();
    let mut bridge = bridge(&secrecy, Socket, Open);
    assert!(from_server(&mut bridge, CACHING).is_ok());
    assert_eq!(from_client(&mut bridge, &[7; 32]).await, to_server(&[7; 32]));
    assert_eq!(from_server(&mut bridge, b"\x04"), to_client(b"\x04"));
    assert_eq!(from_client(&mut bridge, b"secret\0").await, Err("no server key"));
}

#[tokio::test]
async fn another_server_begins_anew() {
    let secrecy = Secrecy::new(None, true, false);
    let mut bridge = asked(bridge(&secrecy, Socket, Open), CACHING);
    assert_eq!(from_client(&mut bridge, b"secret\0").await, to_server(b"\x02"));
    bridge.start(Exposure::for_test(Socket, Socket));
    let mut bridge = asked(bridge, CACHING);
    assert_eq!(from_client(&mut bridge, b"secret\0").await, to_server(b"secret\0"));
}
