use std::io::Write;
use std::process::{Command, Stdio};

use super::scan::tests::args;
use super::*;

/// A stand-in for a client: answers `--help` and `--print-defaults` from files beside it, and fails on anything else,
/// as a helper run must never see the user's arguments.
const FAKE_CLIENT: &str = r#"#!/bin/sh
here=$(dirname "$0")
echo "$*" >> "$here/asked"
case "$*" in
    "--no-defaults --help" | --help) cat "$here/help" ;;
    *--print-defaults) echo "client would have been started with the following arguments:"; cat "$here/defaults" ;;
    *) exit 99 ;;
esac
"#;

struct FakeClient {
    dir: tempfile::TempDir,
    name: &'static str,
}

impl FakeClient {
    fn new(name: &'static str, help: &str, defaults: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(name);
        // Written by another process: one that we wrote ourselves could be open in a child that another test forks
        // just now, and not be executable then ("text file busy").
        let mut shell = Command::new("sh")
            .args(["-c", "cat > \"$0\" && chmod +x \"$0\""])
            .arg(&path)
            .stdin(Stdio::piped())
            .spawn()
            .expect("a shell");
        shell.stdin.take().expect("a pipe").write_all(FAKE_CLIENT.as_bytes()).expect("written");
        assert!(shell.wait().expect("ends").success());
        std::fs::write(dir.path().join("help"), help).expect("written");
        std::fs::write(dir.path().join("defaults"), format!("{defaults}\n")).expect("written");
        Self { dir, name }
    }

    fn mysqldump(defaults: &str) -> Self {
        Self::new("mysqldump", help::tests::MARIADB_DUMP, defaults)
    }

    fn command(&self, line: &str) -> Vec<OsString> {
        let program = self.dir.path().join(self.name).into_os_string();
        [program].into_iter().chain(args(line)).collect()
    }

    fn plan(&self, line: &str, upstream: Option<&str>) -> Result<Plan, RunError> {
        let upstream = upstream.map(|upstream| upstream.parse().expect("an endpoint"));
        Plan::from_command(&self.command(line), upstream)
    }

    /// The arguments that the client is started with.
    fn argv(&self, line: &str) -> String {
        let plan = self.plan(line, Some("db1")).expect("a plan");
        let argv = plan.argv(Path::new("/s"));
        assert_eq!(argv[0], self.command("")[0]);
        argv[1..].join(std::ffi::OsStr::new(" ")).into_string().expect("UTF-8")
    }

    fn asked(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("asked")).expect("readable")
    }
}

const OVERRIDES: &str =
    "--skip-ssl --skip-ssl-verify-server-cert --host=localhost --protocol=socket --socket=/s";

#[test]
fn overrides_come_last_but_before_the_terminator() {
    let client = FakeClient::mysqldump("");
    assert_eq!(client.argv("-h db1 -P 3307 db t1"), format!("-h db1 -P 3307 db t1 {OVERRIDES}"));
    assert_eq!(client.argv("-h db1 -- db t1"), format!("-h db1 {OVERRIDES} -- db t1"));
    assert_eq!(client.argv("-w -- -- db"), format!("-w -- {OVERRIDES} -- db"));
    assert_eq!(client.argv("-w --"), format!("-w -- {OVERRIDES}"));
    assert_eq!(client.argv("db -p"), format!("db -p {OVERRIDES}"));
    assert_eq!(client.argv(""), OVERRIDES);
}

#[test]
fn the_option_files_stay_first_and_are_asked_for() {
    let client = FakeClient::mysqldump("--host=db1 --port=3307");
    let line = "--defaults-file=/my.cnf --defaults-group-suffix=x -r dump.sql db";
    assert_eq!(client.argv(line), format!("{line} {OVERRIDES}"));
    let asked = client.asked();
    let expected =
        "--no-defaults --help\n--defaults-file=/my.cnf --defaults-group-suffix=x --print-defaults\n";
    assert_eq!(asked, expected);
}

