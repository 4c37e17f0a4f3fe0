//! The MySQL/MariaDB wire protocol as a proxy needs it: where packets, commands and responses begin and end, what a
//! greeting offers and a client answers. Sans-IO: bytes go in, events come out; no sockets, no clocks, no tasks.
//!
//! ```text
//!  client bytes ──► RequestReader ──► Start, End ──┐
//!                                                  │ expect(form)
//!                                                  ▼
//!  server bytes ───────────────────────────► ResponseTracker ──► End, LocalInfile, UnsolicitedError
//! ```
//!
//! Where a side speaks the compressed protocol, its bytes go through a [`Decompressor`] and a [`Compressor`] first.
//!
//! Nothing is copied and nothing allocated per packet: the caller keeps its buffers and passes on what was consumed.
//!
//! ```
//! use spillway_protocol::{Capabilities, Command, RequestEvent, RequestReader, ResponseEvent, ResponseTracker};
//!
//! let mut requests = RequestReader::default();
//! let mut responses = ResponseTracker::new(Capabilities::PROTOCOL_41);
//!
//! // The client sends COM_PING. It is announced before any of its bytes is consumed ...
//! let ping = [1, 0, 0, 0, Command::PING.0];
//! let step = requests.advance(&ping);
//! assert_eq!((step.consumed, step.event), (0, Some(RequestEvent::Start(Command::PING))));
//! // ... so that a command without a known response is never forwarded.
//! responses.expect(Command::PING.response_form().expect("a known command"));
//! let mut sent = 0;
//! while sent < ping.len() {
//!     sent += requests.advance(&ping[sent..]).consumed; // forwards these bytes
//! }
//!
//! // The server answers OK, in two reads.
//! let ok = [7, 0, 0, 1, 0x00, 0, 0, 2, 0, 0, 0];
//! let step = responses.advance(&ok[..6])?;
//! assert_eq!((step.consumed, step.event), (6, None));
//! let step = responses.advance(&ok[6..])?;
//! assert!(matches!(step.event, Some(ResponseEvent::End(_))));
//! assert!(responses.is_idle());
//! # Ok::<(), spillway_protocol::ResponseError>(())
//! ```

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod auth;
mod capabilities;
mod certificate_proof;
mod change_user;
mod command;
mod compression;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod handshake;
mod numbering;
mod packet;
mod request;
mod response;
mod rows;
mod statement;
mod status;

pub use auth::{
    AUTH_MORE_DATA, AUTH_NEXT_FACTOR, AuthPlugin, AuthSwitchRequest, FAST_AUTH_SUCCESS,
    PERFORM_FULL_AUTHENTICATION, ParsecSalt, SCRAMBLE_LEN, parsec_answer,
};
pub use capabilities::Capabilities;
pub use certificate_proof::prove_certificate;
pub use change_user::ChangeUser;
pub use command::{Command, ResponseForm};
pub use compression::{Compression, CompressionError, Compressor, Decompressor, Inflated};
pub use handshake::{Greeting, HandshakeError, HandshakeResponse, is_ssl_request};
pub use numbering::PacketNumberer;
pub use packet::{HEADER_LEN, LogicalPacket, MAX_PAYLOAD_LEN, PacketHeader, PacketScanner, encode_packet};
pub use request::{RequestEvent, RequestReader, RequestStep, WHOLE_COMMAND_LEN, whole_command};
pub use response::{ResponseEnd, ResponseError, ResponseEvent, ResponseStep, ResponseTracker};
pub use rows::RowSink;
pub use statement::{
    Kill, LockEffect, StatementKind, Subject, TableName, classify, kill_target, lock_effect, subject,
};
pub use status::{
    EOF_HEADER, ERR_HEADER, OK_HEADER, StatusFlags, encode_err, eof_status, err_code, err_message, ok_status,
    ok_warnings, split_lenenc_int,
};
