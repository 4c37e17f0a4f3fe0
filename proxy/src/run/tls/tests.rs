use std::ffi::OsStr;
use std::path::Path;

use super::super::RunError;
use super::super::help::tests::{mariadb_dump, mariadb_dump_11, mysql_dump};
use super::super::mydumper;
use super::super::scan::tests::args;
use super::super::scan::{Scan, scan};
use super::*;
use crate::config::{Settings, TlsVersion};

const MYSQL: Dialect = Dialect::MySql;
const OLDER: Dialect = Dialect::MariaDb { verifies: false };
const NEWER: Dialect = Dialect::MariaDb { verifies: true };

fn table(dialect: Dialect) -> OptionTable {
    match dialect {
        Dialect::MySql => mysql_dump(),
        Dialect::MariaDb { verifies: false } => mariadb_dump(),
        Dialect::MariaDb { verifies: true } => mariadb_dump_11(),
        Dialect::MyDumper => mydumper::tests::old(),
    }
}

fn scanned(dialect: Dialect, line: &str) -> Scan {
    match dialect {
        Dialect::MyDumper => {
            mydumper::scan(&args(line), &mydumper::tests::with_modes("REQUIRED, VERIFY_IDENTITY"))
        }
        _ => scan(&args(line), &table(dialect), Origin::CommandLine),
    }
}

fn read(dialect: Dialect, line: &str) -> Result<TlsDemand, RunError> {
    TlsDemand::read(&scanned(dialect, line).given, dialect, Some(OsStr::new("/home/me")))
}

/// The strictness and the option that asks for it, as in `verify-ca by ssl-ca`.
fn asked(dialect: Dialect, line: &str) -> String {
    match read(dialect, line) {
        Ok(demand) if demand.mode.is_none() => "nothing".to_owned(),
        Ok(demand) => format!("{} by {}", demand.least(), demand.because),
        Err(error) => error.to_string(),
    }
}

/// What `settings` are in the end: the ways to the server that the two allow.
fn joined(dialect: Dialect, line: &str, toml: &str) -> Result<String, String> {
    let mut settings: Settings = toml::from_str(toml).expect("settings");
    let demand = read(dialect, line).map_err(|error| error.to_string())?;
    demand.join(&mut settings).map_err(|error| error.to_string())?;
    let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| format!(" {}", path.display()));
    let files = [&settings.upstream_tls_ca, &settings.upstream_tls_cert, &settings.upstream_tls_key];
    let files: String = files.into_iter().filter_map(path).collect();
    let mode = settings.upstream_tls.map_or_else(|| "nothing".to_owned(), |mode| format!("{mode:?}"));
    let version = settings.upstream_tls_min_version.map_or("", |version| match version {
        TlsVersion::V12 => " 1.2",
        TlsVersion::V13 => " 1.3",
    });
    Ok(format!("{mode}{files}{version}"))
}

#[test]
fn modes_of_mysql() {
    for (line, expected) in [
        ("-h db1 --all-databases", "nothing"),
        ("--ssl-mode=DISABLED", "off by ssl-mode=DISABLED"),
        ("--ssl-mode=preferred", "preferred by ssl-mode=preferred"),
        ("--ssl-mode=REQUIRED", "required by ssl-mode=REQUIRED"),
        ("--ssl-mode required", "required by ssl-mode=required"),
        ("--ssl-m=Verify_CA", "verify-ca by ssl-mode=Verify_CA"),
        ("--ssl_mode=VERIFY_I", "verify-identity by ssl-mode=VERIFY_I"),
        ("--ssl-mode=PREFERRED --ssl-mode=R", "required by ssl-mode=R"),
        ("--ssl-mode=REQUIRED --ssl-mode=DISABLED", "off by ssl-mode=DISABLED"),
        // A CA counts for as much as the mode allows, wherever that stands.
        ("--ssl-ca=/ca.pem", "verify-ca by ssl-ca"),
        ("--ssl-capath=/certs", "verify-ca by ssl-capath"),
        ("--ssl-mode=pref --ssl-ca=/ca.pem", "preferred by ssl-mode=pref"),
        ("--ssl-ca=/ca.pem --ssl-mode=REQUIRED", "required by ssl-mode=REQUIRED"),
        // For where there is TLS.
        ("--ssl-cert=c --ssl-key=k --ssl-cipher=AES128-SHA --tls-version=TLSv1.3 --ssl-crl=/crl", "nothing"),
        ("--result-file --ssl-mode=REQUIRED", "nothing"),
        ("-- --ssl-mode=REQUIRED", "nothing"),
    ] {
        assert_eq!(asked(MYSQL, line), expected, "{line}");
    }
    for line in ["--ssl-mode=3", "--ssl-mode=", "--ssl-mode=VERIFY", "--ssl-mode=VERIFY-CA", "--ssl-mode=0"] {
        let error = read(MYSQL, line).expect_err(line);
        assert_eq!(error.exit_code(), 2, "{line}");
        assert!(error.to_string().starts_with(&format!("`{line}` is no mode")), "{error}");
    }
}

