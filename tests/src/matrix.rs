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
