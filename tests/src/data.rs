//! What there is to dump.

pub mod common;
pub mod report;
pub mod zoo;
