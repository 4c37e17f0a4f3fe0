//! Settings of the command line and of variables, and which of the two each comes from.

use std::collections::BTreeSet;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches};

use super::keys::KEYS;
use super::layer::{Layer, Origin};
use super::secret::Secret;
use super::settings::Settings;
use crate::credentials::PASSWORD_VARIABLE;
use crate::endpoint::Endpoint;

/// As the server's password's, for those of Spillway's own.
const WEB_PASSWORD_VARIABLE: &str = "SPILLWAY_WEB_PASSWORD";
const CONSOLE_PASSWORD_VARIABLE: &str = "SPILLWAY_CONSOLE_PASSWORD";

/// What flags and variables say.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// The settings.
    pub settings: Settings,
    /// Keys whose value is a variable's.
    variables: BTreeSet<&'static str>,
    /// Where sockets listen that the service manager has passed: in the place of `listen`, where that says nothing.
    pub(super) passed: Vec<Endpoint>,
}

impl Given {
    /// With sockets that listen there already.
    #[must_use]
    pub fn listening_on(self, passed: Vec<Endpoint>) -> Self {
        Self { passed, ..self }
    }

    /// The settings with their origins, and the passwords, whose variables clap does not know.
    pub(super) fn layer(&self) -> Layer {
        let mut given = self.clone();
        let Settings { password, web_password, console_password, .. } = &mut given.settings;
        for (key, variable, password) in [
            ("password", PASSWORD_VARIABLE, password),
            ("web_password", WEB_PASSWORD_VARIABLE, web_password),
            ("console_password", CONSOLE_PASSWORD_VARIABLE, console_password),
        ] {
            if password.is_none() {
                *password = std::env::var_os(variable).map(Secret::from_variable);
                given.variables.insert(key);
            }
        }
        Layer::new(given.settings, |key| match given.variables.contains(key) {
            true => Origin::Variable(key),
            false => Origin::Flag,
        })
    }
}

impl From<Settings> for Given {
    fn from(settings: Settings) -> Self {
        Self { settings, ..Self::default() }
    }
}

impl FromArgMatches for Given {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let is_variable = |key: &str| {
            // A password has no flag, and asking for an argument that there is not panics.
            matches.try_contains_id(key).unwrap_or(false)
                && matches.value_source(key) == Some(ValueSource::EnvVariable)
        };
        let variables = KEYS.iter().copied().filter(|key| is_variable(key)).collect();
        Ok(Self { settings: Settings::from_arg_matches(matches)?, variables, passed: Vec::new() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Given {
    fn augment_args(command: Command) -> Command {
        Settings::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Settings::augment_args_for_update(command)
    }
}