#[test]
fn mysql_5_7_has_older_options_beside_the_mode() {
    let help = super::super::help::tests::MYSQL_DUMP.replace(
        "  --ssl-mode=name ",
        "  --ssl               If set to ON\n  --ssl-verify-server-cert \n  --ssl-mode=name ",
    );
    let table = super::super::help::parse(&help).expect("complete");
    let mode = |line: &str| {
        let given = scan(&args(line), &table, Origin::CommandLine).given;
        TlsDemand::read(&given, MYSQL, None).expect(line).mode
    };
    assert_eq!(mode("--ssl"), Some(UpstreamTlsMode::Required));
    assert_eq!(mode("--ssl-ca=a --ssl"), Some(UpstreamTlsMode::VerifyCa));
    assert_eq!(mode("--ssl-mode=VERIFY_CA --skip-ssl"), Some(UpstreamTlsMode::Off));
    assert_eq!(mode("--ssl-ca=a --ssl-verify-server-cert"), Some(UpstreamTlsMode::VerifyIdentity));
    let withdrawn = "--ssl-mode=VERIFY_IDENTITY --skip-ssl-verify-server-cert";
    assert_eq!(mode(withdrawn), Some(UpstreamTlsMode::VerifyCa));
    assert_eq!(mode("--skip-ssl-verify-server-cert"), None);
}

#[test]
fn modes_of_mariadb() {
    for (line, expected) in [
        ("-h db1 --all-databases", "nothing"),
        ("--tls-version=TLSv1.3", "nothing"),
        ("--skip-ssl", "off by ssl"),
        ("--ssl=0", "off by ssl"),
        ("--ssl=OFF", "off by ssl"),
        ("--disable-ssl", "off by ssl"),
        ("--ssl --skip-ssl", "off by ssl"),
        ("--ssl-ca=/ca.pem --skip-ssl", "off by ssl"),
        ("--ssl-verify-server-cert=0", "nothing"),
        ("--ssl-verify-server-cert --skip-ssl-verify-server-cert", "nothing"),
        ("--where --ssl", "nothing"),
        ("-- --ssl", "nothing"),
        ("--ssl", "required by ssl"),
        ("--ssl=1", "required by ssl"),
        ("--ssl=on", "required by ssl"),
        ("--skip-ssl --ssl", "required by ssl"),
        ("--skip-ssl=0", "required by ssl"),
        ("--loose-ssl", "required by ssl"),
        ("--ssl-cert=c --ssl-key=k", "required by ssl-key"),
        ("--ssl-k=k", "required by ssl-key"),
        ("--ssl-cipher=AES128-SHA", "required by ssl-cipher"),
        ("--ssl-verify-server-cert", "verify-identity by ssl-verify-server-cert"),
        ("--ssl-ca=a --ssl-verify", "verify-identity by ssl-verify-server-cert"),
    ] {
        assert_eq!(asked(OLDER, line), expected, "{line}");
        assert_eq!(asked(NEWER, line), expected, "{line}");
    }
    for (line, older, newer) in [
        ("--ssl-ca=/ca.pem", "verify-ca by ssl-ca", "verify-identity by ssl-ca"),
        ("--ssl-ca /ca.pem", "verify-ca by ssl-ca", "verify-identity by ssl-ca"),
        ("--ssl_capath=/certs", "verify-ca by ssl-capath", "verify-identity by ssl-capath"),
        ("--skip-ssl --ssl-ca=a", "verify-ca by ssl-ca", "verify-identity by ssl-ca"),
        // Tried: 11.8 checks the name in spite of it.
        ("--ssl-ca=a --skip-ssl-verify-server-cert", "verify-ca by ssl-ca", "verify-identity by ssl-ca"),
        ("--ssl-verify --skip-ssl", "verify-identity by ssl-verify-server-cert", "off by ssl"),
        ("--skip-ssl --ssl-verify", "verify-identity by ssl-verify-server-cert", "off by ssl"),
    ] {
        assert_eq!(asked(OLDER, line), older, "{line}");
        assert_eq!(asked(NEWER, line), newer, "{line}");
    }
    assert_eq!(asked(NEWER, "--ssl-fp=00:11"), "verify-ca by ssl-fp");
}

