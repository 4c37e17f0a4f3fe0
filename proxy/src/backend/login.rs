//! Spillway's own login to a server, and its own change of user.

mod proof;

use std::time::Duration;

use spillway_protocol::{AuthPlugin, Capabilities, ChangeUser, ERR_HEADER, HandshakeResponse, OK_HEADER};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::attempts::Attempts;
use super::decline::decline_proof;
use super::failure::{AttemptError, Cause, Phase, passes};
use super::{Reached, Upstreams};
use crate::credentials::Credentials;
use crate::packet_stream::PacketStream;
use crate::secrecy::{Secrecy, Way};
use proof::{Answer, Prover};

/// Packets of a server's in one login: a switch, a plugin's own, the end.
const MAX_PACKETS: usize = 8;

/// Capabilities that Spillway's own login needs, whatever the client has.
pub(crate) const OWN_LOGIN: Capabilities = Capabilities(
    Capabilities::PROTOCOL_41.0 | Capabilities::SECURE_CONNECTION.0 | Capabilities::PLUGIN_AUTH.0,
);

/// A login that led to a session.
pub(crate) struct LoggedIn {
    pub(crate) reached: Reached,
    /// The payload of the server's OK.
    pub(crate) ok: Vec<u8>,
    /// The plugin that took the proof.
    pub(crate) plugin: AuthPlugin,
}

/// A login that did not lead to a session.
pub(crate) enum LoginError {
    /// Another attempt may end otherwise.
    Lost(AttemptError),
    /// None will.
    Refused(LoginRefused),
}

/// A login that no further attempt would change.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoginRefused {
    /// The server's ERR packet.
    #[error("{cause}")]
    Told { cause: Cause, payload: Vec<u8> },
    /// The account's plugin needs more than Spillway can give here.
    #[error("the account's plugin {plugin} {why}")]
    NotAnswerable { plugin: String, why: &'static str },
}

/// How a server has ended an exchange.
pub(crate) enum End {
    /// By this OK packet's payload.
    Ok(Vec<u8>),
    /// By an error, or because Spillway could not go on.
    Refused(LoginRefused),
}

/// Logs in by `credentials`, otherwise as the client's `response` says. Gives the payload of the server's OK.
pub(crate) async fn log_in(
    upstreams: &Upstreams,
    reached: Reached,
    response: &HandshakeResponse,
    capabilities: Capabilities,
    credentials: &Credentials,
    attempts: &Attempts,
) -> Result<(Reached, Vec<u8>), LoginError> {
    let reached =
        upstreams.secure(reached, response, capabilities, attempts).await.map_err(LoginError::Lost)?;
    let logged_in = prove(upstreams, reached, response, capabilities, credentials, attempts).await?;
    Ok((logged_in.reached, logged_in.ok))
}

/// The rest of [`log_in`], on a connection that is under TLS if it is to be.
pub(crate) async fn prove(
    upstreams: &Upstreams,
    reached: Reached,
    response: &HandshakeResponse,
    capabilities: Capabilities,
    credentials: &Credentials,
    attempts: &Attempts,
) -> Result<LoggedIn, LoginError> {
    let Reached { mut stream, greeting, server, hop } = reached;
    let capabilities = capabilities | hop;
    let plugin = AuthPlugin::named(greeting.plugin());
    let scramble = greeting.scramble();
    let answer = match plugin {
        AuthPlugin::Native | AuthPlugin::CachingSha2 => plugin.answer(credentials.password(), &scramble),
        _ => None,
    };
    let answer = answer.map(Zeroizing::new);
    let first = match answer {
        Some(answer) => response.answering(capabilities, plugin.name().as_bytes(), &answer),
        None => response.asking_for_switch(capabilities),
    };
    let mut prover = Prover::new(credentials, &upstreams.secrecy, Way::of(&stream.stream), plugin, &scramble);
    let limit = attempts.limit(|limits| limits.auth);
    let ended = async {
        stream.ask(&first).await?;
        exchange(&mut stream, &mut prover).await
    };
    let ended = timeout(limit, ended).await.unwrap_or(Err(Cause::TimedOut(limit)));
    let failed = |server, cause| Err(LoginError::Lost(AttemptError { phase: Phase::Auth, server, cause }));
    match ended {
        Err(cause) => failed(server, cause),
        Ok(End::Ok(payload)) => {
            let mut reached = Reached { stream, greeting, server, hop };
            reached.enter_command_phase();
            Ok(LoggedIn { reached, ok: payload, plugin: prover.plugin() })
        }
        Ok(End::Refused(LoginRefused::Told { cause, payload })) if passes(&payload) => failed(server, cause),
        Ok(End::Refused(refused)) => Err(LoginError::Refused(refused)),
    }
}

/// Becomes the account of `credentials` anew over a connection that has a session, otherwise as the client's `command`
/// says.
///
/// # Errors
/// [`Cause`] if the connection is of no use any more.
pub(crate) async fn change_user(
    stream: &mut PacketStream,
    command: &ChangeUser<'_>,
    credentials: &Credentials,
    secrecy: &Secrecy,
    limit: Duration,
) -> Result<End, Cause> {
    // Of no plugin yet: the server asks for the account's own.
    let mut prover = Prover::new(credentials, secrecy, Way::of(&stream.stream), AuthPlugin::Other, &[]);
    let ended = async {
        stream.write_numbered(0, &command.asking_for_switch()).await?;
        exchange(stream, &mut prover).await
    };
    timeout(limit, ended).await.unwrap_or(Err(Cause::TimedOut(limit)))
}

/// Answers the server until it has decided.
async fn exchange(stream: &mut PacketStream, prover: &mut Prover<'_>) -> Result<End, Cause> {
    for _ in 0..MAX_PACKETS {
        let payload = stream.read_packet().await?.payload;
        match payload.first() {
            Some(&OK_HEADER) => return Ok(End::Ok(payload.to_vec())),
            Some(&ERR_HEADER) => {
                let (cause, payload) = (Cause::told(&payload), payload.to_vec());
                return Ok(End::Refused(LoginRefused::Told { cause, payload }));
            }
            _ => {}
        }
        match prover.answer(&payload).await? {
            Answer::Packet(packet) => stream.write_packet(&packet).await?,
            Answer::Nothing => {}
            Answer::None { plugin, why } => {
                decline_proof(stream, AuthPlugin::named(plugin.as_bytes())).await;
                return Ok(End::Refused(LoginRefused::NotAnswerable { plugin, why }));
            }
        }
    }
    Err(Cause::Unexpected)
}
