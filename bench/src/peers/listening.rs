//! Whether a process listens, told without a connection to it: a proxy would pass that on to its server.

use std::fs;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};

/// Whether `address` (an IPv4 one) is listened on by a socket that process `pid` has open.
pub(super) fn is_listening(pid: u32, address: SocketAddr) -> Result<bool> {
    let table = fs::read_to_string(TABLE).context(TABLE)?;
    let inodes = listeners(&table, address);
    if inodes.is_empty() {
        return Ok(false);
    }
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        // It has ended; the caller sees that.
        return Ok(false);
    };
    Ok(files
        .flatten()
        // A descriptor may be closed between the listing and the look at it.
        .filter_map(|file| fs::read_link(file.path()).ok())
        .any(|target| inodes.iter().any(|inode| target.as_os_str() == format!("socket:[{inode}]").as_str())))
}

/// The inodes of the sockets. A line is `sl local_address rem_address st … inode`, addresses in hexadecimal, the IP
/// address in the byte order of the machine; the inode is the tenth field.
fn listeners(table: &str, address: SocketAddr) -> Vec<&str> {
    let IpAddr::V4(ip) = address.ip() else { return Vec::new() };
    let local = format!("{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), address.port());
    let fields = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields
        .filter(|fields| fields.len() > INODE && fields[1] == local && fields[3] == LISTEN)
        .map(|fields| fields[INODE])
        .collect()
}

const TABLE: &str = "/proc/net/tcp";
const LISTEN: &str = "0A";
const INODE: usize = 9;

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_listener_is_its_process_s() {
        let own = std::process::id();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert!(is_listening(own, address).unwrap());
        assert!(!is_listening(1, address).unwrap());
        drop(listener);
        assert!(!is_listening(own, address).unwrap());
    }
}