#[test]
fn modes_of_mydumper() {
    for (line, expected) in [
        ("-h db1 -c", "nothing"),
        ("--tls-version=TLSv1.3", "nothing"),
        ("--ssl", "required by ssl"),
        ("--ssl=0", "required by ssl"),
        ("--key k", "required by key"),
        ("--cert=c", "required by cert"),
        ("--cipher x", "required by cipher"),
        ("--ca=x", "verify-ca by ca"),
        ("--capath x --ssl", "verify-ca by capath"),
        ("--ssl-mode REQUIRED --ca x", "verify-ca by ca"),
        ("--ssl --ssl-mode=VERIFY_IDENTITY --ca x", "verify-identity by ssl-mode=VERIFY_IDENTITY"),
        ("--ssl-mode=DISABLED --ca x", "off by ssl-mode=DISABLED"),
        ("--ssl-mode=DISABLED --ssl", "required by ssl"), // MySQL's library puts it first
    ] {
        assert_eq!(asked(Dialect::MyDumper, line), expected, "{line}");
    }
    let in_files = |line: &str| {
        let given = scan(&args(line), &mydumper::connector(), Origin::OptionFile).given;
        TlsDemand::read(&given, Dialect::MyDumper, None).expect(line).mode
    };
    assert_eq!(in_files("--ssl-ca=/ca.pem"), Some(UpstreamTlsMode::VerifyCa));
    assert_eq!(in_files("--tls-verify-peer=1"), Some(UpstreamTlsMode::VerifyIdentity));
    assert_eq!(in_files("--ssl-verify-server-cert=1 --ssl-verify-server-cert=0"), None);
    assert_eq!(in_files("--ssl-enforce=1"), Some(UpstreamTlsMode::Required));
    // Its library does not read these two.
    assert_eq!(in_files("--ssl-ca=/ca.pem --skip-ssl"), Some(UpstreamTlsMode::VerifyCa));
    assert_eq!(in_files("--ssl-ca=/ca.pem --ssl-mode=DISABLED"), Some(UpstreamTlsMode::VerifyCa));
}

#[test]
fn the_list_of_versions_gives_the_oldest() {
    for (list, expected) in [
        ("TLSv1.2", Some(TlsVersion::V12)),
        ("tlsv1.3", Some(TlsVersion::V13)),
        ("TLSv1.2,TLSv1.3", Some(TlsVersion::V12)),
        ("TLSv1,TLSv1.3", Some(TlsVersion::V12)),
        ("TLSv1.1, TLSv1.3", Some(TlsVersion::V12)),
        ("TLSv1.1", Some(TlsVersion::V12)), // nothing older is spoken
    ] {
        for dialect in [MYSQL, OLDER, Dialect::MyDumper] {
            let given =
                [Given { name: "tls-version".into(), value: Some(list.into()), origin: Origin::CommandLine }];
            let version = TlsDemand::read(&given, dialect, None).expect(list).min_version;
            assert_eq!(version, expected, "{list}");
        }
    }
    assert_eq!(read(OLDER, "--tls-version=new").expect("passed over, as there").min_version, None);
    assert_eq!(read(MYSQL, "--tls-version=new").expect_err("refused, as there").exit_code(), 2);
}

