//! Why a client gets no session, and in which words it is told.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use spillway_protocol::HandshakeError;
use tokio_rustls::rustls::{AlertDescription, Error as TlsError};
use tracing::{debug, info, warn};

use super::error_kind::ErrorKind;
use crate::backend::ReachError;
use crate::backend::attempts::GaveUp;
use crate::backend::failure::{Cause, Phase};
use crate::backend::login::LoginRefused;
use crate::packet_stream::PacketIoError;
use crate::rsa::RsaError;
use crate::tls::tls_error;

const ER_CON_COUNT_ERROR: u16 = 1040;
const ER_HANDSHAKE_ERROR: u16 = 1043;
const ER_ACCESS_DENIED_ERROR: u16 = 1045;
const ER_SERVER_SHUTDOWN: u16 = 1053;
const ER_HOST_IS_BLOCKED: u16 = 1129;
const ER_HOST_NOT_PRIVILEGED: u16 = 1130;
const ER_NET_PACKETS_OUT_OF_ORDER: u16 = 1156;
const ER_NET_READ_ERROR: u16 = 1158;
const ER_NOT_SUPPORTED_AUTH_MODE: u16 = 1251;
const ER_CONNECT_TO_FOREIGN_DATA_SOURCE: u16 = 1429;
const ER_ACCESS_DENIED_NO_PASSWORD_ERROR: u16 = 1698;
const ER_SECURE_TRANSPORT_REQUIRED: u16 = 3159;
const CR_CONN_HOST_ERROR: u16 = 2003;
const CR_SERVER_LOST: u16 = 2013;
const CR_SSL_CONNECTION_ERROR: u16 = 2026;

/// Why a client got no session.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{who} not allowed to connect here (--allow)", who = who_is(*.0))]
    NotAllowed(Option<IpAddr>),
    #[error("--max-sessions {0} is reached: try again later")]
    TooManySessions(u32),
    #[error("the client went away before the server was reached")]
    ClientGone,
    #[error("the client went away before it had logged in ({0})")]
    ClientLeft(PacketIoError),
    #[error("the client does not speak the protocol: {0}")]
    ClientBroken(PacketIoError),
    #[error("the client took longer than {} for its part of the login (--login-timeout)", humantime::format_duration(*.0))]
    ClientSlow(Duration),
    #[error("the client began TLS and did not end the beginning: {0}{advice}", advice = client_tls_advice(.0))]
    ClientTls(io::Error),
    #[error("connections without TLS are refused here (--tls required): let the client use it")]
    NoTls,
    #[error("can't log in safely: {0}")]
    UpstreamTls(GaveUp),
    #[error("bad handshake: {0}")]
    BadHandshake(HandshakeError),
    #[error(
        "the server is reached by its Unix socket, which is only for clients of spillway's own uid; this one is {0:?}"
    )]
    ForeignUid(Option<u32>),
    #[error("--memory leaves nothing for another session")]
    NoMemory,
    /// Nothing was lost that the client knew of.
    #[error("can't reach the server: {0}; is it running, and reachable from here?")]
    Unreachable(GaveUp),
    /// The client had been greeted by a server, and cannot be moved to another connection without its noticing.
    #[error("lost the connection during the login: {0}; run the command again")]
    LostInLogin(GaveUp),
    #[error(
        "lost the connection during the login: {cause}; no new one could take its place, because {why}; run the command again"
    )]
    NotHealable { cause: Cause, why: &'static str },
    #[error(
        "{plugin} would send the password in clear, and the way to the server is less safe than the client's: reach \
         the server by TLS, give the account another plugin, or accept that by --allow-cleartext"
    )]
    Cleartext { plugin: String },
    #[error(
        "{plugin} wants the password itself, which does not go to the server in clear: reach the server by TLS, give \
         its RSA key by --upstream-server-public-key, or have spillway ask for it by --get-server-public-key"
    )]
    NoServerKey { plugin: String },
    #[error(
        "the client has encrypted its password for {plugin} with another RSA key than spillway's, and the server is to \
         get it over TLS or a socket: reach spillway by TLS or its socket, too, or have the client ask for the key \
         (--get-server-public-key, and no --server-public-key-path)"
    )]
    OtherKey { plugin: String },
    #[error("the server's RSA key is of no use: {0}; see the server's error log")]
    ServerKey(RsaError),
    #[error("the password for {plugin} could not be encrypted: {error}")]
    Rsa { plugin: String, error: RsaError },
    #[error("access denied for user '{user}' (using password: {}): with --auth stored, user and password must be those that spillway was given", if *.with_password { "YES" } else { "NO" })]
    AccessDenied { user: String, with_password: bool },
    #[error(
        "this session cannot become another user's: connect anew instead, and with --auth passthrough if the user is \
         not the stored one"
    )]
    OtherUser,
    #[error("this client cannot become another user here: connect anew instead")]
    NotAskable,
    #[error("a COM_CHANGE_USER that is cut short")]
    BadChange,
    #[error("lost the connection in a change of user: {0}; run the command again")]
    LostInChange(Cause),
    #[error("spillway was told to stop")]
    Stopped,
    #[error("{0}")]
    NotAnswerable(LoginRefused),
    /// Of a login of Spillway's own, for a client that has proved itself.
    #[error("the server refused the stored account: {cause}")]
    OwnLogin { cause: Cause, payload: Vec<u8> },
    /// The same for one that has not.
    #[error("the server refused spillway's own login; see spillway's log")]
    OwnLoginUntold { code: u16 },
    #[error(
        "the server is of version {found}, and the client was told {told}: it has changed meanwhile; run the command again"
    )]
    OtherVersion { told: String, found: String },
    #[error("the server refused: {cause}")]
    Server { cause: Cause, sequence_id: u8, payload: Vec<u8> },
    #[error("the server sent {0} bytes behind the end of the login")]
    BytesBehindLogin(usize),
}

