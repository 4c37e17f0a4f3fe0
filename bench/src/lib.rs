//! Spillway measured beside its peers and direct connections, in the same run, on the same server and data.
//!
//! - `make demo` (`src/bin/demo.rs`): a dump that dies of a slow sink, and the same one through Spillway.
//! - `make bench` (`src/bin/bench.rs`): every [`case`] by every [`way`], with the [`target`]s.
//! - `cargo bench` (`benches/`): the protocol crate and the spool alone, no sockets.
//!
//! Only ratios mean something: absolute speeds are those of the machine and of what else runs on it. So the ways take
//! turns, and a ratio is one of medians.

pub mod case;
pub mod client;
pub mod clock;
pub mod data;
pub mod flow;
pub mod jobs;
pub mod machine;
pub mod mbuffer;
pub mod measure;
pub mod memory_watch;
pub mod peers;
pub mod plot;
pub mod process_use;
pub mod programs;
pub mod proxy;
pub mod query_times;
pub mod report;
pub mod sink;
pub mod sockets;
pub mod stats;
pub mod stock;
pub mod target;
pub mod watch;
pub mod way;

pub use client::Client;
pub use peers::Peer;
pub use proxy::Proxy;
