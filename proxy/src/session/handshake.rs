//! The connection phase, in passthrough: the server's greeting goes to the client, the client's answer to the server,
//! and so on until the server says OK or ERR. Spillway needs to know no password; it only takes capabilities away that
//! it could not follow.

use std::time::Duration;

use spillway_protocol::{
    Capabilities, ERR_HEADER, Greeting, HandshakeError, HandshakeResponse, OK_HEADER, StatusFlags,
    encode_err, err_code, err_message, ok_status,
};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::packet_io::{HandshakePacket, PacketIoError, PacketStream};
use crate::stream::Stream;

/// How long a connected server may take for its greeting. A server that looks its client's name up in a slow DNS
/// takes its time; MySQL's own resolver gives up after 10 to 30 s.
const GREETING_TIMEOUT: Duration = Duration::from_secs(60);

/// How long either side may take for its next packet of the login. Long enough for a password typed by hand.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(120);

/// What the two sides have agreed on.
pub(crate) struct Login {
    pub(crate) capabilities: Capabilities,
    pub(crate) is_mariadb: bool,
    pub(crate) server_version: String,
    /// The server's connection id, as SHOW PROCESSLIST shows it.
    pub(crate) connection_id: u32,
    pub(crate) user: String,
    /// The client uses MariaDB's library, by its connection attributes.
    pub(crate) by_libmariadb: bool,
    /// A COM_CHANGE_USER to an account with one of MySQL's SHA-2 plugins would get the password in clear, from a client
    /// that takes its socket for safe. MariaDB's server has no such plugin.
    pub(crate) may_expose_password: bool,
    /// Status flags of the OK packet that ended the login.
    pub(crate) status: Option<StatusFlags>,
}

/// How a connection phase can fail. The client has been told what it can be told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoginError {
    #[error("the client went away before it had logged in ({0})")]
    ClientGone(PacketIoError),
    #[error("the client does not speak the protocol: {0}")]
    ClientBroken(PacketIoError),
    #[error("the client's answer to the greeting is not understood: {0}")]
    Client(HandshakeError),
    #[error("the server was lost during the login: {0}")]
    ServerLost(PacketIoError),
    #[error("the server's greeting is not understood: {0}")]
    Greeting(HandshakeError),
    #[error("the {0} took too long for the login")]
    TimedOut(&'static str),
    #[error(
        "{plugin} would send the password in clear from the client's Unix socket on to the server's TCP connection; \
         give the account mysql_native_password, or log in once over TLS so that the server remembers the password"
    )]
    Cleartext { plugin: &'static str },
    #[error("the server refused: {code} {message}")]
    Refused { code: u16, message: String },
}

/// Reads the server's greeting.
///
/// # Errors
/// [`LoginError`], `Refused` if the server sent an ERR instead; `raw` then holds it for the client.
pub(crate) async fn read_greeting(backend: &mut PacketStream) -> Result<(Greeting, u8), GreetingError> {
    let packet = timeout(GREETING_TIMEOUT, backend.read_packet())
        .await
        .map_err(|_| LoginError::TimedOut("server"))?
        .map_err(LoginError::ServerLost)?;
    if packet.payload.first() == Some(&ERR_HEADER) {
        return Err(GreetingError::Refused(packet));
    }
    let greeting = Greeting::parse(packet.payload).map_err(LoginError::Greeting)?;
    Ok((greeting, packet.sequence_id))
}

/// Why there is no greeting.
pub(crate) enum GreetingError {
    /// The server sent this ERR packet instead.
    Refused(HandshakePacket),
    Failed(LoginError),
}

impl From<LoginError> for GreetingError {
    fn from(error: LoginError) -> Self {
        Self::Failed(error)
    }
}

/// What an ERR packet says.
pub(crate) fn refusal(payload: &[u8]) -> LoginError {
    LoginError::Refused {
        code: err_code(payload).unwrap_or_default(),
        message: String::from_utf8_lossy(err_message(payload)).into_owned(),
    }
}

/// Takes the login from the greeting to its end.
pub(crate) async fn log_in(
    client: &mut PacketStream,
    backend: &mut PacketStream,
    greeting: &Greeting,
    greeting_sequence_id: u8,
) -> Result<Login, LoginError> {
    let offered = greeting.capabilities() & Capabilities::UNDERSTOOD;
    client
        .write_packet(greeting_sequence_id, &greeting.masked(Capabilities::UNDERSTOOD))
        .await
        .map_err(LoginError::ClientGone)?;
    let answer = client_packet(client).await?;
    let response = match HandshakeResponse::parse(answer.payload) {
        Ok(response) => response,
        Err(error) => {
            // 1043 is what a server says to a handshake that it does not understand.
            let message = format!("spillway: bad handshake: {error}");
            let packet = encode_err(answer.sequence_id.wrapping_add(1), 1043, Some(b"08S01"), &message);
            let _ = client.stream.write_all(&packet).await;
            return Err(LoginError::Client(error));
        }
    };
    let mut exposure = Exposure::new(client, backend, response.plugin());
    if exposure.by_first_answer() {
        return Err(refuse_cleartext(client, answer.sequence_id.wrapping_add(1), SHA256).await);
    }
    let mask = offered | Capabilities::CLIENT_CHOICE;
    backend.write_packet(answer.sequence_id, &response.masked(mask)).await.map_err(LoginError::ServerLost)?;
    let status = relay_exchange(client, backend, &mut exposure).await?;
    Ok(Login {
        capabilities: response.capabilities() & mask,
        is_mariadb: greeting.is_mariadb(),
        server_version: String::from_utf8_lossy(greeting.server_version()).into_owned(),
        connection_id: greeting.connection_id(),
        user: String::from_utf8_lossy(response.user()).into_owned(),
        may_expose_password: exposure.weaker && !greeting.is_mariadb(),
        by_libmariadb: response.attribute(b"_client_name") == Some(b"libmariadb"),
        status,
    })
}

