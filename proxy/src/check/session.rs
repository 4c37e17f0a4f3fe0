//! What a server says once it has let Spillway in.

use std::time::Duration;

use bytesize::ByteSize;
use spillway_protocol::Capabilities;
use tokio::time::Instant;

use super::report::{About, Findings, SessionReport, Step};
use crate::backend::Reached;
use crate::backend::failure::Cause;
use crate::backend::query::query;
use crate::printable::printable;
use crate::session::{Proxy, TIMEOUTS, keepalive_interval, numbers_of_row, row_values, timeouts_statement};

/// Who the server is, and what it gives a session, after session-init.
const SETTINGS: &str = "SELECT @@version_comment, @@global.net_write_timeout, @@session.net_write_timeout, \
     @@session.net_read_timeout, @@session.max_allowed_packet";

/// The numbers of its row.
const NUMBERS: [&str; 4] = [
    "global.net_write_timeout",
    SESSION_NET_WRITE_TIMEOUT,
    "session.net_read_timeout",
    SESSION_MAX_ALLOWED_PACKET,
];
const SESSION_NET_WRITE_TIMEOUT: &str = "session.net_write_timeout";
const SESSION_MAX_ALLOWED_PACKET: &str = "session.max_allowed_packet";

/// A client that takes nothing for less than this must not lose its dump, even where the spool is full.
const LEAST_WRITE_TIMEOUT: u64 = 3600;
/// MariaDB's default. Rows of text and pictures are often longer than less.
const LEAST_PACKET: u64 = 16 << 20;

/// Sends the session-init statements and asks for the server's settings; each may take `limit`.
pub(super) async fn look_at(
    proxy: &Proxy,
    reached: &mut Reached,
    capabilities: Capabilities,
    limit: Duration,
    session: &mut SessionReport,
    findings: &mut Findings,
) -> Step {
    let began = Instant::now();
    let asked = match send_session_init(proxy, reached, capabilities, limit, findings).await {
        Ok(()) => ask(reached, capabilities, limit, session).await,
        Err(cause) => Err(cause),
    };
    let time = Some(began.elapsed());
    if let Err(cause) = asked {
        let text = format!("{} lets spillway in and then gives no answer: {cause}", reached.server);
        findings.problem(About::Session, text, Some("see the server's error log"));
        return Step::failed("settings", cause.to_string(), time);
    }
    judge(proxy, reached, session, findings);
    Step::ok("settings", describe(session), time)
}

/// A session goes on without the statements that the server refuses, and so does this.
async fn send_session_init(
    proxy: &Proxy,
    reached: &mut Reached,
    capabilities: Capabilities,
    limit: Duration,
    findings: &mut Findings,
) -> Result<(), Cause> {
    for sql in &proxy.session_init {
        match query(&mut reached.stream, sql, capabilities, limit).await {
            Err(cause @ Cause::Told { .. }) => {
                let text = format!(
                    "a session-init statement is refused, and sessions go on without it: {}: {cause}",
                    printable(sql.as_bytes())
                );
                findings.note(About::Session, text, Some("correct --session-init"));
            }
            answered => drop(answered?),
        }
    }
    Ok(())
}

async fn ask(
    reached: &mut Reached,
    capabilities: Capabilities,
    limit: Duration,
    session: &mut SessionReport,
) -> Result<(), Cause> {
    let row = query(&mut reached.stream, SETTINGS, capabilities, limit).await?;
    let comment = row_values(&row, capabilities).into_iter().next().unwrap_or_default();
    session.version_comment = printable(&comment);
    // The comment may be a number as well; those that are asked for are the last ones.
    let numbers = numbers_of_row(&row, capabilities);
    session.variables.extend(NUMBERS.into_iter().rev().zip(numbers.into_iter().rev()));
    let timeouts = timeouts_statement(reached.greeting.is_mariadb());
    match query(&mut reached.stream, timeouts, capabilities, limit).await {
        Ok(row) => session.variables.extend(TIMEOUTS.into_iter().zip(numbers_of_row(&row, capabilities))),
        // A MariaDB from before 10.3: sessions go on without, too.
        Err(Cause::Told { .. }) => {}
        Err(cause) => return Err(cause),
    }
    Ok(())
}

fn judge(proxy: &Proxy, reached: &Reached, session: &SessionReport, findings: &mut Findings) {
    let server = &reached.server;
    let timeouts: Vec<u64> =
        TIMEOUTS.iter().filter_map(|name| session.variables.get(name).copied()).collect();
    let interval = keepalive_interval(proxy.keepalive, &timeouts);
    if interval < proxy.keepalive {
        let text = format!(
            "{server} ends idle sessions after {} s: spillway gives a sign of life every {:.1} s",
            timeouts.iter().filter(|&&seconds| seconds > 0).min().copied().unwrap_or_default(),
            interval.as_secs_f32()
        );
        findings.note(About::Session, text, None);
    }
    if let Some(&seconds) = session.variables.get(SESSION_NET_WRITE_TIMEOUT)
        && seconds < LEAST_WRITE_TIMEOUT
    {
        let text = format!(
            "net_write_timeout is {seconds} s in spillway's sessions at {server}: once the spool is full, a dump is lost \
             whose client takes nothing for so long"
        );
        let advice = "leave --session-init at its default, or add SET SESSION net_write_timeout = 86400";
        findings.note(About::Session, text, Some(advice));
    }
    if let Some(&bytes) = session.variables.get(SESSION_MAX_ALLOWED_PACKET)
        && bytes < LEAST_PACKET
    {
        let text = format!(
            "max_allowed_packet is {} at {server}: a longer row ends a dump with an error",
            ByteSize(bytes)
        );
        findings.note(About::Session, text, Some("raise max_allowed_packet on the server"));
    }
}

/// One line: what holds for the session, and the server's own value where that is another one.
fn describe(session: &SessionReport) -> String {
    let of_session = session.variables.iter().filter_map(|(name, &value)| {
        let short = name.strip_prefix("session.")?;
        // 0: none.
        (value > 0 || !short.starts_with("idle_")).then_some((short, value))
    });
    let parts = of_session.map(|(short, value)| {
        let shown = match short {
            "max_allowed_packet" => ByteSize(value).to_string(),
            _ => format!("{value} s"),
        };
        let global = session.variables.iter().find(|(name, _)| name.strip_prefix("global.") == Some(short));
        match global.filter(|&(_, &global)| global != value) {
            Some((_, global)) => format!("{short} {shown} (global {global} s)"),
            None => format!("{short} {shown}"),
        }
    });
    let parts: Vec<String> = parts.collect();
    format!("{}: {}", session.version_comment, parts.join(", "))
}
