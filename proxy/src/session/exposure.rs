//! Whether a password would go over a weaker transport than the client believes.

use spillway_protocol::{AuthPlugin, AuthSwitchRequest, PERFORM_FULL_AUTHENTICATION};

use super::refusal::Refusal;
use crate::stream::Stream;

/// Watches over an exchange for what would give the password away. A client takes a Unix socket for safe, and two
/// plugins then send the password itself; behind this socket there may be a TCP connection.
pub(crate) struct Exposure {
    /// The server's side is weaker than the client's.
    pub(crate) weaker: bool,
    /// The plugin whose exchange is under way.
    pub(crate) plugin: AuthPlugin,
}

impl Exposure {
    /// For a client that answers by this plugin; nothing is known of a server yet.
    pub(crate) fn new(plugin: &[u8]) -> Self {
        Self { weaker: false, plugin: AuthPlugin::named(plugin) }
    }

    /// The exchange goes on over these two.
    pub(crate) fn transports(&mut self, client: &Stream, backend: &Stream) {
        self.weaker = is_weaker(client, backend);
    }

    /// The handshake response itself may hold the password.
    pub(crate) fn check_first_answer(&self) -> Result<(), Refusal> {
        match self.plugin {
            AuthPlugin::Sha256 if self.weaker => Err(Refusal::Cleartext { plugin: self.plugin.name() }),
            _ => Ok(()),
        }
    }

    /// The client may answer this packet of the server's with the password.
    pub(crate) fn check_request(&mut self, payload: &[u8]) -> Result<(), Refusal> {
        if let Some(request) = AuthSwitchRequest::parse(payload) {
            self.plugin = AuthPlugin::named(request.plugin);
        }
        let exposed = match self.plugin {
            AuthPlugin::Sha256 => true,
            AuthPlugin::CachingSha2 => payload == PERFORM_FULL_AUTHENTICATION,
            _ => false,
        };
        if self.weaker && exposed { Err(Refusal::Cleartext { plugin: self.plugin.name() }) } else { Ok(()) }
    }
}

/// Whether the way to the server is less safe than the one that the client sees.
pub(crate) fn is_weaker(client: &Stream, backend: &Stream) -> bool {
    client.is_safe() && !backend.is_safe()
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream, UnixStream};

    use super::*;

    const SHA2: &str = "caching_sha2_password";
    const SHA256: &str = "sha256_password";

    async fn exposure(client_over_unix: bool, plugin: &str) -> Exposure {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tcp = || async {
            Stream::tcp(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap()).unwrap()
        };
        let client = if client_over_unix { Stream::unix(UnixStream::pair().unwrap().0) } else { tcp().await };
        let mut exposure = Exposure::new(plugin.as_bytes());
        exposure.transports(&client, &tcp().await);
        exposure
    }

    #[tokio::test]
    async fn a_password_in_clear_does_not_leave_the_socket() {
        let mut sha2 = exposure(true, SHA2).await;
        assert!(sha2.check_request(&[0x01, 0x03]).is_ok());
        assert!(sha2.check_request(&PERFORM_FULL_AUTHENTICATION).is_err());
        let mut native = exposure(true, "mysql_native_password").await;
        assert!(native.check_first_answer().is_ok());
        assert!(native.check_request(b"\xfemysql_native_password\0salt\0").is_ok());
        assert!(native.check_request(b"\xfesha256_password\0salt\0").is_err());
        assert!(exposure(true, SHA256).await.check_first_answer().is_err());
    }

    #[tokio::test]
    async fn over_tcp_the_client_knows_what_it_does() {
        let mut sha2 = exposure(false, SHA2).await;
        assert!(sha2.check_request(&PERFORM_FULL_AUTHENTICATION).is_ok());
    }
}
