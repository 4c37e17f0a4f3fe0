//! The packets between a client's first answer and the server's last word: in a login, and in a change of user.

use spillway_protocol::{
    AUTH_NEXT_FACTOR, AuthPlugin, AuthSwitchRequest, ERR_HEADER, FAST_AUTH_SUCCESS, OK_HEADER,
};
use tokio::time::{Instant, timeout};
use zeroize::Zeroizing;

use super::applicant::Applicant;
use super::bridge::{Bridge, BridgeError, Step};
use super::refusal::Refusal;
use crate::backend::attempts::Attempts;
use crate::backend::failure::{Cause, passes};
use crate::packet_stream::PacketStream;

/// An exchange with one server, or with several of which all but the last were lost.
pub(crate) struct Exchange<'a> {
    pub(crate) client: &'a mut Applicant,
    pub(crate) attempts: &'a mut Attempts,
    pub(crate) bridge: Bridge<'a>,
    /// The server is not the one that the client has answered first.
    pub(crate) replaced: bool,
    /// AuthSwitchRequests that the client was sent.
    pub(crate) switches: u32,
    pub(crate) several_factors: bool,
}

/// How an exchange with one server ended.
pub(crate) enum ExchangeError {
    /// The server is lost; the client knows nothing of it.
    Server(Cause),
    /// The server has refused, in the words of this ERR packet's payload. The client does not know.
    Refused(Vec<u8>),
    /// Spillway does not go on. The server waits for a proof.
    Client(Refusal),
    /// The client has gone when the server had said OK: there is nothing left to decline.
    LetIn(Refusal),
}

impl From<Refusal> for ExchangeError {
    fn from(refusal: Refusal) -> Self {
        Self::Client(refusal)
    }
}

impl From<BridgeError> for ExchangeError {
    fn from(error: BridgeError) -> Self {
        match error {
            BridgeError::Server(cause) => Self::Server(cause),
            BridgeError::Client(refusal) => Self::Client(refusal),
        }
    }
}

enum Turn {
    Server(Zeroizing<Vec<u8>>),
    Client(Zeroizing<Vec<u8>>),
}

impl<'a> Exchange<'a> {
    pub(crate) fn new(client: &'a mut Applicant, attempts: &'a mut Attempts, bridge: Bridge<'a>) -> Self {
        Self { client, attempts, bridge, replaced: false, switches: 0, several_factors: false }
    }

    /// Passes packets on in both directions until the server, which has got the client's first answer, ends the
    /// exchange. Gives the payload of its OK.
    pub(crate) async fn run(&mut self, backend: &mut PacketStream) -> Result<Vec<u8>, ExchangeError> {
        let server = |error| ExchangeError::Server(Cause::from(error));
        let mut clients_turn = false;
        let mut held_back = None;
        loop {
            let payload = match self.next(backend, clients_turn).await? {
                Turn::Server(payload) => payload,
                Turn::Client(payload) => {
                    match self.bridge.on_client(payload).await? {
                        Step::ToServer(payload) => {
                            backend.write_packet(&payload).await.map_err(server)?;
                            clients_turn = false;
                        }
                        Step::ToClient(payload) => self.client.send(&payload).await?,
                    }
                    continue;
                }
            };
            let is_err = payload.first() == Some(&ERR_HEADER);
            if is_err && clients_turn {
                // As where the server is lost: the answer is still to come.
                self.client.receive(self.attempts).await?;
            }
            if is_err && passes(&payload) {
                return Err(ExchangeError::Server(Cause::told(&payload)));
            }
            let is_ok = payload.first() == Some(&OK_HEADER);
            let gone = if is_ok { ExchangeError::LetIn } else { ExchangeError::Client };
            if let Some(held_back) = held_back.take() {
                self.client.send(held_back).await.map_err(gone)?;
            }
            match payload.first() {
                Some(&ERR_HEADER) => return Err(ExchangeError::Refused(payload.to_vec())),
                Some(&OK_HEADER) => {
                    self.client.send(&payload).await.map_err(gone)?;
                    return Ok(payload.to_vec());
                }
                _ => {}
            }
            // Another packet follows. If it is lost, MySQL's client is to be told while it waits for this one: behind
            // it, it shows its own words for an error 2013, and not ours (tried: 9.7).
            if *payload == FAST_AUTH_SUCCESS && self.bridge.plugin() == AuthPlugin::CachingSha2 {
                held_back = Some(&FAST_AUTH_SUCCESS);
                clients_turn = false;
                continue;
            }
            self.note(&payload)?;
            match self.bridge.on_server(payload)? {
                Step::ToClient(payload) => {
                    self.client.send(&payload).await?;
                    clients_turn = true;
                }
                Step::ToServer(payload) => backend.write_packet(&payload).await.map_err(server)?,
            }
        }
    }

    /// The next packet: in the client's turn of whichever side speaks first.
    async fn next(&mut self, backend: &mut PacketStream, clients_turn: bool) -> Result<Turn, ExchangeError> {
        if clients_turn {
            return self.either(backend).await;
        }
        let limit = self.attempts.limit(|limits| limits.auth);
        match timeout(limit, backend.read_packet()).await {
            Ok(Ok(packet)) => Ok(Turn::Server(packet.payload)),
            Ok(Err(error)) => Err(ExchangeError::Server(error.into())),
            Err(_) => Err(ExchangeError::Server(Cause::TimedOut(limit))),
        }
    }

    /// Whichever side speaks first. If the server is lost, the client's answer is still to come: it answers a scramble
    /// that nobody holds any more, and must be out of the way before the client can be told anything.
    async fn either(&mut self, backend: &mut PacketStream) -> Result<Turn, ExchangeError> {
        let asked = Instant::now();
        let lost = tokio::select! {
            biased;
            packet = backend.read_packet() => match packet {
                Ok(packet) => return Ok(Turn::Server(packet.payload)),
                Err(error) => error,
            },
            packet = self.client.receive(self.attempts) => return Ok(Turn::Client(packet?.payload)),
        };
        self.attempts.extend(asked.elapsed());
        self.client.receive(self.attempts).await?;
        Err(ExchangeError::Server(lost.into()))
    }

    /// Takes notice of what a packet of the server's makes the client do.
    fn note(&mut self, payload: &[u8]) -> Result<(), ExchangeError> {
        self.several_factors |= payload.first() == Some(&AUTH_NEXT_FACTOR);
        if let Some(request) = AuthSwitchRequest::parse(payload) {
            if self.replaced && !AuthPlugin::named(request.plugin).is_repeatable() {
                let cause = Cause::Unfit("the first connection was lost");
                return Err(
                    Refusal::NotHealable { cause, why: "the account's plugin may ask a person" }.into()
                );
            }
            self.switches += 1;
        }
        Ok(())
    }
}
