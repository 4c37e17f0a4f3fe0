use super::super::help::tests::{mariadb, mariadb_dump, mysql_dump};
use super::super::scan::tests::args;
use super::super::scan::{Scan, scan};
use super::*;

/// A client with what its option files and its command line give, and its environment.
struct Case<'a> {
    program: &'a str,
    table: OptionTable,
    files: &'a str,
    env: &'a [(&'a str, &'a str)],
}

impl Case<'_> {
    fn upstream(&self, line: &str) -> Result<String, RunError> {
        let program = Program::identify(OsStr::new(self.program)).expect("a known program");
        let read = |line: &str, origin| -> Scan {
            match (program.family, origin) {
                (Family::MyGetopt, _) => scan(&args(line), &self.table, origin),
                (Family::GOption, Origin::CommandLine) => mydumper::scan(&args(line), &self.table),
                (Family::GOption, Origin::OptionFile) => scan(&args(line), &mydumper::connector(), origin),
            }
        };
        let mut given = read(self.files, Origin::OptionFile).given;
        given.extend(read(line, Origin::CommandLine).given);
        let env = |name: &str| self.env.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
        let connection = Connection { program: &program, table: &self.table, given: &given, env: &env };
        connection.upstream().map(|endpoint| endpoint.to_string())
    }

    fn check(&self, cases: &[(&str, &str)]) {
        for (line, expected) in cases {
            match self.upstream(line) {
                Ok(upstream) => assert_eq!(upstream, *expected, "{} {line}", self.program),
                Err(error) => panic!("{} {line}: {error}", self.program),
            }
        }
    }
}

fn mariadb_case<'a>(files: &'a str, env: &'a [(&'a str, &'a str)]) -> Case<'a> {
    Case { program: "mysqldump", table: mariadb_dump(), files, env }
}

fn mysql_case<'a>(files: &'a str, env: &'a [(&'a str, &'a str)]) -> Case<'a> {
    Case { program: "mysqldump", table: mysql_dump(), files, env }
}

const DEFAULT: &str = "unix:/run/mysqld/mysqld.sock";

#[test]
fn all_clients() {
    for case in [mariadb_case("", &[]), mysql_case("", &[])] {
        case.check(&[
            ("db", DEFAULT),
            ("-h localhost", DEFAULT),
            ("--host=", DEFAULT),
            ("-S /s", "unix:/s"),
            ("-h localhost --socket=/s", "unix:/s"),
            ("-h db1", "db1:3306"),
            ("-h db1 -P 3307", "db1:3307"),
            ("-h db1 -P 0", "db1:3306"),
            ("-h db1 -h db2", "db2:3306"),
            ("-h ::1 -P 1", "[::1]:1"),
            ("-h LOCALHOST", "LOCALHOST:3306"), // only `localhost` as it is
            ("-h localhost.", "localhost.:3306"),
            ("-h 127.0.0.1 -S /s", "127.0.0.1:3306"),
            ("--protocol=tcp", "127.0.0.1:3306"),
            ("--protocol=TC -h localhost", "127.0.0.1:3306"),
            ("--protocol=tcp -h db1", "db1:3306"),
            ("--protocol=socket", DEFAULT),
            ("--protocol=tcp --protocol=soc -S /s", "unix:/s"),
            ("-h db1 -- -h db2", "db1:3306"),
        ]);
    }
}

/// Each line was tried with mysql of 10.11.19 and a server on a private port and socket.
#[test]
fn port_and_socket_choose_the_protocol_of_mariadbs_clients() {
    mariadb_case("", &[]).check(&[
        ("--port=3307", "127.0.0.1:3307"),
        ("-h localhost --port=3307", "127.0.0.1:3307"),
        ("--port=3307 --socket=/s", "unix:/s"),
        ("--socket=/s --port=3307", "127.0.0.1:3307"),
        ("--protocol=socket --port=3307", "127.0.0.1:3307"),
        ("--protocol=tcp --port=3307 --socket=/s", "unix:/s"),
        ("--socket=/s --port=3307 --protocol=socket", "unix:/s"),
        ("-h 127.0.0.1 --protocol=socket --socket=/s", "127.0.0.1:3306"),
    ]);
    mariadb_case("--port=3307", &[]).check(&[
        ("", DEFAULT),
        ("-h localhost", DEFAULT),
        ("-S /s", "unix:/s"),
        ("--port=3308", "127.0.0.1:3308"),
        ("-h db1", "db1:3307"),
    ]);
    mariadb_case("--port=3307 --socket=/s", &[])
        .check(&[("", "unix:/s"), ("--protocol=tcp", "127.0.0.1:3307")]);
}

