//! The list of all settings, and what is done with each of them by its key.

use super::print::{Print, Printed};
use super::settings::Settings;

/// Settings of the whole process, which no route can have for itself.
pub(super) const OF_PROCESS: [&str; 13] = [
    "spool_dir",
    "spool_min_free",
    "memory",
    "drain_limit_total",
    "busy_poll",
    "shutdown_grace",
    "metrics",
    "web",
    "web_password",
    "console",
    "console_password",
    "log_level",
    "log_format",
];

/// Settings of the process that only a start can change.
pub(super) const OF_START: [&str; 7] =
    ["spool_dir", "log_format", "metrics", "web", "web_password", "console", "console_password"];

/// Limits of the process, of which a route may have a share: one within that.
pub(super) const SHARED: [&str; 2] = ["spool_max", "max_sessions"];

/// Settings that a route does not take over from the rest of the file: what makes it a route of its own, and its shares.
pub(super) const OF_ROUTE: [&str; 4] = ["listen", "upstream", "spool_max", "max_sessions"];

macro_rules! by_key {
    ($($key:ident),* $(,)?) => {
        /// The keys of all settings, in the order in which they are printed.
        pub(super) const KEYS: &[&str] = &[$(stringify!($key)),*];

        impl Settings {
            /// These, and `others` where these say nothing.
            #[must_use]
            pub(super) fn or(self, others: Self) -> Self {
                Self {
                    $($key: self.$key.or(others.$key),)*
                    clients_own: self.clients_own.or(others.clients_own),
                    config: self.config.or(others.config),
                }
            }

            /// Whether there is a value for this key.
            pub(super) fn has(&self, key: &str) -> bool {
                match key {
                    $(stringify!($key) => self.$key.is_some(),)*
                    _ => false,
                }
            }

            /// Forgets the value for this key.
            pub(super) fn clear(&mut self, key: &str) {
                match key {
                    $(stringify!($key) => self.$key = None,)*
                    _ => {}
                }
            }

            /// Has for this key what `others` have.
            pub(super) fn take_over(&mut self, key: &str, others: &Self) {
                match key {
                    $(stringify!($key) => self.$key.clone_from(&others.$key),)*
                    _ => {}
                }
            }

            /// The value for this key as it stands in a file.
            pub(super) fn printed(&self, key: &str) -> Option<Printed> {
                match key {
                    $(stringify!($key) => self.$key.as_ref().map(Print::print),)*
                    _ => None,
                }
            }

            /// The keys whose values are not the same.
            pub(super) fn differing(&self, others: &Self) -> Vec<&'static str> {
                let differ = [$((stringify!($key), self.$key != others.$key)),*];
                differ.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect()
            }
        }
    };
}

by_key! {
    listen,
    upstream,
    log_level,
    log_format,
    metrics,
    web,
    web_password,
    console,
    console_password,
    shutdown_grace,
    allow,
    max_sessions,
    busy_poll,
    memory,
    memory_per_session,
    drain_limit,
    drain_limit_total,
    spool_dir,
    spool_max,
    spool_min_free,
    spool_compress,
    spool_encrypt,
    session_init,
    keepalive,
    keepalive_for,
    handshake_timeout,
    resolve_timeout,
    connect_timeout,
    greeting_timeout,
    auth_timeout,
    peer_timeout,
    login_timeout,
    auth,
    credentials,
    user,
    password,
    get_server_public_key,
    allow_cleartext,
    allow_socket_upstream,
    proxy_protocol_networks,
    tls,
    tls_cert,
    tls_key,
    tls_self_signed,
    tls_client_ca,
    tls_client_cert,
    upstream_tls,
    upstream_tls_ca,
    upstream_tls_cert,
    upstream_tls_key,
    upstream_tls_min_version,
    upstream_server_public_key,
    upstream_compression,
    upstream_proxy_protocol,
}

/// The key of an option: `upstream_tls` of `--upstream-tls`.
pub(super) fn key_of(option: &str) -> Option<&'static str> {
    let key = option.trim_start_matches('-').replace('-', "_");
    KEYS.iter().find(|known| **known == key).copied()
}

#[cfg(test)]
mod tests {
    use clap::Args as _;

    use super::*;

    #[test]
    fn every_option_has_its_key() {
        let command = Settings::augment_args(clap::Command::new("spillway"));
        for argument in command.get_arguments().filter(|argument| argument.get_id() != "config") {
            let option = format!("--{}", argument.get_long().unwrap());
            assert_eq!(key_of(&option), Some(argument.get_id().as_str()), "{option}");
        }
        // The passwords alone have no flag, and the file's own name has no key.
        assert_eq!(KEYS.len() - 3, command.get_arguments().count() - 1);
        assert!(SHARED.iter().all(|key| OF_ROUTE.contains(key)));
        assert!(OF_PROCESS.iter().chain(&OF_ROUTE).all(|key| KEYS.contains(key)));
    }
}
