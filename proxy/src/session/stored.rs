//! The connection phase with stored credentials: Spillway checks the client's login itself, and logs in to the server
//! by itself, any number of times. The two sides may use different plugins.
//!
//! The client is greeted in the server's name before the server is reached, so that whoever cannot prove himself costs
//! the server nothing. What a greeting says of the server is known from the last login, or learned by a login of
//! Spillway's own.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rand::RngExt;
use spillway_protocol::{
    AuthPlugin, AuthSwitchRequest, Capabilities, Command, FAST_AUTH_SUCCESS, Greeting, HandshakeResponse,
    SCRAMBLE_LEN, prove_certificate,
};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::warn;

use super::applicant::Applicant;
use super::exposure::Exposure;
use super::login::Ready;
use super::refusal::Refusal;
use crate::backend::attempts::Attempts;
use crate::backend::failure::Cause;
use crate::backend::login::{LoginError, LoginRefused, log_in as log_in_to_server};
use crate::backend::{Reached, Upstreams};
use crate::connection_ids::ConnectionIds;
use crate::credentials::Credentials;
use crate::printable::printable;

/// How long what is known of the server is taken for true: after an upgrade of the server, a client might be told the
/// old version, and would be refused.
const PROFILE_LIFETIME: Duration = Duration::from_secs(60);

/// Capabilities that Spillway's own login needs, whatever the client has.
pub(super) const OWN_LOGIN: Capabilities = Capabilities(
    Capabilities::PROTOCOL_41.0 | Capabilities::SECURE_CONNECTION.0 | Capabilities::PLUGIN_AUTH.0,
);

/// What all sessions know of the server.
pub(crate) struct ServerProfile {
    known: Mutex<Option<(Greeting, Instant)>>,
    /// One session learns at a time.
    learner: Semaphore,
}

impl Default for ServerProfile {
    fn default() -> Self {
        Self { known: Mutex::default(), learner: Semaphore::new(1) }
    }
}

impl std::fmt::Debug for ServerProfile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerProfile").finish_non_exhaustive()
    }
}

impl ServerProfile {
    fn known(&self) -> Option<Greeting> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .as_ref()
            .filter(|(_, when)| when.elapsed() < PROFILE_LIFETIME)
            .map(|(greeting, _)| greeting.clone())
    }

    fn set(&self, greeting: Greeting) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((greeting, Instant::now()));
    }

    /// A greeting of the server's, from a login that was complete: a handshake that breaks off would count against
    /// Spillway's host.
    async fn learn(
        &self,
        applicant: &Applicant,
        upstreams: &Upstreams,
        attempts: &Attempts,
        credentials: &Credentials,
    ) -> Result<Greeting, Refusal> {
        if let Some(greeting) = self.known() {
            return Ok(greeting);
        }
        // The semaphore is never closed.
        let _permit = tokio::select! {
            permit = self.learner.acquire() => permit.ok(),
            () = applicant.gone() => return Err(Refusal::ClientGone),
        };
        if let Some(greeting) = self.known() {
            return Ok(greeting);
        }
        let response = HandshakeResponse::new(OWN_LOGIN, credentials.user());
        let mut attempts = attempts.aside();
        let learned =
            reach_and_log_in(applicant, upstreams, &mut attempts, &response, OWN_LOGIN, credentials).await;
        let (mut reached, _) = learned.map_err(before_proof)?;
        upstreams.prefer(&reached.server);
        // The server ends the session in any case.
        let _ = reached.stream.write_numbered(0, &[Command::QUIT.0]).await;
        self.set(reached.greeting.clone());
        Ok(reached.greeting)
    }
}

/// What a server says to Spillway's own login is not for a client that has proved nothing yet: it names the account.
fn before_proof(refusal: Refusal) -> Refusal {
    match refusal {
        Refusal::OwnLogin { cause: Cause::Told { code, .. }, .. } => Refusal::OwnLoginUntold { code },
        other => other,
    }
}

/// Takes a client from the greeting to the end of its login.
pub(crate) async fn log_in(
    applicant: &mut Applicant,
    upstreams: &Upstreams,
    attempts: &mut Attempts,
    profile: &ServerProfile,
    ids: &ConnectionIds,
    credentials: &Credentials,
) -> Result<Ready, Refusal> {
    let told = profile.learn(applicant, upstreams, attempts, credentials).await?;
    let told_connection_id = ids.invent(told.connection_id());
    let scramble = new_scramble();
    let plugin = match AuthPlugin::named(told.plugin()) {
        // The only plugin by whose password Spillway can prove its certificate, and a client looks at it before it goes
        // on under TLS.
        _ if applicant.may_use_tls() => AuthPlugin::Native,
        plugin @ (AuthPlugin::Native | AuthPlugin::CachingSha2) => plugin,
        _ => AuthPlugin::Native,
    };
    let offer = applicant.offer(told.capabilities());
    let greeting = told.renewed(offer, told_connection_id, &scramble, plugin.name().as_bytes());
    applicant.greet(&greeting).await?;
    let response = applicant.read_response(attempts).await?;
    let proof = check_proof(applicant, attempts, &response, plugin, &scramble, credentials).await?;

    let mask = (told.capabilities() & Capabilities::UNDERSTOOD) | Capabilities::CLIENT_CHOICE;
    let capabilities = (response.capabilities() & mask) | OWN_LOGIN;
    let (reached, ok) =
        reach_and_log_in(applicant, upstreams, attempts, &response, capabilities, credentials).await?;
    profile.set(reached.greeting.clone());
    if !reached.greeting.is_like(&told) {
        return Err(Refusal::OtherVersion {
            told: printable(told.server_version()),
            found: printable(reached.greeting.server_version()),
        });
    }
    let proved = applicant
        .fingerprint()
        .filter(|_| proof.can_be_returned && may_ask_for_proof(applicant, &response))
        .and_then(|fingerprint| prove_certificate(&ok, credentials.password(), &scramble, fingerprint));
    applicant.send(proved.as_ref().unwrap_or(&ok)).await?;
    let weaker = Exposure::of(&applicant.packets.stream, &reached.stream.stream).is_weaker();
    Ok(Ready::new(reached, &told, told_connection_id, &scramble, response, mask, weaker, &ok))
}

