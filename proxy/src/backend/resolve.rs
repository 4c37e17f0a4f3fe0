//! Names to addresses: the system's resolver, and its last good answer for when it fails or is slow.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tracing::info;

/// How long the resolver may take while there is an older answer to fall back on.
const SLOW: Duration = Duration::from_secs(1);

type LookupResult = Result<Vec<SocketAddr>, Arc<io::Error>>;

/// Asks the resolver for a name's addresses; the port is of no meaning.
type Lookup =
    Box<dyn Fn(String) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>> + Send + Sync>;

/// The resolver of all sessions. One look-up of a name runs at a time, however many wait for it: the system's resolver
/// holds a thread for as long as it takes, and nothing can call it back.
pub(crate) struct Resolver {
    lookup: Lookup,
    names: Arc<Mutex<HashMap<String, Name>>>,
}

#[derive(Default)]
struct Name {
    last_good: Vec<SocketAddr>,
    under_way: Option<UnderWay>,
}

struct UnderWay {
    result: watch::Receiver<Option<LookupResult>>,
    _task: AbortOnDropHandle<()>,
}

impl Default for Resolver {
    fn default() -> Self {
        Self::new(|host| async move { Ok(lookup_host((host, 0)).await?.collect()) })
    }
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

impl Resolver {
    fn new<F>(lookup: impl Fn(String) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
    {
        Self { lookup: Box::new(move |host| Box::pin(lookup(host))), names: Arc::default() }
    }

    /// The addresses of `host`, at least one. Waits `limit` for the resolver, or a second where an older answer is
    /// known.
    ///
    /// # Errors
    /// The resolver's, or a time-out, if there is no older answer.
    pub(crate) async fn resolve(
        &self,
        host: &str,
        port: u16,
        limit: Duration,
    ) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let (mut result, last_good) = self.begin(host);
        let patience = if last_good.is_empty() { limit } else { limit.min(SLOW) };
        let finished = timeout(patience, result.wait_for(Option::is_some)).await;
        let error = match finished.map(|outcome| outcome.ok().and_then(|outcome| outcome.clone())) {
            Ok(Some(Ok(addresses))) => return Ok(with_port(addresses, port)),
            Ok(Some(Err(error))) => io::Error::new(error.kind(), error.to_string()),
            // The task ended without a word: the runtime is shutting down.
            Ok(None) => io::Error::other("the look-up was given up"),
            Err(_) => {
                let text = format!("the resolver did not answer within {:.1} s", patience.as_secs_f32());
                io::Error::new(io::ErrorKind::TimedOut, text)
            }
        };
        if last_good.is_empty() {
            return Err(error);
        }
        info!(host, %error, addresses = ?last_good.iter().map(SocketAddr::ip).collect::<Vec<_>>(), "using the last good answer of the resolver");
        Ok(with_port(last_good, port))
    }

    /// Joins the look-up under way, or starts one. Gives the last good answer as well.
    fn begin(&self, host: &str) -> (watch::Receiver<Option<LookupResult>>, Vec<SocketAddr>) {
        let mut names = lock(&self.names);
        let name = names.entry(host.to_owned()).or_default();
        let last_good = name.last_good.clone();
        if let Some(under_way) = &name.under_way
            && under_way.result.borrow().is_none()
            // Its task lives.
            && under_way.result.has_changed().is_ok()
        {
            return (under_way.result.clone(), last_good);
        }
        let (sender, result) = watch::channel(None);
        let (lookup, names, host) =
            ((self.lookup)(host.to_owned()), Arc::clone(&self.names), host.to_owned());
        let task = tokio::spawn(async move {
            let answer = lookup.await.and_then(|addresses| match addresses.is_empty() {
                true => Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address")),
                false => Ok(addresses),
            });
            if let (Ok(addresses), Some(name)) = (&answer, lock(&names).get_mut(&host)) {
                name.last_good.clone_from(addresses);
            }
            sender.send_replace(Some(answer.map_err(Arc::new)));
        });
        name.under_way = Some(UnderWay { result: result.clone(), _task: AbortOnDropHandle::new(task) });
        (result, last_good)
    }
}

fn lock(names: &Mutex<HashMap<String, Name>>) -> MutexGuard<'_, HashMap<String, Name>> {
    names.lock().unwrap_or_else(PoisonError::into_inner)
}

fn with_port(mut addresses: Vec<SocketAddr>, port: u16) -> Vec<SocketAddr> {
    for address in &mut addresses {
        address.set_port(port);
    }
    addresses
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::time::{Instant, sleep};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(15);

    /// A resolver whose `n`-th answer takes some time and is good or not.
    fn scripted(script: &'static [(u64, bool)]) -> (Resolver, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        let resolver = Resolver::new(move |_| {
            let (seconds, good) = script[counter.fetch_add(1, Ordering::Relaxed)];
            async move {
                sleep(Duration::from_secs(seconds)).await;
                match good {
                    true => Ok(vec!["10.0.0.7:0".parse().unwrap()]),
                    false => Err(io::Error::other("temporary failure in name resolution")),
                }
            }
        });
        (resolver, asked)
    }

    #[tokio::test(start_paused = true)]
    async fn a_failing_resolver_is_covered_by_its_last_good_answer() {
        let (resolver, _) = scripted(&[(0, false), (0, true), (0, false)]);
        assert!(resolver.resolve("db1", 3306, LIMIT).await.is_err());
        assert_eq!(
            resolver.resolve("db1", 3306, LIMIT).await.unwrap(),
            ["10.0.0.7:3306".parse::<SocketAddr>().unwrap()]
        );
        assert_eq!(resolver.resolve("db1", 3307, LIMIT).await.unwrap()[0].port(), 3307);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_resolver_is_waited_for_only_the_first_time() {
        let (resolver, asked) = scripted(&[(10, true), (10, true), (0, true)]);
        let started = Instant::now();
        resolver.resolve("db1", 1, LIMIT).await.unwrap();
        assert_eq!(started.elapsed().as_secs(), 10);
        for _ in 0..3 {
            resolver.resolve("db1", 1, LIMIT).await.unwrap();
        }
        assert!(started.elapsed() < Duration::from_secs(14));
        assert_eq!(asked.load(Ordering::Relaxed), 2, "one look-up at a time");
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_resolver_is_a_time_out() {
        let (resolver, _) = scripted(&[(1000, true)]);
        let error = resolver.resolve("db1", 1, LIMIT).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn addresses_are_not_looked_up() {
        let (resolver, asked) = scripted(&[]);
        assert_eq!(resolver.resolve("::1", 1, LIMIT).await.unwrap()[0].to_string(), "[::1]:1");
        assert_eq!(asked.load(Ordering::Relaxed), 0);
    }
}
