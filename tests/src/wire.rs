//! The few bytes of the MySQL protocol that the raw client needs, written apart from `spillway-protocol` on purpose: a
//! mistake there must not hide itself here.
//!
//! See <https://mariadb.com/kb/en/clientserver-protocol/>.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, bail};
use sha1::{Digest as _, Sha1};

/// Capability bits.
pub mod capability {
    /// Clear in a MariaDB greeting that has extended capabilities.
    pub const LONG_PASSWORD: u32 = 1;
    /// UPDATE counts matched rows.
    pub const FOUND_ROWS: u32 = 1 << 1;
    /// The login names a database.
    pub const CONNECT_WITH_DB: u32 = 1 << 3;
    /// LOAD DATA LOCAL INFILE.
    pub const LOCAL_FILES: u32 = 1 << 7;
    /// The protocol of this century.
    pub const PROTOCOL_41: u32 = 1 << 9;
    /// TLS.
    pub const SSL: u32 = 1 << 11;
    /// Status flags in OK and EOF.
    pub const TRANSACTIONS: u32 = 1 << 13;
    /// Scrambles of 20 bytes.
    pub const SECURE_CONNECTION: u32 = 1 << 15;
    /// Several statements in a COM_QUERY.
    pub const MULTI_STATEMENTS: u32 = 1 << 16;
    /// Several results of a COM_QUERY.
    pub const MULTI_RESULTS: u32 = 1 << 17;
    /// Several results of a COM_STMT_EXECUTE.
    pub const PS_MULTI_RESULTS: u32 = 1 << 18;
    /// The login names a plugin.
    pub const PLUGIN_AUTH: u32 = 1 << 19;
    /// The compressed protocol, by zlib.
    pub const COMPRESS: u32 = 1 << 5;
    /// The compressed protocol, by zstd.
    pub const ZSTD_COMPRESSION_ALGORITHM: u32 = 1 << 26;
    /// OK packets tell of changes of the session's state.
    pub const SESSION_TRACK: u32 = 1 << 23;
    /// No EOF packet between columns and rows, and an OK after the rows.
    pub const DEPRECATE_EOF: u32 = 1 << 24;
    /// Several proofs, one after the other.
    pub const MULTI_FACTOR: u32 = 1 << 28;

    /// What a plain client has.
    pub const USUAL: u32 = LONG_PASSWORD
        | PROTOCOL_41
        | TRANSACTIONS
        | SECURE_CONNECTION
        | MULTI_STATEMENTS
        | MULTI_RESULTS
        | PS_MULTI_RESULTS
        | PLUGIN_AUTH;
}

/// Command bytes.
pub mod command {
    /// The end of the session.
    pub const QUIT: u8 = 0x01;
    /// `USE`.
    pub const INIT_DB: u8 = 0x02;
    /// A statement as text.
    pub const QUERY: u8 = 0x03;
    /// One line of numbers, without a header.
    pub const STATISTICS: u8 = 0x09;
    /// KILL as a command.
    pub const PROCESS_KILL: u8 = 0x0c;
    /// Nothing but an OK.
    pub const PING: u8 = 0x0e;
    /// Another login on the same connection.
    pub const CHANGE_USER: u8 = 0x11;
    /// Prepares a statement.
    pub const STMT_PREPARE: u8 = 0x16;
    /// Executes a statement.
    pub const STMT_EXECUTE: u8 = 0x17;
    /// Drops a statement; has no answer.
    pub const STMT_CLOSE: u8 = 0x19;
    /// Fetches rows of a cursor.
    pub const STMT_FETCH: u8 = 0x1c;
    /// Wipes the session's state.
    pub const RESET_CONNECTION: u8 = 0x1f;
}

/// The plugin of the tests' account.
pub const NATIVE: &str = "mysql_native_password";

/// HandshakeV10, as far as a test looks at it.
#[derive(Clone, Debug)]
pub struct Greeting {
    /// The version as text, such as `5.5.5-10.11.14-MariaDB…`.
    pub version: String,
    /// The connection id.
    pub id: u32,
    /// The server's (or proxy's) capabilities.
    pub capabilities: u32,
    /// MariaDB's extended ones, 0 where there are none.
    pub extended: u32,
    /// 20 bytes.
    pub salt: Vec<u8>,
    /// The plugin of the greeting.
    pub plugin: String,
}

impl Greeting {
    /// Parses the payload of a greeting.
    pub fn parse(payload: &[u8]) -> Result<Self> {
        let mut reader = Reader(payload);
        if reader.byte()? != 10 {
            bail!("not HandshakeV10: {}", payload.escape_ascii());
        }
        let version = reader.text()?;
        let id = reader.int(4)?;
        let mut salt = reader.take(8)?.to_vec();
        reader.byte()?;
        let low = reader.int(2)?;
        reader.take(3)?; // collation and status
        let capabilities = low | reader.int(2)? << 16;
        reader.take(7)?; // length of the salt, filler
        let extended = reader.int(4)?;
        salt.extend(reader.take(12)?);
        reader.byte()?;
        let plugin = reader.text()?;
        let extended = if capabilities & capability::LONG_PASSWORD == 0 { extended } else { 0 };
        Ok(Self { version, id, capabilities, extended, salt, plugin })
    }
}

