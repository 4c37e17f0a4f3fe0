use super::*;
use crate::rsa::{OwnKey, Scramble};

const SCRAMBLE: &Scramble = b"01234567890123456789";
const SHA256: &[u8] = b"\xfesha256_password\x0001234567890123456789\0";
const CACHING: &[u8] = b"\xfecaching_sha2_password\x0001234567890123456789\0";

/// What is answered to each of these packets in turn; an error ends it.
async fn answers(way: Way, secrecy: &Secrecy, password: &str, packets: &[&[u8]]) -> Vec<String> {
    let credentials = Credentials::new(b"dump".to_vec(), password.as_bytes().to_vec());
    let mut prover = Prover::new(&credentials, secrecy, way, AuthPlugin::Other, &[]);
    let mut answers = Vec::new();
    for packet in packets {
        answers.push(match prover.answer(packet).await {
            Ok(Answer::Packet(packet)) => String::from_utf8_lossy(&packet).into_owned(),
            Ok(Answer::Nothing) => "nothing".to_owned(),
            Ok(Answer::None { plugin, why }) => format!("{plugin} {why}"),
            Err(cause) => format!("error: {cause}"),
        });
    }
    answers
}

fn key_packet(key: &OwnKey) -> Vec<u8> {
    [&[AUTH_MORE_DATA], key.pem().as_bytes()].concat()
}

fn fetching() -> Secrecy {
    Secrecy::new(None, true, false)
}

#[tokio::test]
async fn the_password_itself_goes_in_clear_where_the_server_takes_it_so() {
    let strict = Secrecy::default();
    for (way, switch) in [(Way::Tls, SHA256), (Way::Tls, CACHING), (Way::Socket, CACHING)] {
        let said = answers(way, &strict, "secret", &[switch, &PERFORM_FULL_AUTHENTICATION]).await;
        assert!(said.contains(&"secret\0".to_owned()), "{way:?} {said:?}");
    }
    for way in [Way::Open, Way::Socket, Way::Tls] {
        assert_eq!(answers(way, &strict, "", &[SHA256]).await, ["\0"]);
    }
    let refused = answers(Way::Open, &strict, "secret", &[CACHING, &PERFORM_FULL_AUTHENTICATION]).await;
    for option in ["--upstream-server-public-key", "--get-server-public-key", "TLS"] {
        assert!(
            refused[1].starts_with("caching_sha2_password") && refused[1].contains(option),
            "{refused:?}"
        );
    }
    assert!(answers(Way::Open, &strict, "secret", &[SHA256]).await[0].starts_with("sha256_password wants"));
}

#[tokio::test]
async fn the_key_is_asked_for_where_that_may_be() {
    let key = OwnKey::generate().unwrap();
    let pem = key_packet(&key);
    for (way, secrecy, switch, request) in [
        (Way::Open, fetching(), SHA256, "\x01"),
        (Way::Socket, Secrecy::default(), SHA256, "\x01"),
        (Way::Open, fetching(), CACHING, "\x02"),
    ] {
        let credentials = Credentials::new(b"dump".to_vec(), b"secret".to_vec());
        let mut prover = Prover::new(&credentials, &secrecy, way, AuthPlugin::Other, &[]);
        let mut asked = prover.answer(switch).await;
        if switch == CACHING {
            asked = prover.answer(&PERFORM_FULL_AUTHENTICATION).await;
        }
        assert!(matches!(asked, Ok(Answer::Packet(packet)) if *packet == request.as_bytes()));
        let Ok(Answer::Packet(cipher)) = prover.answer(&pem).await else { panic!("no password") };
        assert_eq!(*key.decrypt(&cipher, [SCRAMBLE]).unwrap(), b"secret\0");
    }
}

