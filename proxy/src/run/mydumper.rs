//! The options of mydumper and myloader, which GLib's `GOption` reads.
//!
//! It differs from `my_getopt`: names are matched in full and as they are, a short option never has its value attached
//! (`-hdb1` is refused), an option of a cluster takes the next argument, and the help does not tell which options take
//! a value, so the table below does. All of this was tried with 0.10.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use super::error::QueryProblem;
use super::help;
use super::options::{Arity, Flavour, OptionSpec, OptionTable};
use super::scan::{Origin, Scan, split_at_equals};
use super::tls::tls_options;

/// Reads the help of mydumper or myloader.
pub(crate) fn parse(text: &str) -> Result<OptionTable, QueryProblem> {
    let with_arity = |spec: OptionSpec| OptionSpec { arity: arity(&spec.name), ..spec };
    let table = OptionTable {
        specs: text.lines().filter_map(help::parse_option).map(with_arity).collect(),
        disables_tls: text.lines().any(|line| line.contains("--ssl-mode") && line.contains("DISABLED")),
        ..connector()
    };
    help::require(&table, &["host", "port", "socket", "defaults-file"])?;
    Ok(table)
}

/// What the client library reads from option files for mydumper, in place of mydumper itself.
///
/// Without `protocol`: Connector/C, with which Debian builds mydumper 0.10, passes over the names of protocols in
/// option files (tried).
pub(crate) fn connector() -> OptionTable {
    let spec = |name: &str| {
        let arity = if FILE_FLAGS.contains(&name) { Arity::Flag } else { Arity::Required };
        OptionSpec { name: name.to_owned(), short: None, arity }
    };
    OptionTable {
        specs: FILE_OPTIONS.into_iter().chain(tls_options()).map(spec).collect(),
        defaults: std::collections::BTreeMap::new(),
        groups: GROUPS.map(str::to_owned).to_vec(),
        flavour: Flavour::Plain,
        uses_mariadb_host: false,
        disables_tls: false,
    }
}

/// Whether this mydumper is newer than 0.10: it knows `--protocol`, looks at `MYSQL_HOST` and has an option file of
/// its own.
pub(crate) fn is_newer(table: &OptionTable) -> bool {
    table.exact("protocol").is_some()
}

/// Goes through arguments as `GOption` does.
pub(crate) fn scan(args: &[OsString], table: &OptionTable) -> Scan {
    let mut scan = Scan { insert_at: args.len(), ..Scan::default() };
    let mut rest = args.iter().enumerate();
    while let Some((index, arg)) = rest.next() {
        let Some(option) = arg.as_bytes().strip_prefix(b"-").filter(|option| !option.is_empty()) else {
            continue;
        };
        let noted = scan.given.len();
        let spec = match option.strip_prefix(b"-") {
            Some([]) => {
                scan.insert_at = index;
                break;
            }
            Some(long) => long_option(&mut scan, table, long),
            None => short_options(&mut scan, table, option),
        };
        let mut last = index;
        match spec {
            None => {}
            Some(spec) if spec.arity == Arity::Unknown => {
                scan.note(&spec.name, None, Origin::CommandLine);
                // If it does take a value, it must not take ours.
                if index + 1 == args.len() {
                    scan.insert_at = index;
                }
            }
            Some(spec) => match rest.next() {
                Some((place, value)) => {
                    last = place;
                    scan.note(&spec.name, Some(value.as_bytes()), Origin::CommandLine);
                }
                None => scan.missing = Some(arg.to_string_lossy().into_owned()),
            },
        }
        scan.note_places(noted, index..=last);
    }
    scan
}

/// Notes a long option; gives it back if its value is, or may be, the next argument.
fn long_option<'a>(scan: &mut Scan, table: &'a OptionTable, option: &[u8]) -> Option<&'a OptionSpec> {
    let (name, value) = split_at_equals(option);
    let spec = table.exact(str::from_utf8(name).ok()?)?;
    match (spec.arity, value) {
        (Arity::Required | Arity::Unknown, None) => return Some(spec),
        // `--ssl=0` is `--ssl` (tried).
        (Arity::Flag, _) => scan.note(&spec.name, None, Origin::CommandLine),
        _ => scan.note(&spec.name, value, Origin::CommandLine),
    }
    None
}

/// Notes the options of a cluster; gives the one back whose value is, or may be, the next argument.
fn short_options<'a>(scan: &mut Scan, table: &'a OptionTable, letters: &[u8]) -> Option<&'a OptionSpec> {
    let mut wants_value = None;
    for &letter in letters {
        let spec = table.short(letter)?;
        match spec.arity {
            Arity::Flag | Arity::Optional => scan.note(&spec.name, None, Origin::CommandLine),
            Arity::Required | Arity::Unknown => wants_value = Some(spec),
        }
    }
    wants_value
}

fn arity(name: &str) -> Arity {
    if VALUES.contains(&name) {
        Arity::Required
    } else if FLAGS.contains(&name) {
        Arity::Flag
    } else {
        Arity::Unknown
    }
}

/// Groups that Connector/C reads when mydumper or myloader asks it for its own; the program's own group is added.
const GROUPS: [&str; 3] = ["client", "client-server", "client-mariadb"];

/// What MariaDB's and MySQL's library read for the connection, but for TLS.
const FILE_OPTIONS: [&str; 5] = ["host", "port", "socket", "user", "password"];
/// Options of files that need no value.
const FILE_FLAGS: [&str; 5] =
    ["ssl", "ssl-enforce", "tls-enforce", "ssl-verify-server-cert", "tls-verify-peer"];

