use super::*;
use crate::capabilities::Capabilities;
use crate::compression::Compression;

/// Captured from MariaDB 10.11 (Debian): capabilities 0xf7fe (lower), 0x81ff (upper), extended 0x1f.
const MARIADB_GREETING: &[u8] = b"\x0a5.5.5-10.11.19-MariaDB-0+deb12u1\x00\x1f\x00\x00\x00\x5d\x24\x2d\x5a\x7a\x2c\x49\x55\x00\xfe\xf7\x2d\x02\x00\xff\x81\x15\x00\x00\x00\x00\x00\x00\x1f\x00\x00\x00\x3e\x5e\x60\x43\x39\x6b\x48\x2f\x4f\x4a\x3c\x77\x00mysql_native_password\x00";

fn response(capabilities: Capabilities) -> Vec<u8> {
    let mut payload = capabilities.lower().to_le_bytes().to_vec();
    payload.extend([0, 0, 0, 1, 45]);
    payload.extend([0; 19]);
    payload.extend(capabilities.extended().to_le_bytes());
    payload.extend(b"dump\0");
    payload.extend([3, 9, 8, 7]);
    if capabilities.contains(Capabilities::CONNECT_WITH_DB) {
        payload.extend(b"shop\0");
    }
    payload.extend(b"mysql_native_password\0");
    payload.extend(b"\x06\x01a\x03b=c");
    payload
}

const BASE: Capabilities = Capabilities(
    Capabilities::PROTOCOL_41.0
        | Capabilities::SECURE_CONNECTION.0
        | Capabilities::PLUGIN_AUTH.0
        | Capabilities::PLUGIN_AUTH_LENENC_CLIENT_DATA.0
        | Capabilities::CONNECT_ATTRS.0,
);

#[test]
fn a_greeting_loses_only_what_is_masked() {
    let greeting = Greeting::parse(MARIADB_GREETING.to_vec()).unwrap();
    assert_eq!(greeting.server_version(), b"5.5.5-10.11.19-MariaDB-0+deb12u1");
    assert!(greeting.is_mariadb());
    assert_eq!(greeting.connection_id(), 31);
    assert_eq!(greeting.capabilities().extended(), 0x1f);
    assert_eq!(greeting.offering(greeting.capabilities()), MARIADB_GREETING);

    let masked =
        Greeting::parse(greeting.offering(greeting.capabilities() & Capabilities::UNDERSTOOD)).unwrap();
    assert!(!masked.capabilities().contains(Capabilities::COMPRESS));
    assert!(!masked.capabilities().contains(Capabilities::MARIADB_COM_MULTI));
    assert!(masked.capabilities().contains(Capabilities::MARIADB_CACHE_METADATA));
    let differing =
        MARIADB_GREETING.iter().zip(&masked.offering(masked.capabilities())).filter(|(a, b)| a != b).count();
    assert!((1..=3).contains(&differing), "{differing} bytes differ");
}

#[test]
fn a_greeting_cut_anywhere_before_the_scramble_is_an_error() {
    let fixed_end = MARIADB_GREETING.len() - 35;
    for len in 0..fixed_end {
        assert!(Greeting::parse(MARIADB_GREETING[..len].to_vec()).is_err(), "{len} bytes");
    }
    assert_eq!(Greeting::parse(vec![9]).err(), Some(HandshakeError::ProtocolVersion(9)));
}

#[test]
fn a_response_is_unchanged_where_nothing_is_masked() {
    for capabilities in [BASE, BASE | Capabilities::CONNECT_WITH_DB, BASE | Capabilities::MARIADB_PROGRESS] {
        let payload = response(capabilities);
        let parsed = HandshakeResponse::parse(&payload).unwrap();
        assert_eq!(parsed.user(), b"dump");
        assert_eq!(parsed.plugin(), b"mysql_native_password");
        assert_eq!((parsed.attribute(b"a"), parsed.attribute(b"c")), (Some(&b"b=c"[..]), None));
        assert_eq!(parsed.capabilities(), capabilities);
        assert_eq!(*parsed.masked(Capabilities(u64::MAX)), payload);
    }
}

#[test]
fn masked_bits_take_their_fields_along() {
    let mut payload =
        response(BASE | Capabilities::CONNECT_WITH_DB | Capabilities::ZSTD_COMPRESSION_ALGORITHM);
    payload.push(3);
    let parsed = HandshakeResponse::parse(&payload).unwrap();
    assert_eq!(*parsed.masked(Capabilities::UNDERSTOOD), response(BASE | Capabilities::CONNECT_WITH_DB));

    let without =
        Capabilities(!(Capabilities::CONNECT_ATTRS.0 | Capabilities::PLUGIN_AUTH_LENENC_CLIENT_DATA.0));
    let masked = HandshakeResponse::parse(&parsed.masked(without)).unwrap();
    assert_eq!(masked.attribute(b"a"), None);
    assert_eq!(masked.auth_response(), [9, 8, 7]);
    let expected = response(BASE | Capabilities::CONNECT_WITH_DB);
    assert!(expected.windows(5).any(|window| window == b"shop\0"));
    assert!(masked.masked(Capabilities(u64::MAX)).windows(5).any(|window| window == b"shop\0"));
}

