//! COM_CHANGE_USER: the exchange of a login once more, over connections that have a session. It lies between two command
//! phases, and heals nothing: what the session held is gone with its connection.

use spillway_protocol::{Capabilities, ChangeUser, ok_status};
use tracing::{Span, info};

use super::Proxy;
use super::applicant::Applicant;
use super::bridge::Bridge;
use super::exchange::{Exchange, ExchangeError};
use super::exposure::Exposure;
use super::refusal::Refusal;
use super::relay::{Opening, RelayParts};
use super::stored;
use crate::backend::Upstreams;
use crate::backend::attempts::Attempts;
use crate::backend::decline::{decline_change, decline_proof};
use crate::backend::login::{self, End, LoginRefused, OWN_LOGIN};
use crate::credentials::{Auth, Credentials};
use crate::printable::printable;

/// What became of the session. The client knows.
enum Changed {
    /// The server has said OK, in this payload.
    Yes(Vec<u8>),
    /// The server has refused, and wiped the session before it did.
    Refused,
    /// The server was not asked.
    Not,
}

impl Proxy {
    /// Takes a client from its COM_CHANGE_USER, which is the next packet to be read, to the server's last word.
    ///
    /// # Errors
    /// [`Refusal`] if the session is over. The client does not know.
    pub(super) async fn change_user(
        &self,
        applicant: &mut Applicant,
        parts: &mut RelayParts,
    ) -> Result<Opening, Refusal> {
        let mut attempts = self.upstreams.attempts_at_one(None);
        let command = applicant.receive(&mut attempts).await?.payload;
        let Some(change) = ChangeUser::parse(&command, parts.login.capabilities) else {
            tell(applicant, &Refusal::BadChange).await;
            return Ok(Opening::Unchanged);
        };
        let upstreams = &self.upstreams;
        let changed = match &self.auth {
            Auth::Passthrough => {
                pass_on(applicant, parts, upstreams, &mut attempts, &command, &change).await?
            }
            Auth::Stored(credentials) => {
                change_stored(applicant, parts, upstreams, &mut attempts, &change, credentials).await?
            }
        };
        if parts.backend.unread() > 0 {
            return Err(Refusal::BytesBehindLogin(parts.backend.unread()));
        }
        Ok(match changed {
            Changed::Yes(ok) => {
                note_change(parts, &change, &ok);
                Opening::Session
            }
            Changed::Refused => {
                parts.login.status = None;
                if let Some(continuity) = &mut parts.continuity {
                    continuity.end();
                }
                Opening::Refused
            }
            Changed::Not => Opening::Unchanged,
        })
    }
}

/// Tells a client that keeps its session.
async fn tell(applicant: &mut Applicant, refusal: &Refusal) {
    info!(%refusal, "no change of user");
    applicant.tell(refusal).await;
}

/// The session is the new user's, with nothing of the old one's.
fn note_change(parts: &mut RelayParts, change: &ChangeUser<'_>, ok: &[u8]) {
    let user = printable(change.user());
    info!(user, "the session has changed its user");
    Span::current().record("user", &user);
    parts.journal.session().set_user(user);
    parts.login.status = ok_status(ok);
    parts.journal.set_schema(change.database());
    if let Some(continuity) = &mut parts.continuity {
        continuity.on_changed_user(change.database(), change.character_set());
    }
}

/// Has the server check the client's answer, as in the login.
async fn pass_on(
    applicant: &mut Applicant,
    parts: &mut RelayParts,
    upstreams: &Upstreams,
    attempts: &mut Attempts,
    command: &[u8],
    change: &ChangeUser<'_>,
) -> Result<Changed, Refusal> {
    let (login, backend) = (&parts.login, &mut parts.backend);
    let scramble = &login.told_scramble;
    let mut bridge = Bridge::new(&upstreams.secrecy, login.capabilities, change.plugin(), scramble);
    bridge.start(Exposure::of(&applicant.packets.stream, &backend.stream));
    let as_it_is = bridge.takes_first(change.auth_response()) && !login.has_other_scramble;
    if !as_it_is && !login.capabilities.contains(Capabilities::PLUGIN_AUTH) {
        tell(applicant, &Refusal::NotAskable).await;
        return Ok(Changed::Not);
    }
    let mut exchange = Exchange::new(applicant, attempts, bridge);
    let sent = match as_it_is {
        true => backend.write_numbered(0, command).await,
        false => backend.write_numbered(0, &change.asking_for_switch()).await,
    };
    sent.map_err(|error| Refusal::LostInChange(error.into()))?;
    match exchange.run(backend).await {
        Ok(ok) => Ok(Changed::Yes(ok)),
        Err(ExchangeError::Server(cause)) => Err(Refusal::LostInChange(cause)),
        Err(ExchangeError::Refused(payload)) => {
            applicant.send(&payload).await?;
            Ok(Changed::Refused)
        }
        Err(ExchangeError::LetIn(refusal)) => Err(refusal),
        Err(ExchangeError::Client(refusal)) => {
            let plugin = exchange.bridge.plugin();
            if !decline_proof(backend, plugin).await || refusal.is_of_the_connection() {
                return Err(refusal);
            }
            tell(applicant, &refusal).await;
            Ok(Changed::Refused)
        }
    }
}

/// Checks the client's answer, and makes the change with Spillway's own.
async fn change_stored(
    applicant: &mut Applicant,
    parts: &mut RelayParts,
    upstreams: &Upstreams,
    attempts: &mut Attempts,
    change: &ChangeUser<'_>,
    credentials: &Credentials,
) -> Result<Changed, Refusal> {
    if change.user() != credentials.user() {
        tell(applicant, &Refusal::OtherUser).await;
        return Ok(Changed::Not);
    }
    let (login, backend) = (&parts.login, &mut parts.backend);
    let proof = match stored::check_change(applicant, attempts, login, change, credentials).await {
        Ok(proof) => proof,
        Err(refusal @ Refusal::AccessDenied { .. }) => {
            // A server wipes the session before it looks at the answer, and may end it then.
            if !decline_change(backend, login.capabilities | OWN_LOGIN).await {
                return Err(refusal);
            }
            tell(applicant, &refusal).await;
            return Ok(Changed::Refused);
        }
        Err(refusal) => return Err(refusal),
    };
    let limit = attempts.limit(|limits| limits.auth);
    match login::change_user(backend, change, credentials, &upstreams.secrecy, limit).await {
        Ok(End::Ok(ok)) => {
            proof.send_ok(applicant, login.capabilities, &ok, credentials).await?;
            Ok(Changed::Yes(ok))
        }
        Ok(End::Refused(LoginRefused::Told { payload, .. })) => {
            applicant.send(&payload).await?;
            Ok(Changed::Refused)
        }
        Ok(End::Refused(refused)) => {
            tell(applicant, &Refusal::NotAnswerable(refused)).await;
            Ok(Changed::Refused)
        }
        Err(cause) => Err(Refusal::LostInChange(cause)),
    }
}
