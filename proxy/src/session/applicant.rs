//! A client before it has a session.

use std::sync::Arc;
use std::time::Duration;

use spillway_protocol::{Capabilities, HandshakeResponse, encode_err, encode_packet, is_ssl_request};
use tokio::time::{Instant, timeout};

use super::error_kind::ErrorKind;
use super::refusal::Refusal;
use crate::backend::attempts::Attempts;
use crate::packet_stream::{HandshakePacket, PacketIoError, PacketStream};
use crate::stream::Stream;
use crate::tls::{ClientTls, Identity};

/// How long a client may take to read why it is refused.
const TELL_TIMEOUT: Duration = Duration::from_secs(1);

/// A client that is logging in.
pub(crate) struct Applicant {
    pub(crate) packets: PacketStream,
    tls: Option<Arc<ClientTls>>,
    /// What the client was shown, if it has begun TLS.
    identity: Option<Arc<Identity>>,
    greeted: bool,
    by_libmariadb: bool,
    /// How long the client may take for its part of the login (`--login-timeout`), and what is left of that.
    limit: Duration,
    left: Duration,
}

impl Applicant {
    /// One that is not greeted yet, and may take until `limit`.
    pub(crate) fn new(stream: Stream, tls: Option<Arc<ClientTls>>, limit: Duration) -> Self {
        let packets = PacketStream::new(stream);
        Self { packets, tls, identity: None, greeted: false, by_libmariadb: false, limit, left: limit }
    }

    /// What the client is offered in the name of a server that has these capabilities.
    pub(crate) fn offer(&self, server: Capabilities) -> Capabilities {
        let tls = if self.tls.is_some() { Capabilities::SSL } else { Capabilities::default() };
        (server & Capabilities::UNDERSTOOD) | Capabilities::COMPRESSION | tls
    }

    /// One that has a session already, and logs in anew.
    pub(crate) fn with_session(
        packets: PacketStream,
        identity: Option<Arc<Identity>>,
        by_libmariadb: bool,
        limit: Duration,
    ) -> Self {
        Self { packets, tls: None, identity, greeted: true, by_libmariadb, limit, left: limit }
    }

    /// What the client was shown, if it has begun TLS.
    pub(crate) fn identity(&self) -> Option<Arc<Identity>> {
        self.identity.clone()
    }

    /// Whether the client's library is MariaDB's, by its connection attributes.
    pub(crate) fn is_by_libmariadb(&self) -> bool {
        self.by_libmariadb
    }

    /// Whether the client is offered TLS.
    pub(crate) fn may_use_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Whether the client may want the password to prove the certificate that it was shown: MariaDB's do so since 11.4
    /// where they are given no CA.
    pub(crate) fn may_want_proof(&self) -> bool {
        self.identity.is_some() && self.by_libmariadb
    }

    /// SHA-256 of the certificate that the client was shown, if it has begun TLS.
    pub(crate) fn fingerprint(&self) -> Option<&[u8; 32]> {
        self.identity.as_ref().map(|identity| &identity.fingerprint)
    }

    /// Returns when the client has left, and said nothing before.
    pub(crate) async fn gone(&self) {
        self.packets.stream.gone().await;
    }

    /// Sends a packet of the server's, or in its name.
    pub(crate) async fn send(&mut self, payload: &[u8]) -> Result<(), Refusal> {
        self.packets.write_packet(payload).await.map_err(Refusal::ClientLeft)
    }

    /// Greets the client.
    pub(crate) async fn greet(&mut self, greeting: &[u8]) -> Result<(), Refusal> {
        self.greeted = true;
        self.packets.write_numbered(0, greeting).await.map_err(Refusal::ClientLeft)
    }

    /// Reads the client's answer to the greeting, under TLS if it wants that. Cancelling it ends the connection.
    pub(crate) async fn read_response(
        &mut self,
        attempts: &mut Attempts,
    ) -> Result<HandshakeResponse, Refusal> {
        let mut answer = self.receive(attempts).await?;
        if let Some(tls) = self.tls.clone() {
            if is_ssl_request(&answer.payload) {
                self.begin_tls(Arc::clone(&tls.identity), attempts).await?;
                answer = self.receive(attempts).await?;
            } else if tls.required && !self.packets.stream.is_safe() {
                return Err(Refusal::NoTls);
            }
        }
        let response = HandshakeResponse::parse(&answer.payload).map_err(Refusal::BadHandshake)?;
        self.by_libmariadb = response.attribute(b"_client_name") == Some(b"libmariadb");
        Ok(response)
    }

    async fn begin_tls(&mut self, identity: Arc<Identity>, attempts: &mut Attempts) -> Result<(), Refusal> {
        let asked = Instant::now();
        let ahead = std::mem::take(&mut *self.packets.ahead);
        let begun = self.packets.stream.accept_tls(ahead, Arc::clone(&identity.config));
        let begun = timeout(self.left, begun).await;
        self.spend(asked.elapsed(), attempts);
        match begun {
            Ok(begun) => begun.map_err(Refusal::ClientTls)?,
            Err(_) => return Err(Refusal::ClientSlow(self.limit)),
        }
        self.identity = Some(identity);
        Ok(())
    }

    /// The client's next packet. The time it takes is its own, and not that of `attempts`. Cancel safe.
    pub(crate) async fn receive(&mut self, attempts: &mut Attempts) -> Result<HandshakePacket, Refusal> {
        let asked = Instant::now();
        let received = timeout(self.left, self.packets.read_packet()).await;
        self.spend(asked.elapsed(), attempts);
        match received {
            Ok(Ok(packet)) => Ok(packet),
            Ok(Err(error @ (PacketIoError::Closed { received: 0 } | PacketIoError::Io(_)))) => {
                Err(Refusal::ClientLeft(error))
            }
            Ok(Err(error)) => Err(Refusal::ClientBroken(error)),
            Err(_) => Err(Refusal::ClientSlow(self.limit)),
        }
    }

    /// The client has had the turn for so long.
    fn spend(&mut self, time: Duration, attempts: &mut Attempts) {
        self.left = self.left.saturating_sub(time);
        attempts.extend(time);
    }

    /// Tells the client why it is refused, as far as it can be told.
    pub(crate) async fn tell(&mut self, refusal: &Refusal) {
        refusal.kind().into_iter().for_each(ErrorKind::count);
        let packet = match refusal {
            Refusal::OwnLogin { payload, .. } => encode_packet(self.packets.next_sequence_id(), payload),
            Refusal::Server { sequence_id, payload, .. } => {
                let sequence_id = if self.greeted { self.packets.next_sequence_id() } else { *sequence_id };
                encode_packet(sequence_id, payload)
            }
            _ => {
                let Some((code, sqlstate)) = refusal.code(self.greeted, self.by_libmariadb) else { return };
                let message = refusal.message(code);
                // Before the greeting no SQLSTATE is expected.
                let sqlstate = self.greeted.then_some(sqlstate);
                encode_err(self.packets.next_sequence_id(), code, sqlstate, &message)
            }
        };
        let _ = timeout(TELL_TIMEOUT, self.packets.write_encoded(packet)).await;
    }
}