#[test]
fn files() {
    let demand = read(MYSQL, "--ssl-ca=~/ca.pem --ssl-cert=c.pem --ssl-key=~me/k.pem").expect("a demand");
    assert_eq!(demand.ca.as_deref(), Some(Path::new("/home/me/ca.pem")));
    assert_eq!(demand.certificate.as_deref(), Some(Path::new("c.pem")));
    assert_eq!(demand.key.as_deref(), Some(Path::new("~me/k.pem")));
    // MariaDB's library takes the path as it is.
    let demand = read(OLDER, "--ssl-ca=~/ca.pem").expect("a demand");
    assert_eq!(demand.ca.as_deref(), Some(Path::new("~/ca.pem")));
    for dialect in [MYSQL, OLDER, NEWER] {
        for option in ["--ssl-ca=", "--ssl-capath=", "--ssl-cert=", "--ssl-key="] {
            let error = read(dialect, option).expect_err(option);
            assert!(error.to_string().contains("names no file"), "{error}");
        }
    }
    assert!(read(OLDER, "--ssl-ca= --skip-ssl").is_ok());
}

#[test]
fn the_stricter_one_holds() {
    for (line, toml, expected) in [
        ("", "", "nothing"),
        ("", "upstream_tls = 'required'", "Required"),
        ("--ssl-mode=REQUIRED", "", "Required"),
        ("--ssl-mode=PREFERRED", "", "Preferred"),
        ("--ssl-mode=DISABLED", "", "Off"),
        ("--ssl-mode=DISABLED", "upstream_tls = 'verify-ca'", "VerifyCa"),
        ("--ssl-mode=DISABLED --ssl-ca=/a", "upstream_tls_ca = '/b'", "VerifyCa /b"),
        ("--ssl-mode=REQUIRED", "upstream_tls = 'preferred'", "Required"),
        ("--ssl-mode=VERIFY_CA --ssl-ca=/a", "upstream_tls = 'required'", "VerifyCa /a"),
        ("--ssl-mode=VERIFY_CA --ssl-ca=/a", "upstream_tls = 'verify-identity'", "VerifyIdentity /a"),
        ("--ssl-mode=VERIFY_IDENTITY --ssl-ca=/a", "upstream_tls_ca = '/b'", "VerifyIdentity /b"),
        ("--ssl-mode=VERIFY_IDENTITY", "upstream_tls_ca = '/b'", "VerifyIdentity /b"),
        ("--ssl-mode=VERIFY_CA", "upstream_tls = 'verify-ca'", "VerifyCa"),
        ("--ssl-capath=/dir", "", "VerifyCa /dir"),
        // A CA of the client's is of no use where nothing is checked, and one of Spillway's an error.
        ("--ssl-mode=REQUIRED --ssl-ca=/a", "", "Required"),
        ("--ssl-cert=/c --ssl-key=/k", "", "nothing /c /k"),
        ("--ssl-cert=/both", "", "nothing /both /both"),
        ("--ssl-key=/both", "", "nothing /both /both"),
        ("--ssl-cert=/c --ssl-key=/k", "upstream_tls_cert = '/own'", "nothing /own"),
        ("--ssl-mode=DISABLED --ssl-cert=/c --ssl-key=/k", "", "Off"),
        ("--tls-version=TLSv1.3", "", "nothing 1.3"),
        ("--tls-version=TLSv1.2", "upstream_tls_min_version = '1.3'", "nothing 1.3"),
        ("--tls-version=TLSv1.3", "upstream_tls_min_version = '1.2'", "nothing 1.3"),
    ] {
        assert_eq!(joined(MYSQL, line, toml).as_deref(), Ok(expected), "{line} {toml}");
    }
}

#[test]
fn contradictions() {
    for (dialect, line, toml, expected) in [
        (MYSQL, "--ssl-mode=REQUIRED", "upstream_tls = 'off'", "`--ssl-mode=REQUIRED` asks for TLS"),
        (OLDER, "--ssl-ca=/a", "upstream_tls = 'off'", "`--ssl-ca` asks for TLS"),
        (MYSQL, "--ssl-mode=VERIFY_CA", "", "`--ssl-mode=VERIFY_CA` asks for a check"),
        (MYSQL, "--ssl-ca=/a --ssl-capath=/b", "", "CA certificates are named twice, /a and /b"),
    ] {
        let error = joined(dialect, line, toml).expect_err(line);
        assert!(error.starts_with(expected), "{error}");
    }
    assert_eq!(joined(MYSQL, "--ssl-mode=PREFERRED", "upstream_tls = 'off'").as_deref(), Ok("Preferred"));
    assert_eq!(joined(MYSQL, "", "upstream_tls = 'off'").as_deref(), Ok("Off"));
    assert_eq!(
        joined(MYSQL, "--ssl-ca=/a --ssl-capath=/b", "upstream_tls_ca = '/c'").as_deref(),
        Ok("VerifyCa /c")
    );
}