#[test]
fn what_a_client_asks_for_in_compression() {
    let asked = |capabilities: Capabilities, end: &[u8]| {
        let payload = [response(BASE | capabilities), end.to_vec()].concat();
        Compression::asked_for(&HandshakeResponse::parse(&payload).unwrap())
    };
    let (zlib, zstd) = (Capabilities::COMPRESS, Capabilities::ZSTD_COMPRESSION_ALGORITHM);
    assert_eq!(asked(Capabilities::FOUND_ROWS, b"\x05"), None);
    assert_eq!(asked(zlib, b""), Some(Compression::Zlib));
    assert_eq!(asked(zlib | zstd, b"\x05"), Some(Compression::Zlib));
    for (end, level) in [(&b""[..], 3), (b"\x00", 1), (b"\x01", 1), (b"\x16", 22), (b"\xff", 22)] {
        assert_eq!(asked(zstd, end), Some(Compression::Zstd { level }), "{end:?}");
    }
    // Towards the server it is Spillway's own wish.
    let parsed = HandshakeResponse::parse(&[response(BASE | zstd), vec![19]].concat()).unwrap();
    let expected = [response(BASE | zstd), vec![3]].concat();
    assert_eq!(*parsed.with_capabilities(BASE | zstd), expected);
}

#[test]
fn tls_and_broken_responses_are_refused() {
    let mut ssl_request = (BASE | Capabilities::SSL).lower().to_le_bytes().to_vec();
    ssl_request.resize(32, 0);
    assert_eq!(HandshakeResponse::parse(&ssl_request).err(), Some(HandshakeError::TlsNotOffered));

    let payload = response(BASE);
    for len in 0..41 {
        assert!(HandshakeResponse::parse(&payload[..len]).is_err(), "{len} bytes");
    }
    assert!(HandshakeResponse::parse(&[b'G'; 64]).is_err());
}

#[test]
fn a_greeting_in_a_servers_name_differs_in_what_is_told_apart() {
    let server = Greeting::parse(MARIADB_GREETING.to_vec()).unwrap();
    assert_eq!(server.scramble(), b"\x5d\x24\x2d\x5a\x7a\x2c\x49\x55>^`C9kH/OJ<w");
    assert_eq!(server.plugin(), b"mysql_native_password");
    let scramble = *b"abcdefghijklmnopqrst";
    let own = server.renewed(server.capabilities(), 0x8000_0001, &scramble, b"caching_sha2_password");
    let own = Greeting::parse(own).unwrap();
    assert_eq!(own.connection_id(), 0x8000_0001);
    assert_eq!(own.scramble(), scramble);
    assert_eq!(own.plugin(), b"caching_sha2_password");
    assert!(own.is_like(&server));
    let without = Capabilities(!Capabilities::MULTI_RESULTS.0);
    assert!(
        !Greeting::parse(server.renewed(server.capabilities() & without, 1, &scramble, b"x"))
            .unwrap()
            .is_like(&server)
    );
    let without = Capabilities(!Capabilities::COMPRESS.0);
    assert!(
        Greeting::parse(server.renewed(server.capabilities() & without, 1, &scramble, b"x"))
            .unwrap()
            .is_like(&server)
    );
}

#[test]
fn a_response_that_asks_for_a_switch_keeps_all_else() {
    let capabilities = BASE | Capabilities::CONNECT_WITH_DB;
    let asked = HandshakeResponse::parse(&response(capabilities)).unwrap();
    let asking = HandshakeResponse::parse(&asked.asking_for_switch(capabilities)).unwrap();
    assert_eq!((asking.user(), asking.auth_response()), (&b"dump"[..], &b""[..]));
    assert_ne!(asking.plugin(), b"mysql_native_password");
    assert_eq!(asking.attribute(b"a"), Some(&b"b=c"[..]));
    assert_eq!(*asking.answering(capabilities, b"mysql_native_password", &[9, 8, 7]), response(capabilities));
}

#[test]
fn a_response_of_ones_own_is_read_back() {
    let capabilities =
        Capabilities::PROTOCOL_41 | Capabilities::SECURE_CONNECTION | Capabilities::PLUGIN_AUTH;
    let mut own = HandshakeResponse::new(capabilities, b"backup");
    assert_eq!((own.user(), own.capabilities()), (&b"backup"[..], capabilities));
    own.set_defaults(b"shop", Some(45));
    let payload = own.answering(own.capabilities(), b"mysql_native_password", &[1; 20]);
    let read = HandshakeResponse::parse(&payload).unwrap();
    assert!(read.capabilities().contains(Capabilities::CONNECT_WITH_DB));
    assert_eq!((payload[8], read.auth_response()), (45, &[1; 20][..]));
}

/// Bytes of it would be read as a length, or as the database.
#[test]
fn an_answer_for_which_there_is_no_form_is_left_out() {
    let capabilities = BASE | Capabilities::CONNECT_WITH_DB;
    let parsed = HandshakeResponse::parse(&response(capabilities)).unwrap();
    let lenenc = Capabilities::PLUGIN_AUTH_LENENC_CLIENT_DATA.0;
    let with_length = Capabilities(capabilities.0 & !lenenc);
    let with_nul = Capabilities(with_length.0 & !Capabilities::SECURE_CONNECTION.0);
    for (capabilities, answer, kept) in [
        (capabilities, vec![7; 300], 300),
        (with_length, vec![7; 255], 255),
        (with_length, vec![7; 256], 0),
        (with_nul, vec![7; 300], 300),
        (with_nul, vec![7, 0, 7], 0),
    ] {
        let payload = parsed.answering(capabilities, b"plugin", &answer);
        let again = HandshakeResponse::parse(&payload).unwrap();
        assert_eq!(again.auth_response(), &answer[..kept], "{capabilities:?}");
        assert_eq!(
            (again.user(), again.database(), again.plugin()),
            (&b"dump"[..], &b"shop"[..], &b"plugin"[..])
        );
    }
}
