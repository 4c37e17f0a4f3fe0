//! The connection phase in passthrough: the server's greeting goes to the client, the client's answer to the server,
//! and so on until the server says OK or ERR. Spillway needs to know no password.
//!
//! A server that is lost on the way is replaced without the client noticing. A new connection has a new scramble, so
//! the client must answer again, and one packet makes it do so: an AuthSwitchRequest. The new server is given the
//! client's response without an answer and with a plugin that no account has; it then asks by itself, for the account's
//! own plugin.
//!
//! ```text
//!  client              Spillway               1st connection      2nd connection
//!    │◄──── greeting ─────┤◄────── greeting ───────┤
//!    ├───── response ────►├─────── response ──────►┤ lost
//!    │                    ├────────────────────────── connect ────────►│
//!    │                    │◄───────────────────────── greeting ────────┤
//!    │                    ├──────── response with no answer ──────────►│
//!    │◄─ AuthSwitchRequest┤◄─────────────────── AuthSwitchRequest ─────┤
//!    ├───── answer ──────►├─────────────────────────── answer ────────►│
//!    │◄─────── OK ────────┤◄──────────────────────────── OK ───────────┤
//! ```

use std::pin::pin;
use std::time::Duration;

use spillway_protocol::{
    AUTH_NEXT_FACTOR, AuthPlugin, AuthSwitchRequest, Capabilities, ERR_HEADER, FAST_AUTH_SUCCESS, Greeting,
    HandshakeResponse, OK_HEADER,
};
use tokio::time::{Instant, sleep, timeout};
use zeroize::Zeroizing;

use super::applicant::Applicant;
use super::exposure::Exposure;
use super::login::Ready;
use super::refusal::Refusal;
use crate::backend::attempts::Attempts;
use crate::backend::decline::{decline, decline_proof};
use crate::backend::failure::{AttemptError, Cause, Phase, passes};
use crate::backend::{ReachError, Reached, Upstreams};

/// How long a greeted server is kept waiting for the client. At 10 s (`connect_timeout`) it would break off by itself,
/// and count that against Spillway's host.
const SILENCE: Duration = Duration::from_secs(7);

/// Takes a client from the greeting to the end of its login.
pub(crate) async fn log_in(
    applicant: &mut Applicant,
    upstreams: &Upstreams,
    attempts: &mut Attempts,
) -> Result<Ready, Refusal> {
    let first = upstreams.reach(attempts, None, applicant.gone()).await?;
    let told = first.greeting.clone();
    let (response, first) = hear_client(applicant, attempts, first).await?;
    let mask = (told.capabilities() & Capabilities::UNDERSTOOD) | Capabilities::CLIENT_CHOICE;
    let capabilities = response.capabilities() & mask;
    let mut exchange = Exchange {
        exposure: Exposure::new(response.plugin()),
        client: applicant,
        attempts,
        replaced: false,
        switches: 0,
        several_factors: false,
    };
    let (backend, ok) = exchange.run_to_the_end(upstreams, &told, first, &response, capabilities).await?;
    let weaker = exchange.exposure.weaker;
    let (id, scramble) = (told.connection_id(), told.scramble());
    Ok(Ready::new(backend, &told, id, &scramble, response, mask, weaker, &ok))
}

/// Greets the client and reads its answer. The server is given up where the client takes longer than a server waits.
async fn hear_client(
    applicant: &mut Applicant,
    attempts: &mut Attempts,
    first: Reached,
) -> Result<(HandshakeResponse, Option<Reached>), Refusal> {
    let told = first.greeting.clone();
    let mut first = Some(first);
    let greeted = applicant.greet(&told.offering(applicant.offer(told.capabilities()))).await;
    let heard = match greeted {
        Ok(()) => {
            let mut hearing = pin!(applicant.read_response(attempts));
            tokio::select! {
                heard = hearing.as_mut() => heard,
                () = sleep(SILENCE) => {
                    if let Some(first) = first.take() {
                        decline(first.stream, &told).await;
                    }
                    hearing.await
                }
            }
        }
        Err(refusal) => Err(refusal),
    };
    match (heard, first) {
        (Ok(response), first) => Ok((response, first)),
        (Err(refusal), Some(first)) => {
            decline(first.stream, &told).await;
            Err(refusal)
        }
        (Err(refusal), None) => Err(refusal),
    }
}

/// The packets between the client's first answer and the server's last word.
struct Exchange<'a> {
    client: &'a mut Applicant,
    attempts: &'a mut Attempts,
    exposure: Exposure,
    /// The server is not the one that the client has answered first.
    replaced: bool,
    /// AuthSwitchRequests that the client was sent.
    switches: u32,
    several_factors: bool,
}

/// How an exchange with one server ended.
enum ExchangeError {
    /// The server is lost; the client knows nothing of it.
    Server(Cause),
    /// The client gets no session. The server may be waiting for a proof.
    Client(Refusal),
}

impl From<Refusal> for ExchangeError {
    fn from(refusal: Refusal) -> Self {
        Self::Client(refusal)
    }
}

