//! Reads the `--help` of a client into an [`OptionTable`].
//!
//! `my_getopt` prints every option in one shape, from the very table it parses the command line with:
//!
//! ```text
//!   -h, --host=name     Connect to host.
//!   -p, --password[=name]
//!                       Password to use when connecting to server.
//!   --hex-blob          Dump binary strings (BINARY, VARBINARY, BLOB) in
//!                       hexadecimal format.
//!
//! Variables (--variable-name=value)
//! and boolean options {FALSE|TRUE}  Value (after reading options)
//! --------------------------------- ----------------------------------------
//! host                              (No default value)
//! ```
//!
//! GLib prints options in nearly the same shape, without telling which take a value: see [`super::mydumper`].

use std::collections::BTreeMap;

use super::error::QueryProblem;
use super::options::{Arity, Flavour, OptionSpec, OptionTable};

/// Reads the help of a client of MySQL or MariaDB.
pub(crate) fn parse(help: &str) -> Result<OptionTable, QueryProblem> {
    let table = OptionTable {
        specs: help.lines().filter_map(parse_option).collect(),
        defaults: parse_defaults(help),
        groups: parse_groups(help),
        flavour: parse_flavour(help),
        uses_mariadb_host: help.contains("$MARIADB_HOST"),
        disables_tls: true,
    };
    require(&table, &["host", "port", "protocol", "socket"])?;
    Ok(table)
}

/// Makes sure that the help was understood: every client has these options.
pub(crate) fn require(table: &OptionTable, names: &[&'static str]) -> Result<(), QueryProblem> {
    match names.iter().find(|name| table.exact(name).is_none()) {
        Some(missing) => Err(QueryProblem::Unreadable(missing)),
        None => Ok(()),
    }
}

/// Reads a line that introduces an option: two blanks, then the short form (if any) and the long one.
pub(crate) fn parse_option(line: &str) -> Option<OptionSpec> {
    let option = line.strip_prefix("  ").filter(|rest| rest.starts_with('-'))?;
    let (short, long) = match option.strip_prefix("--") {
        Some(long) => (None, long),
        None => {
            // MySQL 8 prints `-,, --password1[=name]`: the letter may be anything.
            let (short, long) = option.split_once(", --")?;
            (Some(*short.as_bytes().get(1)?), long)
        }
    };
    let word = long.split(' ').next()?;
    let (name, arity) = match word.split_once("[=") {
        Some((name, _)) => (name, Arity::Optional),
        None => match word.split_once('=') {
            Some((name, _)) => (name, Arity::Required),
            None => (word, Arity::Flag),
        },
    };
    (!name.is_empty()).then(|| OptionSpec { name: name.to_owned(), short, arity })
}

/// Reads the table of built-in values, which an empty line ends.
fn parse_defaults(help: &str) -> BTreeMap<String, String> {
    help.lines()
        .skip_while(|line| !line.starts_with("Variables (--variable-name=value)"))
        .skip_while(|line| !line.starts_with("-----"))
        .skip(1)
        .take_while(|line| !line.trim().is_empty())
        .filter_map(|line| line.split_once(' '))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .filter(|(_, value)| !value.is_empty() && value != "(No default value)")
        .collect()
}

fn parse_groups(help: &str) -> Vec<String> {
    help.lines()
        .find_map(|line| line.strip_prefix("The following groups are read: "))
        .map(|groups| groups.split_whitespace().map(str::to_owned).collect())
        .unwrap_or_default()
}

/// All clients of MariaDB name MariaDB in their first lines, though not all name their version there (mysqlbinlog does
/// not): one without a version is taken for a current one.
fn parse_flavour(help: &str) -> Flavour {
    let head = || help.lines().take_while(|line| !line.starts_with("Default options"));
    if !head().any(|line| line.contains("MariaDB")) {
        return Flavour::Plain;
    }
    match head().find_map(mariadb_version) {
        Some(version) if version < MARIADB_CHOOSES_PROTOCOL => Flavour::Plain,
        _ => Flavour::MariaDb,
    }
}

/// Finds `10.11.19-MariaDB` in `mysqldump  Ver 10.19 Distrib 10.11.19-MariaDB, for debian-linux-gnu (x86_64)`.
fn mariadb_version(line: &str) -> Option<(u32, u32)> {
    let word = line.split_whitespace().find(|word| word.contains("-MariaDB"))?;
    let mut numbers = word.split(['.', '-']).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Some((major, minor)),
        _ => None,
    }
}

