use proptest::collection::vec;
use proptest::prelude::*;
use tokio::io::{AsyncWriteExt, duplex};
use tokio::time::Instant;

use super::*;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn pair(source: &str, destination: &str) -> Ends {
    Ends::new(address(source), address(destination))
}

/// What `bytes` are read as, and what of them is left. They end there.
fn read_all(mut bytes: &[u8]) -> (Result<Option<Ends>, HeaderError>, &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let read = runtime.block_on(receive(&mut bytes));
    (read, bytes)
}

/// Version 2, spelled out.
fn version2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let len = u16::try_from(body.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), &[command, family], &len, body].concat()
}

const IPV4: &[u8] = &[192, 0, 2, 7, 198, 51, 100, 1, 0x12, 0x67, 0x0c, 0xea];

fn ipv4() -> Ends {
    pair("192.0.2.7:4711", "198.51.100.1:3306")
}

#[test]
fn headers_for_servers() {
    assert_eq!(encode(Some(ipv4())).unwrap(), version2(0x21, 0x11, IPV4));
    let mut ipv6 = vec![0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
    ipv6.extend([0; 15]);
    ipv6.extend([1, 0x12, 0x67, 0x0c, 0xea]);
    let ends = pair("[2001:db8::7]:4711", "[::1]:3306");
    assert_eq!(encode(Some(ends)).unwrap(), version2(0x21, 0x21, &ipv6));
    assert_eq!(encode(None).unwrap(), version2(0x20, 0, &[]));
}

#[test]
fn an_ipv4_client_of_an_ipv6_socket_is_an_ipv4_client() {
    assert_eq!(pair("[::ffff:192.0.2.7]:4711", "[::ffff:198.51.100.1]:3306"), ipv4());
    // Nobody says this but by mistake; and no header could have it.
    let mixed = pair("192.0.2.7:1", "[::1]:2");
    assert_eq!(mixed.source(), address("[::ffff:192.0.2.7]:1"));
}

#[test]
fn headers_of_clients() {
    let tlv = [IPV4, &[4, 0, 3, 1, 2, 3]].concat();
    let longest = [IPV4, &[b'x'; MAX_LEN as usize - 12]].concat();
    let unix = [b'/'; 216];
    let line = |text: &str| format!("PROXY {text}\r\n").into_bytes();
    for (header, expected) in [
        (version2(0x21, 0x11, IPV4), Some(ipv4())),
        (version2(0x21, 0x11, &tlv), Some(ipv4())),
        (version2(0x21, 0x11, &longest), Some(ipv4())),
        (encode(Some(pair("[::1]:1", "[::2]:2"))).unwrap(), Some(pair("[::1]:1", "[::2]:2"))),
        (version2(0x21, 0x31, &unix), None),
        (version2(0x21, 0x00, b"anything"), None),
        // Datagrams these are not.
        (version2(0x21, 0x12, IPV4), None),
        (version2(0x20, 0x00, &[]), None),
        (version2(0x20, 0x11, &[]), None),
        (version2(0x20, 0xff, IPV4), None),
        (line("TCP4 192.0.2.7 198.51.100.1 4711 3306"), Some(ipv4())),
        (line("TCP6 ::1 ::2 1 2"), Some(pair("[::1]:1", "[::2]:2"))),
        (line("UNKNOWN"), None),
        (line("UNKNOWN ffff::1 ffff::2 65535 65535"), None),
    ] {
        let bytes = [header.as_slice(), b"\x55\0\0\x01\r\n behind it"].concat();
        let (read, left) = read_all(&bytes);
        assert_eq!(read.unwrap(), expected, "{}", header.escape_ascii());
        assert_eq!(left, b"\x55\0\0\x01\r\n behind it", "{}", header.escape_ascii());
    }
}

#[test]
fn bad_headers_are_told_apart() {
    let kind = |bytes: &[u8]| format!("{:?}", read_all(bytes).0.unwrap_err());
    let tells = |bytes: &[u8], expected: &str| {
        let kind = kind(bytes);
        assert!(kind.starts_with(expected), "{kind}, {expected} of {}", bytes.escape_ascii());
    };
    tells(b"", "Closed");
    for header in [version2(0x21, 0x11, IPV4), b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 3306\r\n".to_vec()] {
        for len in 1..header.len() {
            tells(&header[..len], "Truncated");
        }
    }
    tells(b"GET / HTTP/1.0\r\n\r\n", "NotOne");
    tells(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\0", "NotOne");
    tells(&[0; 100], "NotOne");
    tells(&[b'P'; 100], "NotOne");
    tells(&version2(0x21, 0x11, &[0; MAX_LEN as usize + 1]), "TooLong");
    // Of what comes behind a wrong length, nothing is waited for.
    tells(&version2(0x21, 0x11, &[0; 0xffff])[..16], "TooLong");
    tells(&version2(0x11, 0x11, IPV4), "Version2(Version");
    tells(&version2(0x22, 0x11, IPV4), "Version2(Command");
    tells(&version2(0x21, 0x51, IPV4), "Version2(AddressFamily");
    tells(&version2(0x21, 0x11, &IPV4[..11]), "Version2(InvalidAddresses");
    tells(&version2(0x21, 0x21, IPV4), "Version2(InvalidAddresses");
    tells(&[b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat(), "Endless");
    tells(b"PROXY TCP4 192.0.2.7 198.51.100.1 4711\r\n", "Version1");
    tells(b"PROXY TCP4 db1 198.51.100.1 4711 3306\r\n", "Version1");
    tells(b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 3306\n", "Version1");
    tells(b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 3306\rx\n", "Version1");
    tells(b"PROXY\r\n and what is behind it\n", "Version1");
    tells(b"PROXY \xff\xff\xff\xff\xff\xff\xff\r\n", "Version1");
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_waited_for_so_long_and_no_longer() {
    let header = version2(0x21, 0x11, IPV4);
    for len in [0, 1, 12, 15, 16, header.len() - 1] {
        let (mut here, mut there) = duplex(100);
        there.write_all(&header[..len]).await.unwrap();
        let started = Instant::now();
        let error = receive(&mut here).await.unwrap_err();
        assert!(matches!(error, HeaderError::TimedOut), "{error}");
        assert_eq!(started.elapsed(), LIMIT);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_drips_its_header_is_not_waited_for_longer() {
    let (mut here, mut there) = duplex(1);
    let drip = tokio::spawn(async move {
        for byte in version2(0x21, 0x11, &[0; 4000]) {
            tokio::time::sleep(LIMIT / 100).await;
            if there.write_all(&[byte]).await.is_err() {
                break;
            }
        }
    });
    let started = Instant::now();
    assert!(matches!(receive(&mut here).await, Err(HeaderError::TimedOut)));
    assert_eq!(started.elapsed(), LIMIT);
    drop(here);
    drip.await.unwrap();
}

fn any_address() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![
        any::<([u8; 4], u16)>().prop_map(|(ip, port)| (ip, port).into()),
        any::<([u8; 16], u16)>().prop_map(|(ip, port)| (ip, port).into()),
        any::<([u8; 4], u16)>()
            .prop_map(|(ip, port)| (std::net::Ipv4Addr::from(ip).to_ipv6_mapped(), port).into()),
    ]
}

/// Headers and what is nearly one.
fn any_header() -> impl Strategy<Value = Vec<u8>> {
    let command = prop_oneof![3 => Just(0x21_u8), 1 => Just(0x20), 1 => any::<u8>()];
    let family = prop_oneof![
        2 => prop_oneof![Just(0x11_u8), Just(0x21), Just(0x31), Just(0)],
        1 => any::<u8>()
    ];
    let version2 = (command, family, vec(any::<u8>(), 0..300), any::<Option<u16>>()).prop_map(
        |(command, family, body, len)| {
            let mut header = version2(command, family, &body);
            if let Some(len) = len {
                header[14..16].copy_from_slice(&len.to_be_bytes());
            }
            header
        },
    );
    let version1 =
        "PROXY (TCP4|TCP6|UNKNOWN)( [0-9a-f.:]{0,20}){0,6} ?[0-9]{0,6}( [0-9]{1,5}){0,2}\r?\n?.{0,150}"
            .prop_map(String::into_bytes);
    prop_oneof![version2, version1, vec(any::<u8>(), 0..200)]
}

proptest! {
    #[test]
    fn what_is_sent_to_servers_is_read_back(source in any_address(), destination in any_address(), behind: Vec<u8>) {
        let ends = Ends::new(source, destination);
        prop_assert_eq!(ends.source().ip().to_canonical(), source.ip().to_canonical());
        let header = encode(Some(ends)).unwrap();
        // MariaDB takes 256 bytes at most.
        prop_assert!(header.len() <= 52);
        let bytes = [header.as_slice(), &behind].concat();
        let (read, left) = read_all(&bytes);
        prop_assert_eq!(read.unwrap(), Some(ends));
        prop_assert_eq!(left, behind.as_slice());
    }

    #[test]
    fn no_header_panics_or_takes_what_is_behind_it(header in any_header()) {
        fuzz::proxy_header(&header);
    }
}
