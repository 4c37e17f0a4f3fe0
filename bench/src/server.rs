//! A server that no other one disturbs.

use std::ops::Deref;

use anyhow::Result;
use spillway_tests::Server;
use spillway_tests::leash::Leash;

/// A [`Server`] with a directory of its own for temporary files.
///
/// In a shared one (the default is /tmp) a server that starts removes the `#sql…` files of those that run, which then
/// fail in the middle of a statement, or crash: `mysqldump` of many tables has such files all the time.
#[derive(Debug)]
pub struct LoneServer {
    // Dropped in this order: the server, then its directory.
    server: Server,
    _leash: Leash,
    _dir: tempfile::TempDir,
}

impl LoneServer {
    /// Starts a server with these options and the harness's own.
    pub fn start(options: &[&str]) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("spillway-bench-").tempdir()?;
        let leash = Leash::new(None, Some(dir.path()))?;
        let tmpdir = format!("--tmpdir={}", dir.path().display());
        let mut all = vec![tmpdir.as_str()];
        all.extend(options);
        Ok(Self { server: Server::start(&all)?, _leash: leash, _dir: dir })
    }
}

impl Deref for LoneServer {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}
