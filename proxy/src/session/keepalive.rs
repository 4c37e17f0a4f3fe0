//! When an idle server session needs a sign of life, and how its timeouts are learned.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use spillway_protocol::{Capabilities, HEADER_LEN, PacketHeader, split_lenenc_int};
use tokio::time::{Instant, Sleep, sleep_until};

/// The timeouts that end an idle session, by MySQL's names. The derived table makes the server forget the warnings of
/// a session-init statement that it refused: a statement without a table keeps them for the client's SHOW WARNINGS.
const MYSQL_TIMEOUTS: &str =
    "SELECT @@session.wait_timeout, @@global.wait_timeout FROM (SELECT 1) AS forget_warnings";

/// MariaDB has more of them, for sessions that idle inside a transaction (from 10.3 on).
const MARIADB_TIMEOUTS: &str = "SELECT @@session.wait_timeout, @@global.wait_timeout, \
     @@session.idle_transaction_timeout, @@session.idle_readonly_transaction_timeout, \
     @@session.idle_write_transaction_timeout FROM (SELECT 1) AS forget_warnings";

/// The values of their only row, in this order.
pub(crate) const TIMEOUTS: [&str; 5] = [
    "session.wait_timeout",
    "global.wait_timeout",
    "session.idle_transaction_timeout",
    "session.idle_readonly_transaction_timeout",
    "session.idle_write_transaction_timeout",
];

/// The statement that asks for a server's idle timeouts, in seconds; 0 means none.
pub(crate) fn timeouts_statement(is_mariadb: bool) -> &'static str {
    if is_mariadb { MARIADB_TIMEOUTS } else { MYSQL_TIMEOUTS }
}

/// The interval between keepalives for a server with these timeouts (in seconds, 0 for none): `configured`, but never
/// more than a third of the smallest, so that one keepalive may be late.
pub(crate) fn keepalive_interval(configured: Duration, timeouts: &[u64]) -> Duration {
    let smallest = timeouts.iter().copied().filter(|&seconds| seconds > 0).min();
    smallest.map_or(configured, |seconds| configured.min(Duration::from_secs(seconds) / 3))
}

/// The clock of a session's keepalives.
pub(crate) struct Keepalive {
    interval: Duration,
    /// How long an idle client keeps its session; none: for ever.
    keep_for: Duration,
    timer: Pin<Box<Sleep>>,
}

impl Keepalive {
    /// Keepalives every `interval` (`--keepalive`), for `keep_for` (`--keepalive-for`) after the client took the last
    /// byte.
    pub(crate) fn new(interval: Duration, keep_for: Duration) -> Self {
        Self { interval, keep_for, timer: Box::pin(sleep_until(Instant::now() + interval)) }
    }

    /// How long an idle session without a transaction or lock is kept alive.
    pub(crate) fn keep_for(&self) -> Duration {
        self.keep_for
    }

    /// Takes the server's timeouts into account.
    pub(crate) fn respect(&mut self, timeouts: &[u64]) {
        let interval = keepalive_interval(self.interval, timeouts);
        if interval < self.interval {
            self.interval = interval;
            self.rearm();
        }
    }

    /// Ready once an interval; sets the next one.
    pub(crate) fn poll_tick(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        std::task::ready!(self.timer.as_mut().poll(cx));
        self.rearm();
        Poll::Ready(())
    }

    fn rearm(&mut self) {
        self.timer.as_mut().reset(Instant::now() + self.interval);
    }
}

/// The numbers of a result set's only row. NULLs and what is no number are left out.
pub(crate) fn numbers_of_row(packets: &[u8], capabilities: Capabilities) -> Vec<u64> {
    let numbers = row_values(packets, capabilities).into_iter();
    numbers.filter_map(|value| std::str::from_utf8(&value).ok()?.parse().ok()).collect()
}

/// The values of a result set's only row, up to the first NULL.
pub(crate) fn row_values(packets: &[u8], capabilities: Capabilities) -> Vec<Vec<u8>> {
    let mut payloads = payloads(packets);
    let columns = payloads.next().and_then(split_lenenc_int).map_or(0, |(columns, _)| columns as usize);
    let definitions_eof = usize::from(!capabilities.contains(Capabilities::DEPRECATE_EOF));
    // A server may claim any number of columns; what it has sent is all here.
    let mut row = payloads.nth(columns.saturating_add(definitions_eof)).unwrap_or_default();
    let mut values = Vec::new();
    while let Some((len, rest)) = split_lenenc_int(row).filter(|_| values.len() < columns) {
        let Some((value, rest)) = rest.split_at_checked(len as usize) else {
            break;
        };
        values.push(value.to_vec());
        row = rest;
    }
    values
}

fn payloads(mut packets: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let header = PacketHeader::decode(*packets.first_chunk()?);
        let (packet, rest) = packets.split_at_checked(HEADER_LEN + header.payload_len as usize)?;
        packets = rest;
        Some(&packet[HEADER_LEN..])
    })
}

#[cfg(test)]
mod tests {
    use spillway_protocol::encode_packet;

    use super::*;

    #[tokio::test]
    async fn a_third_of_the_smallest_timeout_bounds_the_interval() {
        let mut keepalive = Keepalive::new(Duration::from_secs(10), Duration::ZERO);
        keepalive.respect(&[28_800, 0, 0]);
        assert_eq!(keepalive.interval, Duration::from_secs(10));
        keepalive.respect(&[28_800, 3, 0]);
        assert_eq!(keepalive.interval, Duration::from_secs(1));
        keepalive.respect(&[]);
        assert_eq!(keepalive.interval, Duration::from_secs(1));
    }

    #[test]
    fn the_row_is_found_with_and_without_eof_packets() {
        for (capabilities, eof) in [(Capabilities::PROTOCOL_41, true), (Capabilities::DEPRECATE_EOF, false)] {
            let mut packets: Vec<u8> = [&[2][..], b"\x03def", b"\x03def"]
                .iter()
                .flat_map(|payload| encode_packet(1, payload))
                .collect();
            if eof {
                packets.extend(encode_packet(4, &[0xfe, 0, 0, 2, 0]));
            }
            packets.extend(encode_packet(5, b"\x0528800\x013"));
            assert_eq!(numbers_of_row(&packets, capabilities), [28_800, 3]);
        }
    }

    #[test]
    fn a_row_of_more_columns_than_there_can_be_is_none() {
        let packets = [
            encode_packet(1, b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\0"),
            encode_packet(2, &[0xfe, 0, 0, 2, 0]),
            encode_packet(3, b"\x0242"),
            encode_packet(4, &[0xfe, 0, 0, 2, 0]),
        ];
        for capabilities in [Capabilities::PROTOCOL_41, Capabilities::DEPRECATE_EOF] {
            assert_eq!(numbers_of_row(&packets.concat(), capabilities), [0; 0]);
        }
    }
}
