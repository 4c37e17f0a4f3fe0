//! The combinations, and which of them make no sense.

use std::fmt;

macro_rules! dimension {
    ($(#[$doc:meta])* $name:ident { $($(#[$value_doc:meta])* $value:ident = $label:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$value_doc])* $value,)+
        }

        impl $name {
            /// All values.
            pub const ALL: &'static [Self] = &[$(Self::$value),+];
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(match self {
                    $(Self::$value => $label,)+
                })
            }
        }
    };
}

dimension! {
    /// A server.
    Product {
        /// Debian's.
        MariaDb10 = "MariaDB 10",
        /// From `scripts/sid`.
        MariaDb11 = "MariaDB 11",
        /// From `scripts/sid`.
        MySql9 = "MySQL 9",
    }
}

dimension! {
    /// A client.
    Client {
        /// MariaDB 10's, Debian's.
        Mysqldump10 = "mysqldump (MariaDB 10)",
        /// From `scripts/sid`.
        MariadbDump11 = "mariadb-dump (MariaDB 11)",
        /// From `scripts/sid`.
        Mysqldump9 = "mysqldump (MySQL 9)",
        /// Debian's, on MariaDB 10's library.
        Mydumper = "mydumper",
        /// Rust's.
        MysqlAsync = "mysql_async (Rust)",
        /// Python's.
        PyMySql = "PyMySQL (Python)",
        /// Python's, the part that is written in Python.
        Connector = "mysql-connector (Python)",
        /// Node's.
        Mysql2 = "mysql2 (Node)",
    }
}

dimension! {
    /// How one side talks to the other.
    Transport {
        /// Without TLS.
        Tcp = "TCP",
        /// TLS over TCP, the certificate checked.
        Tls = "TLS",
        /// A Unix socket.
        Socket = "socket",
    }
}

dimension! {
    /// How the account proves itself to the server.
    Plugin {
        /// `mysql_native_password`.
        Native = "native",
        /// MariaDB's `ed25519`.
        Ed25519 = "ed25519",
        /// MariaDB's `parsec`.
        Parsec = "parsec",
        /// `caching_sha2_password`, by scramble: the server has seen the password before.
        CachingSha2 = "caching_sha2, cached",
        /// `caching_sha2_password`, with the password itself, in clear or encrypted.
        CachingSha2Full = "caching_sha2, full",
        /// `sha256_password`.
        Sha256 = "sha256",
    }
}

dimension! {
    /// Who checks the client's password.
    Login {
        /// The server.
        Passthrough = "passthrough",
        /// Spillway.
        Stored = "stored",
    }
}

dimension! {
    /// The compressed protocol.
    Compression {
        /// None.
        Off = "plain",
        /// zlib.
        Zlib = "zlib",
        /// zstd.
        Zstd = "zstd",
    }
}

/// One combination. `front` is the client's side of Spillway, `back` the server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cell {
    /// What is dumped.
    pub server: Product,
    /// What dumps.
    pub client: Client,
    /// Between client and Spillway.
    pub front: Transport,
    /// Between client and Spillway.
    pub front_compression: Compression,
    /// Who checks the password.
    pub login: Login,
    /// The account's.
    pub plugin: Plugin,
    /// Between Spillway and server.
    pub back: Transport,
    /// Between Spillway and server.
    pub back_compression: Compression,
}

/// How many values a cell has.
pub const DIMENSIONS: usize = 8;

impl Cell {
    /// All combinations that make sense.
    pub fn all() -> Vec<Self> {
        Self::product().filter(|cell| cell.obstacle().is_none()).collect()
    }

    /// All combinations, sensible or not.
    pub fn product() -> impl Iterator<Item = Self> {
        let sizes = [
            Product::ALL.len(),
            Client::ALL.len(),
            Transport::ALL.len(),
            Compression::ALL.len(),
            Login::ALL.len(),
            Plugin::ALL.len(),
            Transport::ALL.len(),
            Compression::ALL.len(),
        ];
        (0..sizes.iter().product()).map(move |number| {
            let mut rest = number;
            Self::of(sizes.map(|size| {
                let value = rest % size;
                rest /= size;
                value
            }))
        })
    }

    /// The number of each value among its like.
    pub fn values(&self) -> [usize; DIMENSIONS] {
        [
            self.server as usize,
            self.client as usize,
            self.front as usize,
            self.front_compression as usize,
            self.login as usize,
            self.plugin as usize,
            self.back as usize,
            self.back_compression as usize,
        ]
    }

