//! What the text of a COM_QUERY tells about what it leaves in its session.

mod kill;
mod locks;
mod replay;
mod subject;
mod tokens;
mod variables;

pub use kill::{Kill, kill_target};
pub use locks::{LockEffect, lock_effect};
pub use replay::{StatementKind, classify};
pub use subject::{Subject, TableName, subject};
