//! What operators and their monitoring see over HTTP: metrics, the web page, health and readiness.
//!
//! ```text
//!  --metrics ADDR ─┐   a thread of its own   ┌─► metrics ─► exposition
//!                  ├─► http ─► site ─────────┼─► web
//!  --web ADDR ─────┘                         └─► health
//! ```
//!
//! Nothing here changes anything: sessions are looked at, and no session waits for whoever looks.

mod basic_auth;
mod exposition;
mod health;
mod http;
mod metrics;
mod process;
mod site;
mod web;

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::Secret;
use crate::endpoint::Endpoint;
use crate::side_thread::SideThread;
use crate::watched::Watched;
use basic_auth::BasicAuth;
use health::Health;
use metrics::Recorder;
use site::{Names, Pages, Serves, Site};

/// Why nothing can be served over HTTP. Exit code 78.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The address cannot be listened on.
    #[error("{option} {address}: {source}")]
    Listen {
        /// The option.
        option: &'static str,
        /// What was given.
        address: Endpoint,
        /// Why.
        source: io::Error,
    },
    /// Others could see users and tables, and would not be asked for a password.
    #[error(
        "--web {address}: other hosts can reach it, and it has no password: set SPILLWAY_WEB_PASSWORD, or web_password in \
         the configuration file, or listen on 127.0.0.1"
    )]
    NoPassword {
        /// What was given.
        address: Endpoint,
    },
}

/// The sockets of `--metrics` and `--web`, bound.
#[derive(Debug, Default)]
pub struct Sockets {
    all: Vec<Socket>,
    /// Of the web page.
    password: Option<Secret>,
}

#[derive(Debug)]
struct Socket {
    listener: TcpListener,
    /// Where it is; the port is the one that was chosen.
    address: SocketAddr,
    /// The host that the settings name.
    host: String,
    serves: Serves,
}

impl Sockets {
    /// Binds both addresses, which may be the same; the web page has this password, if any. A name is looked up, which
    /// blocks.
    ///
    /// # Errors
    /// [`AdminError`] if one is in use, not ours, or not to be resolved; and if other hosts could reach the web page and
    /// there is no password.
    pub fn bind(
        metrics: Option<&Endpoint>,
        web: Option<&Endpoint>,
        password: Option<Secret>,
    ) -> Result<Self, AdminError> {
        let mut all = Vec::new();
        let (both, is_open) = (metrics.is_some() && metrics == web, password.is_none());
        if let Some(address) = metrics {
            all.push(Socket::bind("--metrics", address, Serves { metrics: true, web: both }, is_open)?);
        }
        if let Some(address) = web.filter(|_| !both) {
            all.push(Socket::bind("--web", address, Serves { metrics: false, web: true }, is_open)?);
        }
        Ok(Self { all, password })
    }

    /// Tells scripts and the log where to look. A closed stdout is no reason not to serve.
    fn announce(&self) {
        let mut stdout = io::stdout().lock();
        for Socket { address, serves, .. } in &self.all {
            if serves.web {
                let _ = writeln!(stdout, "web page on http://{address}/");
                let password = self.password.is_some();
                info!(url = %format_args!("http://{address}/"), password, "web page");
            }
            if serves.metrics {
                let _ = writeln!(stdout, "metrics on http://{address}/metrics");
                info!(url = %format_args!("http://{address}/metrics"), "metrics");
            }
        }
        let _ = stdout.flush();
    }
}

impl Socket {
    /// `is_open`: the web page has no password.
    fn bind(
        option: &'static str,
        address: &Endpoint,
        serves: Serves,
        is_open: bool,
    ) -> Result<Self, AdminError> {
        let failed = |source| AdminError::Listen { option, address: address.clone(), source };
        let Endpoint::Tcp { host, port } = address else {
            return Err(failed(io::Error::new(io::ErrorKind::Unsupported, "not an address of TCP")));
        };
        let addresses: Vec<_> = (host.as_str(), *port).to_socket_addrs().map_err(failed)?.collect();
        let is_beyond = |address: &SocketAddr| !address.ip().to_canonical().is_loopback();
        if serves.web && is_open && addresses.iter().any(is_beyond) {
            return Err(AdminError::NoPassword { address: address.clone() });
        }
        // All at once: the first that can be bound.
        let listener = TcpListener::bind(addresses.as_slice()).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, host: host.clone(), serves })
    }
}

