//! A lost connection of a session that holds nothing but settings is replaced by a new one to the same server.
//!
//! ```text
//!            lost, idle                  a command comes                    logged in
//!  Link::Up ────────────► Link::Parked ─────────────────► Link::Resuming ────────────► Link::SettingUp
//!      ▲  │ lost, settings unanswered                      ▲   ▲        lost            │         │
//!      │  └────────────────────────────────────────────────┘   └────────────────────────┘         │
//!      └───────── it is the same server, and has taken all settings ──────────────────────────────┘
//! ```
//!
//! On the new connection it is asked who the server is; session-init, the recorded settings and the unanswered ones
//! follow at once. The client's next command waits until all of that is answered: it must not run on a server that
//! turns out to be another one.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use spillway_protocol::{Command, HEADER_LEN, ResponseEnd, ok_warnings};
use tokio::time::{Sleep, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::super::backend::{BackendHalf, OwnCommand, Setting};
use super::super::continuity::{Continuity, MARIADB_IDENTITY, MYSQL_IDENTITY, Resumed};
use super::super::keepalive::{row_values, timeouts_statement};
use super::super::loss::Loss;
use super::Relay;
use crate::backend::attempts::Attempts;
use crate::backend::failure::{AttemptError, Cause, Phase, passes};
use crate::packet_stream::PacketIoError;

/// How a session stands to its server.
pub(super) enum Link {
    /// It has a connection, or is lost for good.
    Up,
    /// The connection is lost; a new one is made for the client's next command.
    Parked,
    /// A new connection is being made.
    Resuming(Resuming),
    /// A new connection is being given what the lost one had.
    SettingUp(Box<SettingUp>),
}

/// A new connection in the making.
pub(super) struct Resuming {
    made: Pin<Box<dyn Future<Output = Result<Resumed, Loss>> + Send>>,
    /// Nobody wants it any more.
    unwanted: CancellationToken,
}

/// A new connection that is not known to be as good as the lost one.
pub(super) struct SettingUp {
    attempts: Attempts,
    limit: Pin<Box<Sleep>>,
    /// Unanswered settings of the client's that were sent again.
    unanswered: usize,
    /// Whether all commands of Spillway's own are answered.
    is_begun: bool,
}

impl Relay {
    /// Whether the session has a connection for a command of the client's. If it has lost it, a new one is made.
    pub(super) fn is_linked_for(&mut self, command: Command) -> bool {
        if matches!(self.link, Link::Parked) && command != Command::QUIT {
            self.resume(None);
        }
        matches!(self.link, Link::Up) || command == Command::QUIT
    }

    /// Begins to replace the lost connection, if nothing but settings is lost with it.
    pub(super) fn try_resume(&mut self, loss: &Loss) -> bool {
        let whole = self.continuity.as_ref().is_some_and(Continuity::is_replaceable);
        // A server that says why it ends the session means it, and so does a client that ends it by KILL.
        let meant = self.farewell.is_some() || self.quitting || self.told_id.is_killed();
        let lost = matches!(loss, Loss::ServerClosed | Loss::Server(_));
        let replaceable = matches!(self.link, Link::Up | Link::SettingUp(_));
        if !whole || meant || !lost || !replaceable || !self.backend.holds_only_settings() {
            return false;
        }
        info!(error = %loss, server = %self.told.upstream, "lost the server; the session holds only settings and can go on");
        self.unanswered.splice(..0, self.backend.take_settings());
        self.backend.close();
        match std::mem::replace(&mut self.link, Link::Parked) {
            Link::SettingUp(setting_up) => {
                let failure = |continuity: &Continuity| continuity.failure(Phase::SetUp, cause_of(loss));
                let earlier = self.continuity.as_ref().map(|it| (setting_up.attempts, failure(it)));
                self.resume(earlier);
            }
            _ if !self.unanswered.is_empty() => self.resume(None),
            _ => {}
        }
        true
    }

    fn resume(&mut self, earlier: Option<(Attempts, AttemptError)>) {
        if let Some(continuity) = &self.continuity {
            let unwanted = CancellationToken::new();
            let made = Box::pin(continuity.resume(earlier, unwanted.clone()));
            self.link = Link::Resuming(Resuming { made, unwanted });
        }
    }

    /// Brings a login that is under way to an end that the server likes, as the client has gone: one that is broken off
    /// counts against this host. Takes no longer than the steps of one login may.
    pub(crate) async fn end_login(&mut self) {
        let Link::Resuming(resuming) = &mut self.link else { return };
        resuming.unwanted.cancel();
        if let Ok(Resumed { mut reached, .. }) = resuming.made.as_mut().await {
            // The server ends the session in any case.
            let _ = reached.stream.write_numbered(0, &[Command::QUIT.0]).await;
        }
        self.link = Link::Parked;
    }

    pub(super) fn poll_resume(&mut self, cx: &mut Context<'_>) -> bool {
        match &mut self.link {
            Link::Up | Link::Parked => false,
            Link::Resuming(resuming) => {
                let Poll::Ready(outcome) = resuming.made.as_mut().poll(cx) else { return false };
                match outcome {
                    Ok(resumed) => self.on_resumed(resumed),
                    Err(loss) => self.lose_for_good(loss),
                }
                true
            }
            Link::SettingUp(setting_up) => {
                let is_late = setting_up.limit.as_mut().poll(cx).is_ready();
                if is_late {
                    self.lose(Loss::Server(io::ErrorKind::TimedOut.into()));
                }
                is_late
            }
        }
    }

    fn on_resumed(&mut self, resumed: Resumed) {
        let Resumed { reached, status, attempts } = resumed;
        if reached.stream.unread() > 0 {
            let text = "the server sent bytes behind the end of the login";
            return self.lose_for_good(Loss::NotReplaced(text.to_owned()));
        }
        let connection_id = reached.greeting.connection_id();
        self.told_id.set_real(connection_id);
        self.login.connection_id = connection_id;
        // The next one counts anew.
        self.kept.rows += self.backend.rows();
        self.backend = BackendHalf::new(reached.stream, self.login.capabilities);
        if let Some(status) = status {
            self.note_status(status);
        }
        let limit = Box::pin(sleep(attempts.limit(|limits| limits.auth)));
        let unanswered = self.unanswered.len();
        let setting_up = SettingUp { attempts, limit, unanswered, is_begun: false };
        self.link = Link::SettingUp(Box::new(setting_up));
        self.begin_session();
        for setting in std::mem::take(&mut self.unanswered) {
            self.backend.send_setting(setting);
        }
    }

    /// Sends what goes before the client's commands on every new connection.
    pub(super) fn begin_session(&mut self) {
        let is_mariadb = self.login.is_mariadb;
        if let Some(continuity) = &mut self.continuity {
            continuity.ask();
            let identity = if is_mariadb { MARIADB_IDENTITY } else { MYSQL_IDENTITY };
            self.backend.send_own(OwnCommand::Identity(identity));
            self.backend.send_own(OwnCommand::Uptime);
        }
        self.send_session_init();
        let settings: Vec<Vec<u8>> =
            self.continuity.iter().flat_map(Continuity::settings).map(<[u8]>::to_vec).collect();
        for payload in settings {
            let wipes = payload == [Command::RESET_CONNECTION.0];
            self.backend.send_own(OwnCommand::Replay(payload));
            if wipes {
                self.send_session_init();
            }
        }
        self.backend.send_own(OwnCommand::IdleTimeouts(timeouts_statement(is_mariadb)));
    }

    pub(super) fn on_takeover_response(&mut self, own: &OwnCommand, end: ResponseEnd, packets: &[u8]) {
        let Some(continuity) = &mut self.continuity else { return };
        let payload = packets.get(HEADER_LEN..).unwrap_or_default();
        let outcome = match (own, end) {
            (OwnCommand::Identity(_) | OwnCommand::Replay(_) | OwnCommand::Uptime, ResponseEnd::Error(_)) => {
                Err(refused(payload))
            }
            (OwnCommand::Identity(_), _) => {
                continuity.on_identity(row_values(packets, self.login.capabilities))
            }
            (OwnCommand::Uptime, _) => continuity.on_statistics(payload),
            _ => Ok(()),
        };
        if let Err(loss) = outcome {
            self.not_as_before(loss);
        }
    }

    /// The server does not tell or take what it did before. A session that has just begun goes on without continuity.
    fn not_as_before(&mut self, loss: Loss) {
        match (&self.link, &mut self.continuity) {
            (Link::SettingUp(_), _) => self.lose_for_good(loss),
            (_, Some(continuity)) => continuity.end(),
            (_, None) => {}
        }
    }

    /// Ends the session, unless the cause is one that passes.
    fn lose_for_good(&mut self, loss: Loss) {
        if let (Loss::NotReplaced(_), Some(continuity)) = (&loss, &mut self.continuity) {
            warn!(error = %loss, "the lost connection could not be replaced");
            continuity.end();
        }
        self.lose(loss);
    }

    /// Whether a session-init statement that was taken on the first connection is refused on a new one.
    pub(super) fn is_refused_anew(&mut self, sql: &str, packets: &[u8]) -> bool {
        let known = self.kept.refused_init.iter().any(|refused| refused == sql);
        if matches!(self.link, Link::SettingUp(_)) && !known {
            self.not_as_before(refused(packets.get(HEADER_LEN..).unwrap_or_default()));
            return true;
        }
        if !known {
            self.kept.refused_init.push(sql.to_owned());
        }
        false
    }

    /// All commands that begin a session are answered.
    pub(super) fn on_session_begun(&mut self) {
        if let Link::SettingUp(setting_up) = &mut self.link {
            setting_up.is_begun = true;
            self.end_takeover();
        }
    }

    /// The server has taken a setting of the client's, or not.
    pub(super) fn on_setting_response(&mut self, setting: Setting, end: ResponseEnd, packets: Vec<u8>) {
        let warnings = packets.get(HEADER_LEN..).and_then(ok_warnings).unwrap_or_default();
        self.spool.fill(setting.id, packets);
        if let ResponseEnd::Status(Some(status)) = end {
            self.note_status(status);
        }
        if let Some(continuity) = &mut self.continuity {
            match end {
                ResponseEnd::Status(_) => continuity.record(setting.keeps, setting.payload, warnings > 0),
                // Of several variables in one statement some may have been set.
                _ => continuity.end(),
            }
        }
        if let Link::SettingUp(setting_up) = &mut self.link {
            setting_up.unanswered = setting_up.unanswered.saturating_sub(1);
            self.end_takeover();
        }
    }

    /// Lets the client's commands through when the new connection has all that the lost one had.
    fn end_takeover(&mut self) {
        let Link::SettingUp(setting_up) = &self.link else { return };
        if !setting_up.is_begun || setting_up.unanswered > 0 {
            return;
        }
        metrics::counter!("spillway_healed_sessions_total").increment(1);
        info!(
            server = %self.told.upstream,
            server_connection = self.login.connection_id,
            attempts = setting_up.attempts.made(),
            settings = self.continuity.as_ref().map_or(0, |continuity| continuity.settings().len()),
            "the session goes on with a new connection"
        );
        self.link = Link::Up;
    }
}

/// What the refusal of something means that was taken before.
fn refused(payload: &[u8]) -> Loss {
    let cause = Cause::told(payload);
    if passes(payload) {
        Loss::Server(io::Error::other(cause.to_string()))
    } else {
        Loss::NotReplaced(format!("it does not take what the lost one had taken: {cause}"))
    }
}

fn cause_of(loss: &Loss) -> Cause {
    match loss {
        Loss::Server(error) => Cause::Io(io::Error::new(error.kind(), error.to_string())),
        _ => Cause::Lost(PacketIoError::Closed { received: 0 }),
    }
}
