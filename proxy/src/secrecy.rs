//! Which ways a password may take: how open the connections are, and what the settings allow on open ones.

use spillway_protocol::AuthPlugin;
use tokio::sync::OnceCell;

use crate::rsa::{OwnKey, PublicKey, RsaError};
use crate::stream::Stream;

/// A connection, by who could read and change what goes over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Everybody on the network between.
    Open,
    /// Nobody: a Unix socket.
    Socket,
    /// Nobody: TLS. Where the certificate is not checked, nobody who only listens; the clients call that safe as well.
    Tls,
}

impl Way {
    /// The way that this stream is.
    pub(crate) fn of(stream: &Stream) -> Self {
        match (stream.is_tls(), stream.is_safe()) {
            (true, _) => Self::Tls,
            (false, true) => Self::Socket,
            (false, false) => Self::Open,
        }
    }

    /// Whether nobody between the two ends can read or change what goes over it.
    pub(crate) fn is_safe(self) -> bool {
        self != Self::Open
    }

    /// Whether a server takes the password itself in clear over such a connection, for a plugin that wants it; elsewhere
    /// it takes it encrypted, and refuses a clear one. With `sha256_password` a Unix socket is not good enough, and
    /// clients encrypt there as well (tried: MySQL 9.7; its client and that of MariaDB 10.11).
    pub(crate) fn takes_clear(self, plugin: AuthPlugin) -> bool {
        match plugin {
            AuthPlugin::Sha256 => self == Self::Tls,
            _ => self.is_safe(),
        }
    }
}

/// What is done so that a password gets over open connections, or is let go over them as it is.
#[derive(Debug, Default)]
pub(crate) struct Secrecy {
    /// The server's key (`--upstream-server-public-key`).
    server_key: Option<PublicKey>,
    /// Whether the server's key may be asked for over an open connection (`--get-server-public-key`): whoever can change
    /// what goes over it gives his own.
    fetches_key: bool,
    /// Whether a password in clear may go on over an open connection (`--allow-cleartext`).
    pub(crate) allows_cleartext: bool,
    own_key: OnceCell<OwnKey>,
}

impl Secrecy {
    pub(crate) fn new(server_key: Option<PublicKey>, fetches_key: bool, allows_cleartext: bool) -> Self {
        Self { server_key, fetches_key, allows_cleartext, own_key: OnceCell::new() }
    }

    /// The server's key, if it is known without asking.
    pub(crate) fn server_key(&self) -> Option<&PublicKey> {
        self.server_key.as_ref()
    }

    /// Whether the server may be asked for its key on such a connection.
    pub(crate) fn may_fetch_key(&self, way: Way) -> bool {
        self.fetches_key || way.is_safe()
    }

    /// The key that Spillway gives to clients: one for as long as it runs, made when the first client asks.
    pub(crate) async fn own_key(&self) -> Result<&OwnKey, RsaError> {
        let generate =
            || async { tokio::task::spawn_blocking(OwnKey::generate).await.unwrap_or(Err(RsaError::Failed)) };
        self.own_key.get_or_try_init(generate).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_password_takes_a_clear_password_by_tls_only() {
        for (way, caching, sha256) in
            [(Way::Open, false, false), (Way::Socket, true, false), (Way::Tls, true, true)]
        {
            assert_eq!(way.takes_clear(AuthPlugin::CachingSha2), caching, "{way:?}");
            assert_eq!(way.takes_clear(AuthPlugin::Sha256), sha256, "{way:?}");
        }
    }

    #[test]
    fn a_key_is_fetched_where_nobody_can_change_it_or_it_is_allowed() {
        let strict = Secrecy::default();
        assert!(strict.may_fetch_key(Way::Socket) && !strict.may_fetch_key(Way::Open));
        assert!(Secrecy::new(None, true, false).may_fetch_key(Way::Open));
    }

    #[tokio::test]
    async fn there_is_one_key_of_ones_own() {
        let secrecy = Secrecy::default();
        let (first, second) = tokio::join!(secrecy.own_key(), secrecy.own_key());
        assert_eq!(first.unwrap().pem(), second.unwrap().pem());
    }
}
