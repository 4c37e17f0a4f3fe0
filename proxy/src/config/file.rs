//! The configuration file.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use zeroize::Zeroizing;

use super::error::{ConfigError, Place};
use super::given::Given;
use super::keys::{KEYS, OF_PROCESS};
use super::layer::{Layer, Origin};
use super::settings::Settings;
use crate::credentials::check_private;
use crate::endpoint::Endpoint;

/// What a configuration file says.
#[derive(Debug, Default)]
pub(super) struct ConfigFile {
    /// What stands above the routes.
    pub(super) top: Layer,
    pub(super) routes: Vec<RouteTable>,
}

/// A `[[route]]`.
#[derive(Debug)]
pub(super) struct RouteTable {
    /// Where it begins.
    pub(super) line: usize,
    /// `name`, and its line.
    pub(super) name: Option<(String, usize)>,
    pub(super) own: Layer,
}

impl Settings {
    /// Adds the password of `SPILLWAY_PASSWORD`, and the configuration file's settings where neither flag nor variable
    /// has one. Routes are passed over.
    ///
    /// # Errors
    /// [`ConfigError`] if there is a file and it cannot be read or has mistakes.
    pub fn with_file(self) -> Result<Self, ConfigError> {
        let given = Given::from(self).layer();
        let file = match &given.settings.config {
            Some(path) => ConfigFile::read(path)?,
            None => ConfigFile::default(),
        };
        Ok(given.over(file.top).settings)
    }
}

impl ConfigFile {
    /// Reads it.
    ///
    /// # Errors
    /// [`ConfigError`] if it cannot be read, has mistakes, or holds a password and is open to others.
    pub(super) fn read(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(unreadable)?;
        let mut text = Zeroizing::new(String::new());
        file.read_to_string(&mut text).map_err(unreadable)?;
        let parsed = Self::parse(&text, path)?;
        if parsed.layers().any(|layer| layer.settings.has_password()) {
            check_private(path, &file.metadata().map_err(unreadable)?)?;
        }
        Ok(parsed)
    }

    /// Reads the text of the file at `path`.
    ///
    /// # Errors
    /// [`ConfigError::Malformed`].
    pub(super) fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        Text(text).parse().map_err(|mistake| mistake.at(path))
    }

    fn layers(&self) -> impl Iterator<Item = &Layer> {
        std::iter::once(&self.top).chain(self.routes.iter().map(|route| &route.own))
    }
}

/// What is wrong with a file, and where.
struct Mistake {
    line: usize,
    route: Option<String>,
    key: Option<String>,
    message: String,
}

impl Mistake {
    fn at(self, path: &Path) -> ConfigError {
        let Self { line, route, key, message } = self;
        // It may have a value in it, and goes to a terminal or a log.
        let message = message.replace(char::is_control, "\u{fffd}");
        let place = Box::new(Place { path: PathBuf::from(path), line, route, key });
        ConfigError::Malformed { place, message }
    }
}

/// Its text.
struct Text<'a>(&'a str);

impl<'a> Text<'a> {
    fn parse(&self) -> Result<ConfigFile, Mistake> {
        let mut root = DeTable::parse(self.0).map_err(|error| self.no_toml(&error))?;
        let routes = root.get_mut().remove_entry(ROUTE);
        let top = self.layer(root, &[], None)?;
        let Some((key, value)) = routes else { return Ok(ConfigFile { top, routes: Vec::new() }) };
        let no_tables = |span: &Range<usize>| Mistake {
            line: self.line(span.start),
            route: None,
            key: Some(ROUTE.to_owned()),
            message: "a route begins with [[route]], and its settings follow".to_owned(),
        };
        let DeValue::Array(tables) = value.into_inner() else { return Err(no_tables(&key.span())) };
        let tables = tables.into_iter().map(|table| match table.span() {
            span if table.get_ref().is_table() => self.route(&span, table.into_inner()),
            span => Err(no_tables(&span)),
        });
        Ok(ConfigFile { top, routes: tables.collect::<Result<_, _>>()? })
    }

    fn route(&self, span: &Range<usize>, table: DeValue<'a>) -> Result<RouteTable, Mistake> {
        let line = self.line(span.start);
        let mut table = match table {
            DeValue::Table(table) => table,
            _ => DeTable::new(),
        };
        let name = table.remove_entry(NAME).map(|(key, name)| (self.line(key.span().start), name));
        let name = match name {
            None => None,
            Some((line, name)) => match name.into_inner() {
                DeValue::String(name) if is_name(&name) => Some((name.into_owned(), line)),
                _ => {
                    return Err(Mistake {
                        line,
                        route: None,
                        key: Some(NAME.to_owned()),
                        message: "a route's name is a string in quotes, not empty, on one line".to_owned(),
                    });
                }
            },
        };
        let called = name.as_ref().map(|(name, _)| name.clone()).or_else(|| listen_text(&table));
        let own = self.layer(Spanned::new(span.clone(), table), &OF_PROCESS, called.as_deref())?;
        Ok(RouteTable { line, name, own })
    }

