//! Capability flags: what either side can do, and what a proxy may let them agree on.
//!
//! The lower 32 bits are those of the MySQL protocol, the upper 32 are MariaDB's extended capabilities, which travel
//! in filler bytes of the greeting and of the handshake response.
//! Sources: [MySQL](https://dev.mysql.com/doc/dev/mysql-server/latest/group__group__cs__capabilities__flags.html),
//! [MariaDB](https://mariadb.com/kb/en/connection/#capabilities).

use std::fmt;
use std::ops::{BitAnd, BitOr};

/// A set of capability flags. Unknown bits are kept.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities(pub u64);

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $bit:literal;)*) => {
        impl Capabilities {
            $($(#[$doc])* pub const $name: Self = Self(1 << $bit);)*

            /// The bits that have a name, with it.
            const NAMES: &'static [(u64, &'static str)] = &[$((1 << $bit, stringify!($name))),*];
        }
    };
}

flags! {
    /// Set by MySQL, clear in a MariaDB peer's packet that carries extended capabilities (MariaDB: `CLIENT_MYSQL`).
    LONG_PASSWORD = 0;
    /// ROW_COUNT() counts found rows instead of changed ones.
    FOUND_ROWS = 1;
    /// Column flags of two bytes.
    LONG_FLAG = 2;
    /// The handshake response names a database.
    CONNECT_WITH_DB = 3;
    /// `database.table.column` is not allowed.
    NO_SCHEMA = 4;
    /// The compressed protocol, by zlib.
    COMPRESS = 5;
    /// No effect since 3.22.
    ODBC = 6;
    /// LOAD DATA LOCAL INFILE.
    LOCAL_FILES = 7;
    /// Spaces before `(` are ignored.
    IGNORE_SPACE = 8;
    /// The protocol of 4.1: the only one understood here.
    PROTOCOL_41 = 9;
    /// `interactive_timeout` takes the place of `wait_timeout`.
    INTERACTIVE = 10;
    /// TLS follows an SSLRequest packet.
    SSL = 11;
    /// Client-side only.
    IGNORE_SIGPIPE = 12;
    /// Status flags in OK and EOF packets.
    TRANSACTIONS = 13;
    /// Once the 4.1 protocol, now unused.
    RESERVED = 14;
    /// Authentication of 4.1: a scramble of 20 bytes (`CLIENT_RESERVED2` in newer headers).
    SECURE_CONNECTION = 15;
    /// Several statements in a COM_QUERY.
    MULTI_STATEMENTS = 16;
    /// Several results to a COM_QUERY.
    MULTI_RESULTS = 17;
    /// Several results to a COM_STMT_EXECUTE.
    PS_MULTI_RESULTS = 18;
    /// Authentication plugins.
    PLUGIN_AUTH = 19;
    /// Connection attributes in the handshake response.
    CONNECT_ATTRS = 20;
    /// The length of the auth response is a length-encoded integer.
    PLUGIN_AUTH_LENENC_CLIENT_DATA = 21;
    /// The client copes with an expired password.
    CAN_HANDLE_EXPIRED_PASSWORDS = 22;
    /// Session state changes in OK packets.
    SESSION_TRACK = 23;
    /// An OK packet that starts with 0xFE stands where the last EOF stood, and none after the column definitions.
    DEPRECATE_EOF = 24;
    /// Column definitions can be left out.
    OPTIONAL_RESULTSET_METADATA = 25;
    /// The compressed protocol, by zstd.
    ZSTD_COMPRESSION_ALGORITHM = 26;
    /// Attributes before the text of a COM_QUERY.
    QUERY_ATTRIBUTES = 27;
    /// Authentication by several factors.
    MULTI_FACTOR_AUTHENTICATION = 28;
    /// Reserved for an extension; MariaDB's old progress bit.
    CAPABILITY_EXTENSION = 29;
    /// Client-side only.
    SSL_VERIFY_SERVER_CERT = 30;
    /// Client-side only.
    REMEMBER_OPTIONS = 31;
    /// MariaDB: progress reports, as ERR packets of code 0xFFFF.
    MARIADB_PROGRESS = 32;
    /// MariaDB: COM_MULTI, no longer in any server.
    MARIADB_COM_MULTI = 33;
    /// MariaDB: COM_STMT_BULK_EXECUTE.
    MARIADB_STMT_BULK_OPERATIONS = 34;
    /// MariaDB: more about types in column definitions.
    MARIADB_EXTENDED_METADATA = 35;
    /// MariaDB: column definitions left out where the client has them already.
    MARIADB_CACHE_METADATA = 36;
    /// MariaDB: a result set of the outcomes of a COM_STMT_BULK_EXECUTE.
    MARIADB_BULK_UNIT_RESULTS = 37;
}