#[test]
fn only_the_protocol_chooses_the_protocol_of_mysqls_clients() {
    mysql_case("", &[]).check(&[
        ("--port=3307", DEFAULT),
        ("-S /s --port=3307", "unix:/s"),
        ("--protocol=socket --port=3307", DEFAULT),
        ("--protocol=tcp -S /s", "127.0.0.1:3306"),
    ]);
    let error = mysql_case("", &[]).upstream("--protocol=socket -h db1").expect_err("error 2047");
    assert_eq!(error.exit_code(), 2);
}

#[test]
fn the_command_line_wins_over_files() {
    mariadb_case("--host=db1 --port=3307 --protocol=tcp", &[]).check(&[
        ("", "db1:3307"),
        ("-h db2", "db2:3307"),
        ("-h localhost", "127.0.0.1:3307"),
        ("-h localhost --protocol=socket", DEFAULT),
        ("--host=", "127.0.0.1:3307"),
    ]);
}

#[test]
fn variables_stand_in_for_options() {
    let env = [
        ("MYSQL_TCP_PORT", "3307"),
        ("MYSQL_UNIX_PORT", "/e"),
        ("MYSQL_HOST", "db9"),
        ("MARIADB_HOST", "db8"),
    ];
    mysql_case("", &env).check(&[
        ("", "unix:/e"),
        ("-S /s", "unix:/s"),
        ("-h db1", "db1:3307"),
        ("-h db1 -P 0", "db1:3307"),
        ("-h db1 -P 1", "db1:1"),
    ]);
    // Only the interactive client looks at MYSQL_HOST.
    let cli = Case { program: "mysql", table: mariadb(), files: "", env: &env };
    cli.check(&[
        ("", "db9:3307"),
        ("-h db1", "db1:3307"),
        ("-h localhost", "unix:/e"),
        ("--host=", "unix:/e"),
    ]);
    let newer = OptionTable { uses_mariadb_host: true, ..mariadb_dump() };
    let case = Case { program: "mariadb-dump", table: newer, files: "", env: &env };
    case.check(&[("", "db8:3307"), ("-h db1", "db1:3307")]);
    mysql_case("", &[("MYSQL_TCP_PORT", "0"), ("MYSQL_UNIX_PORT", "")])
        .check(&[("", DEFAULT), ("-h a", "a:3306")]);
}

#[test]
fn built_in_values_of_the_help() {
    let mut table = mysql_dump();
    table.defaults.insert("socket".into(), "/tmp/mysql.sock".into());
    table.defaults.insert("port".into(), "3399".into());
    let case = Case { program: "mysqldump", table, files: "", env: &[("MYSQL_UNIX_PORT", "/e")] };
    case.check(&[("", "unix:/tmp/mysql.sock"), ("-h db1", "db1:3399"), ("-h db1 -P 1", "db1:1")]);
}

#[test]
fn mydumper_old_and_new() {
    let env = [("MYSQL_HOST", "db9"), ("MYSQL_UNIX_PORT", "/e")];
    let old = Case { program: "mydumper", table: mydumper::tests::old(), files: "", env: &env };
    old.check(&[
        ("-B db", "unix:/e"),
        ("-h db1 -P 3307", "db1:3307"),
        ("-h localhost -P 3307", "unix:/e"), // a port does not choose TCP
        ("-h localhost -S /s", "unix:/s"),
    ]);
    let files = Case { files: "--host=db1 --port=3307 --protocol=socket --user=x", ..old };
    files.check(&[("", "db1:3307"), ("-h localhost", "unix:/e")]);
    let new = Case { program: "mydumper", table: mydumper::tests::newer(), files: "", env: &env };
    new.check(&[
        ("", "db9:3306"),
        ("-h localhost", "unix:/e"),
        ("--protocol tcp -h localhost", "127.0.0.1:3306"),
    ]);
}

#[test]
fn values_that_cannot_be_followed() {
    for (line, problem) in [
        ("-h db1,db2", "several servers"),
        ("-h db1 -P x", "is no port"),
        ("-h db1 -P 65536", "is no port"),
        ("-h db1 -P -1", "is no port"),
        ("--protocol=udp", "is no protocol"),
        ("--protocol=", "is no protocol"),
        ("--protocol=pipe", "on this system"),
        ("--protocol=mem", "on this system"),
        ("--socket=", "is empty"),
    ] {
        let error = mariadb_case("", &[]).upstream(line).expect_err(line);
        assert!(error.to_string().contains(problem), "{line}: {error}");
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}
