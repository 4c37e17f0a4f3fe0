//! Kinds of the errors that clients are told, for metrics: few, and their names stay.

/// What went wrong for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorKind {
    /// The session lost its server.
    ServerLost,
    /// The server sent what nobody understands.
    ServerProtocol,
    /// What was spooled did not come back.
    Spool,
    /// A session of settings only could not go on elsewhere.
    NotReplaced,
    /// Spillway was told to stop.
    Shutdown,
    /// The client sent what nobody understands, or nothing.
    ClientProtocol,
    /// No server was reached.
    Unreachable,
    /// A login was lost, and could not be healed.
    LoginLost,
    /// The server has refused the client, in its own words.
    ServerRefused,
    /// The server has refused Spillway's own login.
    OwnLogin,
    /// The client has not proved itself to Spillway.
    AccessDenied,
    /// TLS towards the client.
    ClientTls,
    /// TLS towards the server.
    UpstreamTls,
    /// A password would have gone where it must not.
    Secrecy,
    /// The account's plugin, or the change of user, is not for Spillway.
    Unsupported,
    /// `--memory` is used up.
    NoMemory,
    /// A server's Unix socket is not for this client.
    ForeignUid,
    /// The client is in none of the networks of `--allow`.
    NotAllowed,
    /// `--max-sessions` is reached.
    TooManySessions,
}

impl ErrorKind {
    /// All of them.
    pub(crate) const ALL: [Self; 19] = [
        Self::ServerLost,
        Self::ServerProtocol,
        Self::Spool,
        Self::NotReplaced,
        Self::Shutdown,
        Self::ClientProtocol,
        Self::Unreachable,
        Self::LoginLost,
        Self::ServerRefused,
        Self::OwnLogin,
        Self::AccessDenied,
        Self::ClientTls,
        Self::UpstreamTls,
        Self::Secrecy,
        Self::Unsupported,
        Self::NoMemory,
        Self::ForeignUid,
        Self::NotAllowed,
        Self::TooManySessions,
    ];

    /// As metrics have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ServerLost => "server-lost",
            Self::ServerProtocol => "server-protocol",
            Self::Spool => "spool",
            Self::NotReplaced => "not-replaced",
            Self::Shutdown => "shutdown",
            Self::ClientProtocol => "client-protocol",
            Self::Unreachable => "unreachable",
            Self::LoginLost => "login-lost",
            Self::ServerRefused => "server-refused",
            Self::OwnLogin => "own-login",
            Self::AccessDenied => "access-denied",
            Self::ClientTls => "client-tls",
            Self::UpstreamTls => "upstream-tls",
            Self::Secrecy => "secrecy",
            Self::Unsupported => "unsupported",
            Self::NoMemory => "no-memory",
            Self::ForeignUid => "foreign-uid",
            Self::NotAllowed => "not-allowed",
            Self::TooManySessions => "too-many-sessions",
        }
    }

    /// A client is told an error of this kind.
    pub(super) fn count(self) {
        metrics::counter!("spillway_errors_total", "kind" => self.name()).increment(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_listed_once() {
        for (index, kind) in ErrorKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index, "{kind:?}");
        }
        assert_eq!(ErrorKind::TooManySessions as usize + 1, ErrorKind::ALL.len());
    }
}
