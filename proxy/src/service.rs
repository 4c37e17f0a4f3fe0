//! What the service manager is told (sd_notify(3)): that Spillway is ready, reloads or stops, how many sessions run, and
//! that the thread that accepts is alive.
//!
//! Nothing here waits for a manager that does not read: that thread has sessions, too.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram as StdDatagram};
use std::process;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use tokio::net::UnixDatagram;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::warn;

/// How long a message may take; the manager's queue is full as long as it does nothing.
const SEND_LIMIT: Duration = Duration::from_secs(1);
/// Time between looks at the number of sessions, if the watchdog asks for no shorter one.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);
/// Of the watchdog's time: a shorter one is a mistake, and no reason to spin.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);

/// The way to the service manager. Where there is none, all is said to nobody.
#[derive(Debug)]
pub(crate) struct Notifier {
    socket: Option<UnixDatagram>,
    /// After how long without a word the manager takes Spillway for dead.
    watchdog: Option<Duration>,
}

impl Notifier {
    /// As the environment has it: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`. To be called in a runtime.
    pub(crate) fn from_env() -> Self {
        let socket = std::env::var_os("NOTIFY_SOCKET").filter(|address| !address.is_empty());
        let socket = socket.and_then(|address| {
            let unreachable =
                |error| warn!(?address, %error, "NOTIFY_SOCKET: cannot reach the service manager");
            connect(&address).map_err(unreachable).ok()
        });
        let variable = |name| std::env::var(name).ok();
        let watchdog = watchdog(variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"), process::id());
        Self { socket, watchdog }
    }

    /// All listeners are bound, or what was to be reloaded is.
    pub(crate) async fn ready(&self) {
        self.tell("READY=1").await;
    }

    /// Certificates and the like are being read again; [`Self::ready`] is to follow.
    pub(crate) async fn reloading(&self) {
        // Type=notify-reload asks for the time of the beginning.
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.as_micros())).await;
    }

    /// No new sessions from now on.
    pub(crate) async fn stopping(&self) {
        self.tell("STOPPING=1").await;
    }

    /// Says how many sessions are `running` when that has changed, and to the watchdog at half of its time or before
    /// that this thread is alive, until it is dropped.
    pub(crate) async fn keep_telling(&self, running: impl Fn() -> usize) -> Infallible {
        if self.socket.is_none() {
            return std::future::pending().await;
        }
        let half = self.watchdog.map_or(STATUS_INTERVAL, |limit| limit / 2);
        let period = half.clamp(SHORTEST_INTERVAL, STATUS_INTERVAL);
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = None;
        loop {
            ticks.tick().await;
            let now = running();
            let mut message = Vec::new();
            if self.watchdog.is_some() {
                message.push("WATCHDOG=1".to_owned());
            }
            if told.replace(now) != Some(now) {
                message.push(format!("STATUS={now} {}", if now == 1 { "session" } else { "sessions" }));
            }
            if !message.is_empty() {
                self.tell(&message.join("\n")).await;
            }
        }
    }

    async fn tell(&self, message: &str) {
        let Some(socket) = &self.socket else { return };
        match timeout(SEND_LIMIT, socket.send(message.as_bytes())).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => warn!(%error, "cannot tell the service manager {message:?}"),
            Err(_) => warn!("the service manager does not listen: cannot tell it {message:?}"),
        }
    }
}

/// A path, or `@` and the name of an abstract socket.
fn connect(address: &OsStr) -> io::Result<UnixDatagram> {
    let socket = StdDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    match address.as_bytes().strip_prefix(b"@") {
        Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        None => socket.connect(address)?,
    }
    UnixDatagram::from_std(socket)
}

/// The watchdog's time, if there is a watchdog, and it watches this process.
fn watchdog(microseconds: Option<String>, pid: Option<String>, own: u32) -> Option<Duration> {
    let limit = microseconds?.parse().ok().filter(|&limit| limit > 0).map(Duration::from_micros);
    limit.filter(|_| pid.is_none_or(|pid| pid.parse() == Ok(own)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_for_one_process() {
        for (microseconds, pid, expected) in [
            (None, None, None),
            (Some("30000000"), None, Some(30)),
            (Some("30000000"), Some("7"), Some(30)),
            (Some("30000000"), Some("8"), None),
            (Some("30000000"), Some(""), None),
            (Some("0"), None, None),
            (Some("soon"), None, None),
        ] {
            let found = watchdog(microseconds.map(str::to_owned), pid.map(str::to_owned), 7);
            assert_eq!(found, expected.map(Duration::from_secs), "{microseconds:?} {pid:?}");
        }
    }

    #[tokio::test]
    async fn an_abstract_socket_is_told() {
        let name = format!("spillway-test-{}", process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = StdDatagram::bind_addr(&address).unwrap();
        let socket = connect(OsStr::new(&format!("@{name}"))).unwrap();
        Notifier { socket: Some(socket), watchdog: None }.ready().await;
        let mut message = [0; 16];
        let length = manager.recv(&mut message).unwrap();
        assert_eq!(&message[..length], b"READY=1");
    }

    /// The queue of a socket holds a few messages; then the next one would wait for ever.
    #[tokio::test(start_paused = true)]
    async fn a_manager_that_does_not_read_holds_nobody_up() {
        let (socket, _manager) = UnixDatagram::pair().unwrap();
        let notifier = Notifier { socket: Some(socket), watchdog: None };
        while notifier.socket.as_ref().unwrap().try_send(b"READY=1").is_ok() {}
        timeout(2 * SEND_LIMIT, notifier.stopping()).await.unwrap();
    }
}
