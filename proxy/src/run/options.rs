//! The options that a client knows, and how an option name given by the user is resolved against them.

use std::collections::BTreeMap;

/// Whether an option takes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arity {
    /// Never as an argument of its own; `my_getopt` takes `--name=0` for any boolean all the same.
    Flag,
    /// Always: `--name=value`, `--name value`, `-nvalue`, `-n value`.
    Required,
    /// Only attached: `--name[=value]`, `-n[value]`.
    Optional,
    /// The help does not say (mydumper) and we do not know the option.
    Unknown,
}

/// One option of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OptionSpec {
    /// The long name, without dashes in front.
    pub(crate) name: String,
    /// The letter of the short form.
    pub(crate) short: Option<u8>,
    /// Whether it takes a value.
    pub(crate) arity: Arity,
}

/// Who built the client: they differ in what follows from the same options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// Oracle's clients, and MariaDB's before 10.6: only `--protocol` chooses a protocol.
    Plain,
    /// MariaDB's since 10.6: `--port` and `--socket` on the command line choose a protocol too.
    MariaDb,
}

/// What the help of a client says.
#[derive(Clone, Debug)]
pub(crate) struct OptionTable {
    /// The options in the order of the help.
    pub(crate) specs: Vec<OptionSpec>,
    /// Built-in values, from the table at the end of the help.
    pub(crate) defaults: BTreeMap<String, String>,
    /// The groups of option files that are read.
    pub(crate) groups: Vec<String>,
    /// Who built it.
    pub(crate) flavour: Flavour,
    /// The help says that `MARIADB_HOST` is looked at.
    pub(crate) uses_mariadb_host: bool,
    /// `--ssl-mode=DISABLED` is taken.
    pub(crate) disables_tls: bool,
}

/// What a long option name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resolved<'a> {
    /// This option. A value stands for what a prefix makes of it, as `--skip-ssl` means `--ssl=0`.
    Known(&'a OptionSpec, Option<Switch>),
    /// No option, or more than one: the client will refuse it.
    Refused,
}

/// What `--skip-`, `--disable-` and `--enable-` set an option to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Switch {
    /// As `--name=1`.
    On,
    /// As `--name=0`.
    Off,
}

impl OptionTable {
    /// The option with exactly this long name.
    pub(crate) fn exact(&self, name: &str) -> Option<&OptionSpec> {
        self.specs.iter().find(|spec| spec.name == name)
    }

    /// The option with this letter.
    pub(crate) fn short(&self, letter: u8) -> Option<&OptionSpec> {
        self.specs.iter().find(|spec| spec.short == Some(letter))
    }

    /// Resolves a long name (and the value behind `=`) as `my_getopt` does: the full name or an unambiguous
    /// beginning of it, `_` for `-`, any case (MariaDB), and, where that finds nothing, without a prefix like
    /// `skip-`. Of several prefixes the last one counts.
    pub(crate) fn resolve(&self, name: &[u8], value: Option<&[u8]>) -> Resolved<'_> {
        let mut rest = String::from_utf8_lossy(name).to_ascii_lowercase().replace('_', "-");
        let mut prefix = None;
        loop {
            match self.find(&rest) {
                Found::One(spec) => {
                    let switch = prefix.and_then(|prefix| switch_of(prefix, value));
                    return Resolved::Known(spec, switch);
                }
                Found::Several => return Resolved::Refused,
                Found::None => {}
            }
            let Some((found, stripped)) = strip_special_prefix(&rest) else {
                return Resolved::Refused;
            };
            prefix = Some(found);
            rest = stripped;
        }
    }

    fn find(&self, beginning: &str) -> Found<'_> {
        let mut found = Found::None;
        for spec in &self.specs {
            let name = spec.name.to_ascii_lowercase();
            if name == beginning {
                return Found::One(spec);
            }
            if name.starts_with(beginning) {
                found = match found {
                    Found::None => Found::One(spec),
                    // Listed twice with two letters, as `--help` of mysql.
                    Found::One(first) if first.name == spec.name => found,
                    _ => Found::Several,
                };
            }
        }
        found
    }
}