impl Exchange<'_> {
    /// Runs the exchange with `first`, and with others in its place for as long as that can be done.
    async fn run_to_the_end(
        &mut self,
        upstreams: &Upstreams,
        told: &Greeting,
        first: Option<Reached>,
        response: &HandshakeResponse,
        capabilities: Capabilities,
    ) -> Result<(Reached, Vec<u8>), Refusal> {
        let mut current = first;
        loop {
            let backend = match current.take() {
                Some(backend) => backend,
                None => self.replace(upstreams, told, capabilities).await?,
            };
            let mut backend = match upstreams.secure(backend, response, capabilities, self.attempts).await {
                Ok(backend) => backend,
                Err(error) => {
                    self.give_up_or_wait(capabilities, error).await?;
                    continue;
                }
            };
            self.exposure.transports(&self.client.packets.stream, &backend.stream.stream);
            let payload = match self.replaced {
                true => response.asking_for_switch(capabilities | backend.hop),
                false => response.with_capabilities(capabilities | backend.hop),
            };
            let cause = match self.run(&mut backend, &payload).await {
                Ok(ok) => return Ok((backend, ok)),
                Err(ExchangeError::Server(cause)) => cause,
                Err(ExchangeError::Client(refusal)) => {
                    if !matches!(refusal, Refusal::Server { .. }) {
                        decline_proof(&mut backend.stream, self.exposure.plugin).await;
                    }
                    return Err(refusal);
                }
            };
            let error = AttemptError { phase: Phase::Auth, server: backend.server, cause };
            self.give_up_or_wait(capabilities, error).await?;
        }
    }

    /// Notes that a connection was lost, and waits until it is time for another one to take its place.
    async fn give_up_or_wait(
        &mut self,
        capabilities: Capabilities,
        error: AttemptError,
    ) -> Result<(), Refusal> {
        if let (true, Some(why)) = (error.cause.passes(), self.obstacle(capabilities)) {
            return Err(Refusal::NotHealable { cause: error.cause, why });
        }
        self.attempts.failed(error).await.map_err(Refusal::in_login)
    }

    /// Reaches a server in place of the one that has greeted the client.
    async fn replace(
        &mut self,
        upstreams: &Upstreams,
        told: &Greeting,
        capabilities: Capabilities,
    ) -> Result<Reached, Refusal> {
        if let Some(why) = self.obstacle(capabilities) {
            let cause = Cause::Unfit("the client took longer to answer than a server waits");
            return Err(Refusal::NotHealable { cause, why });
        }
        self.replaced = true;
        let reached = upstreams.reach(self.attempts, Some(told), self.client.gone()).await;
        reached.map_err(|error| match error {
            ReachError::GaveUp(gave_up) => Refusal::LostInLogin(gave_up),
            other => other.into(),
        })
    }

    /// Why the client could not be made to answer again.
    fn obstacle(&self, capabilities: Capabilities) -> Option<&'static str> {
        if !capabilities.contains(Capabilities::PLUGIN_AUTH) {
            Some("this client cannot be asked to answer a second time")
        } else if self.several_factors {
            Some("the account wants several proofs")
        } else if self.switches > 0 && !self.client.is_by_libmariadb() {
            // MySQL's client takes one AuthSwitchRequest in a connection, MariaDB's any number (tried: 9.7, 10.11).
            Some("this client was asked for an answer twice already, and takes no third time")
        } else if self.switches > 0 && !self.exposure.plugin.is_repeatable() {
            Some("the account's plugin may ask a person")
        } else {
            None
        }
    }

    /// Passes packets on in both directions until the server ends the exchange. Gives its OK.
    async fn run(&mut self, backend: &mut Reached, first: &[u8]) -> Result<Vec<u8>, ExchangeError> {
        let server = |error| ExchangeError::Server(Cause::Lost(error));
        if !self.replaced {
            self.exposure.check_first_answer()?;
        }
        backend.stream.ask(first).await.map_err(server)?;
        let mut clients_turn = false;
        let mut held_back = None;
        loop {
            let payload = if clients_turn {
                match self.either(backend).await? {
                    Turn::Server(payload) => payload,
                    Turn::Client(payload) => {
                        backend.stream.write_packet(&payload).await.map_err(server)?;
                        clients_turn = false;
                        continue;
                    }
                }
            } else {
                let limit = self.attempts.limit(|limits| limits.auth);
                match timeout(limit, backend.stream.read_packet()).await {
                    Ok(packet) => packet.map_err(server)?.payload,
                    Err(_) => return Err(ExchangeError::Server(Cause::TimedOut(limit))),
                }
            };
            self.note(&payload)?;
            let is_err = payload.first() == Some(&ERR_HEADER);
            if is_err && clients_turn {
                // As where the server is lost: the answer is still to come.
                self.client.receive(self.attempts).await?;
            }
            if is_err && passes(&payload) {
                return Err(ExchangeError::Server(Cause::told(&payload)));
            }
            if let Some(held_back) = held_back.take() {
                self.client.send(held_back).await?;
            }
            if is_err {
                let cause = Cause::told(&payload);
                return Err(Refusal::Server { cause, sequence_id: 0, payload: payload.to_vec() }.into());
            }
            // Another packet follows. If it is lost, MySQL's client is to be told while it waits for this one: behind
            // it, it shows its own words for an error 2013, and not ours (tried: 9.7).
            if *payload == FAST_AUTH_SUCCESS && self.exposure.plugin == AuthPlugin::CachingSha2 {
                held_back = Some(&FAST_AUTH_SUCCESS);
                clients_turn = false;
                continue;
            }
            self.client.send(&payload).await?;
            if payload.first() == Some(&OK_HEADER) {
                return Ok(payload.to_vec());
            }
            clients_turn = true;
        }
    }

    /// Whichever side speaks first. If the server is lost, the client's answer is still to come: it answers a scramble
    /// that nobody holds any more, and must be out of the way before the client can be told anything.
    async fn either(&mut self, backend: &mut Reached) -> Result<Turn, ExchangeError> {
        let asked = Instant::now();
        let lost = tokio::select! {
            biased;
            packet = backend.stream.read_packet() => match packet {
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
        self.exposure.check_request(payload)?;
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

enum Turn {
    Server(Zeroizing<Vec<u8>>),
    Client(Zeroizing<Vec<u8>>),
}
