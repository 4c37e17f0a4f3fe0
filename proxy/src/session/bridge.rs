//! An exchange between a client and a server of which one hands over the password in clear, and the other does not.
//!
//! Packets are passed on as they come, until a plugin wants the password itself. Clients then send it in clear where
//! their own way is safe, and otherwise ask for a key and encrypt it; servers expect the one or the other by the way that
//! they see. Where the two ways differ, Spillway is the server for the client and the client for the server:
//!
//! ```text
//!  the client …        a server that takes     a server that wants it        the same, on a way less safe
//!                      it in clear             encrypted                     than the client's
//!  asks for a key      gets Spillway's         gets the server's             gets Spillway's
//!  sends it encrypted  decrypted               passed on                     decrypted, and encrypted anew; passed on
//!                                                                            where it brings a key along
//!  sends it in clear   passed on               encrypted                     encrypted
//! ```
//!
//! To encrypt it, the server's key must be known, or it must be allowed to ask for it.
//!
//! Plugins that have no such choice count as sending a password in clear: they go over no way that is less safe than the
//! client's, but if `--allow-cleartext` is given.

use spillway_protocol::{
    AUTH_MORE_DATA, AuthPlugin, AuthSwitchRequest, Capabilities, PERFORM_FULL_AUTHENTICATION,
};
use zeroize::Zeroizing;

use super::exposure::Exposure;
use super::refusal::Refusal;
use crate::backend::failure::Cause;
use crate::printable::printable;
use crate::rsa::{PublicKey, RsaError, Scramble, is_terminated};
use crate::secrecy::Secrecy;

/// No RSA key of today gives shorter ciphertexts: what is shorter is a password.
const LEAST_CIPHERTEXT: usize = 128;

/// A packet, and who gets it. That side has the turn then.
#[cfg_attr(test, derive(Debug, PartialEq, Eq))]
pub(crate) enum Step {
    ToClient(Zeroizing<Vec<u8>>),
    ToServer(Zeroizing<Vec<u8>>),
}

/// Why an exchange cannot go on.
pub(crate) enum BridgeError {
    /// The server's packet is of no use.
    Server(Cause),
    /// The client gets no session.
    Client(Refusal),
}

/// What the next packets are about.
enum Phase {
    /// Whatever the plugin says; not the password, as far as that can be known.
    Passing,
    /// The client's next packet is the password, or asks for a key. Whether it has asked.
    Password { asked: bool },
    /// The server's next packet is its key, to encrypt this password.
    Key(Zeroizing<Vec<u8>>),
}

/// What a client's packet is where the password is wanted.
enum Said {
    /// There is no password.
    Nothing,
    KeyRequest,
    Clear,
    Encrypted,
}

/// The state of one exchange.
pub(crate) struct Bridge<'a> {
    secrecy: &'a Secrecy,
    exposure: Exposure,
    plugin: AuthPlugin,
    /// As messages name it.
    plugin_name: String,
    /// The last scramble that the client was given, and that of the greeting: some libraries keep to the first.
    scrambles: [Option<Scramble>; 2],
    phase: Phase,
}

impl<'a> Bridge<'a> {
    /// For a client that holds `scramble` and answers by the plugin of this name. [`start`](Self::start) comes next.
    pub(crate) fn new(
        secrecy: &'a Secrecy,
        capabilities: Capabilities,
        plugin: &[u8],
        scramble: &[u8],
    ) -> Self {
        // Clients from before the plugins answer as this one does.
        let before = AuthPlugin::Native.name().as_bytes();
        let name = if capabilities.contains(Capabilities::PLUGIN_AUTH) { plugin } else { before };
        let scramble = scramble.try_into().ok();
        let mut bridge = Self {
            secrecy,
            exposure: Exposure::UNKNOWN,
            plugin: AuthPlugin::Other,
            plugin_name: String::new(),
            scrambles: [scramble, scramble],
            phase: Phase::Passing,
        };
        bridge.begin(name);
        bridge
    }