/// Reaches a server and logs in, as often as the budget allows. Gives the payload of the server's OK.
async fn reach_and_log_in(
    applicant: &Applicant,
    upstreams: &Upstreams,
    attempts: &mut Attempts,
    response: &HandshakeResponse,
    capabilities: Capabilities,
    credentials: &Credentials,
) -> Result<(Reached, Vec<u8>), Refusal> {
    loop {
        let reached = upstreams.reach(attempts, None, applicant.gone()).await?;
        match log_in_to_server(upstreams, reached, response, capabilities, credentials, attempts).await {
            Ok(logged_in) => return Ok(logged_in),
            Err(LoginError::Lost(error)) => {
                attempts.failed(error).await.map_err(Refusal::in_own_login)?;
            }
            Err(LoginError::Refused(LoginRefused::Told { cause, payload })) => {
                warn!(error = %cause, user = printable(credentials.user()), "the server refuses the stored credentials");
                return Err(Refusal::OwnLogin { cause, payload });
            }
            Err(LoginError::Refused(refused)) => return Err(Refusal::NotAnswerable(refused)),
        }
    }
}

/// A client has proved that it has the credentials.
struct Proof {
    /// By a plugin and with a password by which the certificate can be proved to it.
    can_be_returned: bool,
}

/// Has the client prove that it has the credentials, by the plugin that it speaks.
async fn check_proof(
    applicant: &mut Applicant,
    attempts: &mut Attempts,
    response: &HandshakeResponse,
    greeted: AuthPlugin,
    scramble: &[u8; SCRAMBLE_LEN],
    credentials: &Credentials,
) -> Result<Proof, Refusal> {
    let claimed = match response.capabilities().contains(Capabilities::PLUGIN_AUTH) {
        true => AuthPlugin::named(response.plugin()),
        // Clients from before the plugins answer as this one does.
        false => AuthPlugin::Native,
    };
    let answer = response.auth_response();
    let (plugin, answer) = match claimed {
        // A client that lacks the greeting's plugin names its own, and may hold that the scramble is not meant for it.
        AuthPlugin::Native | AuthPlugin::CachingSha2 if claimed != greeted && answer.is_empty() => {
            switch(applicant, attempts, claimed, scramble).await?
        }
        AuthPlugin::Native | AuthPlugin::CachingSha2 => (claimed, answer.to_vec()),
        // MySQL's clients have lost the one, MariaDB's may lack the other.
        _ if applicant.is_by_libmariadb() => {
            switch(applicant, attempts, AuthPlugin::Native, scramble).await?
        }
        _ => switch(applicant, attempts, AuthPlugin::CachingSha2, scramble).await?,
    };
    // No password at all is one NUL in this plugin's packets.
    let answer = if plugin == AuthPlugin::CachingSha2 && answer == [0] { Vec::new() } else { answer };
    let right = plugin.answer(credentials.password(), scramble);
    let is_right = right.is_some_and(|right| answer.ct_eq(&right).into())
        & bool::from(response.user().ct_eq(credentials.user()));
    if !is_right {
        let user = printable(response.user());
        return Err(Refusal::AccessDenied { user, with_password: !answer.is_empty() });
    }
    if plugin == AuthPlugin::CachingSha2 && !answer.is_empty() {
        applicant.send(&FAST_AUTH_SUCCESS).await?;
    }
    Ok(Proof { can_be_returned: plugin == AuthPlugin::Native && !answer.is_empty() })
}

/// Whether a client of MariaDB's may want to see the certificate proved. MySQL's would only show it as a text.
fn may_ask_for_proof(applicant: &Applicant, response: &HandshakeResponse) -> bool {
    applicant.is_by_libmariadb() || !response.capabilities().contains(Capabilities::LONG_PASSWORD)
}

async fn switch(
    applicant: &mut Applicant,
    attempts: &mut Attempts,
    plugin: AuthPlugin,
    scramble: &[u8; SCRAMBLE_LEN],
) -> Result<(AuthPlugin, Vec<u8>), Refusal> {
    applicant.send(&AuthSwitchRequest::encode(plugin.name().as_bytes(), scramble)).await?;
    Ok((plugin, applicant.receive(attempts).await?.payload.to_vec()))
}

/// 20 random bytes that every client reads back: no NUL, no `$` (which MySQL's servers avoid as well).
fn new_scramble() -> [u8; SCRAMBLE_LEN] {
    let mut rng = rand::rng();
    std::array::from_fn(|_| match rng.random_range(1..=126_u8) {
        b'$' => 127,
        byte => byte,
    })
}
