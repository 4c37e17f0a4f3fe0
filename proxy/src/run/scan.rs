//! Finds, in the arguments of a client, what concerns its connection, and where options can be added.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::ops::RangeInclusive;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use zeroize::Zeroize;

use super::left_out::is_about_tables;
use super::options::{Arity, OptionSpec, OptionTable, Resolved, Switch};
use super::tls::is_about_tls;

/// What the arguments of a client say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Scan {
    /// The options that concern the connection or the choice of tables, in their order.
    pub(crate) given: Vec<Given>,
    /// Options put here count, and come last: the end, or the place of `--`.
    pub(crate) insert_at: usize,
    /// The option at the end that lacks its value.
    pub(crate) missing: Option<String>,
    /// The places of arguments that say something of TLS. They are left out on the way to the private socket: nothing
    /// withdraws mydumper's, and MySQL's clients warn of certificates that are not checked where there are none.
    pub(crate) about_tls: Vec<usize>,
}

/// An option that concerns the connection.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Given {
    /// The full name, without dashes in front.
    pub(crate) name: String,
    /// Its value, if it has one.
    pub(crate) value: Option<OsString>,
    /// Where it stands.
    pub(crate) origin: Origin,
}

/// Where an option stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// On the command line.
    CommandLine,
    /// In an option file.
    OptionFile,
}

/// Without the value of a password.
impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut given = f.debug_struct("Given");
        given.field("name", &self.name).field("origin", &self.origin);
        match is_password(&self.name) {
            true => given.finish_non_exhaustive(),
            false => given.field("value", &self.value).finish(),
        }
    }
}

/// A password leaves nothing in memory.
impl Drop for Given {
    fn drop(&mut self) {
        if let Some(value) = self.value.take().filter(|_| is_password(&self.name)) {
            value.into_vec().zeroize();
        }
    }
}

/// `password`, and MySQL's `password1` to `password3`.
fn is_password(name: &str) -> bool {
    name.starts_with("password")
}

impl Given {
    /// The value of a boolean option. What is neither yes nor no counts as yes: this is asked for demands only, and
    /// the client will complain.
    pub(crate) fn is_on(&self) -> bool {
        let value = self.value.as_ref().map(|value| value.to_string_lossy().to_ascii_lowercase());
        !matches!(value.as_deref(), Some("0" | "false" | "off"))
    }

    /// The value, unless it is missing or empty.
    pub(crate) fn text(&self) -> Option<&OsStr> {
        self.value.as_deref().filter(|value| !value.is_empty())
    }
}

impl Scan {
    /// Notes the places of a long option and its value, if what it added behind the first `noted` is about TLS.
    pub(crate) fn note_places(&mut self, noted: usize, places: RangeInclusive<usize>) {
        if self.given[noted..].iter().any(|given| is_about_tls(&given.name)) {
            self.about_tls.extend(places);
        }
    }

    /// Notes an option that concerns the connection, or which tables are dumped.
    pub(crate) fn note(&mut self, name: &str, value: Option<&[u8]>, origin: Origin) {
        if RELEVANT.contains(&name) || is_about_tls(name) || is_about_tables(name) {
            let value = value.map(|value| OsString::from_vec(value.to_vec()));
            self.given.push(Given { name: name.to_owned(), value, origin });
        }
    }
}

/// Goes through arguments as `my_getopt` does.
///
/// What `my_getopt` would refuse is passed over: the client will refuse it, and says so better than we could.
pub(crate) fn scan(args: &[OsString], table: &OptionTable, origin: Origin) -> Scan {
    let mut scan = Scan { insert_at: args.len(), ..Scan::default() };
    let mut rest = args.iter().enumerate();
    while let Some((index, arg)) = rest.next() {
        let Some(option) = arg.as_bytes().strip_prefix(b"-").filter(|option| !option.is_empty()) else {
            continue;
        };
        let noted = scan.given.len();
        let wants_value = match option.strip_prefix(b"-") {
            Some([]) if origin == Origin::CommandLine => {
                scan.insert_at = index;
                break;
            }
            Some(long) => long_option(&mut scan, table, long, origin),
            None => short_options(&mut scan, table, option, origin),
        };
        let mut last = index;
        // In a file the value stands behind `=`; the client refuses the other way.
        if let Some(spec) = wants_value.filter(|_| origin == Origin::CommandLine) {
            match rest.next() {
                Some((place, value)) => {
                    last = place;
                    scan.note(&spec.name, Some(value.as_bytes()), origin);
                }
                None => scan.missing = Some(arg.to_string_lossy().into_owned()),
            }
        }
        scan.note_places(noted, index..=last);
    }
    scan
}

