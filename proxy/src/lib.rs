//! Spillway: a MySQL/MariaDB proxy that lets a dump survive slow sinks.
//!
//! ```text
//! main ─► cli ─► config ─► serve ─► routes ─► listener ─► session ─┬─► backend (reaching the server)
//!                     ├──► run  ────────────┘                       └─► spool (memory, disk, budgets)
//!                     └──► check ─► backend, spool
//! ```
//!
//! `admin` and `console` show what they do. Dependencies between the modules run from left to right. `ARCHITECTURE.md`
//! tells the story of a session.

#![warn(missing_docs)]

pub mod admin;
mod backend;
mod busy_poll;
pub mod check;
pub mod cli;
mod client_address;
pub mod common;
mod compressed;
pub mod config;
mod connection_ids;
pub mod console;
pub mod core_dumps;
pub mod credentials;
mod current;
pub mod drain_limit;
pub mod endpoint;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod journal;
pub mod lanes;
pub mod listener;
mod log_limit;
mod packet_stream;
mod printable;
pub mod proxy_protocol;
pub mod report;
pub mod routes;
mod rsa;
pub mod run;
mod secrecy;
pub mod serve;
mod service;
pub mod session;
pub mod sessions;
mod side_thread;
#[cfg(test)]
mod simulation;
mod slots;
mod socket;
pub mod socket_activation;
pub mod spool;
mod stream;
pub mod tls;
pub mod verify;
mod watched;