/// A client from this address, as the subject of a sentence.
fn who_is(address: Option<IpAddr>) -> String {
    match address {
        Some(address) => format!("host '{address}' is"),
        None => "clients of Unix sockets are".to_owned(),
    }
}

/// What to do about a client that has broken TLS off, for the log.
fn client_tls_advice(error: &io::Error) -> &'static str {
    match tls_error(error) {
        Some(TlsError::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired,
        )) => {
            "; it does not trust the certificate: name the certificate's CA to the client (ssl-ca), or give spillway one \
             that the client knows"
        }
        Some(TlsError::NoCertificatesPresented) => "; it has no certificate, and --tls-client-ca demands one",
        Some(TlsError::InvalidCertificate(_)) => "; its certificate is not one of --tls-client-ca",
        Some(TlsError::PeerIncompatible(_)) => "; only TLS 1.2 and 1.3 are spoken here",
        _ => "",
    }
}

impl From<ReachError> for Refusal {
    fn from(error: ReachError) -> Self {
        match error {
            ReachError::ClientGone => Self::ClientGone,
            ReachError::Refused { cause, sequence_id, payload, .. } => {
                Self::Server { cause, sequence_id, payload }
            }
            ReachError::GaveUp(gave_up) => Self::Unreachable(gave_up),
        }
    }
}

impl Refusal {
    /// No server was left in a login of Spillway's own.
    pub(crate) fn in_own_login(gave_up: GaveUp) -> Self {
        match gave_up.last.cause {
            Cause::Tls(_) => Self::UpstreamTls(gave_up),
            _ => Self::Unreachable(gave_up),
        }
    }

    /// No server was left in the middle of a login.
    pub(crate) fn in_login(gave_up: GaveUp) -> Self {
        match gave_up.last.cause {
            Cause::Tls(_) => Self::UpstreamTls(gave_up),
            _ => Self::LostInLogin(gave_up),
        }
    }