/// Notes a long option; gives it back if its value is the next argument.
fn long_option<'a>(
    scan: &mut Scan,
    table: &'a OptionTable,
    option: &[u8],
    origin: Origin,
) -> Option<&'a OptionSpec> {
    let (name, value) = split_at_equals(option);
    let Resolved::Known(spec, switch) = table.resolve(name, value) else {
        return None;
    };
    let value = match switch {
        // None; and what no client understands (MariaDB's crash), as if it were to be asked for.
        Some(Switch::Off) if is_password(&spec.name) => Some(b"".as_slice()),
        Some(Switch::On) if is_password(&spec.name) => None,
        Some(Switch::On) => Some(b"1".as_slice()),
        Some(Switch::Off) => Some(b"0".as_slice()),
        None => value,
    };
    if spec.arity == Arity::Required && value.is_none() {
        return Some(spec);
    }
    scan.note(&spec.name, value, origin);
    None
}

/// Notes the options of a cluster like `-vhdb1`; gives the last one back if its value is the next argument.
fn short_options<'a>(
    scan: &mut Scan,
    table: &'a OptionTable,
    letters: &[u8],
    origin: Origin,
) -> Option<&'a OptionSpec> {
    for (index, &letter) in letters.iter().enumerate() {
        let spec = table.short(letter)?;
        let attached = letters.get(index + 1..).filter(|attached| !attached.is_empty());
        match (spec.arity, attached) {
            (Arity::Flag | Arity::Unknown, _) | (Arity::Optional, None) => {
                scan.note(&spec.name, None, origin);
            }
            (Arity::Required, None) => return Some(spec),
            (Arity::Required | Arity::Optional, Some(value)) => {
                scan.note(&spec.name, Some(value), origin);
                return None;
            }
        }
    }
    None
}

/// Splits `name=value` at the first equals sign.
pub(crate) fn split_at_equals(option: &[u8]) -> (&[u8], Option<&[u8]>) {
    match option.iter().position(|&byte| byte == b'=') {
        Some(at) => (&option[..at], Some(&option[at + 1..])),
        None => (option, None),
    }
}

/// The options that choose the server and the account, and, for mydumper, the option files. Those for TLS have a table
/// of their own.
const RELEVANT: [&str; 18] = [
    "user",
    "password",
    "password1",
    "password2",
    "password3",
    "ask-password",
    "host",
    "port",
    "socket",
    "protocol",
    "dns-srv-name",
    "defaults-file",
    "defaults-extra-file",
    "server-public-key-path",
    "get-server-public-key",
    "compress",
    "compression-algorithms",
    "compress-protocol",
];

#[cfg(test)]
pub(crate) mod tests {
    use super::super::help::tests::{mariadb, mariadb_dump};
    use super::*;