/// Options that take a value: all of 0.10's, and of newer ones those a backup is likely to name.
const VALUES: [&str; 54] = [
    "ca",
    "capath",
    "cert",
    "chunk-filesize",
    "cipher",
    "database",
    "defaults-extra-file",
    "defaults-file",
    "directory",
    "disk-limits",
    "exec",
    "exec-per-thread",
    "exec-threads",
    "fields-enclosed-by",
    "fields-escaped-by",
    "fields-terminated-by",
    "fifodir",
    "host",
    "ignore-engines",
    "ignore-errors",
    "key",
    "lines-starting-by",
    "lines-terminated-by",
    "logfile",
    "long-query-guard",
    "long-query-retries",
    "long-query-retry-interval",
    "max-rows",
    "max-threads-per-table",
    "omit-from-file",
    "outputdir",
    "partition-regex",
    "password",
    "port",
    "protocol",
    "queries-per-transaction",
    "regex",
    "rows",
    "set-names",
    "snapshot-count",
    "snapshot-interval",
    "socket",
    "source-db",
    "ssl-mode",
    "statement-size",
    "statement-terminated-by",
    "tables-list",
    "threads",
    "tidb-snapshot",
    "tls-version",
    "updated-since",
    "user",
    "verbose",
    "where",
];

/// Options that take none, of 0.10.
const FLAGS: [&str; 32] = [
    "ask-password",
    "build-empty-files",
    "complete-insert",
    "compress",
    "compress-protocol",
    "daemon",
    "enable-binlog",
    "events",
    "help",
    "insert-ignore",
    "kill-long-queries",
    "less-locking",
    "lock-all-tables",
    "no-backup-locks",
    "no-data",
    "no-locks",
    "no-schemas",
    "no-views",
    "overwrite-tables",
    "routines",
    "skip-tz-utc",
    "ssl",
    "success-on-1146",
    "triggers",
    "trx-consistency-only",
    "tz-utc",
    "use-savepoints",
    "version",
    // Newer ones that often stand at the end.
    "clear",
    "dirty",
    "merge",
    "stream",
];

#[cfg(test)]
pub(crate) mod tests {
    use super::super::scan::tests::args;
    use super::*;

    /// mydumper 0.10 of Debian.
    pub(crate) fn old() -> OptionTable {
        parse(OLD).expect("the fixture is complete")
    }

    /// A newer mydumper: knows `--protocol`.
    pub(crate) fn newer() -> OptionTable {
        let protocol = "  --protocol                  The protocol to use for connection (tcp, socket)\n";
        let what = "  --what                      An option that we do not know\n";
        parse(&format!("{OLD}{protocol}{what}")).expect("the fixture is complete")
    }

    /// A newer one with `--ssl-mode`, which knows more values with MySQL's library than with MariaDB's.
    pub(crate) fn with_modes(modes: &str) -> OptionTable {
        let mode =
            format!("  --ssl-mode                  Desired security state of the connection: {modes}\n");
        let protocol = "  --protocol                  The protocol to use for connection (tcp, socket)\n";
        parse(&format!("{OLD}{protocol}{mode}")).expect("the fixture is complete")
    }

    const OLD: &str = include_str!("fixtures/mydumper-0.10.help");

    fn noted(line: &str) -> Vec<(String, Option<String>)> {
        let show = |given: super::super::scan::Given| {
            (given.name.clone(), given.value.as_ref().map(|value| value.to_string_lossy().into_owned()))
        };
        scan(&args(line), &old()).given.into_iter().map(show).collect()
    }

    fn pair(name: &str, value: &str) -> (String, Option<String>) {
        (name.into(), Some(value.into()))
    }

    #[test]
    fn every_option_of_0_10_has_an_arity() {
        let myloader = parse(include_str!("fixtures/myloader-0.10.help")).expect("complete");
        for spec in old().specs.iter().chain(&myloader.specs) {
            assert_ne!(spec.arity, Arity::Unknown, "{}", spec.name);
        }
        assert!(!is_newer(&old()));
        assert!(is_newer(&newer()));
    }

    #[test]
    fn values_are_attached_to_long_options_only() {
        assert_eq!(noted("--host db1 -P 3307"), [pair("host", "db1"), pair("port", "3307")]);
        assert_eq!(noted("--host=db1 -t 4 --port=1"), [pair("host", "db1"), pair("port", "1")]);
        // Refused by mydumper: attached (but for -d, no data), abbreviated, another case.
        assert_eq!(noted("-hdb1 --ho=db1 --HOST=db1"), [("no-data".to_owned(), None)]);
        // A verbosity is a value, an output directory too.
        assert_eq!(noted("-v 3 -o --host -h db1"), [pair("host", "db1")]);
    }

    #[test]
    fn an_option_of_a_cluster_takes_the_next_argument() {
        assert_eq!(noted("-Nkh db1"), [pair("host", "db1")]);
        assert_eq!(noted("-hN db1"), [pair("host", "db1")]);
    }

    #[test]
    fn places_for_more() {
        let at = |line: &str, table: &OptionTable| {
            let scan = scan(&args(line), table);
            (scan.insert_at, scan.missing)
        };
        assert_eq!(at("-h a -- b", &old()), (2, None));
        assert_eq!(at("-B db --events", &old()), (3, None));
        assert_eq!(at("-B db -o", &old()), (3, Some("-o".into())));
        assert_eq!(at("-B db --what", &newer()), (2, None));
        assert_eq!(at("--what -B db", &newer()), (3, None));
    }
}
