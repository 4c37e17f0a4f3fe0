//! Settings, and where each of them comes from.

use std::collections::BTreeMap;
use std::fmt;

use super::keys::KEYS;
use super::settings::{AuthMode, Settings, UpstreamTlsMode};

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Flag,
    Variable(&'static str),
    /// Of the configuration file.
    Line(usize),
    /// Of the service manager.
    Passed,
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("flag"),
            Self::Variable(key) => write!(f, "variable SPILLWAY_{}", key.to_uppercase()),
            Self::Line(line) => write!(f, "line {line}"),
            Self::Passed => f.write_str("passed sockets"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// Settings and their origins.
#[derive(Clone, Debug, Default)]
pub(super) struct Layer {
    pub(super) settings: Settings,
    origins: BTreeMap<&'static str, Origin>,
}

impl Layer {
    /// Settings whose origin `origin` tells by key.
    pub(super) fn new(settings: Settings, origin: impl Fn(&'static str) -> Origin) -> Self {
        let given = KEYS.iter().filter(|key| settings.has(key));
        let origins = given.map(|key| (*key, origin(key))).collect();
        Self { settings, origins }
    }

    /// Where the value of `key` comes from, if there is one.
    pub(super) fn origin(&self, key: &str) -> Option<Origin> {
        self.origins.get(key).copied()
    }

    /// The line of the configuration file that gives `key`.
    pub(super) fn line(&self, key: &str) -> Option<usize> {
        match self.origin(key) {
            Some(Origin::Line(line)) => Some(line),
            _ => None,
        }
    }

    /// These, and those `below` where these say nothing.
    #[must_use]
    pub(super) fn over(self, mut below: Self) -> Self {
        below.origins.extend(self.origins);
        Self { settings: self.settings.or(below.settings), origins: below.origins }
    }

    /// These, and the defaults where these say nothing.
    #[must_use]
    pub(super) fn over_defaults(self) -> Self {
        let defaults = self.settings.defaults();
        self.over(Self::new(defaults, |_| Origin::Default))
    }

    /// These without the values of `keys`.
    #[must_use]
    pub(super) fn without(mut self, keys: &[&'static str]) -> Self {
        for key in keys {
            self.settings.clear(key);
            self.origins.remove(key);
        }
        self
    }

    /// A route's own settings, and those below where they say nothing and where what is below still makes sense: the
    /// parts of an account or of a certificate are not mixed, and nothing is taken over that would be of no use.
    #[must_use]
    pub(super) fn inheriting(self, mut below: Self) -> Self {
        let own = &self.settings;
        if own.credentials.is_some() {
            below = below.without(&["user", "password"]);
        }
        if own.user.is_some() || own.password.is_some() {
            below = below.without(&["credentials"]);
        }
        if own.auth.or(below.settings.auth) != Some(AuthMode::Stored) {
            below = below.without(&["credentials", "user", "password"]);
        }
        if own.tls_cert.is_some() {
            below = below.without(&["tls_key", "tls_self_signed"]);
        }
        if own.tls_self_signed == Some(true) {
            below = below.without(&["tls_cert", "tls_key"]);
        }
        if own.upstream_tls_cert.is_some() {
            below = below.without(&["upstream_tls_key"]);
        }
        if own.upstream_tls.is_some_and(|mode| mode < UpstreamTlsMode::VerifyCa) {
            below = below.without(&["upstream_tls_ca"]);
        }
        self.over(below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(toml: &str, line: usize) -> Layer {
        Layer::new(toml::from_str(toml).unwrap(), |_| Origin::Line(line))
    }

    /// What has a value in the end: `key line`.
    fn inherited(own: &str, below: &str) -> Vec<String> {
        let layer = layer(own, 2).inheriting(layer(below, 1));
        let given = KEYS.iter().filter(|key| layer.settings.has(key));
        given.map(|key| format!("{key} {}", layer.line(key).unwrap())).collect()
    }

    #[test]
    fn what_is_taken_over() {
        let account = "auth = 'stored'\nuser = 'a'\npassword = 'p'";
        for (own, below, expected) in [
            ("", "keepalive = '1s'", &["keepalive 1"][..]),
            ("keepalive = '2s'", "keepalive = '1s'", &["keepalive 2"]),
            ("", account, &["auth 1", "user 1", "password 1"]),
            ("user = 'b'", account, &["auth 1", "user 2", "password 1"]),
            ("credentials = '/c'", account, &["auth 1", "credentials 2"]),
            (
                "user = 'b'\npassword = ''",
                "auth = 'stored'\ncredentials = '/c'",
                &["auth 1", "user 2", "password 2"],
            ),
            // The account is that of other routes.
            ("auth = 'passthrough'", account, &["auth 2"]),
            ("", "user = 'a'\npassword = 'p'", &[]),
            ("auth = 'stored'", "user = 'a'\npassword = 'p'", &["auth 2", "user 1", "password 1"]),
            ("tls_cert = '/2'", "tls_cert = '/1'\ntls_key = '/1'", &["tls_cert 2"]),
            ("tls_self_signed = true", "tls_cert = '/1'\ntls_key = '/1'", &["tls_self_signed 2"]),
            ("tls_cert = '/2'", "tls_self_signed = true", &["tls_cert 2"]),
            ("upstream_tls = 'off'", "upstream_tls_ca = '/1'", &["upstream_tls 2"]),
            (
                "upstream_tls = 'verify-identity'",
                "upstream_tls_ca = '/1'",
                &["upstream_tls 2", "upstream_tls_ca 1"],
            ),
        ] {
            assert_eq!(inherited(own, below), expected, "{own:?} over {below:?}");
        }
    }
}
