//! What Spillway answers to the packets of a server's plugin.

use std::io;
use std::num::NonZeroU32;

use aws_lc_rs::pbkdf2;
use spillway_protocol::{
    AUTH_MORE_DATA, AuthPlugin, AuthSwitchRequest, FAST_AUTH_SUCCESS, PERFORM_FULL_AUTHENTICATION,
    ParsecSalt, parsec_answer,
};
use zeroize::Zeroizing;

use crate::backend::failure::Cause;
use crate::credentials::Credentials;
use crate::printable::printable;
use crate::rsa::{PublicKey, RsaError};
use crate::secrecy::{Secrecy, Way};

/// Proves to a server that Spillway has these credentials, in one exchange.
pub(super) struct Prover<'a> {
    credentials: &'a Credentials,
    secrecy: &'a Secrecy,
    way: Way,
    plugin: AuthPlugin,
    scramble: Vec<u8>,
    /// The server was asked for its key, with which the password is to be encrypted.
    asked_for_key: bool,
}

/// The answer to a packet.
pub(super) enum Answer {
    Packet(Zeroizing<Vec<u8>>),
    /// The server goes on by itself.
    Nothing,
    /// There is none; the server waits for one by this plugin.
    None {
        plugin: String,
        why: &'static str,
    },
}

impl<'a> Prover<'a> {
    /// For an exchange that begins with this plugin and scramble.
    pub(super) fn new(
        credentials: &'a Credentials,
        secrecy: &'a Secrecy,
        way: Way,
        plugin: AuthPlugin,
        scramble: &[u8],
    ) -> Self {
        let scramble = scramble.to_vec();
        Self { credentials, secrecy, way, plugin, scramble, asked_for_key: false }
    }

    /// The plugin that the server has asked for last.
    pub(super) fn plugin(&self) -> AuthPlugin {
        self.plugin
    }

    /// The answer to a packet that does not end the exchange.
    ///
    /// # Errors
    /// [`Cause`] if the packet makes no sense.
    pub(super) async fn answer(&mut self, payload: &[u8]) -> Result<Answer, Cause> {
        if let Some(request) = AuthSwitchRequest::parse(payload) {
            return self.begin(request);
        }
        if let Some(request) = AuthSwitchRequest::parse_next_factor(payload) {
            let why = "is to prove something else besides the password: use --auth passthrough";
            return Ok(Answer::None { plugin: printable(request.plugin), why });
        }
        match self.plugin {
            AuthPlugin::CachingSha2 if payload == FAST_AUTH_SUCCESS => Ok(Answer::Nothing),
            AuthPlugin::CachingSha2 if payload == PERFORM_FULL_AUTHENTICATION => self.password(),
            AuthPlugin::CachingSha2 | AuthPlugin::Sha256 if std::mem::take(&mut self.asked_for_key) => {
                match PublicKey::from_pem(payload.strip_prefix(&[AUTH_MORE_DATA]).unwrap_or(payload)) {
                    Ok(key) => self.encrypted(&key),
                    Err(_) => Ok(self.none("gives an RSA key that is none: see the server's error log")),
                }
            }
            AuthPlugin::Parsec => {
                let salt = ParsecSalt::parse(payload).ok_or(Cause::Unexpected)?;
                let key = self.parsec_key(salt).await?;
                Ok(packet(parsec_answer(&key, &self.scramble, &rand::random())))
            }
            _ => Err(Cause::Unexpected),
        }
    }

    /// Answers a plugin's first packet.
    fn begin(&mut self, request: AuthSwitchRequest<'_>) -> Result<Answer, Cause> {
        self.plugin = AuthPlugin::named(request.plugin);
        self.scramble = request.scramble().to_vec();
        self.asked_for_key = false;
        let password = self.credentials.password();
        match self.plugin {
            AuthPlugin::Native | AuthPlugin::CachingSha2 | AuthPlugin::Ed25519 => {
                Ok(packet(self.plugin.answer(password, &self.scramble).unwrap_or_default()))
            }
            AuthPlugin::Sha256 => self.password(),
            // An empty packet asks for the salt.
            AuthPlugin::Parsec => Ok(packet(Vec::new())),
            AuthPlugin::Clear if self.way.is_safe() || self.secrecy.allows_cleartext => Ok(self.in_clear()),
            AuthPlugin::Clear => Ok(self.none(
                "wants the password in clear, which does not go over TCP so: reach the server by TLS, or give \
                 --allow-cleartext",
            )),
            AuthPlugin::Other => {
                let plugin = printable(request.plugin);
                Ok(Answer::None { plugin, why: "is not known to spillway: use --auth passthrough" })
            }
        }
    }

    /// Hands over the password itself, in the way that this connection takes it.
    fn password(&mut self) -> Result<Answer, Cause> {
        if self.credentials.password().is_empty() || self.way.takes_clear(self.plugin) {
            return Ok(self.in_clear());
        }
        if let Some(key) = self.secrecy.server_key() {
            return self.encrypted(key);
        }
        match self.plugin.key_request() {
            Some(request) if self.secrecy.may_fetch_key(self.way) => {
                self.asked_for_key = true;
                Ok(packet(vec![request]))
            }
            // Whether it is wrong or only forgotten, the server tells nobody who does not send it.
            _ => Ok(self.none(
                "wants the password itself, which does not go over TCP in clear: see that it is right; reach the \
                 server by TLS, give its RSA key by --upstream-server-public-key, or have spillway ask for it by \
                 --get-server-public-key",
            )),
        }
    }

    fn in_clear(&self) -> Answer {
        packet([self.credentials.password(), &[0]].concat())
    }

    fn encrypted(&self, key: &PublicKey) -> Result<Answer, Cause> {
        let scramble = self.scramble.as_slice().try_into().map_err(|_| Cause::Unexpected)?;
        match key.encrypt(self.credentials.password(), scramble) {
            Ok(cipher) => Ok(packet(cipher)),
            Err(RsaError::PasswordTooLong(_)) => {
                Ok(self
                    .none("wants the password, which is too long for the server's RSA key: reach it by TLS"))
            }
            Err(error) => Err(io::Error::other(error).into()),
        }
    }

    /// Rounds of a hash, for as long as the server likes: not on the runtime's own threads.
    async fn parsec_key(&self, salt: ParsecSalt) -> Result<Zeroizing<[u8; 32]>, Cause> {
        let password = Zeroizing::new(self.credentials.password().to_vec());
        let derived = tokio::task::spawn_blocking(move || {
            let mut key = Zeroizing::new([0; 32]);
            let rounds = NonZeroU32::new(salt.rounds).unwrap_or(NonZeroU32::MIN);
            pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, rounds, &salt.salt, &password, &mut *key);
            key
        });
        derived.await.map_err(|error| io::Error::other(error).into())
    }

    fn none(&self, why: &'static str) -> Answer {
        Answer::None { plugin: self.plugin.name().to_owned(), why }
    }
}

fn packet(payload: Vec<u8>) -> Answer {
    Answer::Packet(Zeroizing::new(payload))
}

#[cfg(test)]
mod tests;