#[test]
fn names_of_local_servers() {
    for (upstream, expected) in [
        ("db1", "VerifyIdentity /a"),
        ("127.0.0.2", "VerifyIdentity /a"),
        ("127.0.0.1:3307", "VerifyCa /a"),
        ("localhost", "VerifyCa /a"),
        ("[::1]", "VerifyCa /a"),
        ("unix:/s", "VerifyCa /a"),
    ] {
        let toml = format!("upstream = '{upstream}'");
        assert_eq!(joined(NEWER, "--ssl-ca=/a", &toml).as_deref(), Ok(expected), "{upstream}");
    }
    let verified = joined(NEWER, "--ssl-ca=/a --ssl-verify-server-cert", "upstream = 'localhost'");
    assert_eq!(verified.as_deref(), Ok("VerifyIdentity /a"), "the user's own word");
    let one_is_not = joined(NEWER, "--ssl-ca=/a", "upstream = ['localhost', 'db1']");
    assert_eq!(one_is_not.as_deref(), Ok("VerifyIdentity /a"));
}

#[test]
fn what_cannot_be_kept_is_refused() {
    for (dialect, line, option) in [
        (MYSQL, "--ssl-mode=REQUIRED --ssl-cipher=AES128-SHA", "ssl-cipher"),
        (MYSQL, "--ssl-ca=/a --ssl-crl=/crl", "ssl-crl"),
        (MYSQL, "--ssl-ca=/a --ssl-crlpath=/crl", "ssl-crlpath"),
        (MYSQL, "--ssl-mode=R --tls-ciphersuites=TLS_AES_256_GCM_SHA384", "tls-ciphersuites"),
        (MYSQL, "--ssl-mode=R --ssl-fips-mode=STRICT", "ssl-fips-mode"),
        (MYSQL, "--ssl-mode=R --tls-sni-servername=db2", "tls-sni-servername"),
        (OLDER, "--ssl-cipher=AES128-SHA", "ssl-cipher"),
        (OLDER, "--ssl-crl=/crl", "ssl-crl"),
        (NEWER, "--ssl-fp=00:11", "ssl-fp"),
        (Dialect::MyDumper, "--cipher AES128-SHA", "cipher"),
    ] {
        let error = joined(dialect, line, "upstream = 'db1'").expect_err(line);
        assert!(error.starts_with(&format!("`--{option}` cannot be kept")), "{error}");
        let decided = joined(dialect, line, "upstream = 'db1'\nupstream_tls = 'verify-identity'");
        assert!(decided.is_ok(), "{line}: {decided:?}");
    }
    // What Spillway itself is told must be as strict.
    let error = joined(NEWER, "--ssl-fp=00:11", "upstream_tls = 'required'").expect_err("no CA");
    assert!(error.contains("--upstream-tls verify-ca or more"), "{error}");
}

#[test]
fn what_makes_nothing_weaker_is_passed_over() {
    for line in [
        "--ssl-mode=R --tls-sni-servername=db1",
        "--ssl-mode=R --ssl-fips-mode=OFF",
        "--ssl-mode=R --ssl-session-data=/s",
        "--ssl-mode=R --ssl-session-data-continue-on-failed-reuse",
        "--ssl-mode=R --ssl-cipher=",
    ] {
        assert_eq!(joined(MYSQL, line, "upstream = 'db1'").as_deref(), Ok("Required"), "{line}");
    }
    for line in ["--ssl-cipher=AES128-SHA --ssl-crl=/crl --ssl-fips-mode=ON", "--tls-sni-servername=db2"] {
        assert_eq!(joined(MYSQL, line, "upstream = 'db1'").as_deref(), Ok("nothing"), "{line}");
    }
    assert_eq!(joined(OLDER, "--ssl-cipher=AES128-SHA --skip-ssl", "").as_deref(), Ok("Off"));
}

