//! Every server, every client, every way between them: which combinations there are, and what a dump is through each.
//!
//! A combination is a [`Cell`]. It is right when the dump through Spillway equals the direct one. [`Cell::obstacle`]
//! tells which make no sense and why, [`pairs::covering`] picks few of the others so that each two values meet
//! somewhere, [`Bench`] has the servers and runs cells, [`table::render`] makes tables of what came out.

pub mod bench;
pub mod cell;
mod clients;
pub mod pairs;
pub mod table;

pub use bench::{Bench, Outcome};
pub use cell::{Cell, Client, Compression, Login, Plugin, Product, Transport};
pub use clients::{Access, RustDump};

/// What Spillway can do so far. [`Cell::waits_for`] tells which cells need more; they are left out until it is true
/// here. When all is, this goes, and that with it.
pub const ABLE: Able = Able {
    tls_to_clients: true,
    tls_to_servers: true,
    compression_to_clients: true,
    compression_to_servers: true,
    converts_passwords: true,
    stored: Plugin::ALL,
};

/// See [`ABLE`].
#[derive(Debug)]
pub struct Able {
    /// `--tls-cert`, `--tls-key`, `--tls=required`.
    pub tls_to_clients: bool,
    /// `--upstream-tls=verify-identity`, `--upstream-tls-ca`.
    pub tls_to_servers: bool,
    /// zlib and zstd when the client asks.
    pub compression_to_clients: bool,
    /// `--upstream-compression=zlib|zstd`.
    pub compression_to_servers: bool,
    /// Passes a password on in the way of the other side's transport, in clear or encrypted with a public key
    /// (`--get-server-public-key`).
    pub converts_passwords: bool,
    /// The plugins by which Spillway itself logs in to a server (`--auth=stored`).
    pub stored: &'static [Plugin],
}
