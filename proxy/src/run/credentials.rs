//! Finds the account that the client would use, for `--auth stored`.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use nix::unistd::{Uid, User, geteuid};

use super::program::Family;
use super::scan::{Given, Origin};
use crate::credentials::Credentials;

/// Why Spillway does not know the client's account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownAccount {
    /// The client asks for the password, on the terminal.
    #[error("`--{0}` makes it ask for the password")]
    Asks(&'static str),
    /// MySQL's `--print-defaults` shows `*****` in place of a password.
    #[error("its `--print-defaults` hides the password of the option files")]
    Hidden,
    /// MySQL's accounts may have up to three passwords.
    #[error("`--{0}` is one of several passwords, which Spillway cannot give")]
    Several(&'static str),
    /// Nothing tells the name of the user who runs the client.
    #[error("no user is given and the login name is not known")]
    NoLoginName,
}

/// All that decides which account the client would use.
pub(crate) struct Login<'a> {
    /// How the client reads its options.
    pub(crate) family: Family,
    /// What it is given: the option files' first, as the last one wins.
    pub(crate) given: &'a [Given],
    /// Its environment.
    pub(crate) env: &'a dyn Fn(&str) -> Option<OsString>,
    /// The name that it logs in with where it is given none.
    pub(crate) login_name: &'a dyn Fn() -> Option<Vec<u8>>,
}

impl Login<'_> {
    /// The account that the client would use.
    pub(crate) fn credentials(&self) -> Result<Credentials, UnknownAccount> {
        let password = match self.family {
            Family::MyGetopt => self.password()?,
            Family::GOption => self.password_of_mydumper()?,
        };
        let from_environment = || (self.env)("MYSQL_PWD").map(OsString::into_vec);
        let password = password.or_else(from_environment).unwrap_or_default();
        let given = self.last("user").and_then(Given::text).map(|user| user.as_bytes().to_vec());
        let user = given.or_else(self.login_name).ok_or(UnknownAccount::NoLoginName)?;
        Ok(Credentials::new(user, password))
    }

    /// The last one counts: `-p` asks for it, `-psecret` and `--skip-password` (an empty one) do not.
    fn password(&self) -> Result<Option<Vec<u8>>, UnknownAccount> {
        for name in ["password2", "password3"] {
            if self.last(name).is_some() {
                return Err(UnknownAccount::Several(name));
            }
        }
        // MySQL's `--password1` is another name for `--password`.
        let last = self.given.iter().rfind(|given| matches!(given.name.as_str(), "password" | "password1"));
        let Some(given) = last else { return Ok(None) };
        let value = given.value.as_ref().ok_or(UnknownAccount::Asks("password"))?.as_bytes();
        if given.origin == Origin::OptionFile && value == HIDDEN {
            return Err(UnknownAccount::Hidden);
        }
        Ok(Some(value.to_vec()))
    }

    /// It asks if it is told to and has no password on its command line. The option files are read by the client
    /// library for it, which passes over an empty password there (all of this tried with 0.10).
    fn password_of_mydumper(&self) -> Result<Option<Vec<u8>>, UnknownAccount> {
        let last = |origin, wanted: fn(&Given) -> bool| {
            let mut given =
                self.given.iter().filter(|given| given.name == "password" && given.origin == origin);
            given
                .rfind(|given| wanted(given))
                .and_then(|given| given.value.as_ref())
                .map(|value| value.as_bytes())
        };
        if let Some(password) = last(Origin::CommandLine, |_| true) {
            return Ok(Some(password.to_vec()));
        }
        if self.last("ask-password").is_some() {
            return Err(UnknownAccount::Asks("ask-password"));
        }
        match last(Origin::OptionFile, |given| given.text().is_some()) {
            Some(HIDDEN) => Err(UnknownAccount::Hidden),
            password => Ok(password.map(<[u8]>::to_vec)),
        }
    }

    fn last(&self, name: &str) -> Option<&Given> {
        self.given.iter().rfind(|given| given.name == name)
    }
}

/// The name that the clients take when they are given none, as `read_user_name` in their sources finds it.
///
/// Of `getlogin` this is what glibc does with Linux's audit support, without the look into utmp for systems that have
/// none.
pub(crate) fn login_name() -> Option<Vec<u8>> {
    if geteuid().is_root() {
        return Some(b"root".to_vec());
    }
    let name_of = |uid: Uid| Some(User::from_uid(uid).ok()??.name.into_bytes());
    let variable = |name| std::env::var_os(name).map(OsString::into_vec);
    session_user()
        .and_then(name_of)
        .or_else(|| name_of(geteuid()))
        .or_else(|| ["USER", "LOGNAME", "LOGIN"].into_iter().find_map(variable))
}

