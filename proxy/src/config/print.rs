//! `--print-config`: the configuration in force, as a configuration file.

use std::fmt;
use std::path::PathBuf;

use clap::ValueEnum;
use toml::Value;

use super::keys::{KEYS, OF_PROCESS, SHARED};
use super::layer::Layer;
use super::routes::{Configuration, RouteSettings};
use super::secret::Secret;
use super::settings::{
    AuthMode, ClientCertMode, ClientTlsMode, LogFormat, SpoolCompress, TlsVersion, UpstreamCompression,
    UpstreamTlsMode,
};
use super::units::{LogLevel, Size, Span};
use crate::endpoint::Endpoint;
use crate::proxy_protocol::Network;

/// A value as it stands in a file, or why it does not.
pub(super) type Printed = Result<Value, &'static str>;

/// Settings that can be printed.
pub(super) trait Print {
    fn print(&self) -> Printed;
}

impl Configuration {
    /// Every setting in force by name, as text: those of the process, and those of each route with its name before them.
    /// Empty where nothing is set; passwords are not shown.
    pub(crate) fn variables(&self) -> Vec<(String, String)> {
        let [RouteSettings { name: None, layer, .. }] = self.routes() else {
            let process = variables(self.process(), is_of_process);
            let mut all: Vec<_> = process.map(|(key, text)| (key.to_owned(), text)).collect();
            for RouteSettings { name, layer, .. } in self.routes() {
                let name = name.as_deref().unwrap_or_default();
                let own = variables(layer, |key| !OF_PROCESS.contains(&key));
                all.extend(own.map(|(key, text)| (format!("{name}.{key}"), text)));
            }
            return all;
        };
        variables(layer, |_| true).map(|(key, text)| (key.to_owned(), text)).collect()
    }
}

/// What stands above the routes of a file.
fn is_of_process(key: &str) -> bool {
    OF_PROCESS.contains(&key) || SHARED.contains(&key)
}

fn variables(layer: &Layer, wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = (&'static str, String)> {
    KEYS.iter().copied().filter(move |key| wanted(key)).map(|key| {
        let text = match layer.settings.printed(key) {
            Some(Ok(value)) => text(value),
            Some(Err(reason)) => format!("({reason})"),
            None => String::new(),
        };
        (key, text)
    })
}

/// Without the quotes that a file needs.
fn text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        Value::Array(values) => values.into_iter().map(text).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// As a file that has the same effect, each value with its origin.
impl fmt::Display for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "# The configuration in force, and where each value comes from. Passwords are left out.\n",
        )?;
        let [RouteSettings { name: None, layer, .. }] = self.routes() else {
            print(f, self.process(), is_of_process)?;
            return self.routes().iter().try_for_each(|route| print_route(f, route));
        };
        print(f, layer, |_| true)
    }
}

/// All that holds for a route stands in its table, as what it takes over from above depends on what it says itself.
fn print_route(f: &mut fmt::Formatter<'_>, route: &RouteSettings) -> fmt::Result {
    f.write_str("\n[[route]]\n")?;
    if let Some(name) = &route.name {
        writeln!(f, "name = {}", Value::from(name.as_str()))?;
    }
    print(f, &route.layer, |key| !OF_PROCESS.contains(&key))
}

fn print(f: &mut fmt::Formatter<'_>, layer: &Layer, wanted: impl Fn(&str) -> bool) -> fmt::Result {
    for key in KEYS.iter().filter(|key| wanted(key)) {
        let (Some(printed), Some(origin)) = (layer.settings.printed(key), layer.origin(key)) else {
            continue;
        };
        match printed {
            Ok(value) => writeln!(f, "{key} = {value}  # {origin}")?,
            Err(reason) => writeln!(f, "# {key}: {reason}  # {origin}")?,
        }
    }
    Ok(())
}

impl Print for bool {
    fn print(&self) -> Printed {
        Ok((*self).into())
    }
}

impl Print for u32 {
    fn print(&self) -> Printed {
        Ok(i64::from(*self).into())
    }
}

impl Print for String {
    fn print(&self) -> Printed {
        Ok(self.as_str().into())
    }
}

impl Print for PathBuf {
    fn print(&self) -> Printed {
        self.to_str().map(Value::from).ok_or("not UTF-8, as a file must be: name it by a flag")
    }
}

impl Print for Secret {
    fn print(&self) -> Printed {
        Err("not shown")
    }
}

impl<T: Print> Print for Vec<T> {
    fn print(&self) -> Printed {
        self.iter().map(Print::print).collect::<Result<Vec<Value>, _>>().map(Value::from)
    }
}

/// Those that are written as they are shown.
macro_rules! print_as_shown {
    ($($type:ty),*) => {
        $(impl Print for $type {
            fn print(&self) -> Printed {
                Ok(self.to_string().into())
            }
        })*
    };
}

print_as_shown!(Endpoint, Network, Size, Span, LogLevel);

/// Those that are one of a few words, the same in a file as behind a flag.
macro_rules! print_by_word {
    ($($type:ty),*) => {
        $(impl Print for $type {
            fn print(&self) -> Printed {
                let word = self.to_possible_value().ok_or("has no word")?;
                Ok(word.get_name().into())
            }
        })*
    };
}

print_by_word!(
    AuthMode,
    ClientCertMode,
    ClientTlsMode,
    LogFormat,
    SpoolCompress,
    TlsVersion,
    UpstreamCompression,
    UpstreamTlsMode
);