#[test]
fn options_that_are_not_known_yet() {
    assert!(is_about_tls("ssl-something") && is_about_tls("tls-something"));
    assert!(!is_about_tls("sslsomething") && !is_about_tls("host"));
    let given =
        |name: &str| Given { name: name.into(), value: Some("1".into()), origin: Origin::CommandLine };
    for (dialect, mode) in [(OLDER, None), (MYSQL, Some(given("ssl-ca")))] {
        let given: Vec<_> = [given("ssl-something")].into_iter().chain(mode).collect();
        let demand = TlsDemand::read(&given, dialect, None).expect("a demand");
        let error = demand.join(&mut Settings::default()).expect_err("not known");
        assert!(error.to_string().starts_with("`--ssl-something` cannot be kept"), "{error}");
    }
}

#[test]
fn tls_is_switched_off_in_each_clients_words() {
    let options =
        |dialect, line: &str| switch_off(dialect, &table(dialect), &scanned(dialect, line).given).join(" ");
    assert_eq!(options(MYSQL, ""), "--ssl-mode=DISABLED");
    assert_eq!(
        options(MYSQL, "--ssl-session-data=/s"),
        "--ssl-mode=DISABLED --ssl-session-data-continue-on-failed-reuse"
    );
    for dialect in [OLDER, NEWER] {
        assert_eq!(options(dialect, ""), "--skip-ssl --skip-ssl-verify-server-cert");
    }
    assert_eq!(options(Dialect::MyDumper, "--ssl"), "");
    let without = help_without_tls();
    assert_eq!(switch_off(OLDER, &without, &[]), [""; 0]);
    for (modes, expected) in [
        ("REQUIRED, VERIFY_IDENTITY", &[][..]),
        ("DISABLED, PREFERRED, REQUIRED, VERIFY_CA, VERIFY_IDENTITY", &["--ssl-mode=DISABLED"]),
    ] {
        let table = mydumper::tests::with_modes(modes);
        assert_eq!(switch_off(Dialect::MyDumper, &table, &[]), expected, "{modes}");
    }
}

/// A client that was built without TLS.
fn help_without_tls() -> OptionTable {
    let mut table = mariadb_dump();
    table.specs.retain(|spec| !is_about_tls(&spec.name));
    table
}

#[test]
fn what_mydumper_finds_in_a_file_cannot_be_withdrawn() {
    let old = mydumper::tests::old();
    let mysql = mydumper::tests::with_modes("DISABLED, PREFERRED, REQUIRED, VERIFY_CA, VERIFY_IDENTITY");
    let name = |table: &OptionTable, line: &str| {
        let given = scan(&args(line), &mydumper::connector(), Origin::OptionFile).given;
        fixed(Dialect::MyDumper, table, &given).map(|given| given.name.clone())
    };
    assert_eq!(name(&old, "--ssl-verify-server-cert=1").as_deref(), Some("ssl-verify-server-cert"));
    assert_eq!(name(&old, "--ssl-fp=00").as_deref(), Some("ssl-fp"));
    for harmless in ["--ssl-verify-server-cert=0", "--ssl-verify-server-cert", "--ssl-ca=/a --ssl-enforce=1"]
    {
        assert_eq!(name(&old, harmless), None, "{harmless}");
    }
    assert_eq!(name(&old, "--ssl-mode=REQUIRED"), None, "its library does not read it");
    assert_eq!(name(&mysql, "--ssl-mode=REQUIRED").as_deref(), Some("ssl-mode"));
    assert_eq!(name(&mysql, "--ssl-mode=PREFERRED"), None);
}

#[test]
fn dialects() {
    let dialect =
        |name: &str, table: &OptionTable| Dialect::of(&Program::identify(OsStr::new(name)).unwrap(), table);
    assert_eq!(dialect("mysqldump", &mysql_dump()), MYSQL);
    assert_eq!(dialect("mysqldump", &mariadb_dump()), OLDER);
    assert_eq!(dialect("mariadb-dump", &mariadb_dump_11()), NEWER);
    assert_eq!(dialect("mysqldump", &help_without_tls()), OLDER);
    assert_eq!(dialect("mydumper", &mydumper::tests::old()), Dialect::MyDumper);
}