/// Serves on `sockets`, if there are any, and tells so.
///
/// # Errors
/// If the system gives no thread, or no descriptors for its runtime.
pub(crate) fn start(sockets: Sockets, watched: Watched) -> io::Result<Option<SideThread>> {
    if sockets.all.is_empty() {
        return Ok(None);
    }
    sockets.announce();
    let recorder = sockets.all.iter().any(|socket| socket.serves.metrics).then(Recorder::install);
    let recorder = recorder.transpose().map_err(io::Error::other)?;
    let pages = Arc::new(Pages { health: Health::default(), recorder, watched });
    let serve = async move |end: CancellationToken| {
        if let Err(error) = serve(sockets, pages, &end).await {
            warn!(%error, "neither metrics nor the web page can be served");
        }
    };
    SideThread::start("http", serve).map(Some)
}

/// Serves until `end`.
async fn serve(sockets: Sockets, pages: Arc<Pages>, end: &CancellationToken) -> io::Result<()> {
    let mut servers = JoinSet::new();
    let Sockets { all, password } = sockets;
    for Socket { listener, host, serves, .. } in all {
        let auth = password.as_ref().map(BasicAuth::new);
        let site = Arc::new(Site { names: Names::of(&host), serves, auth, pages: Arc::clone(&pages) });
        servers.spawn(http::serve(tokio::net::TcpListener::from_std(listener)?, site, end.clone()));
    }
    let mut upkeep = interval(UPKEEP);
    loop {
        tokio::select! {
            () = end.cancelled() => break,
            _ = upkeep.tick() => pages.recorder.iter().for_each(Recorder::keep_up),
        }
    }
    while servers.join_next().await.is_some() {}
    Ok(())
}

/// How often the values of histograms are sorted into buckets, so that they do not pile up where nobody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(metrics: Option<&str>, web: Option<&str>) -> Result<Sockets, AdminError> {
        let endpoint = |text: &str| Endpoint::parse_listen(text).unwrap();
        let (metrics, web) = (metrics.map(endpoint), web.map(endpoint));
        Sockets::bind(metrics.as_ref(), web.as_ref(), None)
    }

    #[test]
    fn one_address_is_one_socket() {
        let serves = |sockets: &Sockets| -> Vec<(bool, bool)> {
            sockets.all.iter().map(|socket| (socket.serves.metrics, socket.serves.web)).collect()
        };
        assert_eq!(serves(&bind(None, None).unwrap()), []);
        assert_eq!(serves(&bind(Some("127.0.0.1:0"), Some("127.0.0.1:0")).unwrap()), [(true, true)]);
        let two = bind(Some("127.0.0.1:0"), Some("localhost:0")).unwrap();
        assert_eq!(serves(&two), [(true, false), (false, true)]);
    }

    #[test]
    fn an_address_that_is_taken_is_named_with_its_option() {
        let sockets = bind(Some("127.0.0.1:0"), None).unwrap();
        let taken = sockets.all[0].address.to_string();
        let error = bind(None, Some(&taken)).unwrap_err().to_string();
        assert!(error.starts_with(&format!("--web {taken}: ")), "{error}");
    }

    #[test]
    fn a_page_that_others_can_reach_needs_a_password() {
        for web in ["0.0.0.0:0", "[::]:0", "[::ffff:0.0.0.0]:0"] {
            let error = bind(None, Some(web)).unwrap_err().to_string();
            assert!(error.starts_with(&format!("--web {web}: other hosts can reach it")), "{error}");
            assert!(bind(Some(web), Some(web)).is_err(), "{web}");
        }
        assert!(bind(Some("0.0.0.0:0"), Some("127.0.0.1:0")).is_ok());
    }
}