/// The first series in which `--port` and `--socket` choose the protocol (MDEV-14974). How they do was tried with
/// 10.11.19; some releases before it gave `--protocol`, or the socket where both were given, the precedence.
const MARIADB_CHOOSES_PROTOCOL: (u32, u32) = (10, 6);

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// mysqldump of MariaDB 10.11, shortened.
    pub(crate) fn mariadb_dump() -> OptionTable {
        parse(MARIADB_DUMP).expect("the fixture is complete")
    }

    /// mysqldump in the shape of MariaDB 11.4 and newer ones: they check certificates by default.
    pub(crate) fn mariadb_dump_11() -> OptionTable {
        parse(&mariadb_dump_11_help()).expect("the fixture is complete")
    }

    pub(crate) fn mariadb_dump_11_help() -> String {
        let verify = "ssl-verify-server-cert            ";
        let fingerprint = "  --ssl-fp=name       Server certificate fingerprint (implies --ssl).\n";
        MARIADB_DUMP
            .replace("10.11.19", "11.8.9")
            .replace(&format!("{verify}FALSE"), &format!("{verify}TRUE"))
            .replace("  --tls-version=name", &format!("{fingerprint}  --tls-version=name"))
    }

    /// The mysql client of MariaDB 10.11, shortened.
    pub(crate) fn mariadb() -> OptionTable {
        parse(include_str!("fixtures/mariadb-10.11.help")).expect("the fixture is complete")
    }

    /// mysqldump in the shape of MySQL 8 and 9.
    pub(crate) fn mysql_dump() -> OptionTable {
        parse(MYSQL_DUMP).expect("the fixture is complete")
    }

    pub(crate) const MARIADB_DUMP: &str = include_str!("fixtures/mariadb-dump-10.11.help");
    pub(crate) const MYSQL_DUMP: &str = include_str!("fixtures/mysqldump-9.help");

    fn spec(name: &str, short: Option<u8>, arity: Arity) -> OptionSpec {
        OptionSpec { name: name.into(), short, arity }
    }

    #[test]
    fn lines_of_options() {
        for (line, expected) in [
            ("  -h, --host=name     Connect to host.", spec("host", Some(b'h'), Arity::Required)),
            ("  -p, --password[=name] ", spec("password", Some(b'p'), Arity::Optional)),
            ("  -#, --debug[=#]     This is a", spec("debug", Some(b'#'), Arity::Optional)),
            ("  -?, --help          Display", spec("help", Some(b'?'), Arity::Flag)),
            ("  --add-drop-database Add a DROP", spec("add-drop-database", None, Arity::Flag)),
            ("  --max-allowed-packet=# ", spec("max-allowed-packet", None, Arity::Required)),
            ("  -,, --password1[=name] ", spec("password1", Some(b','), Arity::Optional)),
        ] {
            assert_eq!(parse_option(line), Some(expected), "{line}");
        }
        for line in [
            "",
            "--no-defaults             Don't read default options from any option file.",
            "                      --lock-tables, --set-charset, and --disable-keys.",
            "  create databasename\t  Create a new database",
            "  -",
            "  --",
        ] {
            assert_eq!(parse_option(line), None, "{line}");
        }
    }

    #[test]
    fn defaults_end_with_the_table() {
        let table = mariadb_dump();
        assert_eq!(table.defaults.get("port").map(String::as_str), Some("0"));
        assert_eq!(table.defaults.get("ssl").map(String::as_str), Some("TRUE"));
        for absent in ["host", "socket", "protocol", "system"] {
            assert_eq!(table.defaults.get(absent), None, "{absent}");
        }
        let admin = parse_defaults(
            "Variables (--variable-name=value)\n\
             and boolean options {FALSE|TRUE}  Value (after reading options)\n\
             --------------------------------- ----------------------------------------\n\
             socket                            /tmp/mysql.sock\n\
             prompt                            \\N [\\d]> \n\
             \n\
             Where command is a one or more of: (Commands may be shortened)\n\
             debug  Instruct server to write debug information to log\n",
        );
        assert_eq!(admin.get("socket").map(String::as_str), Some("/tmp/mysql.sock"));
        assert_eq!(admin.get("prompt").map(String::as_str), Some("\\N [\\d]>"));
        assert_eq!(admin.len(), 2);
    }

    #[test]
    fn groups_and_flavour() {
        let table = mariadb_dump();
        assert_eq!(table.groups, ["mysqldump", "mariadb-dump", "client", "client-server", "client-mariadb"]);
        assert_eq!(table.flavour, Flavour::MariaDb);
        assert_eq!(mariadb().flavour, Flavour::MariaDb);
        assert_eq!(mysql_dump().groups, ["mysqldump", "client"]);
        assert_eq!(mysql_dump().flavour, Flavour::Plain);
        for (head, flavour) in [
            ("mysqldump  Ver 10.19 Distrib 10.5.29-MariaDB, for debian-linux-gnu (x86_64)", Flavour::Plain),
            ("mysqldump  Ver 10.19 Distrib 10.6.0-MariaDB, for debian-linux-gnu (x86_64)", Flavour::MariaDb),
            ("mariadb-dump from 11.8.3-MariaDB, client 10.19 for Linux (x86_64)", Flavour::MariaDb),
            (
                "mysqlbinlog Ver 3.5 for x86_64\nCopyright (c) 2018, Oracle, MariaDB Corporation Ab",
                Flavour::MariaDb,
            ),
            ("mysqldump  Ver 9.7.0 for Linux on x86_64 (MySQL Community Server - GPL)", Flavour::Plain),
        ] {
            assert_eq!(parse_flavour(head), flavour, "{head}");
        }
    }

    #[test]
    fn a_help_without_the_connection_options_is_refused() {
        assert_eq!(parse("usage: true").map(|_| ()), Err(QueryProblem::Unreadable("host")));
        let no_socket = MARIADB_DUMP.replace("--socket=", "--other=");
        assert_eq!(parse(&no_socket).map(|_| ()), Err(QueryProblem::Unreadable("socket")));
    }
}
