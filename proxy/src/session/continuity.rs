//! What is known of a session whose server connection could be replaced without a trace.
//!
//! With stored credentials a lost connection is replaced by a new one to the same server, as long as the session holds
//! nothing but settings that can be made again: literal SETs, the default database. The first command that is more
//! than that ends it, and so does a transaction.

use std::sync::Arc;
use std::time::Duration;

use spillway_protocol::{
    Capabilities, Command, Greeting, HandshakeResponse, StatementKind, StatusFlags, classify, ok_status,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::loss::Loss;
use crate::backend::attempts::Attempts;
use crate::backend::failure::{AttemptError, Cause, Phase};
use crate::backend::login::{LoginError, log_in};
use crate::backend::{ReachError, Reached, Server, Upstreams};
use crate::credentials::Credentials;
use crate::proxy_protocol::Ends;

/// Settings that are kept for a replay: more than any dump makes.
const MAX_SETTINGS: usize = 64;
/// Payload bytes of all of them.
const MAX_SETTINGS_LEN: usize = 16 * 1024;

/// How far two clocks may drift apart within a session, and the grain of an uptime, which is told in whole seconds.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(2);

/// What tells a MariaDB server from another.
pub(crate) const MARIADB_IDENTITY: &str =
    "SELECT @@global.server_id, @@global.hostname FROM (SELECT 1) AS forget_warnings";
/// What tells a MySQL server from another.
pub(crate) const MYSQL_IDENTITY: &str = "SELECT @@global.server_uuid FROM (SELECT 1) AS forget_warnings";

/// What a command means for the continuity of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It can be made again on another connection, also if it was lost on its way.
    Setting(Keeps),
    /// It leaves nothing behind, but is not sent again.
    Nothing,
    /// It wipes all settings.
    Wipes,
    /// It may leave anything behind.
    Unknown,
}

/// What a setting leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeps {
    /// A variable, which COM_RESET_CONNECTION wipes.
    Variable,
    /// The default database, which stays.
    Database,
}

/// What a command of the client's means. `payload` is none for one that is too long to be a setting.
pub(crate) fn effect(payload: Option<&[u8]>, query_attributes: bool) -> Effect {
    let Some((&command, text)) = payload.and_then(<[u8]>::split_first) else {
        return Effect::Unknown;
    };
    match Command(command) {
        Command::INIT_DB => Effect::Setting(Keeps::Database),
        Command::RESET_CONNECTION => Effect::Wipes,
        Command::QUIT => Effect::Nothing,
        Command::QUERY => {
            let text = match query_attributes {
                // No attributes, in one set.
                true => text.strip_prefix(&[0, 1]),
                false => Some(text),
            };
            match text.map(classify) {
                Some(StatementKind::Setting) => Effect::Setting(Keeps::Variable),
                Some(StatementKind::DefaultDatabase) => Effect::Setting(Keeps::Database),
                Some(StatementKind::SystemVariableRead) => Effect::Nothing,
                _ => Effect::Unknown,
            }
        }
        _ => Effect::Unknown,
    }
}

/// Who a server is, and since when it has been running.
struct Identity {
    values: Vec<Vec<u8>>,
    /// Between these two, in seconds from when the session began.
    started: Option<(f64, f64)>,
}

/// A session's settings, and what is needed to log in again.
pub(crate) struct Continuity {
    upstreams: Arc<Upstreams>,
    credentials: Arc<Credentials>,
    /// Whom the session is for.
    client: Option<Ends>,
    server: Server,
    greeting: Greeting,
    response: HandshakeResponse,
    capabilities: Capabilities,
    settings: Vec<(Keeps, Vec<u8>)>,
    /// How many settings were sent, and their bytes: answered or not.
    sent: (usize, usize),
    began: Instant,
    asked: Instant,
    identity: Option<Identity>,
    /// The last setting has left warnings.
    has_warnings: bool,
    over: bool,
}

/// A new connection, logged in.
pub(crate) struct Resumed {
    pub(crate) reached: Reached,
    pub(crate) status: Option<StatusFlags>,
    pub(crate) attempts: Attempts,
}

impl Continuity {
    /// For a session that has just begun, with `capabilities` on the server's side.
    pub(crate) fn new(
        upstreams: Arc<Upstreams>,
        credentials: Arc<Credentials>,
        client: Option<Ends>,
        server: Server,
        greeting: Greeting,
        response: HandshakeResponse,
        capabilities: Capabilities,
    ) -> Self {
        Self {
            upstreams,
            credentials,
            client,
            server,
            greeting,
            response,
            capabilities,
            settings: Vec::new(),
            sent: (0, 0),
            began: Instant::now(),
            asked: Instant::now(),
            identity: None,
            has_warnings: false,
            over: false,
        }
    }