    /// The exchange begins, or begins again, with a server on this way.
    pub(crate) fn start(&mut self, exposure: Exposure) {
        self.exposure = exposure;
        self.phase = first_phase(self.plugin);
    }

    /// The plugin whose exchange is under way.
    pub(crate) fn plugin(&self) -> AuthPlugin {
        self.plugin
    }

    /// Whether the client's first answer may go on. It holds the password with some plugins; where that must not get to
    /// the server as it is, the server is to ask for an answer instead, and the client answers a second time.
    pub(crate) fn takes_first(&mut self, answer: &[u8]) -> bool {
        match self.plugin {
            AuthPlugin::Sha256 => {
                let takes_clear = self.exposure.server_takes_clear(self.plugin);
                let said = self.said(answer, false);
                self.phase = Phase::Password { asked: matches!(said, Said::KeyRequest) };
                match said {
                    Said::Nothing => true,
                    Said::Clear => takes_clear,
                    Said::KeyRequest => !takes_clear && !self.exposure.is_weaker(),
                    Said::Encrypted => !takes_clear,
                }
            }
            AuthPlugin::Clear | AuthPlugin::Other => answer.is_empty() || !self.exposes_cleartext(),
            _ => true,
        }
    }

    /// A packet of the server's that does not end the exchange.
    pub(crate) fn on_server(&mut self, payload: Zeroizing<Vec<u8>>) -> Result<Step, BridgeError> {
        if let Phase::Key(password) = std::mem::replace(&mut self.phase, Phase::Passing) {
            let pem = payload.strip_prefix(&[AUTH_MORE_DATA]).unwrap_or(&payload);
            let key =
                PublicKey::from_pem(pem).map_err(|error| BridgeError::Client(Refusal::ServerKey(error)))?;
            return self.encrypt(&key, &password);
        }
        let request = AuthSwitchRequest::parse(&payload);
        if let Some(request) = request.or_else(|| AuthSwitchRequest::parse_next_factor(&payload)) {
            self.scrambles[0] = request.scramble().try_into().ok();
            self.begin(request.plugin);
            if self.exposes_cleartext() && matches!(self.plugin, AuthPlugin::Clear | AuthPlugin::Other) {
                let plugin = self.plugin_name.clone();
                return Err(BridgeError::Client(Refusal::Cleartext { plugin }));
            }
        } else if self.plugin == AuthPlugin::CachingSha2 && wants_password(&payload) {
            self.phase = Phase::Password { asked: false };
        }
        Ok(Step::ToClient(payload))
    }

    /// A packet of the client's.
    pub(crate) async fn on_client(&mut self, payload: Zeroizing<Vec<u8>>) -> Result<Step, BridgeError> {
        let Phase::Password { asked } = self.phase else { return Ok(Step::ToServer(payload)) };
        let takes_clear = self.exposure.server_takes_clear(self.plugin);
        let is_weaker = self.exposure.is_weaker();
        match self.said(&payload, asked) {
            Said::KeyRequest => {
                self.phase = Phase::Password { asked: true };
                if takes_clear || is_weaker {
                    self.own_key(takes_clear).await
                } else {
                    Ok(Step::ToServer(payload))
                }
            }
            // On an open way it was sent to everybody, and directly it would have been, too.
            Said::Clear if !takes_clear && (self.exposure.client_is_safe() || self.can_encrypt()) => {
                self.hand_over(payload)
            }
            Said::Encrypted if takes_clear => Ok(Step::ToServer(self.decrypt(&payload).await?)),
            Said::Encrypted if is_weaker && asked => {
                let password = self.decrypt(&payload).await?;
                self.hand_over(password)
            }
            _ => Ok(Step::ToServer(payload)),
        }
    }

    fn begin(&mut self, plugin: &[u8]) {
        self.plugin = AuthPlugin::named(plugin);
        self.plugin_name = printable(plugin);
        self.phase = first_phase(self.plugin);
    }

    fn exposes_cleartext(&self) -> bool {
        self.exposure.is_weaker() && !self.secrecy.allows_cleartext
    }