#[derive(Clone, Copy)]
enum Found<'a> {
    None,
    One(&'a OptionSpec),
    Several,
}

fn strip_special_prefix(name: &str) -> Option<(&'static str, String)> {
    SPECIAL_PREFIXES.into_iter().find_map(|prefix| {
        let rest = name.strip_prefix(prefix)?.strip_prefix('-')?;
        Some((prefix, rest.to_owned()))
    })
}

/// `--skip-ssl=0` is a double negation, and `--enable-ssl=0` is none; any other value is ignored.
fn switch_of(prefix: &str, value: Option<&[u8]>) -> Option<Switch> {
    let zero = value == Some(b"0");
    match (prefix, zero) {
        ("skip" | "disable", false) | ("enable", true) => Some(Switch::Off),
        ("skip" | "disable", true) | ("enable", false) => Some(Switch::On),
        _ => None,
    }
}

/// <https://dev.mysql.com/doc/refman/8.4/en/option-modifiers.html>; `autoset` is MariaDB's.
const SPECIAL_PREFIXES: [&str; 6] = ["skip", "disable", "enable", "maximum", "loose", "autoset"];

#[cfg(test)]
mod tests {
    use super::super::help::tests::{mariadb_dump, mysql_dump};
    use super::*;

    fn name_of(resolved: Resolved<'_>) -> &str {
        match resolved {
            Resolved::Known(spec, None) => &spec.name,
            Resolved::Known(_, Some(Switch::On)) => "on",
            Resolved::Known(_, Some(Switch::Off)) => "off",
            Resolved::Refused => "refused",
        }
    }

    #[test]
    fn names_are_resolved_as_the_clients_do() {
        let table = mariadb_dump();
        for (given, expected) in [
            ("host", "host"),
            ("hos", "host"),
            ("ho", "host"),
            ("h", "refused"), // help, hex-blob, host
            ("HOST", "host"),
            ("ssl", "ssl"), // a full name, though it begins others
            ("ssl-c", "refused"),
            ("ssl_verify_server_cert", "ssl-verify-server-cert"),
            ("ssl-v", "ssl-verify-server-cert"),
            ("loose-host", "host"),
            ("loose-hos", "host"),
            ("maximum-port", "port"),
            ("skip-ssl", "off"),
            ("disable_ssl", "off"),
            ("enable-ssl", "on"),
            ("loose-skip-ssl", "off"),
            ("skip-loose-ssl", "ssl"), // the last prefix counts
            ("skip-opt", "skip-opt"),  // an option of its own
            ("nonsense", "refused"),
            ("loose-nonsense", "refused"),
        ] {
            assert_eq!(name_of(table.resolve(given.as_bytes(), None)), expected, "{given}");
        }
    }

    #[test]
    fn double_negation() {
        let table = mariadb_dump();
        assert_eq!(name_of(table.resolve(b"skip-ssl", Some(b"0"))), "on");
        assert_eq!(name_of(table.resolve(b"enable-ssl", Some(b"0"))), "off");
        assert_eq!(name_of(table.resolve(b"skip-ssl", Some(b"1"))), "off");
    }

    #[test]
    fn names_that_are_no_utf_8_are_refused() {
        assert_eq!(mariadb_dump().resolve(b"ho\xff", None), Resolved::Refused);
    }

    #[test]
    fn without_an_option_of_that_name_a_beginning_of_several_is_ambiguous() {
        // MySQL 8 has no `--ssl` any more.
        assert_eq!(name_of(mysql_dump().resolve(b"ssl", None)), "refused");
        assert_eq!(name_of(mysql_dump().resolve(b"ssl-m", None)), "ssl-mode");
    }

    #[test]
    fn short_forms() {
        let table = mariadb_dump();
        assert_eq!(table.short(b'h').map(|spec| spec.name.as_str()), Some("host"));
        assert_eq!(table.short(b'j'), None);
    }
}