    /// Arguments from a line without quotes.
    pub(crate) fn args(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    /// `name=value` of everything noted.
    fn noted(scan: &Scan) -> Vec<String> {
        let show = |given: &Given| match &given.value {
            Some(value) => format!("{}={}", given.name, value.display()),
            None => given.name.clone(),
        };
        scan.given.iter().map(show).collect()
    }

    fn scan_line(line: &str) -> Scan {
        scan(&args(line), &mariadb_dump(), Origin::CommandLine)
    }

    #[test]
    fn long_options() {
        for (line, expected) in [
            ("--host=db1 db", vec!["host=db1"]),
            ("--host db1 db", vec!["host=db1"]),
            ("db --hos db1 -- --port=1", vec!["host=db1"]),
            ("--host --port=1", vec!["host=--port=1"]),
            ("--host=", vec!["host="]),
            ("--result-file --host=a", vec![]),
            ("--password --host=a", vec!["password", "host=a"]), // only an attached value
            ("--master-data --port 1", vec!["port=1"]),
            ("--where=--host=a --port=1 --port=2", vec!["port=1", "port=2"]),
            ("--skip-ssl --ssl --ssl=0 --enable-ssl", vec!["ssl=0", "ssl", "ssl=0", "ssl=1"]),
            ("--skip-host --loose-port=1", vec!["host=0", "port=1"]),
            ("--nonsense --host=a", vec!["host=a"]),
            ("--password=secret", vec!["password=secret"]),
            ("--pass=a --skip-password", vec!["password=a", "password="]),
            ("--enable-password --user=", vec!["password", "user="]),
        ] {
            assert_eq!(noted(&scan_line(line)), expected, "{line}");
        }
    }

    #[test]
    fn short_options_and_clusters() {
        for (line, expected) in [
            ("-hdb1 -P3307", vec!["host=db1", "port=3307"]),
            ("-h db1 -P 3307", vec!["host=db1", "port=3307"]),
            ("-vhdb1", vec!["host=db1"]),
            ("-vAh db1", vec!["host=db1"]),
            ("-psecret -h=db1", vec!["password=secret", "host==db1"]), // the equals sign is part of it
            ("-p -h db1", vec!["password", "host=db1"]),               // -p takes no argument of its own
            ("-vp -S /s", vec!["password", "socket=/s"]),
            ("-ubackup -u b", vec!["user=backup", "user=b"]),
            ("-phdb1", vec!["password=hdb1"]),
            ("-r -h -P 1", vec!["port=1"]),  // a file named -h
            ("-jh db1 -P1", vec!["port=1"]), // -j is unknown
            ("- -h db1", vec!["host=db1"]),
        ] {
            assert_eq!(noted(&scan_line(line)), expected, "{line}");
        }
    }

    #[test]
    fn nothing_is_an_option_behind_the_terminator() {
        let scan = scan_line("-h a -- db --host=b");
        assert_eq!((noted(&scan), scan.insert_at), (vec!["host=a".into()], 2));
        let scan = scan_line("--where -- --host=b");
        assert_eq!((noted(&scan), scan.insert_at), (vec!["host=b".into()], 3));
        let scan = scan_line("-w -- -- db");
        assert_eq!(scan.insert_at, 2);
    }

    #[test]
    fn a_missing_value_is_found() {
        for line in ["db --result-file", "db -r", "-vr", "-h", "--hos"] {
            let missing = scan_line(line).missing;
            assert_eq!(missing.as_deref(), line.split(' ').next_back(), "{line}");
        }
        for line in ["--password", "-p", "--master-data", "--verbose", "--result-file -- db", "-r --"] {
            assert_eq!(scan_line(line).missing, None, "{line}");
        }
    }

    #[test]
    fn options_of_files_take_no_next_argument() {
        let scan = scan(&args("--host --port=1 --socket=/s"), &mariadb_dump(), Origin::OptionFile);
        assert_eq!(noted(&scan), ["port=1", "socket=/s"]);
    }

    #[test]
    fn an_option_listed_under_two_letters_is_one_option() {
        let scan = scan(&args("-Ih a -?Pa"), &mariadb(), Origin::CommandLine);
        assert_eq!(noted(&scan), ["host=a", "port=a"]);
        let scan = super::scan(&args("--hel --host=a"), &mariadb(), Origin::CommandLine);
        assert_eq!(noted(&scan), ["host=a"]);
    }

    #[test]
    fn values_may_be_any_bytes() {
        let arg = OsString::from_vec(b"--socket=/\xff".to_vec());
        let scan = scan(&[arg], &mariadb_dump(), Origin::CommandLine);
        assert_eq!(scan.given[0].value.as_deref().map(OsStr::as_bytes), Some(b"/\xff".as_slice()));
    }

    #[test]
    fn a_password_is_not_shown() {
        let scan = scan_line("-psecret --password=secret --password --host=db1");
        let shown = format!("{scan:?}");
        assert!(shown.contains("password") && shown.contains("db1") && !shown.contains("secret"), "{shown}");
    }

    #[test]
    fn booleans() {
        let given = |value: Option<&str>| Given {
            name: "ssl".into(),
            value: value.map(OsString::from),
            origin: Origin::CommandLine,
        };
        for on in [None, Some("1"), Some("ON"), Some("true"), Some("maybe")] {
            assert!(given(on).is_on(), "{on:?}");
        }
        for off in ["0", "OFF", "False"] {
            assert!(!given(Some(off)).is_on(), "{off}");
        }
    }
}