    fn of(values: [usize; DIMENSIONS]) -> Self {
        let [server, client, front, front_compression, login, plugin, back, back_compression] = values;
        Self {
            server: Product::ALL[server],
            client: Client::ALL[client],
            front: Transport::ALL[front],
            front_compression: Compression::ALL[front_compression],
            login: Login::ALL[login],
            plugin: Plugin::ALL[plugin],
            back: Transport::ALL[back],
            back_compression: Compression::ALL[back_compression],
        }
    }

    /// Why there is no such combination, with or without Spillway. Each was tried on direct connections.
    pub fn obstacle(&self) -> Option<&'static str> {
        self.servers_obstacle().or_else(|| self.clients_obstacle())
    }

    fn servers_obstacle(&self) -> Option<&'static str> {
        use Plugin::{CachingSha2, CachingSha2Full, Ed25519, Native, Parsec, Sha256};
        match (self.server, self.plugin) {
            (Product::MariaDb10, Native | Ed25519)
            | (Product::MariaDb11, Native | Ed25519 | Parsec | CachingSha2Full)
            | (Product::MySql9, CachingSha2 | CachingSha2Full | Sha256) => {}
            (Product::MariaDb10, _) => return Some("MariaDB 10 has native and ed25519 only"),
            (Product::MariaDb11, CachingSha2) => {
                return Some("MariaDB 11 has caching_sha2 without the cache");
            }
            (Product::MariaDb11, _) => return Some("MariaDB has no sha256"),
            (Product::MySql9, _) => return Some("MySQL 9 has caching_sha2 and sha256 only"),
        }
        let zstd = self.back_compression == Compression::Zstd;
        (zstd && self.server != Product::MySql9).then_some("MariaDB has no zstd")
    }

    fn clients_obstacle(&self) -> Option<&'static str> {
        use Plugin::{CachingSha2Full, Ed25519, Parsec, Sha256};
        match (self.client, self.front_compression) {
            (_, Compression::Off) | (Client::Mysqldump9, _) => {}
            (Client::PyMySql, _) => return Some("PyMySQL has no compression"),
            // It takes a packet for whole that lies in more than two compressed ones.
            (Client::Connector, _) => return Some("mysql-connector fails at larger compressed rows"),
            (_, Compression::Zlib) => {}
            (_, Compression::Zstd) => return Some("of the clients only MySQL's have zstd"),
        }
        if self.login == Login::Stored {
            // The client then proves itself to Spillway, by what every client has.
            return None;
        }
        match (self.client, self.plugin) {
            (Client::MariadbDump11 | Client::MysqlAsync, Parsec) => None,
            (_, Parsec) => Some("of the clients only MariaDB 11's and mysql_async have parsec"),
            (Client::Mysqldump9 | Client::Connector | Client::Mysql2, Ed25519) => {
                Some("MySQL's clients and mysql2 have no ed25519")
            }
            (Client::MysqlAsync, Sha256) => Some("mysql_async has no sha256"),
            (Client::Connector, Sha256) if self.front != Transport::Tls => {
                Some("mysql-connector does sha256 over TLS only")
            }
            (Client::PyMySql, Sha256) if self.front == Transport::Socket => {
                Some("PyMySQL fails at sha256 over a socket")
            }
            (Client::Connector, CachingSha2Full) if self.front == Transport::Tcp => {
                Some("mysql-connector cannot encrypt a password with a public key")
            }
            _ => None,
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, client, front, front_compression, login, plugin, back, back_compression } = self;
        write!(
            f,
            "{client} ─ {front}, {front_compression} ─ {login} ─ {back}, {back_compression} ─ {server}, {plugin}"
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_combination_is_missing_or_double() {
        let cells: Vec<Cell> = Cell::product().collect();
        let distinct: HashSet<Cell> = cells.iter().copied().collect();
        assert_eq!(distinct.len(), cells.len());
        assert_eq!(cells.len(), 3 * 8 * 3 * 3 * 2 * 6 * 3 * 3);
        assert!(cells.iter().all(|cell| Cell::of(cell.values()) == *cell));
    }

    #[test]
    fn every_value_makes_sense_somewhere() {
        let cells = Cell::all();
        for product in Product::ALL {
            for client in Client::ALL {
                assert!(
                    cells.iter().any(|cell| (cell.server, cell.client) == (*product, *client)),
                    "{product} {client}"
                );
            }
        }
        for plugin in Plugin::ALL {
            for login in Login::ALL {
                assert!(
                    cells.iter().any(|cell| (cell.plugin, cell.login) == (*plugin, *login)),
                    "{plugin} {login}"
                );
            }
        }
    }
}
