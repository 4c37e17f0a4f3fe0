//! What the option files say of the connection, as the client itself reads them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use zeroize::{Zeroize, Zeroizing};

use super::capture::{Captured, capture, describe};
use super::error::RunError;
use super::mydumper;
use super::options::{OptionTable, Resolved};
use super::program::Program;
use super::scan::{Given, Origin, Scan, scan, split_at_equals};

/// How many arguments at the front choose the option files; they count only there.
pub(crate) fn count_leading(args: &[OsString]) -> usize {
    args.iter()
        .take_while(|arg| {
            LEADING_FLAGS.iter().any(|flag| arg == flag)
                || LEADING_PREFIXES.iter().any(|prefix| arg.as_bytes().starts_with(prefix.as_bytes()))
        })
        .count()
}

/// Reads the option files of a client of MySQL or MariaDB, by its own `--print-defaults`.
///
/// That writes all options into one line, so that a value with blanks cannot be told from two options.
/// `my_print_defaults` writes one option a line: where it is there and reads the same files (its lines joined are the
/// client's line), it settles this; else a word that is no option known to the client belongs to the value before it.
pub(crate) fn read(
    program: &Program,
    table: &OptionTable,
    args: &[OsString],
) -> Result<Vec<Given>, RunError> {
    let leading: Vec<_> = leading(args).collect();
    let query: Vec<_> = leading.iter().cloned().chain([PRINT_DEFAULTS.into()]).collect();
    let printed = succeed(&program.command, &query, capture(&program.command, &query)?)?;
    let line = printed_line(&printed);
    let query: Vec<_> = leading.into_iter().chain(table.groups.iter().map(OsString::from)).collect();
    let exact = capture(OsStr::new(MY_PRINT_DEFAULTS), &query)
        .ok()
        .filter(|captured| captured.status.success())
        .map(|captured| split_lines(&captured.stdout))
        .filter(|lines| lines.join(OsStr::new(" ")).as_bytes() == line);
    let args = exact.unwrap_or_else(|| split_line(line, table));
    let given = given(&args, table);
    forget(args);
    Ok(given)
}

fn given(args: &[OsString], table: &OptionTable) -> Vec<Given> {
    scan(args, table, Origin::OptionFile).given
}

/// What a client has printed, as far as it can be told without `my_print_defaults`.
#[cfg(any(test, fuzzing))]
pub(crate) fn given_in_line(printed: &[u8], table: &OptionTable) -> Vec<Given> {
    given(&split_line(printed_line(printed), table), table)
}

/// The arguments that choose the option files, without `--no-defaults`: behind that one, MySQL's clients pass over
/// `--print-defaults` and go to work (tried with 9.7).
fn leading(args: &[OsString]) -> impl Iterator<Item = OsString> {
    let leading = args[..count_leading(args)].iter().filter(|arg| *arg != PRINT_DEFAULTS);
    leading.map(|arg| if arg == NO_DEFAULTS { NO_FILE.into() } else { arg.clone() })
}

/// Reads the option files that the client library reads for mydumper, or a newer mydumper itself.
pub(crate) fn read_for_mydumper(
    program: &Program,
    table: &OptionTable,
    given: &Scan,
) -> Result<Vec<Given>, RunError> {
    let last = |name: &str| given.given.iter().rfind(|given| given.name == name)?.value.as_deref();
    let file = |name: &str, path: &OsStr| {
        let mut option = OsString::from(format!("--{name}="));
        option.push(path);
        option
    };
    let mut query = Vec::new();
    match last("defaults-file") {
        Some(path) => query.push(file("defaults-file", path)),
        None if mydumper::is_newer(table) && Path::new(MYDUMPER_FILE).exists() => {
            query.push(file("defaults-file", OsStr::new(MYDUMPER_FILE)));
        }
        None => {}
    }
    query.extend(last("defaults-extra-file").map(|path| file("defaults-extra-file", path)));
    query.extend(table.groups.iter().map(OsString::from));
    query.push(program.name.into());
    let tool = OsStr::new(MY_PRINT_DEFAULTS);
    let captured = capture(tool, &query).map_err(|error| match error {
        RunError::NotFound { .. } => RunError::NoPrintDefaults { program: program.name.to_owned() },
        other => other,
    })?;
    let printed = succeed(tool, &query, captured)?;
    let args = split_lines(&printed);
    let given = scan(&args, &mydumper::connector(), Origin::OptionFile).given;
    forget(args);
    Ok(given)
}

/// There may be a password among them.
fn forget(args: Vec<OsString>) {
    for arg in args {
        arg.into_vec().zeroize();
    }
}