    /// Whether the session holds nothing but settings.
    pub(crate) fn is_whole(&self) -> bool {
        !self.over
    }

    /// Whether a new connection would be as good as the one there is. It would not have the last setting's warnings.
    pub(crate) fn is_replaceable(&self) -> bool {
        !self.over && !self.has_warnings
    }

    /// The session may hold anything from now on.
    pub(crate) fn end(&mut self) {
        self.over = true;
        self.settings = Vec::new();
    }

    /// The server's status flags tell of what no replay brings back.
    pub(crate) fn check_status(&mut self, status: StatusFlags) {
        if status.contains(StatusFlags::IN_TRANS) || !status.contains(StatusFlags::AUTOCOMMIT) {
            self.end();
        }
    }

    /// Whether there is room for another setting; it ends here if there is none.
    pub(crate) fn reserve(&mut self, payload: &[u8]) -> bool {
        let (count, len) = (self.sent.0 + 1, self.sent.1 + payload.len());
        self.sent = (count, len);
        if count > MAX_SETTINGS || len > MAX_SETTINGS_LEN {
            self.end();
        }
        !self.over
    }

    /// The server has taken this setting.
    pub(crate) fn record(&mut self, keeps: Keeps, payload: Vec<u8>, has_warnings: bool) {
        self.has_warnings = has_warnings;
        if !self.over {
            self.settings.push((keeps, payload));
        }
    }

    /// COM_RESET_CONNECTION has wiped the session's variables, which is not what a login gives: MySQL takes the global
    /// character set. So the reset itself is repeated, behind the default database, which stays.
    pub(crate) fn on_reset(&mut self) {
        self.has_warnings = false;
        // All of these, as the last one may have done nothing: inside a version comment of a newer server.
        self.settings.retain(|(keeps, _)| *keeps == Keeps::Database);
        let reset = vec![Command::RESET_CONNECTION.0];
        if self.reserve(&reset) {
            self.settings.push((Keeps::Variable, reset));
        }
    }

    /// The account is the same, with these defaults and no settings: as after a login.
    pub(crate) fn on_changed_user(&mut self, database: &[u8], character_set: Option<u16>) {
        self.settings.clear();
        self.has_warnings = false;
        let character_set = character_set.map(u8::try_from).transpose();
        let interactive = self.capabilities.contains(Capabilities::INTERACTIVE);
        let (Ok(character_set), false) = (character_set, interactive) else {
            // A login takes one byte of it, and the timeout of an interactive client.
            return self.end();
        };
        self.response.set_defaults(database, character_set);
        let with_database = Capabilities::CONNECT_WITH_DB;
        let login = Capabilities(self.capabilities.0 & !with_database.0);
        self.capabilities = login | (self.response.capabilities() & with_database);
    }

    /// What is to be sent again on a new connection, in this order.
    pub(crate) fn settings(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.settings.iter().map(|(_, payload)| payload.as_slice())
    }

    /// The server is being asked who it is.
    pub(crate) fn ask(&mut self) {
        self.asked = Instant::now();
    }

    /// The server has told who it is.
    ///
    /// # Errors
    /// If it is another one than before, or tells nothing.
    pub(crate) fn on_identity(&mut self, values: Vec<Vec<u8>>) -> Result<(), Loss> {
        if values.is_empty() {
            return Err(Loss::NotReplaced("the server does not tell who it is".to_owned()));
        }
        match &self.identity {
            None => self.identity = Some(Identity { values, started: None }),
            Some(known) if known.values == values => {}
            Some(_) => return Err(Loss::NotReplaced("another server answers at its address".to_owned())),
        }
        Ok(())
    }

    /// The server has told how long it has been running, in the line that answers COM_STATISTICS.
    ///
    /// # Errors
    /// If it was restarted, or nobody could tell.
    pub(crate) fn on_statistics(&mut self, line: &[u8]) -> Result<(), Loss> {
        let untold = || Loss::NotReplaced("the server does not tell how long it has been running".to_owned());
        let uptime = uptime(line).ok_or_else(untold)?.as_secs_f64();
        let identity = self.identity.as_mut().ok_or_else(untold)?;
        let since = |when: Instant| when.duration_since(self.began).as_secs_f64();
        let started = (since(self.asked) - uptime, since(Instant::now()) - uptime);
        let known = *identity.started.get_or_insert(started);
        let tolerance = CLOCK_TOLERANCE.as_secs_f64();
        if known.0 <= started.1 + tolerance && started.0 <= known.1 + tolerance {
            Ok(())
        } else {
            Err(Loss::NotReplaced("the server was restarted".to_owned()))
        }
    }