    /// The settings of a table, among which the `barred` must not be, for the route that is called so.
    fn layer(
        &self,
        table: Spanned<DeTable<'a>>,
        barred: &[&str],
        route: Option<&str>,
    ) -> Result<Layer, Mistake> {
        let mistake = |at: usize, key: Option<&str>, message: String| Mistake {
            line: self.line(at),
            route: route.map(ToOwned::to_owned),
            key: key.map(|key| key.escape_debug().to_string()),
            message,
        };
        let mut entries: Vec<(String, Range<usize>)> = Vec::new();
        for (key, value) in table.get_ref() {
            entries.push((key.get_ref().to_string(), key.span().start..value.span().end));
        }
        // The table has them by the alphabet.
        entries.sort_by_key(|(_, span)| span.start);
        for (key, span) in &entries {
            if !KEYS.contains(&key.as_str()) {
                return Err(mistake(span.start, Some(key), UNKNOWN_KEY.to_owned()));
            }
            if barred.contains(&key.as_str()) {
                return Err(mistake(span.start, Some(key), NOT_IN_ROUTE.to_owned()));
            }
        }
        let start = table.span().start;
        let settings = Settings::deserialize(toml::Deserializer::from(table)).map_err(|error| {
            let at = error.span().map_or(start, |span| span.start);
            let key = entries.iter().find(|(_, span)| span.contains(&at)).map(|(key, _)| key.as_str());
            let value = error.span().and_then(|span| self.0.get(span)).unwrap_or_default();
            let is_long = TRIPLE_QUOTES.iter().any(|quotes| value.contains(quotes));
            mistake(at, key, if is_long { NOT_SHOWN } else { error.message() }.to_owned())
        })?;
        let line = |key: &str| {
            let entry = entries.iter().find(|(known, _)| known == key);
            self.line(entry.map_or(start, |(_, span)| span.start))
        };
        Ok(Layer::new(settings, |key| Origin::Line(line(key))))
    }

    fn no_toml(&self, error: &toml::de::Error) -> Mistake {
        let at = error.span().map_or(0, |span| span.start);
        let message = error.message().to_owned();
        Mistake { line: self.line(at), route: None, key: self.key_around(at), message }
    }

    /// The key in whose line this is, if it is one that is known: other words of a broken file may be anything.
    fn key_around(&self, at: usize) -> Option<String> {
        let line = self.0.lines().nth(self.line(at) - 1)?;
        let (key, _) = line.split_once('=')?;
        KEYS.iter().chain(&[NAME]).find(|known| **known == key.trim()).map(ToString::to_string)
    }

    fn line(&self, at: usize) -> usize {
        let before = &self.0.as_bytes()[..at.min(self.0.len())];
        before.iter().filter(|&&byte| byte == b'\n').count() + 1
    }
}

/// Where a route listens, as it is written: what it is called, if it has no name.
fn listen_text(table: &DeTable<'_>) -> Option<String> {
    let listen = table.get("listen")?.get_ref();
    let first = listen.as_array().and_then(|all| all.iter().next()).map_or(listen, |first| first.get_ref());
    first.as_str().filter(|text| is_name(text)).map(ToOwned::to_owned)
}

/// Names stand in lines of the log.
fn is_name(text: &str) -> bool {
    !text.trim().is_empty() && !text.chars().any(char::is_control)
}

const ROUTE: &str = "route";
const NAME: &str = "name";
const UNKNOWN_KEY: &str =
    "there is no such setting: the keys are the options of spillway serve, with _ for -";
/// Between them is what stands in other lines, where the second ones are missing: it may be a password.
const TRIPLE_QUOTES: [&str; 2] = ["\"\"\"", "'''"];
const NOT_SHOWN: &str = "cannot be used, and is not shown, as triple quotes may hold more than was meant";
const NOT_IN_ROUTE: &str = "is for the whole process: put it above the first [[route]]";

/// A key of the file that may hold one string or a list of them.
#[derive(Deserialize)]
#[serde(untagged, expecting = "must be a string in quotes, or a list of them")]
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

pub(super) fn listen_address<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Endpoint>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Endpoint::parse_listen(&text).map(Some).map_err(serde::de::Error::custom)
}

pub(super) fn http_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Endpoint>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Endpoint::parse_http(&text).map(Some).map_err(serde::de::Error::custom)
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
mod tests;
