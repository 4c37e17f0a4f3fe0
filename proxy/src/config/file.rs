//! The configuration file, and the variable that no flag has.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use super::Settings;
use super::error::ConfigError;
use super::secret::Secret;
use crate::credentials::{PASSWORD_VARIABLE, check_private};
use crate::endpoint::Endpoint;

impl Settings {
    /// Adds the password of `SPILLWAY_PASSWORD`, and the configuration file's settings where neither flag nor variable
    /// has one.
    ///
    /// # Errors
    /// [`ConfigError`] if there is a file and it cannot be read or has mistakes.
    pub fn with_file(mut self) -> Result<Self, ConfigError> {
        if self.password.is_none() {
            self.password = std::env::var_os(PASSWORD_VARIABLE).map(Secret::from_variable);
        }
        let Some(path) = self.config.clone() else {
            return Ok(self);
        };
        let file = Self::read(&path)?;
        Ok(Self {
            upstream: self.upstream.or(file.upstream),
            listen: self.listen.or(file.listen),
            spool_dir: self.spool_dir.or(file.spool_dir),
            spool_max: self.spool_max.or(file.spool_max),
            spool_min_free: self.spool_min_free.or(file.spool_min_free),
            spool_compress: self.spool_compress.or(file.spool_compress),
            drain_limit: self.drain_limit.or(file.drain_limit),
            drain_limit_total: self.drain_limit_total.or(file.drain_limit_total),
            memory_per_session: self.memory_per_session.or(file.memory_per_session),
            busy_poll: self.busy_poll.or(file.busy_poll),
            memory: self.memory.or(file.memory),
            keepalive: self.keepalive.or(file.keepalive),
            keepalive_for: self.keepalive_for.or(file.keepalive_for),
            handshake_timeout: self.handshake_timeout.or(file.handshake_timeout),
            resolve_timeout: self.resolve_timeout.or(file.resolve_timeout),
            connect_timeout: self.connect_timeout.or(file.connect_timeout),
            greeting_timeout: self.greeting_timeout.or(file.greeting_timeout),
            auth_timeout: self.auth_timeout.or(file.auth_timeout),
            auth: self.auth.or(file.auth),
            credentials: self.credentials.or(file.credentials),
            user: self.user.or(file.user),
            password: self.password.or(file.password),
            clients_own: self.clients_own,
            tls: self.tls.or(file.tls),
            tls_cert: self.tls_cert.or(file.tls_cert),
            tls_key: self.tls_key.or(file.tls_key),
            tls_self_signed: self.tls_self_signed.or(file.tls_self_signed),
            tls_client_ca: self.tls_client_ca.or(file.tls_client_ca),
            tls_client_cert: self.tls_client_cert.or(file.tls_client_cert),
            upstream_tls: self.upstream_tls.or(file.upstream_tls),
            upstream_tls_ca: self.upstream_tls_ca.or(file.upstream_tls_ca),
            upstream_tls_cert: self.upstream_tls_cert.or(file.upstream_tls_cert),
            upstream_tls_key: self.upstream_tls_key.or(file.upstream_tls_key),
            upstream_tls_min_version: self.upstream_tls_min_version.or(file.upstream_tls_min_version),
            upstream_server_public_key: self.upstream_server_public_key.or(file.upstream_server_public_key),
            get_server_public_key: self.get_server_public_key.or(file.get_server_public_key),
            allow_cleartext: self.allow_cleartext.or(file.allow_cleartext),
            upstream_compression: self.upstream_compression.or(file.upstream_compression),
            session_init: self.session_init.or(file.session_init),
            shutdown_grace: self.shutdown_grace.or(file.shutdown_grace),
            allow_socket_upstream: self.allow_socket_upstream.or(file.allow_socket_upstream),
            upstream_proxy_protocol: self.upstream_proxy_protocol.or(file.upstream_proxy_protocol),
            proxy_protocol_networks: self.proxy_protocol_networks.or(file.proxy_protocol_networks),
            log_level: self.log_level.or(file.log_level),
            config: self.config,
        })
    }