/// Who logged in to the session in which this runs; `su` and `sudo` do not change it.
fn session_user() -> Option<Uid> {
    let uid = std::fs::read_to_string("/proc/self/loginuid").ok()?.trim().parse().ok()?;
    (uid != u32::MAX).then(|| Uid::from_raw(uid))
}

const HIDDEN: &[u8] = b"*****";

#[cfg(test)]
mod tests {
    use super::super::help::tests::mariadb_dump;
    use super::super::mydumper;
    use super::super::options::{Arity, OptionSpec};
    use super::super::scan::scan;
    use super::super::scan::tests::args;
    use super::*;

    /// `user/password` for a command line, with these option files (and MySQL's options, too).
    fn found(family: Family, files: &str, line: &str, env: Option<&str>) -> String {
        let given = match family {
            Family::MyGetopt => {
                let mut table = mariadb_dump();
                let spec = |name: &str| OptionSpec { name: name.into(), short: None, arity: Arity::Optional };
                table.specs.extend(["password1", "password2", "password3"].map(spec));
                let files = scan(&args(files), &table, Origin::OptionFile).given;
                [files, scan(&args(line), &table, Origin::CommandLine).given].concat()
            }
            Family::GOption => {
                let files = scan(&args(files), &mydumper::connector(), Origin::OptionFile).given;
                [files, mydumper::scan(&args(line), &mydumper::tests::old()).given].concat()
            }
        };
        let login = Login {
            family,
            given: &given,
            env: &|name| env.filter(|_| name == "MYSQL_PWD").map(OsString::from),
            login_name: &|| Some(b"me".to_vec()),
        };
        match login.credentials() {
            Ok(credentials) => {
                let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
                format!("{}/{}", text(credentials.user()), text(credentials.password()))
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn options_of_the_clients() {
        for (files, line, account) in [
            ("", "", "me/env"),
            ("", "-ubackup -psecret", "backup/secret"),
            ("", "-u backup --password=secret", "backup/secret"),
            ("", "--user backup --password=a=b", "backup/a=b"),
            ("", "-uvp --user= -p*****", "me/*****"),
            ("", "-vpsecret", "me/secret"),
            ("--user=file --password=secret", "", "file/secret"),
            ("--user=file --password=secret", "-ume -pown", "me/own"),
            ("--user=file --password=secret", "--user=", "me/secret"),
            ("--password", "-pown", "me/own"),
            ("", "-p --password=a", "me/a"),
            ("", "--password1=a", "me/a"),
            ("--password=secret", "--skip-password", "me/"),
            ("", "--password=", "me/"),
            ("", "-- -psecret -ux", "me/env"),
            ("", "-p", "`--password` makes it ask for the password"),
            ("--password", "-ux", "`--password` makes it ask for the password"),
            ("", "-psecret -p", "`--password` makes it ask for the password"),
            ("", "-p secret", "`--password` makes it ask for the password"),
            ("--password=*****", "", "its `--print-defaults` hides the password of the option files"),
            ("--password=*****", "-pown", "me/own"),
            (
                "",
                "-pa --password2=b",
                "`--password2` is one of several passwords, which Spillway cannot give",
            ),
        ] {
            assert_eq!(found(Family::MyGetopt, files, line, Some("env")), account, "{files} | {line}");
        }
        assert_eq!(found(Family::MyGetopt, "", "", None), "me/");
    }

    #[test]
    fn options_of_mydumper() {
        for (files, line, account) in [
            ("", "", "me/env"),
            ("", "-u backup -p secret", "backup/secret"),
            ("", "--user=backup --password secret", "backup/secret"),
            ("", "--password=", "me/"),
            ("", "-p secret -a", "me/secret"),
            ("--user=file --password=secret", "", "file/secret"),
            ("--user=file --password=secret", "-u me -p own", "me/own"),
            ("--password=secret --password=", "", "me/secret"),
            ("--password", "", "me/env"),
            ("--password=secret", "-a", "`--ask-password` makes it ask for the password"),
            ("--password=*****", "", "its `--print-defaults` hides the password of the option files"),
        ] {
            assert_eq!(found(Family::GOption, files, line, Some("env")), account, "{files} | {line}");
        }
    }

    #[test]
    fn a_user_must_be_known() {
        let login = Login { family: Family::MyGetopt, given: &[], env: &|_| None, login_name: &|| None };
        assert_eq!(login.credentials().map(|_| ()), Err(UnknownAccount::NoLoginName));
        // As `id -un` and the tests' own user have it.
        assert!(login_name().is_some_and(|name| !name.is_empty()));
    }
}
