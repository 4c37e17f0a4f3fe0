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

use spillway_protocol::{Capabilities, Greeting, HandshakeResponse};
use tokio::time::sleep;

use super::applicant::Applicant;
use super::bridge::Bridge;
use super::exchange::{Exchange, ExchangeError};
use super::exposure::Exposure;
use super::login::Ready;
use super::refusal::Refusal;
use crate::backend::attempts::Attempts;
use crate::backend::decline::{decline, decline_proof};
use crate::backend::failure::{AttemptError, Cause, Phase};
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
    let (id, scramble) = (told.connection_id(), told.scramble());
    let bridge = Bridge::new(&upstreams.secrecy, capabilities, response.plugin(), &scramble);
    let exchange = Exchange::new(applicant, attempts, bridge);
    let (backend, ok) = run_to_the_end(exchange, upstreams, &told, first, &response, capabilities).await?;
    Ok(Ready::new(backend, &told, id, &scramble, response, mask, &ok))
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

/// Runs the exchange with `first`, and with others in its place for as long as that can be done.
async fn run_to_the_end(
    mut exchange: Exchange<'_>,
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
            None => replace(&mut exchange, upstreams, told, capabilities).await?,
        };
        let mut backend = match upstreams.secure(backend, response, capabilities, exchange.attempts).await {
            Ok(backend) => backend,
            Err(error) => {
                give_up_or_wait(&mut exchange, capabilities, error).await?;
                continue;
            }
        };
        exchange.bridge.start(Exposure::of(&exchange.client.packets.stream, &backend.stream.stream));
        let as_it_is = !exchange.replaced && exchange.bridge.takes_first(response.auth_response());
        let answer = match as_it_is {
            true => response.with_capabilities(capabilities | backend.hop),
            false => response.asking_for_switch(capabilities | backend.hop),
        };
        let outcome = match backend.stream.ask(&answer).await {
            Ok(()) => exchange.run(&mut backend.stream).await,
            Err(error) => Err(ExchangeError::Server(error.into())),
        };
        let cause = match outcome {
            Ok(ok) => {
                backend.enter_command_phase();
                return Ok((backend, ok));
            }
            Err(ExchangeError::Server(cause)) => cause,
            Err(ExchangeError::Refused(payload)) => {
                let cause = Cause::told(&payload);
                return Err(Refusal::Server { cause, sequence_id: 0, payload });
            }
            Err(ExchangeError::LetIn(refusal)) => return Err(refusal),
            Err(ExchangeError::Client(refusal)) => {
                decline_proof(&mut backend.stream, exchange.bridge.plugin()).await;
                return Err(refusal);
            }
        };
        let error = AttemptError { phase: Phase::Auth, server: backend.server, cause };
        give_up_or_wait(&mut exchange, capabilities, error).await?;
    }
}

/// Notes that a connection was lost, and waits until it is time for another one to take its place.
async fn give_up_or_wait(
    exchange: &mut Exchange<'_>,
    capabilities: Capabilities,
    error: AttemptError,
) -> Result<(), Refusal> {
    if let (true, Some(why)) = (error.cause.passes(), obstacle(exchange, capabilities)) {
        return Err(Refusal::NotHealable { cause: error.cause, why });
    }
    exchange.attempts.failed(error).await.map_err(Refusal::in_login)
}

/// Reaches a server in place of the one that has greeted the client.
async fn replace(
    exchange: &mut Exchange<'_>,
    upstreams: &Upstreams,
    told: &Greeting,
    capabilities: Capabilities,
) -> Result<Reached, Refusal> {
    if let Some(why) = obstacle(exchange, capabilities) {
        let cause = Cause::Unfit("the client took longer to answer than a server waits");
        return Err(Refusal::NotHealable { cause, why });
    }
    exchange.replaced = true;
    let reached = upstreams.reach(exchange.attempts, Some(told), exchange.client.gone()).await;
    reached.map_err(|error| match error {
        ReachError::GaveUp(gave_up) => Refusal::LostInLogin(gave_up),
        other => other.into(),
    })
}

/// Why the client could not be made to answer again.
fn obstacle(exchange: &Exchange<'_>, capabilities: Capabilities) -> Option<&'static str> {
    if !capabilities.contains(Capabilities::PLUGIN_AUTH) {
        Some("this client cannot be asked to answer a second time")
    } else if exchange.several_factors {
        Some("the account wants several proofs")
    } else if exchange.switches > 0 && !exchange.client.is_by_libmariadb() {
        // MySQL's client takes one AuthSwitchRequest in a connection, MariaDB's any number (tried: 9.7, 10.11).
        Some("this client was asked for an answer twice already, and takes no third time")
    } else if exchange.switches > 0 && !exchange.bridge.plugin().is_repeatable() {
        Some("the account's plugin may ask a person")
    } else {
        None
    }
}