    /// The code and SQLSTATE of the ERR packet for a client; none if it cannot be told.
    ///
    /// Of the client's own codes (2003, 2013) MariaDB's library shows "Received malformed packet" only; whose library
    /// it is, nobody knows before the greeting is answered.
    pub(crate) fn code(&self, greeted: bool, by_libmariadb: bool) -> Option<(u16, &'static [u8; 5])> {
        let takes_client_codes = greeted && !by_libmariadb;
        let one_of = |clients, servers| if takes_client_codes { clients } else { servers };
        Some(match self {
            Self::ClientGone
            | Self::ClientLeft(_)
            | Self::ClientBroken(_)
            | Self::ClientTls(_)
            | Self::OwnLogin { .. }
            | Self::Server { .. } => return None,
            Self::OwnLoginUntold { code } => (*code, b"28000"),
            Self::NotAllowed(_) => (ER_HOST_NOT_PRIVILEGED, b"HY000"),
            Self::NoTls => (ER_SECURE_TRANSPORT_REQUIRED, b"HY000"),
            Self::UpstreamTls(_) => {
                (one_of(CR_SSL_CONNECTION_ERROR, ER_CONNECT_TO_FOREIGN_DATA_SOURCE), b"HY000")
            }
            Self::ForeignUid(_) => (ER_ACCESS_DENIED_NO_PASSWORD_ERROR, b"28000"),
            Self::AccessDenied { .. } | Self::OtherUser => (ER_ACCESS_DENIED_ERROR, b"28000"),
            Self::Stopped => (ER_SERVER_SHUTDOWN, b"08S01"),
            Self::NoMemory | Self::TooManySessions(_) => (ER_CON_COUNT_ERROR, b"08004"),
            Self::BadHandshake(_) | Self::BadChange => (ER_HANDSHAKE_ERROR, b"08S01"),
            Self::ClientSlow(_) => (ER_NET_READ_ERROR, b"08S01"),
            Self::Cleartext { .. }
            | Self::NoServerKey { .. }
            | Self::OtherKey { .. }
            | Self::ServerKey(_)
            | Self::Rsa { .. }
            | Self::NotAskable
            | Self::NotAnswerable(_) => (ER_NOT_SUPPORTED_AUTH_MODE, b"08004"),
            Self::Unreachable(GaveUp { last, .. }) => match (&last.cause, last.phase) {
                (Cause::Told { code, .. }, _) => (*code, b"08S01"),
                (_, Phase::Resolve | Phase::Connect) => {
                    (one_of(CR_CONN_HOST_ERROR, ER_CONNECT_TO_FOREIGN_DATA_SOURCE), b"HY000")
                }
                _ => (one_of(CR_SERVER_LOST, ER_NET_READ_ERROR), b"HY000"),
            },
            Self::LostInLogin(_)
            | Self::LostInChange(_)
            | Self::NotHealable { .. }
            | Self::OtherVersion { .. }
            | Self::BytesBehindLogin(_) => (one_of(CR_SERVER_LOST, ER_NET_READ_ERROR), b"HY000"),
        })
    }

    /// For metrics; none where the client has left.
    pub(crate) fn kind(&self) -> Option<ErrorKind> {
        Some(match self {
            _ if self.is_by_leaving() => return None,
            Self::ClientGone | Self::ClientLeft(_) => return None,
            Self::ClientBroken(_) | Self::ClientSlow(_) | Self::BadHandshake(_) | Self::BadChange => {
                ErrorKind::ClientProtocol
            }
            Self::ClientTls(_) | Self::NoTls => ErrorKind::ClientTls,
            Self::UpstreamTls(_) => ErrorKind::UpstreamTls,
            Self::ForeignUid(_) => ErrorKind::ForeignUid,
            Self::NotAllowed(_) => ErrorKind::NotAllowed,
            Self::TooManySessions(_) => ErrorKind::TooManySessions,
            Self::NoMemory => ErrorKind::NoMemory,
            Self::Unreachable(_) => ErrorKind::Unreachable,
            Self::LostInLogin(_)
            | Self::NotHealable { .. }
            | Self::LostInChange(_)
            | Self::OtherVersion { .. }
            | Self::BytesBehindLogin(_) => ErrorKind::LoginLost,
            Self::Cleartext { .. }
            | Self::NoServerKey { .. }
            | Self::OtherKey { .. }
            | Self::ServerKey(_)
            | Self::Rsa { .. } => ErrorKind::Secrecy,
            Self::AccessDenied { .. } | Self::OtherUser => ErrorKind::AccessDenied,
            Self::NotAskable | Self::NotAnswerable(_) => ErrorKind::Unsupported,
            Self::Stopped => ErrorKind::Shutdown,
            Self::OwnLogin { .. } | Self::OwnLoginUntold { .. } => ErrorKind::OwnLogin,
            Self::Server { .. } => ErrorKind::ServerRefused,
        })
    }

