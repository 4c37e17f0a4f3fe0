//! TLS on a connection that has greeted.

use std::net::Ipv4Addr;

use spillway_protocol::{Capabilities, HandshakeResponse};
use tokio::time::timeout;
use tokio_rustls::rustls::pki_types::ServerName;

use super::attempts::Attempts;
use super::decline::decline;
use super::failure::{AttemptError, Cause, Phase};
use super::{Reached, Server, Upstreams};
use crate::endpoint::Endpoint;
use crate::tls::TlsFailure;

impl Upstreams {
    /// Begins TLS with a server that has greeted, where that is wanted. `response` and `capabilities` are those of the
    /// login to come.
    ///
    /// # Errors
    /// [`AttemptError`] if it cannot begin; the connection is ended then.
    pub(crate) async fn secure(
        &self,
        mut reached: Reached,
        response: &HandshakeResponse,
        capabilities: Capabilities,
        attempts: &Attempts,
    ) -> Result<Reached, AttemptError> {
        let failed = |server, cause| AttemptError { phase: Phase::Tls, server, cause };
        let offered = reached.greeting.capabilities().contains(Capabilities::SSL);
        let config = match self.tls.wanted(offered, reached.stream.stream.is_unix()) {
            Ok(Some(config)) => config,
            Ok(None) => return Ok(reached),
            Err(failure) => {
                decline(reached.stream, &reached.greeting).await;
                return Err(failed(reached.server, failure.into()));
            }
        };
        let request = response.ssl_request(capabilities | reached.hop | Capabilities::SSL);
        let name = match reached.server.tls_name() {
            Some(name) => name,
            None if self.tls.checks_name() => {
                decline(reached.stream, &reached.greeting).await;
                let failure = TlsFailure::NoName(reached.server.upstream.to_string());
                return Err(failed(reached.server, failure.into()));
            }
            // Nobody looks at it.
            None => ServerName::IpAddress(Ipv4Addr::UNSPECIFIED.into()),
        };
        let begun = async {
            reached.stream.ask(&request).await?;
            if !reached.stream.ahead.is_empty() {
                return Err(Cause::Unexpected);
            }
            let begun = reached.stream.stream.connect_tls(name, config).await;
            begun.map_err(|error| TlsFailure::of(error).map_or_else(Cause::Io, Cause::Tls))
        };
        let limit = attempts.limit(|limits| limits.auth);
        match timeout(limit, begun).await {
            Ok(Ok(())) => {
                reached.hop = reached.hop | Capabilities::SSL;
                Ok(reached)
            }
            Ok(Err(cause)) => Err(failed(reached.server, cause)),
            Err(_) => Err(failed(reached.server, Cause::TimedOut(limit))),
        }
    }
}

impl Server {
    /// The name that its certificate is to have, if that can be a name.
    fn tls_name(&self) -> Option<ServerName<'static>> {
        let host = match &self.upstream {
            Endpoint::Tcp { host, .. } => host.as_str(),
            Endpoint::Unix(_) => "localhost",
        };
        ServerName::try_from(host.trim_end_matches('.').to_owned()).ok()
    }
}
