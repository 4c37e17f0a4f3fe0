//! Finds out whether the client's options ask for TLS.
//!
//! Built-in defaults do not count (MariaDB's clients have `ssl` on by default and do without TLS where the server has
//! none); what the user wrote does.

use super::scan::Given;

/// The option by which TLS is asked for, if it is.
///
/// `--ssl-mode` decides alone where it is given, as in MySQL's clients. Without it, an `--ssl-ca` or another one with
/// a value for TLS turns TLS on as `--ssl` does, and a later `--skip-ssl` off again; `--ssl-verify-server-cert` asks
/// for TLS whatever `--ssl` says.
pub(crate) fn demanded_by(given: &[Given]) -> Option<String> {
    let mut mode = None;
    let mut enabled = None;
    let mut verify = None;
    for option in given {
        match option.name.as_str() {
            "ssl-mode" => mode = Some(option),
            "ssl" => enabled = option.is_on().then_some(option),
            "ssl-verify-server-cert" => verify = option.is_on().then_some(option),
            name if IMPLYING.contains(&name) && option.text().is_some() => enabled = Some(option),
            _ => {}
        }
    }
    let demand = match mode {
        Some(mode) => Some(mode).filter(|mode| !is_lax(mode)),
        None => verify.or(enabled),
    }?;
    Some(match demand.text() {
        Some(value) if demand.name == "ssl-mode" => format!("ssl-mode={}", value.display()),
        _ => demand.name.clone(),
    })
}

/// DISABLED or PREFERRED, in any case; MySQL's clients take any beginning of them.
fn is_lax(mode: &Given) -> bool {
    let Some(value) = mode.text() else { return false };
    let value = value.to_string_lossy().to_ascii_uppercase();
    ["DISABLED", "PREFERRED"].iter().any(|lax| lax.starts_with(&value))
}

/// Options that have no sense without TLS; those without `ssl-` are mydumper's.
const IMPLYING: [&str; 14] = [
    "ssl-ca",
    "ssl-capath",
    "ssl-cert",
    "ssl-key",
    "ssl-cipher",
    "ssl-crl",
    "ssl-crlpath",
    "ssl-fp",
    "ssl-fplist",
    "ca",
    "capath",
    "cert",
    "key",
    "cipher",
];

#[cfg(test)]
mod tests {
    use super::super::help::tests::{mariadb_dump, mysql_dump};
    use super::super::mydumper;
    use super::super::options::OptionTable;
    use super::super::scan::tests::args;
    use super::super::scan::{Origin, scan};
    use super::*;

    fn demand(table: &OptionTable, line: &str) -> Option<String> {
        demanded_by(&scan(&args(line), table, Origin::CommandLine).given)
    }

    #[test]
    fn mariadb() {
        for line in [
            "-h db1 --all-databases",
            "--skip-ssl",
            "--ssl=0",
            "--ssl=OFF",
            "--disable-ssl",
            "--ssl --skip-ssl",
            "--ssl-ca=/ca.pem --skip-ssl",
            "--ssl-ca=",
            "--ssl-verify-server-cert=0",
            "--ssl-verify-server-cert --skip-ssl-verify-server-cert",
            "--where --ssl",
            "-- --ssl",
        ] {
            assert_eq!(demand(&mariadb_dump(), line), None, "{line}");
        }
        for (line, option) in [
            ("--ssl", "ssl"),
            ("--ssl=1", "ssl"),
            ("--ssl=on", "ssl"),
            ("--skip-ssl --ssl", "ssl"),
            ("--skip-ssl=0", "ssl"),
            ("--loose-ssl", "ssl"),
            ("--ssl-ca=/ca.pem", "ssl-ca"),
            ("--ssl-ca /ca.pem", "ssl-ca"),
            ("--ssl_capath=/certs", "ssl-capath"),
            ("--ssl-cert=c --ssl-key=k", "ssl-key"),
            ("--ssl-k=k", "ssl-key"),
            ("--skip-ssl --ssl-ca=/ca.pem", "ssl-ca"),
            ("--ssl-verify-server-cert", "ssl-verify-server-cert"),
            ("--ssl-verify --skip-ssl", "ssl-verify-server-cert"),
        ] {
            assert_eq!(demand(&mariadb_dump(), line).as_deref(), Some(option), "{line}");
        }
    }

    #[test]
    fn mysql() {
        for line in [
            "--ssl-mode=DISABLED",
            "--ssl-mode=preferred",
            "--ssl-mode=pref --ssl-ca=/ca.pem",
            "--ssl-mode=REQUIRED --ssl-mode=DISABLED",
        ] {
            assert_eq!(demand(&mysql_dump(), line), None, "{line}");
        }
        for (line, option) in [
            ("--ssl-mode=REQUIRED", "ssl-mode=REQUIRED"),
            ("--ssl-mode required", "ssl-mode=required"),
            ("--ssl-m=Verify_CA", "ssl-mode=Verify_CA"),
            ("--ssl_mode=VERIFY_IDENTITY", "ssl-mode=VERIFY_IDENTITY"),
            ("--ssl-mode=PREFERRED --ssl-mode=R", "ssl-mode=R"),
            ("--ssl-mode=3", "ssl-mode=3"), // refused by the client, not weakened by us
            ("--ssl-mode=", "ssl-mode"),
            ("--ssl-ca=/ca.pem", "ssl-ca"),
        ] {
            assert_eq!(demand(&mysql_dump(), line).as_deref(), Some(option), "{line}");
        }
    }

    #[test]
    fn mydumper_options() {
        let demand = |line: &str| demanded_by(&mydumper::scan(&args(line), &mydumper::tests::old()).given);
        assert_eq!(demand("-h db1 -c"), None);
        for option in ["ca", "capath", "cert", "key", "cipher"] {
            assert_eq!(demand(&format!("--{option} x")).as_deref(), Some(option));
            assert_eq!(demand(&format!("--{option}=x")).as_deref(), Some(option));
        }
        assert_eq!(demand("--ssl").as_deref(), Some("ssl"));
    }
}
