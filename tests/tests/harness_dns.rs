//! Name servers that fail, without the proxy: each fault is shown to be there with direct clients.

use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use spillway_tests::dns::Mode;
use spillway_tests::process::{self, Finished, Running};
use spillway_tests::{Dns, Raw, Server, Spillway, client, wait_until};

#[test]
fn a_name_server_answers_fails_and_recovers() -> Result<()> {
    let machine = fs::read("/etc/resolv.conf")?;
    let dns = Dns::start(NAME, ADDRESS)?;
    let other = Dns::start("other.test", Ipv4Addr::LOCALHOST)?;
    assert_resolves(&look_up(&dns, "ahostsv4", NAME)?, ADDRESS)?;
    // With the question for an IPv6 address; a name's case does not matter.
    assert_resolves(&look_up(&dns, "ahosts", "Db.TEST")?, ADDRESS)?;
    ensure!(dns.queries() == 2, "{} queries", dns.queries());
    assert_fails(&look_up(&dns, "ahosts", "other.test")?)?;
    assert_resolves(&look_up(&other, "ahosts", "other.test")?, Ipv4Addr::LOCALHOST)?;

    for kind in ["ahostsv4", "ahosts"] {
        dns.set(Mode::FailEverySecond);
        let before = dns.queries();
        for attempt in 0..4 {
            let found = look_up(&dns, kind, NAME)?;
            let assert =
                if attempt % 2 == 0 { assert_fails } else { |found: &_| assert_resolves(found, ADDRESS) };
            assert(&found).with_context(|| format!("{kind} {attempt}"))?;
        }
        ensure!(dns.queries() == before + 4, "{kind}: {} queries", dns.queries() - before);
    }
    for mode in [Mode::Fail, Mode::NoSuchName] {
        dns.set(mode);
        assert_fails(&look_up(&dns, "ahosts", NAME)?).with_context(|| format!("{mode:?}"))?;
    }
    dns.set(Mode::Answer);
    dns.point_to(Ipv4Addr::LOCALHOST);
    assert_resolves(&look_up(&dns, "ahosts", NAME)?, Ipv4Addr::LOCALHOST)?;
    ensure!(fs::read("/etc/resolv.conf")? == machine, "the machine's own resolv.conf was changed");
    Ok(())
}

#[test]
fn a_name_server_is_late_or_dead() -> Result<()> {
    let dns = Dns::start(NAME, ADDRESS)?;
    dns.set(Mode::Late(Duration::from_millis(700)));
    let found = look_up(&dns, "ahosts", NAME)?;
    assert_resolves(&found, ADDRESS)?;
    ensure!(found.took >= Duration::from_millis(700), "after {:?}", found.took);
    // One that is late keeps nobody else waiting.
    dns.set(Mode::Late(LIMIT));
    let mut late = Running::start(client::wrapped(&dns.prefix(), "getent").args(["ahosts", NAME]))?;
    wait_until(LIMIT, "the query", || dns.queries() == 2)?;
    dns.set(Mode::Dead);
    let mut dead = Running::start(client::wrapped(&dns.prefix(), "getent").args(["ahosts", NAME]))?;
    wait_until(LIMIT, "the query", || dns.queries() == 3)?;
    dns.set(Mode::Answer);
    assert_resolves(&look_up(&dns, "ahosts", NAME)?, ADDRESS)?;
    ensure!(late.ended()?.is_none() && dead.ended()?.is_none(), "an answer came");
    Ok(())
}

#[test]
fn programs_reach_a_server_by_its_name() -> Result<()> {
    let server = Server::start(&[])?;
    let dns = Dns::start(NAME, Ipv4Addr::LOCALHOST)?;
    let direct = |dns: &Dns| {
        let mut mysql = client::wrapped(&dns.prefix(), "mysql");
        mysql.args(["--no-defaults", "-h", NAME, "-P", &server.port().to_string(), "-N", "-e", "SELECT 1"]);
        process::run(mysql.args(client::account()), LIMIT)
    };
    ensure!(direct(&dns)?.success()?.text() == "1\n", "no answer");
    // A failure that may pass makes the client ask again for half a minute.
    dns.set(Mode::NoSuchName);
    let failed = direct(&dns)?;
    ensure!(failed.stderr.contains("Unknown server host") && failed.stderr.contains(NAME), "{failed:?}");
    dns.set(Mode::Answer);

    let upstream = format!("{NAME}:{}", server.port());
    let spillway = Spillway::to(&upstream).wrapper(&dns.prefix()).start()?;
    let name = fs::read_to_string(format!("/proc/{}/comm", spillway.pid()))?;
    ensure!(name == "spillway\n", "the process number is that of {name:?}");
    let before = dns.queries();
    ensure!(Raw::login(spillway.address()?)?.value("SELECT 1")? == "1", "no answer");
    ensure!(dns.queries() > before, "the name was not looked up");
    Ok(())
}

fn look_up(dns: &Dns, kind: &str, name: &str) -> Result<Finished> {
    process::run(client::wrapped(&dns.prefix(), "getent").args([kind, name]), LIMIT)
}

fn assert_resolves(found: &Finished, address: Ipv4Addr) -> Result<()> {
    let text = found.text();
    let first = text.split_whitespace().next();
    ensure!(found.code() == 0 && first == Some(&address.to_string()), "{found:?}");
    Ok(())
}

fn assert_fails(found: &Finished) -> Result<()> {
    ensure!(found.code() == 2 && found.stdout.is_empty() && found.stderr.is_empty(), "{found:?}");
    ensure!(found.took < Duration::from_secs(5), "after {:?}", found.took);
    Ok(())
}

const NAME: &str = "db.test";
const ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
const LIMIT: Duration = Duration::from_secs(60);
