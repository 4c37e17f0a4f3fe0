//! What the kernel holds of a connection: sent and not yet read.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

/// Waits until nothing is under way any more on the connections from or to the local port; gives the moment at which
/// the last bytes had been read.
///
/// That is not the moment at which the sender knows it: what it has sent counts as queued until it is acknowledged,
/// and a receiver with nothing to say puts that off by 40 ms.
pub fn wait_until_read(port: u16) -> Result<Instant> {
    let start = Instant::now();
    let mut read = None;
    loop {
        let table = fs::read_to_string(TABLE).context(TABLE)?;
        let now = Instant::now();
        let queued = sum(&table, port).with_context(|| format!("a line of {TABLE}"))?;
        if queued.received > 0 {
            read = None;
        }
        let read_at = *read.get_or_insert(now);
        if queued.sent == 0 && queued.received == 0 {
            return Ok(read_at);
        }
        ensure!(start.elapsed() < LIMIT, "{queued:?} bytes on port {port} are not read");
        sleep(PERIOD);
    }
}

/// Bytes in the queues of connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Queued {
    /// Not acknowledged.
    sent: u64,
    /// Not read.
    received: u64,
}

/// `sl local_address rem_address st tx_queue:rx_queue …`, all in hexadecimal.
fn sum(table: &str, port: u16) -> Option<Queued> {
    let port_of = |address: &str| u16::from_str_radix(address.rsplit_once(':')?.1, 16).ok();
    let mut queued = Queued::default();
    for line in table.lines().skip(1) {
        let mut fields = line.split_whitespace().skip(1);
        let local = port_of(fields.next()?)?;
        let remote = port_of(fields.next()?)?;
        // In the line of a listener the queue is one of connections.
        if fields.next()? != LISTEN && (local == port || remote == port) {
            let (sent, received) = fields.next()?.split_once(':')?;
            queued.sent += u64::from_str_radix(sent, 16).ok()?;
            queued.received += u64::from_str_radix(received, 16).ok()?;
        }
    }
    Some(queued)
}

const LIMIT: Duration = Duration::from_secs(60);
/// What is measured takes half a second and more.
const PERIOD: Duration = Duration::from_micros(200);
const TABLE: &str = "/proc/net/tcp";
const LISTEN: &str = "0A";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_queues_of_the_ports_connections_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid
   0: 0100007F:0CEA 00000000:0000 0A 00000000:00000003 00:00000000 00000000     0        0 1 1
   1: 0100007F:0CEA 0100007F:D431 01 00000010:00000001 00:00000000 00000000     0        0 2 1
   2: 0100007F:D431 0100007F:0CEA 01 00000000:00000100 00:00000000 00000000     0        0 3 1
   3: 0100007F:D431 0100007F:0CEB 01 00000007:00000007 00:00000000 00000000     0        0 4 1
";
        assert_eq!(sum(table, 3306), Some(Queued { sent: 0x10, received: 0x101 }));
    }
}