#[tokio::test]
async fn a_key_that_is_given_is_not_asked_for() {
    let key = OwnKey::generate().unwrap();
    let given = PublicKey::from_pem(key.pem().as_bytes()).unwrap();
    let secrecy = Secrecy::new(Some(given), false, false);
    let credentials = Credentials::new(b"dump".to_vec(), b"secret".to_vec());
    let mut prover = Prover::new(&credentials, &secrecy, Way::Open, AuthPlugin::CachingSha2, SCRAMBLE);
    let answer = prover.answer(&PERFORM_FULL_AUTHENTICATION).await;
    let Ok(Answer::Packet(cipher)) = answer else { panic!("no password") };
    assert_eq!(*key.decrypt(&cipher, [SCRAMBLE]).unwrap(), b"secret\0");
    let long = "x".repeat(300);
    let refused = answers(Way::Open, &secrecy, &long, &[SHA256]).await;
    assert!(refused[0].contains("too long"), "{refused:?}");
}

#[tokio::test]
async fn garbage_is_an_error() {
    let secrecy = fetching();
    for garbage in
        [&b"\x01"[..], b"\x01nonsense", b"\x01-----BEGIN PUBLIC KEY-----\nQUJD\n-----END PUBLIC KEY-----\n"]
    {
        let said = answers(Way::Open, &secrecy, "secret", &[SHA256, garbage]).await;
        assert!(said[1].starts_with("sha256_password gives an RSA key that is none"), "{said:?}");
    }
    let short = b"\xfesha256_password\0short\0";
    let pem = key_packet(&OwnKey::generate().unwrap());
    for packets in [
        &[CACHING, b"\x01nonsense"][..],
        &[SHA256, b"\x01\x04", b"\x01\x04"],
        &[b"\x01\x04"],
        &[short, &pem],
        &[b"\xfeparsec\0scramble", b"Q\0salt"],
        &[CACHING, &pem],
    ] {
        let said = answers(Way::Open, &secrecy, "secret", packets).await;
        assert!(said.iter().any(|answer| answer.starts_with("error: ")), "{packets:?} {said:?}");
    }
}

/// The key is that of the protocol crate's test, computed in Python.
#[tokio::test]
async fn parsec_asks_for_the_salt_and_signs() {
    let scramble: [u8; 32] = std::array::from_fn(|index| index as u8);
    let switch = [b"\xfeparsec\0", &scramble[..]].concat();
    let salt: Vec<u8> = [b'P', 0].into_iter().chain(0..18).collect();
    let credentials = Credentials::new(b"dump".to_vec(), b"secret".to_vec());
    let secrecy = Secrecy::default();
    let mut prover = Prover::new(&credentials, &secrecy, Way::Open, AuthPlugin::Native, &[]);
    let asked = prover.answer(&switch).await;
    assert!(matches!(asked, Ok(Answer::Packet(packet)) if packet.is_empty()));
    let Ok(Answer::Packet(answer)) = prover.answer(&salt).await else { panic!("no signature") };
    let key = [
        0x08, 0xcc, 0x70, 0xb0, 0xfe, 0x8e, 0x4e, 0x8c, 0x58, 0x14, 0xc9, 0x87, 0xaa, 0xf5, 0x76, 0x2f, 0x12,
        0xd5, 0x59, 0x08, 0x83, 0xf9, 0x56, 0xb0, 0xb0, 0xeb, 0x2a, 0xd7, 0x1b, 0xcf, 0x64, 0x5f,
    ];
    let own = answer.first_chunk().unwrap();
    assert_eq!(*answer, parsec_answer(&key, &scramble, own));
}

#[tokio::test]
async fn a_clear_password_and_questions() {
    let clear = &b"\xfemysql_clear_password\0\0"[..];
    let (strict, lax) = (Secrecy::default(), Secrecy::new(None, false, true));
    assert_eq!(answers(Way::Tls, &strict, "secret", &[clear]).await, ["secret\0"]);
    assert_eq!(answers(Way::Open, &lax, "secret", &[clear]).await, ["secret\0"]);
    let refused = answers(Way::Open, &strict, "secret", &[clear]).await;
    assert!(refused[0].contains("--allow-cleartext"), "{refused:?}");
    for packet in [&b"\xfedialog\0\x05Password: "[..], b"\x02authentication_webauthn_client\0"] {
        let refused = answers(Way::Tls, &lax, "secret", &[packet]).await;
        assert!(refused[0].contains("--auth passthrough") && !refused[0].contains("secret"), "{refused:?}");
    }
}