    /// What the ERR packet with this code says.
    pub(crate) fn message(&self, code: u16) -> String {
        let known_as = match code {
            ER_CONNECT_TO_FOREIGN_DATA_SOURCE if matches!(self, Self::UpstreamTls(_)) => "(error 2026) ",
            ER_CONNECT_TO_FOREIGN_DATA_SOURCE => "(error 2003) ",
            ER_NET_READ_ERROR if !matches!(self, Self::ClientSlow(_)) => "(error 2013) ",
            _ => "",
        };
        format!("spillway: {known_as}{self}")
    }

    /// Whether it is the client that has ended the matter.
    pub(crate) fn is_by_leaving(&self) -> bool {
        use PacketIoError::Closed;
        matches!(self, Self::ClientGone | Self::ClientLeft(_) | Self::ClientBroken(Closed { .. }))
    }

    /// Whether the client's connection is of no use any more.
    pub(crate) fn is_of_the_connection(&self) -> bool {
        self.is_by_leaving() || matches!(self, Self::ClientBroken(_) | Self::ClientSlow(_))
    }

    /// Tells the log.
    pub(crate) fn log(&self) {
        match self {
            _ if self.is_by_leaving() => debug!(refusal = %self, "no session"),
            Self::Server { cause: Cause::Told { code: ER_HOST_IS_BLOCKED, .. }, .. } => warn!(
                refusal = %self,
                hint = "FLUSH HOSTS on the server lifts the block; max_connect_errors sets it",
                "no session"
            ),
            Self::Server { cause: Cause::Told { code: ER_NET_PACKETS_OUT_OF_ORDER, .. }, .. } => warn!(
                refusal = %self,
                hint = "so says a server that is sent a PROXY header and knows none (--upstream-proxy-protocol)",
                "no session"
            ),
            Self::Server { .. } | Self::AccessDenied { .. } | Self::OtherUser => {
                info!(refusal = %self, "no session");
            }
            _ => warn!(refusal = %self, "no session"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Server;
    use crate::backend::failure::AttemptError;

    fn gave_up(phase: Phase, cause: Cause) -> GaveUp {
        let last = Box::new(AttemptError { phase, server: Server::for_test("db1"), cause });
        GaveUp { attempts: 7, time: Duration::from_secs(60), last }
    }

    fn told(refusal: &Refusal, greeted: bool, by_libmariadb: bool) -> (u16, String) {
        let (code, _) = refusal.code(greeted, by_libmariadb).unwrap();
        (code, refusal.message(code))
    }

    #[test]
    fn an_unreachable_server_is_2003_by_the_code_that_the_client_shows() {
        let refusal = Refusal::Unreachable(gave_up(
            Phase::Connect,
            io::Error::from(io::ErrorKind::ConnectionRefused).into(),
        ));
        let (code, message) = told(&refusal, true, false);
        assert_eq!(code, 2003);
        assert!(message.starts_with("spillway: can't reach the server: 7 attempts in 60 s"), "{message}");
        assert!(message.contains("connecting to db1:3306: connection refused"), "{message}");
        for (greeted, by_libmariadb) in [(false, false), (true, true)] {
            let (code, message) = told(&refusal, greeted, by_libmariadb);
            assert_eq!(code, 1429);
            assert!(message.starts_with("spillway: (error 2003) "), "{message}");
        }
    }

    #[test]
    fn a_lost_login_is_2013_and_the_servers_own_code_stays() {
        let lost = || Cause::Lost(PacketIoError::Closed { received: 3 });
        assert_eq!(told(&Refusal::LostInLogin(gave_up(Phase::Auth, lost())), true, false).0, 2013);
        let refusal = Refusal::NotHealable { cause: lost(), why: "the account wants several proofs" };
        let (code, message) = told(&refusal, true, true);
        assert_eq!(code, 1158);
        assert!(message.contains("(error 2013)") && message.contains("several proofs"), "{message}");
        let crowded = Cause::Told { code: 1040, message: "Too many connections".to_owned() };
        assert_eq!(told(&Refusal::Unreachable(gave_up(Phase::Greeting, crowded)), false, false).0, 1040);
    }
}
