//! What there is to dump.

pub mod report;
pub mod zoo;