fn succeed(program: &OsStr, query: &[OsString], captured: Captured) -> Result<Zeroizing<Vec<u8>>, RunError> {
    if captured.status.success() {
        return Ok(captured.stdout);
    }
    let said = String::from_utf8_lossy(&captured.stderr);
    let said = said.trim().replace('\n', "; ");
    let detail = if said.is_empty() { captured.status.to_string() } else { said };
    Err(RunError::OptionFiles { command: describe(program, query), detail })
}

/// Strips `mysql would have been started with the following arguments:` and the blank behind the last option.
fn printed_line(printed: &[u8]) -> &[u8] {
    let start = printed.iter().position(|&byte| byte == b'\n').map_or(printed.len(), |end| end + 1);
    printed[start..].trim_ascii_end()
}

fn split_lines(printed: &[u8]) -> Vec<OsString> {
    let lines = printed.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| OsString::from_vec(line.to_vec())).collect()
}

/// Splits at each blank behind which stands an option that the client knows.
fn split_line(line: &[u8], table: &OptionTable) -> Vec<OsString> {
    let mut args: Vec<Vec<u8>> = Vec::new();
    for word in line.split(|&byte| byte == b' ') {
        match args.last_mut() {
            Some(value) if !is_option(word, table) => {
                value.push(b' ');
                value.extend_from_slice(word);
            }
            _ => args.push(word.to_vec()),
        }
    }
    args.into_iter().map(OsString::from_vec).collect()
}

fn is_option(word: &[u8], table: &OptionTable) -> bool {
    let Some(option) = word.strip_prefix(b"--") else {
        return false;
    };
    let (name, value) = split_at_equals(option);
    // `--loose-x` is for options that the client does not know.
    name.starts_with(b"loose") || table.resolve(name, value) != Resolved::Refused
}

const MY_PRINT_DEFAULTS: &str = "my_print_defaults";
const PRINT_DEFAULTS: &str = "--print-defaults";
const NO_DEFAULTS: &str = "--no-defaults";
/// The same for all clients: only this file, which is empty. MySQL's still read their login paths, as they do by
/// themselves.
const NO_FILE: &str = "--defaults-file=/dev/null";
/// <https://dev.mysql.com/doc/refman/9.4/en/option-file-options.html>
const LEADING_FLAGS: [&str; 3] = [NO_DEFAULTS, "--no-login-paths", PRINT_DEFAULTS];
const LEADING_PREFIXES: [&str; 4] =
    ["--defaults-file=", "--defaults-extra-file=", "--defaults-group-suffix=", "--login-path="];
/// What mydumper reads since 0.11 where no `--defaults-file` is given.
const MYDUMPER_FILE: &str = "/etc/mydumper.cnf";

#[cfg(test)]
mod tests {
    use super::super::help::tests::mariadb_dump;
    use super::super::scan::tests::args;
    use super::*;

    #[test]
    fn only_the_first_arguments_choose_files() {
        for (line, count) in [
            ("--defaults-file=/a --defaults-group-suffix=x db", 2),
            ("--no-defaults -h a", 1),
            ("-h a --defaults-file=/a", 0),
            ("--login-path=x --defaults-extra-file=/a --print-defaults", 3),
            ("--defaults-file /a", 0), // no client takes it this way
            ("", 0),
        ] {
            assert_eq!(count_leading(&args(line)), count, "{line}");
        }
    }

    #[test]
    fn values_with_blanks_are_put_together() {
        let printed = b"mysqldump would have been started with the following arguments:\n\
            --host=a b --comments --where=x > 1 and --y --socket=/a  b --loose-foo=1 --skip-ssl --user= \n";
        let split = split_line(printed_line(printed), &mariadb_dump());
        let expected = [
            "--host=a b",
            "--comments",
            "--where=x > 1 and --y",
            "--socket=/a  b",
            "--loose-foo=1",
            "--skip-ssl",
            "--user=",
        ];
        assert_eq!(split, expected);
    }

    #[test]
    fn nothing_printed() {
        let printed = b"mysqldump would have been started with the following arguments:\n\n";
        assert_eq!(printed_line(printed), b"");
        assert_eq!(printed_line(b""), b"");
        let given = scan(&split_line(b"", &mariadb_dump()), &mariadb_dump(), Origin::OptionFile).given;
        assert_eq!(given, []);
    }

    #[test]
    fn lines_of_my_print_defaults() {
        let lines = split_lines(b"--port=1\n--init-command=set names utf8 --host=x\n");
        assert_eq!(lines, ["--port=1", "--init-command=set names utf8 --host=x"]);
    }
}