#[test]
fn no_client_is_asked_for_its_files_behind_no_defaults() {
    let client = FakeClient::mysqldump("");
    assert_eq!(client.argv("--no-defaults -h db1"), format!("--no-defaults -h db1 {OVERRIDES}"));
    assert_eq!(client.asked(), "--no-defaults --help\n--defaults-file=/dev/null --print-defaults\n");
}

#[test]
fn the_upstream_is_the_clients_unless_given() {
    let client = FakeClient::mysqldump("--host=db1 --port=3307");
    let upstream =
        |line: &str, given| client.plan(line, given).map(|plan| plan.upstream().to_string()).expect("a plan");
    assert_eq!(upstream("", None), "db1:3307");
    assert_eq!(upstream("-h db2 db", None), "db2:3307");
    assert_eq!(upstream("-h db2 db", Some("db3")), "db3:3306");
    // What the client could not follow does not matter then.
    assert_eq!(upstream("-h a,b", Some("db3")), "db3:3306");
}

#[test]
fn demands_of_tls_hold_with_a_given_upstream_too() {
    use crate::config::UpstreamTlsMode;
    for (files, line, mode) in [
        ("", "--ssl-ca=/ca.pem", UpstreamTlsMode::VerifyCa),
        ("--ssl", "", UpstreamTlsMode::Required),
        ("--ssl-verify-server-cert", "--skip-ssl", UpstreamTlsMode::VerifyIdentity),
        ("--ssl-ca=/ca.pem", "--skip-ssl", UpstreamTlsMode::Off),
    ] {
        let client = FakeClient::mysqldump(files);
        for upstream in [None, Some("db1")] {
            let plan = client.plan(line, upstream).expect("a plan");
            let mut settings = Settings::default();
            plan.tls.join(&mut settings).expect("no contradiction");
            assert_eq!(settings.upstream_tls, Some(mode), "{files} {line}");
        }
    }
}

#[test]
fn what_tls_needs_and_has_not() {
    let client = FakeClient::mysqldump("");
    let settings =
        |toml: &str| toml::from_str::<Settings>(&format!("upstream = 'db1'\n{toml}")).expect("settings");
    let refused = |line: &str, toml: &str| {
        let plan = client.plan(line, Some("db1")).expect("a plan");
        let Err(error) = plan.proxy(settings(toml)) else { panic!("{line} {toml}: taken") };
        assert_eq!(error.exit_code(), 78);
        error.to_string()
    };
    let error = refused("--ssl-ca=/nowhere/ca.pem", "");
    assert!(
        error.contains("/nowhere/ca.pem") && error.contains("so say the options of `mysqldump`"),
        "{error}"
    );
    let error = refused("--ssl", "upstream_tls = 'off'");
    assert!(error.starts_with("`--ssl` asks for TLS"), "{error}");
    let error = refused("", "memory = '1kiB'");
    assert!(error.starts_with("--memory"), "{error}");
    let for_serve = settings("tls = 'required'\ntls_cert = '/nowhere'\ntls_client_ca = '/nowhere'");
    assert!(client.plan("", Some("db1")).expect("a plan").proxy(for_serve).is_ok());
}

#[test]
fn an_option_without_its_value_would_swallow_the_overrides() {
    let client = FakeClient::mysqldump("");
    for line in ["db --result-file", "db -r"] {
        let error = client.plan(line, None).expect_err("a missing value");
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains(line.trim_start_matches("db ")), "{error}");
    }
}

#[test]
fn arguments_may_be_any_bytes() {
    use std::os::unix::ffi::OsStringExt;
    let client = FakeClient::mysqldump("");
    let odd = OsString::from_vec(b"--where=\xff".to_vec());
    let mut command = client.command("-h db1");
    command.push(odd.clone());
    let plan = Plan::from_command(&command, None).expect("a plan");
    assert_eq!(plan.argv(Path::new("/s"))[3], odd);
    assert_eq!(plan.client(), "mysqldump");
}