    fn read(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(unreadable)?;
        let mut text = Zeroizing::new(String::new());
        file.read_to_string(&mut text).map_err(unreadable)?;
        let settings: Self = toml::from_str(&text).map_err(|error| {
            let before = error.span().map_or("", |span| &text[..span.start.min(text.len())]);
            let line = before.matches('\n').count() + 1;
            ConfigError::Malformed { path: path.to_owned(), line, message: error.message().to_owned() }
        })?;
        if settings.password.is_some() {
            check_private(path, &file.metadata().map_err(unreadable)?)?;
        }
        Ok(settings)
    }
}

/// A key of the file that may hold one string or a list of them.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

pub(super) fn one_or_many<'de, D, T>(deserializer: D) -> Result<Option<Vec<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    parsed_list(deserializer, |text| text.parse().map_err(|error: T::Err| error.to_string()))
}

pub(super) fn listen_addresses<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<Endpoint>>, D::Error> {
    parsed_list(deserializer, |text| Endpoint::parse_listen(text).map_err(|error| error.to_string()))
}

fn parsed_list<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<Vec<T>>, D::Error> {
    let texts = match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(text) => vec![text],
        OneOrMany::Many(texts) => texts,
    };
    let values: Result<Vec<T>, String> = texts.iter().map(|text| parse(text)).collect();
    values.map(Some).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::super::units::Size;
    use super::*;

    fn settings(toml: &str) -> Result<Settings, ConfigError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, toml).unwrap();
        Settings { config: Some(file.path().to_owned()), ..Settings::default() }.with_file()
    }

    #[test]
    fn a_file_fills_in_what_flags_leave_out() {
        let file =
            settings("upstream = 'db1:3307'\nmemory = '64MiB'\nkeepalive = '2s'\nsession_init = []").unwrap();
        assert_eq!(file.upstream.unwrap()[0].to_string(), "db1:3307");
        assert_eq!(file.memory, Some(Size(64 << 20)));
        assert_eq!(file.session_init, Some(vec![]));
    }

    #[test]
    fn mistakes_in_a_file_are_named_with_their_line() {
        let error = settings("memory = '1GiB'\nspool_max = 'many'").unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("many"), "{error}");
        let error = settings("\nspool_mux = '1GiB'").unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("spool_mux"), "{error}");
    }

    #[test]
    fn a_file_with_a_password_must_be_private() {
        let text = "auth = 'stored'\nuser = 'backup'\npassword = 'secret'";
        let read = |mode, text: &str| {
            let file = tempfile::NamedTempFile::new().unwrap();
            fs::write(&file, text).unwrap();
            fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
            Settings { config: Some(file.path().to_owned()), ..Settings::default() }.with_file()
        };
        assert_eq!(read(0o600, text).unwrap().password.unwrap().as_bytes(), b"secret");
        assert!(read(0o644, "user = 'backup'").is_ok());
        let error = read(0o640, text).unwrap_err().to_string();
        assert!(error.contains("chmod 600") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn no_mistake_shows_the_password() {
        for value in [
            "4711",
            "-4711",
            "47.11",
            "4711e5",
            "true4711",
            "true",
            "4711-01-02",
            "[4711]",
            "{ a = '4711' }",
            "4711x",
            "99999999999999999999994711",
            "'4711",
            "\"4711\\x\"",
            "\"4711\u{7}\"",
            "4711 4712",
            "'4711'x",
            "0x4711",
            "04711",
            "inf",
        ] {
            let text = format!("user = 'a'\npassword = {value}\n");
            match settings(&text) {
                Ok(settings) => panic!("{value}: {settings:?}"),
                Err(error) => {
                    let shown = format!("{error} {error:?}");
                    assert!(shown.contains("line 2") && !shown.contains("4711"), "{value}: {shown}");
                }
            }
        }
    }
}
