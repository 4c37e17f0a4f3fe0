//! A network of its own for a server: to it, the tests and the proxy are another host, with a name. What a server does
//! to hosts (it counts their failed handshakes, and bars them) it does not do to clients that come from 127.0.0.1.

use std::ffi::OsString;
use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::client;
use crate::mounts::Mounts;
use crate::process::{self, Running};
use crate::wait::wait_until;

/// A network namespace, tied to the machine by a pair of virtual network cards. Needs root. It lasts as long as a
/// process is in it: one of its own, which ends with this value or with the test process, and those started there.
///
/// To be made before what connects into it, so that it outlives that: without the cards, the machine would look for
/// the address elsewhere.
#[derive(Debug)]
pub struct Netns {
    keeper: Running,
    card: String,
    outside: Ipv4Addr,
    inside: Ipv4Addr,
    mounts: Mounts,
}

impl Netns {
    /// Makes one with two addresses that nothing else has.
    pub fn new() -> Result<Self> {
        let keeper = keeper()?;
        let (number, card) = add_cards(keeper.pid())?;
        let [outside, inside] =
            [1, 2].map(|host| Ipv4Addr::from(u32::from(FIRST_ADDRESS) + number * 4 + host));
        // Without a name server the look-ups are quick, and certain.
        let mounts = Mounts::new()?
            .host_lookup("files")?
            .file("/etc/hosts", &format!("127.0.0.1 localhost\n{outside} {CLIENT_NAME}\n"))?;
        let netns = Self { keeper, card, outside, inside, mounts };
        ip(&[], &["address", "add", &format!("{outside}/30"), "dev", &netns.card])?;
        ip(&[], &["link", "set", &netns.card, "up"])?;
        netns.ip(&["address", "add", &format!("{inside}/30"), "dev", CARD_INSIDE])?;
        netns.ip(&["link", "set", CARD_INSIDE, "up"])?;
        netns.ip(&["link", "set", "lo", "up"])?;
        Ok(netns)
    }

    /// The address of a server in it.
    pub fn inside(&self) -> Ipv4Addr {
        self.inside
    }

    /// The address that its clients out here have for it; it knows them as [`CLIENT_NAME`].
    pub fn outside(&self) -> Ipv4Addr {
        self.outside
    }

    /// The words that, put before a program and its arguments, make it run in there.
    pub fn prefix(&self) -> Vec<OsString> {
        let mut words = self.enter();
        words.extend(self.mounts.prefix());
        words
    }

    /// From now on nothing that is sent from in there arrives, as behind a broken cable: new connections into it get no
    /// answer, and those that are open fall silent.
    pub fn cut_off(&self) -> Result<()> {
        self.ip(&["route", "add", "blackhole", &self.outside.to_string()])
    }

    /// Ends [`Netns::cut_off`].
    pub fn reconnect(&self) -> Result<()> {
        self.ip(&["route", "del", "blackhole", &self.outside.to_string()])
    }

    /// From now on it is tied to the machine by a line of so many Mbit/s in each direction. What is sent faster waits in a
    /// queue for up to 50 ms, and is lost where that is full, as in any router.
    pub fn limit_speed(&self, megabits: u32) -> Result<()> {
        let rate = format!("{megabits}mbit");
        for (prefix, card) in [(Vec::new(), self.card.as_str()), (self.enter(), CARD_INSIDE)] {
            let arguments =
                ["qdisc", "add", "dev", card, "root", "tbf", "rate", &rate, "burst", BURST, "latency", QUEUE];
            process::run(client::wrapped(&prefix, "tc").args(arguments), LIMIT)?
                .success()
                .with_context(|| format!("tc {}", arguments.join(" ")))?;
        }
        Ok(())
    }

    /// Bytes that have come out of it so far, with the headers of all layers.
    pub fn sent(&self) -> Result<u64> {
        let path = format!("/sys/class/net/{}/statistics/rx_bytes", self.card);
        let text = fs::read_to_string(&path).with_context(|| path.clone())?;
        text.trim().parse().with_context(|| format!("{path}: {text}"))
    }

    fn enter(&self) -> Vec<OsString> {
        let words =
            ["nsenter".to_owned(), format!("--net=/proc/{}/ns/net", self.keeper.pid()), "--".to_owned()];
        words.map(Into::into).into()
    }

    fn ip(&self, arguments: &[&str]) -> Result<()> {
        ip(&self.enter(), arguments)
    }
}

/// A process that does nothing but be in a namespace.
fn keeper() -> Result<Running> {
    let mut keeper = Running::start(client::clean("unshare").args(["--net", "--", "sleep", "infinity"]))?;
    let own = fs::read_link("/proc/self/ns/net")?;
    let theirs = format!("/proc/{}/ns/net", keeper.pid());
    wait_until(LIMIT, "the network namespace", || {
        keeper.ended().is_ok_and(|ended| ended.is_some())
            || fs::read_link(&theirs).is_ok_and(|theirs| theirs != own)
    })?;
    match keeper.ended()? {
        None => Ok(keeper),
        Some(_) => {
            let finished = keeper.finish(LIMIT)?;
            bail!("no network namespace (it takes root to have one): {}", finished.stderr.trim())
        }
    }
}

/// Makes the pair, one end here and one in the namespace of process `pid`. The name of the end here has the number that
/// the addresses come from, so the kernel sees to it that no two tests have the same.
fn add_cards(pid: u32) -> Result<(u32, String)> {
    let mut last = None;
    for attempt in 0..TRIES {
        let number = (std::process::id() + attempt) % NETWORKS;
        let card = format!("spillway{number}");
        let pid = pid.to_string();
        let added =
            ip(&[], &["link", "add", &card, "type", "veth", "peer", "name", CARD_INSIDE, "netns", &pid]);
        match added {
            Ok(()) => return Ok((number, card)),
            Err(error) if format!("{error:#}").contains("File exists") => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(last.context("no name was tried")?)
}

fn ip(prefix: &[OsString], arguments: &[&str]) -> Result<()> {
    process::run(client::wrapped(prefix, "ip").args(arguments), LIMIT)?
        .success()
        .with_context(|| format!("ip {}", arguments.join(" ")))?;
    Ok(())
}

/// What a server in a [`Netns`] calls the host of its clients.
pub const CLIENT_NAME: &str = "client.test";

/// 198.18.0.0/15 is set aside for tests between networks (RFC 2544), four addresses for each.
const FIRST_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
const NETWORKS: u32 = 1 << 15;
const CARD_INSIDE: &str = "veth0";
const TRIES: u32 = 200;
/// What may go at once: at 100 Mbit/s some ten milliseconds, and more than the largest piece that a card is handed (64
/// KiB), which would not pass otherwise.
const BURST: &str = "128kb";
const QUEUE: &str = "50ms";
const LIMIT: Duration = Duration::from_secs(20);
