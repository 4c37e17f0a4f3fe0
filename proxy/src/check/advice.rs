//! What to do about a server that cannot be reached or does not let Spillway in.

use std::io::ErrorKind;

use crate::backend::failure::{Cause, Phase};
use crate::packet_stream::PacketIoError;
use crate::tls::TlsFailure;

/// What to do about it, where the error's own text does not say so.
pub(super) fn advice(phase: Phase, cause: &Cause) -> Option<&'static str> {
    match (phase, cause) {
        (_, Cause::Told { code, .. }) => for_code(*code),
        (Phase::Resolve, Cause::Io(error)) if error.kind() == ErrorKind::TimedOut => {
            Some("see that the name servers in /etc/resolv.conf answer, or name the server by its address")
        }
        (Phase::Resolve, _) => {
            Some("see that the name is right, and that this host knows it (getent hosts NAME)")
        }
        (Phase::Connect, Cause::Io(error)) => for_connection(error.kind()),
        (Phase::Greeting, Cause::TimedOut(_)) => Some(
            "something takes connections there and keeps silent: see that it is a MySQL or MariaDB server, that it has \
             threads left, and that it does not wait for a name server (skip_name_resolve)",
        ),
        (Phase::Greeting, Cause::Lost(PacketIoError::Closed { .. } | PacketIoError::Io(_))) => Some(
            "see the server's error log; a load balancer or firewall between may have no server, or not let this host \
             through",
        ),
        (Phase::Greeting, Cause::Nonsense(_) | Cause::Lost(_)) => {
            Some("that is no MySQL or MariaDB server, or not its port for clients (3306 as a rule)")
        }
        (Phase::Tls, Cause::Tls(TlsFailure::Failed { .. })) => Some(
            "the server counts such connections against this host (max_connect_errors): FLUSH HOSTS there, when it is \
             mended",
        ),
        (Phase::Auth, Cause::TimedOut(_) | Cause::Lost(_)) => Some("see the server's error log"),
        _ => None,
    }
}

fn for_connection(kind: ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::ConnectionRefused => {
            Some("nothing listens there: see that the server runs, and its port and bind_address")
        }
        ErrorKind::TimedOut => {
            Some("see that the host is up, and that no firewall between drops what this host sends there")
        }
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            Some("see this host's routes, and that the address is right")
        }
        ErrorKind::NotFound => Some("see that the server runs, and where it has its socket (@@socket)"),
        ErrorKind::PermissionDenied => {
            Some("this host's own rules forbid it: firewall, or the socket's permissions")
        }
        _ => None,
    }
}

/// For the errors by which servers refuse.
fn for_code(code: u16) -> Option<&'static str> {
    match code {
        1040 => Some("wait, or raise max_connections on the server"),
        1045 | 1698 => Some(
            "see that user and password are right, and that the account is one for this host (SELECT user, host, plugin \
             FROM mysql.user)",
        ),
        1129 => Some("FLUSH HOSTS on the server, when what broke off its handshakes is found"),
        1130 => Some("make an account for this host, as the server names it"),
        1226 => Some("raise the account's limits (ALTER USER … WITH MAX_USER_CONNECTIONS …)"),
        1820 | 1862 => Some("the password has expired: give the account a new one (ALTER USER)"),
        3118 | 4151 => Some("the account is locked: ALTER USER … ACCOUNT UNLOCK"),
        3159 => Some("give --upstream-tls required"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn there_is_some_for_what_happens_often() {
        let io = |kind| Cause::Io(io::Error::from(kind));
        let told = |code| Cause::Told { code, message: String::new() };
        for (phase, cause, part) in [
            (Phase::Resolve, io(ErrorKind::Other), "getent"),
            (Phase::Resolve, io(ErrorKind::TimedOut), "resolv.conf"),
            (Phase::Connect, io(ErrorKind::ConnectionRefused), "bind_address"),
            (Phase::Connect, io(ErrorKind::TimedOut), "firewall"),
            (Phase::Greeting, Cause::Lost(PacketIoError::TooLong { len: 1 << 20 }), "3306"),
            (Phase::Greeting, Cause::Lost(PacketIoError::Closed { received: 0 }), "error log"),
            (Phase::Greeting, told(1129), "FLUSH HOSTS"),
            (Phase::Auth, told(1045), "password"),
        ] {
            let advice = advice(phase, &cause).unwrap_or_default();
            assert!(advice.contains(part), "{phase:?} {cause}: {advice}");
        }
        assert_eq!(advice(Phase::SetUp, &Cause::Unexpected), None);
    }
}