impl Capabilities {
    /// All that this crate follows. A proxy offers its client no more than this: every other bit could change the
    /// stream in a way that [`ResponseTracker`](crate::ResponseTracker) does not know. TLS and compression are left
    /// out: each side has them for itself.
    pub const UNDERSTOOD: Self = Self(
        (0xffff_ffff
            & !(Self::COMPRESS.0
                | Self::SSL.0
                | Self::ZSTD_COMPRESSION_ALGORITHM.0
                | Self::CAPABILITY_EXTENSION.0))
            | Self::MARIADB_PROGRESS.0
            | Self::MARIADB_STMT_BULK_OPERATIONS.0
            | Self::MARIADB_EXTENDED_METADATA.0
            | Self::MARIADB_CACHE_METADATA.0
            | Self::MARIADB_BULK_UNIT_RESULTS.0,
    );

    /// The compressed protocol, by either algorithm. It ends at the proxy: each hop agrees to it by itself.
    pub const COMPRESSION: Self = Self(Self::COMPRESS.0 | Self::ZSTD_COMPRESSION_ALGORITHM.0);

    /// Bits that a client sets of its own accord, offered or not, and that change neither the layout of a packet nor
    /// the order of packets. [`LONG_PASSWORD`](Self::LONG_PASSWORD) above all: to clear it would tell a MariaDB
    /// server that the filler holds extended capabilities.
    pub const CLIENT_CHOICE: Self = Self(
        Self::LONG_PASSWORD.0
            | Self::FOUND_ROWS.0
            | Self::LONG_FLAG.0
            | Self::NO_SCHEMA.0
            | Self::ODBC.0
            | Self::IGNORE_SPACE.0
            | Self::INTERACTIVE.0
            | Self::IGNORE_SIGPIPE.0
            | Self::RESERVED.0
            | Self::CAN_HANDLE_EXPIRED_PASSWORDS.0
            | Self::SSL_VERIFY_SERVER_CERT.0
            | Self::REMEMBER_OPTIONS.0,
    );

    /// Whether every flag of `flags` is set.
    pub const fn contains(self, flags: Self) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// The MySQL half, as it stands in a handshake packet.
    pub const fn lower(self) -> u32 {
        (self.0 & 0xffff_ffff) as u32
    }

    /// MariaDB's half, as it stands in the filler.
    pub const fn extended(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Joins the two halves. `extended` counts only where [`LONG_PASSWORD`](Self::LONG_PASSWORD) is clear in `lower`.
    pub const fn from_halves(lower: u32, extended: u32) -> Self {
        let lower = Self(lower as u64);
        if lower.contains(Self::LONG_PASSWORD) { lower } else { Self(lower.0 | (extended as u64) << 32) }
    }
}

impl BitAnd for Capabilities {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl BitOr for Capabilities {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)?;
        let names = Self::NAMES.iter().filter(|(bit, _)| self.0 & bit != 0).map(|(_, name)| name);
        f.debug_list().entries(names).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extended_half_counts_only_without_long_password() {
        assert_eq!(Capabilities::from_halves(0x200, 1).extended(), 1);
        assert_eq!(Capabilities::from_halves(0x201, 1).extended(), 0);
    }

    #[test]
    fn compression_and_tls_do_not_go_through() {
        for flag in [Capabilities::COMPRESS, Capabilities::SSL, Capabilities::ZSTD_COMPRESSION_ALGORITHM] {
            assert!(!Capabilities::UNDERSTOOD.contains(flag), "{flag:?}");
        }
        assert!(Capabilities::UNDERSTOOD.contains(Capabilities::MULTI_RESULTS | Capabilities::LOCAL_FILES));
    }
}
