//! Spillway's own login to a server.

use spillway_protocol::{
    AuthPlugin, AuthSwitchRequest, Capabilities, ERR_HEADER, FAST_AUTH_SUCCESS, Greeting, HandshakeResponse,
    OK_HEADER, PERFORM_FULL_AUTHENTICATION,
};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::attempts::Attempts;
use super::decline::decline_proof;
use super::failure::{AttemptError, Cause, Phase, passes};
use super::{Reached, Upstreams};
use crate::credentials::Credentials;
use crate::packet_stream::PacketStream;

/// Packets of a server's in one login: a switch, a plugin's own, the end.
const MAX_PACKETS: usize = 8;

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
    let Reached { mut stream, greeting, server, hop } = reached;
    let capabilities = capabilities | hop;
    let limit = attempts.limit(|limits| limits.auth);
    let outcome = timeout(limit, exchange(&mut stream, &greeting, response, capabilities, credentials)).await;
    let failed = |server, cause| Err(LoginError::Lost(AttemptError { phase: Phase::Auth, server, cause }));
    match outcome {
        Err(_) => failed(server, Cause::TimedOut(limit)),
        Ok(Err(cause)) => failed(server, cause),
        Ok(Ok(End::Ok(payload))) => Ok((Reached { stream, greeting, server, hop }, payload)),
        Ok(Ok(End::Err(payload))) if passes(&payload) => failed(server, Cause::told(&payload)),
        Ok(Ok(End::Err(payload))) => {
            Err(LoginError::Refused(LoginRefused::Told { cause: Cause::told(&payload), payload }))
        }
        Ok(Ok(End::NotAnswerable { plugin, why })) => {
            decline_proof(stream, AuthPlugin::named(plugin.as_bytes())).await;
            Err(LoginError::Refused(LoginRefused::NotAnswerable { plugin, why }))
        }
    }
}

enum End {
    Ok(Vec<u8>),
    Err(Vec<u8>),
    NotAnswerable { plugin: String, why: &'static str },
}

async fn exchange(
    stream: &mut PacketStream,
    greeting: &Greeting,
    response: &HandshakeResponse,
    capabilities: Capabilities,
    credentials: &Credentials,
) -> Result<End, Cause> {
    let mut plugin = AuthPlugin::named(greeting.plugin());
    let first = match plugin.answer(credentials.password(), &greeting.scramble()) {
        Some(answer) => response.answering(capabilities, plugin.name().as_bytes(), &answer),
        None => response.asking_for_switch(capabilities),
    };
    stream.ask(&first).await?;
    for _ in 0..MAX_PACKETS {
        let payload = stream.read_packet().await?.payload;
        if let Some(request) = AuthSwitchRequest::parse(&payload) {
            plugin = AuthPlugin::named(request.plugin);
            let Some(answer) = plugin.answer(credentials.password(), request.scramble()) else {
                let plugin = String::from_utf8_lossy(request.plugin).into_owned();
                return Ok(End::NotAnswerable { plugin, why: "is not known to spillway" });
            };
            stream.write_packet(&answer).await?;
            continue;
        }
        match payload.first() {
            Some(&OK_HEADER) => return Ok(End::Ok(payload.to_vec())),
            Some(&ERR_HEADER) => return Ok(End::Err(payload.to_vec())),
            _ if *payload == FAST_AUTH_SUCCESS && plugin == AuthPlugin::CachingSha2 => {}
            _ if *payload == PERFORM_FULL_AUTHENTICATION && plugin == AuthPlugin::CachingSha2 => {
                if !stream.stream.is_safe() {
                    let plugin = plugin.name().to_owned();
                    return Ok(End::NotAnswerable {
                        plugin,
                        // Whether it is wrong or only forgotten, the server tells nobody who does not send it.
                        why: "wants the password itself, which does not go over TCP in clear: see that it is right, \
                              and log in with it once over the server's Unix socket or TLS, so that the server \
                              remembers it",
                    });
                }
                let password = Zeroizing::new([credentials.password(), &[0]].concat());
                stream.write_packet(&password).await?;
            }
            _ => return Err(Cause::Unexpected),
        }
    }
    Err(Cause::Unexpected)
}