/// `mysql_native_password`: SHA1(password) XOR SHA1(salt + SHA1(SHA1(password))); empty for no password.
pub fn native_scramble(password: &str, salt: &[u8]) -> Vec<u8> {
    if password.is_empty() {
        return Vec::new();
    }
    let once = Sha1::digest(password);
    let twice = Sha1::digest(once);
    let mask = Sha1::new().chain_update(salt).chain_update(twice).finalize();
    once.iter().zip(mask).map(|(a, b)| a ^ b).collect()
}

/// HandshakeResponse41 for `mysql_native_password`.
pub fn handshake_response(capabilities: u32, user: &str, scramble: &[u8], database: Option<&str>) -> Vec<u8> {
    handshake_response_of(NATIVE, capabilities, user, scramble, database)
}

/// HandshakeResponse41 for the plugin that is named. A server that wants another one asks for it.
pub fn handshake_response_of(
    plugin: &str,
    capabilities: u32,
    user: &str,
    scramble: &[u8],
    database: Option<&str>,
) -> Vec<u8> {
    let mut packet = capabilities.to_le_bytes().to_vec();
    packet.extend((1_u32 << 30).to_le_bytes());
    packet.push(45); // utf8mb4_general_ci
    packet.extend([0; 23]);
    packet.extend(user.as_bytes());
    packet.extend([0, u8::try_from(scramble.len()).unwrap_or_default()]);
    packet.extend(scramble);
    if let Some(database) = database {
        packet.extend(database.as_bytes());
        packet.push(0);
    }
    if capabilities & capability::PLUGIN_AUTH != 0 {
        packet.extend(plugin.as_bytes());
        packet.push(0);
    }
    packet
}

/// What follows COM_CHANGE_USER's command byte, for `mysql_native_password`.
pub fn change_user(user: &str, scramble: &[u8], database: &str) -> Vec<u8> {
    let mut body = user.as_bytes().to_vec();
    body.extend([0, u8::try_from(scramble.len()).unwrap_or_default()]);
    body.extend(scramble);
    body.extend(database.as_bytes());
    body.extend([0, 45, 0]); // utf8mb4_general_ci
    body.extend(NATIVE.as_bytes());
    body.push(0);
    body
}

/// An ERR packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrPacket {
    /// Such as 2013.
    pub code: u16,
    /// Such as `HY000`; empty before the login.
    pub state: String,
    /// The text.
    pub message: String,
}

impl ErrPacket {
    /// Parses a payload that starts with 0xFF.
    pub fn parse(payload: &[u8]) -> Result<Self> {
        let mut reader = Reader(payload);
        if reader.byte()? != 0xff {
            bail!("no ERR packet: {}", payload.escape_ascii());
        }
        let code = u16::try_from(reader.int(2)?)?;
        let mut state = String::new();
        if reader.0.first() == Some(&b'#') {
            state = String::from_utf8_lossy(&reader.take(6)?[1..]).into_owned();
        }
        Ok(Self { code, state, message: String::from_utf8_lossy(reader.0).into_owned() })
    }
}

/// A header of the PROXY protocol, version 2, of a TCP connection between these; none: of the sender's own.
pub fn proxy_header(client: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let (command, family, addresses) = match client {
        None => (0x20, 0, Vec::new()),
        Some((source, destination)) => {
            let octets = |ip| match ip {
                IpAddr::V4(ip) => ip.octets().to_vec(),
                IpAddr::V6(ip) => ip.octets().to_vec(),
            };
            let ports = [source.port().to_be_bytes(), destination.port().to_be_bytes()].concat();
            let family = if source.is_ipv4() { 0x11 } else { 0x21 };
            (0x21, family, [octets(source.ip()), octets(destination.ip()), ports].concat())
        }
    };
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([command, family, 0, addresses.len() as u8]);
    header.extend(addresses);
    header
}

/// The fields of a text row; `None` is NULL.
pub fn text_row(payload: &[u8]) -> Result<Vec<Option<Vec<u8>>>> {
    let mut reader = Reader(payload);
    let mut fields = Vec::new();
    while let Some(&first) = reader.0.first() {
        if first == 0xfb {
            reader.byte()?;
            fields.push(None);
            continue;
        }
        let length = usize::try_from(reader.length()?)?;
        fields.push(Some(reader.take(length)?.to_vec()));
    }
    Ok(fields)
}

/// Takes a payload apart from the left.
#[derive(Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).context("a packet that is too short")?;
        self.0 = rest;
        Ok(taken)
    }

    /// The next byte.
    pub fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    /// A fixed-length integer of at most four bytes.
    pub fn int(&mut self, size: usize) -> Result<u32> {
        Ok(self.take(size)?.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte)))
    }

    /// A length-encoded integer.
    pub fn length(&mut self) -> Result<u64> {
        let size = match self.byte()? {
            0xfc => 2,
            0xfd => 3,
            0xfe => 8,
            small => return Ok(u64::from(small)),
        };
        Ok(self.take(size)?.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// A string that a zero byte ends.
    pub fn text(&mut self) -> Result<String> {
        let end = self.0.iter().position(|byte| *byte == 0).context("a string without end")?;
        let text = self.take(end)?;
        self.byte()?;
        Ok(String::from_utf8_lossy(text).into_owned())
    }
}
