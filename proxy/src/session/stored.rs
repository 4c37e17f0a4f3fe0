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
    AuthPlugin, AuthSwitchRequest, Capabilities, ChangeUser, Command, FAST_AUTH_SUCCESS, Greeting,
    HandshakeResponse, SCRAMBLE_LEN, prove_certificate,
};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::warn;
use zeroize::Zeroizing;

use super::applicant::Applicant;
use super::login::{Login, Ready};
use super::refusal::Refusal;
use crate::backend::attempts::Attempts;
use crate::backend::failure::Cause;
use crate::backend::login::{LoginError, LoginRefused, OWN_LOGIN, log_in as log_in_to_server};
use crate::backend::{Reached, Upstreams};
use crate::connection_ids::ConnectionIds;
use crate::credentials::Credentials;
use crate::printable::printable;

/// How long what is known of the server is taken for true: after an upgrade of the server, a client might be told the
/// old version, and would be refused.
const PROFILE_LIFETIME: Duration = Duration::from_secs(60);

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
    proof.send_ok(applicant, response.capabilities(), &ok, credentials).await?;
    Ok(Ready::new(reached, &told, told_connection_id, &scramble, response, mask, &ok))
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
pub(super) struct Proof {
    /// The scramble that it has answered, if that was by a plugin and with a password by which the certificate can be
    /// proved to it.
    returnable: Option<Vec<u8>>,
}

impl Proof {
    /// Sends a client with these capabilities the server's OK, with the proof of Spillway's certificate in it where it
    /// may want that: a client of MariaDB's. MySQL's would only show it as a text.
    pub(super) async fn send_ok(
        self,
        applicant: &mut Applicant,
        capabilities: Capabilities,
        ok: &[u8],
        credentials: &Credentials,
    ) -> Result<(), Refusal> {
        let may_ask = applicant.is_by_libmariadb() || !capabilities.contains(Capabilities::LONG_PASSWORD);
        let proved = self.returnable.filter(|_| may_ask).and_then(|scramble| {
            prove_certificate(ok, credentials.password(), &scramble, applicant.fingerprint()?)
        });
        applicant.send(proved.as_deref().unwrap_or(ok)).await
    }
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
        AuthPlugin::Native | AuthPlugin::CachingSha2 => (claimed, Zeroizing::new(answer.to_vec())),
        _ => switch(applicant, attempts, plugin_of(applicant), scramble).await?,
    };
    check_answer(applicant, response.user(), plugin, answer, scramble, credentials).await
}

/// The same for a client that has a session and the stored user's name.
pub(super) async fn check_change(
    applicant: &mut Applicant,
    attempts: &mut Attempts,
    login: &Login,
    change: &ChangeUser<'_>,
    credentials: &Credentials,
) -> Result<Proof, Refusal> {
    if !login.capabilities.contains(Capabilities::PLUGIN_AUTH) {
        let answer = Zeroizing::new(change.auth_response().to_vec());
        let scramble = &login.told_scramble;
        return check_answer(applicant, change.user(), AuthPlugin::Native, answer, scramble, credentials)
            .await;
    }
    let plugin = match AuthPlugin::named(change.plugin()) {
        plugin @ (AuthPlugin::Native | AuthPlugin::CachingSha2) => plugin,
        _ => plugin_of(applicant),
    };
    let scramble = new_scramble();
    let (plugin, answer) = switch(applicant, attempts, plugin, &scramble).await?;
    check_answer(applicant, change.user(), plugin, answer, &scramble, credentials).await
}

/// The plugin that a client of this library has: MySQL's have lost the one, MariaDB's may lack the other.
fn plugin_of(applicant: &Applicant) -> AuthPlugin {
    if applicant.is_by_libmariadb() { AuthPlugin::Native } else { AuthPlugin::CachingSha2 }
}

async fn check_answer(
    applicant: &mut Applicant,
    user: &[u8],
    plugin: AuthPlugin,
    answer: Zeroizing<Vec<u8>>,
    scramble: &[u8],
    credentials: &Credentials,
) -> Result<Proof, Refusal> {
    // No password at all is one NUL in this plugin's packets.
    let answer =
        if plugin == AuthPlugin::CachingSha2 && **answer == [0] { Zeroizing::default() } else { answer };
    let right = plugin.answer(credentials.password(), scramble).map(Zeroizing::new);
    let is_right =
        right.is_some_and(|right| answer.ct_eq(&right).into()) & bool::from(user.ct_eq(credentials.user()));
    if !is_right {
        return Err(Refusal::AccessDenied { user: printable(user), with_password: !answer.is_empty() });
    }
    if plugin == AuthPlugin::CachingSha2 && !answer.is_empty() {
        applicant.send(&FAST_AUTH_SUCCESS).await?;
    }
    let is_returnable = plugin == AuthPlugin::Native && !answer.is_empty();
    Ok(Proof { returnable: is_returnable.then(|| scramble.to_vec()) })
}

async fn switch(
    applicant: &mut Applicant,
    attempts: &mut Attempts,
    plugin: AuthPlugin,
    scramble: &[u8; SCRAMBLE_LEN],
) -> Result<(AuthPlugin, Zeroizing<Vec<u8>>), Refusal> {
    applicant.send(&AuthSwitchRequest::encode(plugin.name().as_bytes(), scramble)).await?;
    Ok((plugin, applicant.receive(attempts).await?.payload))
}

/// 20 random bytes that every client reads back: no NUL, no `$` (which MySQL's servers avoid as well).
pub(crate) fn new_scramble() -> [u8; SCRAMBLE_LEN] {
    let mut rng = rand::rng();
    std::array::from_fn(|_| match rng.random_range(1..=126_u8) {
        b'$' => 127,
        byte => byte,
    })
}