/// Passes packets on in both directions until the server ends the exchange. Who has the turn depends on the plugin,
/// so both sides are listened to.
async fn relay_exchange(
    client: &mut PacketStream,
    backend: &mut PacketStream,
    exposure: &mut Exposure,
) -> Result<Option<StatusFlags>, LoginError> {
    loop {
        let from_server = tokio::select! {
            biased;
            packet = timeout(LOGIN_TIMEOUT, backend.read_packet()) => {
                packet.map_err(|_| LoginError::TimedOut("server"))?.map_err(LoginError::ServerLost)?
            }
            packet = client_packet(client) => {
                let packet = packet?;
                backend
                    .write_packet(packet.sequence_id, &packet.payload)
                    .await
                    .map_err(LoginError::ServerLost)?;
                continue;
            }
        };
        if let Some(plugin) = exposure.by_request(&from_server.payload) {
            return Err(refuse_cleartext(client, from_server.sequence_id, plugin).await);
        }
        client
            .write_packet(from_server.sequence_id, &from_server.payload)
            .await
            .map_err(LoginError::ClientGone)?;
        match from_server.payload.first() {
            Some(&OK_HEADER) => return Ok(ok_status(&from_server.payload)),
            Some(&ERR_HEADER) => return Err(refusal(&from_server.payload)),
            _ => {}
        }
    }
}

const SHA256: &str = "sha256_password";
const CACHING_SHA2: &str = "caching_sha2_password";
/// First byte of an AuthSwitchRequest.
const AUTH_SWITCH: u8 = 0xfe;
/// AuthMoreData of caching_sha2_password: the server does not remember the password and wants all of it.
const PERFORM_FULL_AUTHENTICATION: [u8; 2] = [0x01, 0x04];

/// Whether a password would go over a weaker transport than the client believes. A client takes a Unix socket for
/// safe, and two plugins then send the password itself; behind this socket there may be a TCP connection.
struct Exposure {
    weaker: bool,
    plugin: Vec<u8>,
}

impl Exposure {
    fn new(client: &PacketStream, backend: &PacketStream, plugin: &[u8]) -> Self {
        let weaker = matches!((&client.stream, &backend.stream), (Stream::Unix(_), Stream::Tcp(_)));
        Self { weaker, plugin: plugin.to_vec() }
    }

    /// The handshake response itself holds the password.
    fn by_first_answer(&self) -> bool {
        self.weaker && self.plugin == SHA256.as_bytes()
    }

    /// The client would answer this packet of the server's with the password. Names the plugin.
    fn by_request(&mut self, payload: &[u8]) -> Option<&'static str> {
        if let [AUTH_SWITCH, request @ ..] = payload {
            self.plugin = request.split(|&byte| byte == 0).next().unwrap_or_default().to_vec();
        }
        match self.plugin.as_slice() {
            _ if !self.weaker => None,
            plugin if plugin == SHA256.as_bytes() => Some(SHA256),
            plugin if plugin == CACHING_SHA2.as_bytes() && payload == PERFORM_FULL_AUTHENTICATION => {
                Some(CACHING_SHA2)
            }
            _ => None,
        }
    }
}

async fn refuse_cleartext(client: &mut PacketStream, sequence_id: u8, plugin: &'static str) -> LoginError {
    let error = LoginError::Cleartext { plugin };
    // ER_NOT_SUPPORTED_AUTH_MODE
    let packet = encode_err(sequence_id, 1251, Some(b"08004"), &format!("spillway: {error}"));
    match client.stream.write_all(&packet).await {
        Ok(()) => error,
        Err(gone) => LoginError::ClientGone(gone.into()),
    }
}

async fn client_packet(client: &mut PacketStream) -> Result<HandshakePacket, LoginError> {
    timeout(LOGIN_TIMEOUT, client.read_packet()).await.map_err(|_| LoginError::TimedOut("client"))?.map_err(
        |error| match error {
            PacketIoError::Closed { received: 0 } | PacketIoError::Io(_) => LoginError::ClientGone(error),
            _ => LoginError::ClientBroken(error),
        },
    )
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream, UnixStream};

    use super::*;

    async fn exposure(client_over_unix: bool, plugin: &str) -> Exposure {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tcp = || async { Stream::Tcp(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap()) };
        let client = if client_over_unix { Stream::Unix(UnixStream::pair().unwrap().0) } else { tcp().await };
        let (client, backend) = (PacketStream::new(client), PacketStream::new(tcp().await));
        Exposure::new(&client, &backend, plugin.as_bytes())
    }

    #[tokio::test]
    async fn a_password_in_clear_does_not_leave_the_socket() {
        let mut sha2 = exposure(true, CACHING_SHA2).await;
        assert_eq!(sha2.by_request(&[0x01, 0x03]), None);
        assert_eq!(sha2.by_request(&PERFORM_FULL_AUTHENTICATION), Some(CACHING_SHA2));
        let mut native = exposure(true, "mysql_native_password").await;
        assert!(!native.by_first_answer());
        assert_eq!(native.by_request(b"\xfemysql_native_password\0salt"), None);
        assert_eq!(native.by_request(b"\xfesha256_password\0salt"), Some(SHA256));
        assert!(exposure(true, SHA256).await.by_first_answer());
    }

    #[tokio::test]
    async fn over_tcp_the_client_knows_what_it_does() {
        let mut sha2 = exposure(false, CACHING_SHA2).await;
        assert_eq!(sha2.by_request(&PERFORM_FULL_AUTHENTICATION), None);
    }
}
