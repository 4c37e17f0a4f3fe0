//! Ending a handshake that nobody wants any more.
//!
//! A server counts connections that break off inside the handshake against their host, and after
//! `max_connect_errors` of them in a row it blocks the host (error 1129). A login that it refuses is not counted so, as
//! long as the answer has the length that the plugin wants (tried: MariaDB 10.11).

use std::time::Duration;

use spillway_protocol::{
    AuthPlugin, AuthSwitchRequest, Capabilities, ChangeUser, Command, ERR_HEADER, Greeting,
    HandshakeResponse, OK_HEADER,
};
use tokio::time::timeout;

use crate::packet_stream::{PacketIoError, PacketStream};

/// How long a server may take to refuse.
const PATIENCE: Duration = Duration::from_secs(5);

/// Answers of a server to a login that is none; there are two at most.
const MAX_ANSWERS: usize = 4;

/// The user name of a login that is none. An account of this name would be let in, and leave at once.
const NOBODY: &[u8] = b"spillway-nobody";

/// Ends a handshake before the greeting, for which the server may take `limit`.
pub(crate) async fn await_greeting_and_decline(mut backend: PacketStream, limit: Duration) {
    if let Ok(Ok(packet)) = timeout(limit, backend.read_packet()).await
        && let Ok(greeting) = Greeting::parse(packet.payload.to_vec())
    {
        decline(backend, &greeting).await;
    }
}

/// Ends a handshake after the greeting.
pub(crate) async fn decline(mut backend: PacketStream, greeting: &Greeting) {
    let _ = timeout(PATIENCE, log_in_as_nobody(&mut backend, greeting)).await;
}

/// Ends an exchange in which the server waits for a proof by `plugin`. Gives whether the server has refused, as it
/// should: a connection with a session may have it still.
pub(crate) async fn decline_proof(backend: &mut PacketStream, plugin: AuthPlugin) -> bool {
    let refused = timeout(PATIENCE, async {
        backend.write_packet(wrong_answer(plugin)).await?;
        until_the_end(backend).await
    });
    matches!(refused.await, Ok(Ok(true)))
}

/// Has the server refuse a change of user, as it would have if it had seen the client's wrong proof. Gives whether it
/// has refused.
pub(crate) async fn decline_change(backend: &mut PacketStream, capabilities: Capabilities) -> bool {
    let refused = timeout(PATIENCE, async {
        let nobody = ChangeUser::to(NOBODY, capabilities);
        backend.write_numbered(0, &nobody.asking_for_switch()).await?;
        until_the_end(backend).await
    });
    matches!(refused.await, Ok(Ok(true)))
}

/// An answer of the right length and no meaning.
fn wrong_answer(plugin: AuthPlugin) -> &'static [u8] {
    let answer = &[b'x'; 64];
    match plugin {
        AuthPlugin::Native => &answer[..20],
        AuthPlugin::CachingSha2 => &answer[..32],
        AuthPlugin::Ed25519 => answer,
        AuthPlugin::Sha256 => b"\0",
        AuthPlugin::Parsec | AuthPlugin::Clear | AuthPlugin::Other => b"",
    }
}

async fn log_in_as_nobody(backend: &mut PacketStream, greeting: &Greeting) -> Result<bool, PacketIoError> {
    let wanted = Capabilities::PROTOCOL_41 | Capabilities::SECURE_CONNECTION | Capabilities::PLUGIN_AUTH;
    let nobody = HandshakeResponse::new(wanted & greeting.capabilities(), NOBODY);
    let answer = wrong_answer(AuthPlugin::named(greeting.plugin()));
    backend.write_packet(&nobody.answering(nobody.capabilities(), greeting.plugin(), answer)).await?;
    until_the_end(backend).await
}

/// Gives whether the server has refused.
async fn until_the_end(backend: &mut PacketStream) -> Result<bool, PacketIoError> {
    for _ in 0..MAX_ANSWERS {
        let packet = backend.read_packet().await?;
        match packet.payload.first() {
            Some(&ERR_HEADER) => return Ok(true),
            Some(&OK_HEADER) => {
                backend.write_numbered(0, &[Command::QUIT.0]).await?;
                break;
            }
            _ => {
                let plugin = AuthSwitchRequest::parse(&packet.payload)
                    .map_or(AuthPlugin::Other, |request| AuthPlugin::named(request.plugin));
                backend.write_packet(wrong_answer(plugin)).await?;
            }
        }
    }
    Ok(false)
}
