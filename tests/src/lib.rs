//! Real servers, real clients and real faults for Spillway's tests.
//!
//! A scenario (see `tests/tests/*.rs`) picks from these parts:
//!
//! - [`Server`]: a private MariaDB on a free port, gone with the test process however that ends;
//! - [`mysql9`], [`mariadb11`]: the same with newer servers, and their own clients;
//! - [`spillway_bin`] and [`Spillway`]: the proxy under test, its log and its memory;
//! - [`check`]: `spillway check` as a command;
//! - [`client`]: unmodified dump programs, with a time limit, and dumps made comparable;
//! - [`sink`]: places for a dump to go to that are far too slow;
//! - [`certificates`]: for TLS, right ones and wrong ones;
//! - [`ServiceManager`]: what systemd does for a service: sockets, and an ear for what it says;
//! - [`Fault`]: a network between proxy and server that cuts, resets and stalls;
//! - [`Stored`]: a proxy with stored credentials in such a network;
//! - [`Dns`]: a name server that fails, is late or is dead;
//! - [`Netns`]: a network of its own for a server, which then sees its clients come from another host;
//! - [`Scripted`]: a server that says what a test has it say;
//! - [`Raw`]: a client that speaks the protocol by hand, for what no library offers, compressed ([`packed`]) or not;
//! - [`drivers`]: programs in Python and JavaScript;
//! - [`http`], [`exposition`], [`browser`]: who looks at a proxy from outside: requests by hand, Prometheus, a browser;
//! - [`memory`]: what a process has in memory;
//! - [`matrix`]: every server with every client in every way;
//! - [`chance`]: chance that can be had again;
//! - [`data`]: the tables to dump.
//!
//! Nothing here sleeps in order to make a test pass: a test waits for a condition, with a limit ([`wait_until`]). Where
//! a time is slept, the pause itself is the fault under test.

pub mod binary;
pub mod browser;
pub mod cache;
pub mod cc;
pub mod certificates;
pub mod chance;
pub mod check;
pub mod client;
pub mod data;
pub mod dns;
pub mod docs;
pub mod drivers;
pub mod exposition;
pub mod fault;
pub mod handshakes;
pub mod http;
pub mod leash;
pub mod log;
mod mariadb;
pub mod mariadb11;
pub mod matrix;
pub mod memory;
pub mod mounts;
pub mod mysql9;
pub mod netns;
pub mod packed;
pub mod process;
pub mod raw;
pub mod readme;
pub mod run;
pub mod scripted;
pub mod server;
pub mod service_manager;
pub mod sink;
pub mod spillway;
pub mod stored;
mod template;
pub mod wait;
pub mod wire;

pub use binary::spillway_bin;
pub use browser::Browser;
pub use client::Endpoint;
pub use dns::Dns;
pub use fault::Fault;
pub use netns::Netns;
pub use process::Finished;
pub use raw::Raw;
pub use scripted::Scripted;
pub use server::Server;
pub use service_manager::ServiceManager;
pub use spillway::{Spillway, SpoolOn};
pub use stored::Stored;
pub use wait::wait_until;