    /// The failure of an attempt to set up a new connection.
    pub(crate) fn failure(&self, phase: Phase, cause: Cause) -> AttemptError {
        AttemptError { phase, server: self.server.clone(), cause }
    }

    /// Connects and logs in to the same server again; owns all that it needs. Goes on with earlier attempts, of which
    /// the last one has failed. When it is `unwanted`, there is no further attempt; the one under way is ended as a server
    /// likes it, or goes on to its end.
    ///
    /// # Errors
    /// [`Loss`] if that was not to be done in the time there is.
    pub(crate) fn resume(
        &self,
        earlier: Option<(Attempts, AttemptError)>,
        unwanted: CancellationToken,
    ) -> impl Future<Output = Result<Resumed, Loss>> + Send + use<> {
        let (upstreams, credentials) = (Arc::clone(&self.upstreams), Arc::clone(&self.credentials));
        let (client, server, greeting) = (self.client, self.server.clone(), self.greeting.clone());
        let (response, capabilities) = (self.response.clone(), self.capabilities);
        async move {
            let mut attempts = upstreams.attempts_at_one(client);
            if let Some((earlier, error)) = earlier {
                attempts = earlier;
                wait(&mut attempts, error, &unwanted).await?;
            }
            loop {
                let gone = unwanted.cancelled();
                let reached = upstreams.reach_again(&server, &mut attempts, &greeting, gone).await;
                let reached = reached.map_err(|error| not_replaced(&error))?;
                match log_in(&upstreams, reached, &response, capabilities, &credentials, &attempts).await {
                    Ok((reached, ok)) => return Ok(Resumed { reached, status: ok_status(&ok), attempts }),
                    Err(LoginError::Lost(error)) => wait(&mut attempts, error, &unwanted).await?,
                    Err(LoginError::Refused(refused)) => return Err(not_replaced(&refused)),
                }
            }
        }
    }
}

fn not_replaced(error: &dyn std::error::Error) -> Loss {
    Loss::NotReplaced(error.to_string())
}

/// Waits for the time of the next attempt, unless it is `unwanted`.
async fn wait(
    attempts: &mut Attempts,
    error: AttemptError,
    unwanted: &CancellationToken,
) -> Result<(), Loss> {
    tokio::select! {
        next = attempts.failed(error) => next.map_err(|error| not_replaced(&error)),
        () = unwanted.cancelled() => Err(not_replaced(&ReachError::ClientGone)),
    }
}

/// `Uptime: 123  Threads: 1 …`
fn uptime(line: &[u8]) -> Option<Duration> {
    let line = std::str::from_utf8(line).ok()?;
    let seconds = line.strip_prefix("Uptime: ")?.split_whitespace().next()?;
    seconds.parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effects_of_commands() {
        let effect = |payload: &[u8]| effect(Some(payload), false);
        for payload in [&b"\x02shop"[..], b"\x03USE shop", b"\x03/*!40100 USE `shop` */"] {
            assert_eq!(effect(payload), Effect::Setting(Keeps::Database), "{payload:?}");
        }
        assert_eq!(effect(b"\x03SET NAMES utf8mb4"), Effect::Setting(Keeps::Variable));
        assert_eq!(effect(b"\x03SELECT @@version"), Effect::Nothing);
        assert_eq!(effect(b"\x1f"), Effect::Wipes);
        for other in
            [&b""[..], b"\x03SELECT 1", b"\x03SET @a = 1", b"\x16SET NAMES utf8", b"\x0e", b"\x1b\0\0"]
        {
            assert_eq!(effect(other), Effect::Unknown, "{other:?}");
        }
        assert_eq!(super::effect(None, false), Effect::Unknown);
        assert_eq!(
            super::effect(Some(b"\x03\x00\x01SET NAMES utf8"), true),
            Effect::Setting(Keeps::Variable)
        );
        assert_eq!(super::effect(Some(b"\x03\x01\x01SET NAMES utf8"), true), Effect::Unknown);
    }

    #[test]
    fn the_uptime_is_the_first_number() {
        let line = b"Uptime: 74  Threads: 1  Questions: 3";
        assert_eq!(uptime(line), Some(Duration::from_secs(74)));
        assert_eq!(uptime(b"Access denied"), None);
    }
}
