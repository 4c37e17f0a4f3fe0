//! The moment at which the server is done with a command whose answer nobody reads.

use std::time::Duration;

use anyhow::Result;
use spillway_tests::Server;
use spillway_tests::wait::wait_for;

use crate::client::Client;

/// Tells it without polling, which would take the server's CPU time: the SELECT is followed by a RELEASE_LOCK in the same
/// command, and another connection waits for that lock.
pub(super) struct Done {
    watcher: Client,
    /// Shows what the watcher does.
    control: Client,
}

impl Done {
    pub(super) fn new(server: &Server) -> Result<Self> {
        let watcher = Client::login(server.address())?;
        let control = Client::login(server.address())?;
        Ok(Self { watcher, control })
    }

    /// The command for [`Self::wait`]: the statement, and the release of the lock.
    pub(super) fn command(statement: &str) -> String {
        format!("{statement}; DO RELEASE_LOCK('{LOCK}')")
    }

    /// Lets the watcher wait for the lock that `client` gets.
    pub(super) fn arm(&mut self, client: &mut Client) -> Result<()> {
        client.execute(&format!("DO GET_LOCK('{LOCK}', 0)"))?;
        self.watcher.send(&format!("DO GET_LOCK('{LOCK}', 600)"))?;
        wait_for(LIMIT, "the watcher to wait for the lock", || {
            let mut answer = Vec::new();
            self.control.send(WAITING)?;
            self.control.read_answer(|piece| answer.extend_from_slice(piece))?;
            Ok(answer.windows(SIGN.len()).any(|window| window == SIGN).then_some(()))
        })
    }

    /// Waits until the server is done with the command that `client` has sent since. The last bytes may then still be in
    /// the sockets' buffers.
    pub(super) fn wait(&mut self) -> Result<()> {
        self.watcher.read_answer(|_| ())?;
        Ok(())
    }

    /// To be called at the end, after [`Self::wait`].
    pub(super) fn disarm(&mut self) -> Result<()> {
        self.watcher.execute(&format!("DO RELEASE_LOCK('{LOCK}')"))
    }
}

const LOCK: &str = "spillway-bench";
const WAITING: &str =
    "SELECT CONCAT('wait', 'ing') FROM information_schema.processlist WHERE state = 'User lock'";
const SIGN: &[u8] = b"\x07waiting";
const LIMIT: Duration = Duration::from_secs(60);