    /// What the client means. Who encrypts has been given a key before, or brings one along. What could be a password
    /// from a safe way is taken for one: it must not go on as it is. MariaDB's client sends one in clear over an open way
    /// as well, if it would have liked TLS and there was none (tried: 10.11).
    fn said(&self, payload: &[u8], asked: bool) -> Said {
        let is_short = payload.len() < LEAST_CIPHERTEXT;
        match payload {
            [] | [0] => Said::Nothing,
            _ if asked => Said::Encrypted,
            [byte] if self.plugin.key_request() == Some(*byte) => Said::KeyRequest,
            _ if is_terminated(payload) || is_short && self.exposure.client_is_safe() => Said::Clear,
            _ => Said::Encrypted,
        }
    }

    /// Gives the client Spillway's own key, if the password would get on then.
    async fn own_key(&self, takes_clear: bool) -> Result<Step, BridgeError> {
        if !takes_clear && !self.can_encrypt() {
            return Err(self.no_server_key());
        }
        let key = self.secrecy.own_key().await.map_err(|error| self.refused(error))?;
        let packet = [&[AUTH_MORE_DATA], key.pem().as_bytes()].concat();
        Ok(Step::ToClient(Zeroizing::new(packet)))
    }

    /// The password, with its NUL, of a client that has encrypted it with Spillway's key.
    async fn decrypt(&self, cipher: &[u8]) -> Result<Zeroizing<Vec<u8>>, BridgeError> {
        let key = self.secrecy.own_key().await.map_err(|error| self.refused(error))?;
        key.decrypt(cipher, self.scrambles.iter().flatten()).map_err(|error| self.refused(error))
    }

    /// Gives the password to a server that wants it encrypted.
    fn hand_over(&mut self, mut password: Zeroizing<Vec<u8>>) -> Result<Step, BridgeError> {
        if password.last() == Some(&0) {
            password.pop();
        }
        if let Some(key) = self.secrecy.server_key() {
            return self.encrypt(key, &password);
        }
        match self.plugin.key_request() {
            Some(request) if self.may_fetch_key() => {
                self.phase = Phase::Key(password);
                Ok(Step::ToServer(Zeroizing::new(vec![request])))
            }
            _ => Err(self.no_server_key()),
        }
    }

    /// Whether the server's key is known, or may be asked for.
    fn can_encrypt(&self) -> bool {
        self.secrecy.server_key().is_some() || self.may_fetch_key()
    }

    fn may_fetch_key(&self) -> bool {
        self.secrecy.may_fetch_key(self.exposure.server())
    }

    fn no_server_key(&self) -> BridgeError {
        BridgeError::Client(Refusal::NoServerKey { plugin: self.plugin_name.clone() })
    }

    fn encrypt(&self, key: &PublicKey, password: &[u8]) -> Result<Step, BridgeError> {
        let Some(scramble) = &self.scrambles[0] else { return Err(BridgeError::Server(Cause::Unexpected)) };
        let cipher = key.encrypt(password, scramble).map_err(|error| self.refused(error))?;
        Ok(Step::ToServer(Zeroizing::new(cipher)))
    }

    fn refused(&self, error: RsaError) -> BridgeError {
        let plugin = self.plugin_name.clone();
        BridgeError::Client(match error {
            RsaError::OtherKey => Refusal::OtherKey { plugin },
            error => Refusal::Rsa { plugin, error },
        })
    }
}

fn first_phase(plugin: AuthPlugin) -> Phase {
    match plugin {
        AuthPlugin::Sha256 => Phase::Password { asked: false },
        _ => Phase::Passing,
    }
}

/// Whether this packet of `caching_sha2_password` asks for the password itself. Clients read it with or without the
/// byte that marks it.
fn wants_password(payload: &[u8]) -> bool {
    payload == PERFORM_FULL_AUTHENTICATION || payload == &PERFORM_FULL_AUTHENTICATION[1..]
}

#[cfg(test)]
mod tests;
