//! Spillway measured beside direct connections, in the same run, on the same server and data.
//!
//! - `make demo` (`src/bin/demo.rs`): a dump that dies of a slow sink, and the same one through Spillway.
//! - `make bench` (`src/bin/bench.rs`): ratios to direct connections, with their targets ([`scenario`]).
//! - `cargo bench -p spillway-bench` (`benches/`): the protocol crate alone, no sockets.
//!
//! Only ratios mean something: absolute speeds are those of the machine and of what else runs on it. So direct and
//! through-Spillway runs take turns, and a ratio is one of medians.

pub mod client;
pub mod clock;
pub mod data;
pub mod programs;
pub mod proxy;
pub mod report;
pub mod scenario;
pub mod server;
pub mod sink;
pub mod sockets;
pub mod stats;
pub mod watch;

pub use client::Client;
pub use proxy::Proxy;
pub use server::LoneServer;