#[test]
fn the_account_is_the_clients() {
    let client = FakeClient::mysqldump("--user=backup --password=secret");
    let credentials = client.plan("db", Some("db1")).expect("a plan").credentials().expect("an account");
    assert_eq!((credentials.user(), credentials.password()), (b"backup".as_slice(), b"secret".as_slice()));
    // What it asks for itself is its own business, and an error only for who wants to know.
    let error = client.plan("-p db", Some("db1")).expect("a plan").credentials().expect_err("no password");
    assert_eq!(error.exit_code(), 78);
    assert!(error.to_string().contains("`--password` makes it ask"), "{error}");
}

#[test]
fn no_password_is_shown() {
    let client = FakeClient::mysqldump("--user=backup --password=secret1");
    for line in ["db", "-psecret2 db", "--password=secret3 db"] {
        let plan = client.plan(line, Some("db1")).expect("a plan");
        let shown = format!("{plan:?} {:?}", plan.credentials());
        assert!(shown.contains("backup") && !shown.contains("secret"), "{shown}");
    }
    let error = client.plan("--password=secret3 db -r", None).expect_err("a missing value");
    assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
}

#[test]
fn mydumper_is_told_in_its_own_spelling() {
    let help = include_str!("fixtures/mydumper-0.10.help");
    let client = FakeClient::new("mydumper", help, "");
    let line = "--defaults-file=/dev/null -h db1 -P 3307 -o dump -v 3";
    assert_eq!(client.argv(line), format!("{line} --host=localhost --socket=/s"));
    let plan = client.plan(line, None).expect("a plan");
    assert_eq!(plan.upstream().to_string(), "db1:3307");
    assert_eq!(client.asked().lines().last(), Some("--help"));
}

#[test]
fn options_for_tls_are_left_out() {
    let client = FakeClient::mysqldump("");
    let line =
        "--ssl-ca /ca.pem --where --ssl -h db1 --ssl --skip-ssl=0 --ssl_verify db --tls-v=TLSv1.3 -- --ssl";
    assert_eq!(client.argv(line), format!("--where --ssl -h db1 db {OVERRIDES} -- --ssl"));
    let client = FakeClient::new("mysqldump", help::tests::MYSQL_DUMP, "");
    let overrides = OVERRIDES.replace("--skip-ssl --skip-ssl-verify-server-cert", "--ssl-mode=DISABLED");
    let line = "--ssl-m required --ssl-ca=/ca.pem -vh db1 --tls-sni-servername db1 --ssl-something db";
    assert_eq!(client.argv(line), format!("-vh db1 --ssl-something db {overrides}"));
}

#[test]
fn mydumpers_own_options_for_tls_are_left_out() {
    let help = include_str!("fixtures/mydumper-0.10.help");
    let client = FakeClient::new("mydumper", help, "");
    let line = "--defaults-file=/dev/null --ssl -h db1 --ca /ca.pem --cert=c --key k -B key -- ca";
    let argv = client.argv(line);
    assert_eq!(argv, "--defaults-file=/dev/null -h db1 -B key --host=localhost --socket=/s -- ca");
    let plan = client.plan("--defaults-file=/dev/null --ca", Some("db1"));
    assert!(matches!(plan, Err(RunError::MissingValue { .. })));
}

#[test]
fn what_cannot_be_run() {
    let code = |command: &[&str]| {
        let command: Vec<OsString> = command.iter().map(OsString::from).collect();
        Plan::from_command(&command, None).expect_err("no plan").exit_code()
    };
    assert_eq!(code(&[]), 2);
    assert_eq!(code(&["gzip"]), 2);
    assert_eq!(code(&["/nonexistent/mysqldump", "db"]), 127);
    let client = FakeClient::new("mysqldump", "no help at all", "");
    let error = client.plan("db", None).expect_err("no options");
    assert_eq!(error.exit_code(), 78);
    assert!(
        error.to_string().contains("mysqldump --no-defaults --help` lists no option `--host`"),
        "{error}"
    );
}
