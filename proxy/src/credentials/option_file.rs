//! Reads user and password from an option file, as the clients of MySQL and MariaDB do.
//!
//! <https://dev.mysql.com/doc/refman/8.4/en/option-files.html>; where that is silent, as the function
//! `search_default_file_with_ext` of their sources does.

use std::path::Path;

use zeroize::Zeroizing;

use super::CredentialsError;

/// What the groups for us say; the last one counts.
#[derive(Default)]
pub(super) struct Account {
    pub(super) has_group: bool,
    pub(super) user: Option<Value>,
    pub(super) password: Option<Value>,
}

type Value = Zeroizing<Vec<u8>>;

/// A line that cannot be read. Its content is not kept: it may be a password.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadLine {
    line: usize,
    problem: &'static str,
}

impl BadLine {
    pub(super) fn at(self, path: &Path) -> CredentialsError {
        CredentialsError::Malformed { path: path.to_owned(), line: self.line, problem: self.problem }
    }
}

/// Reads a whole file. Options of other groups and other options are passed over.
pub(super) fn parse(text: &[u8]) -> Result<Account, BadLine> {
    let (mut client, mut own) = (Account::default(), Account::default());
    let mut group = None;
    for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
        let bad = |problem| BadLine { line: index + 1, problem };
        match parse_line(line).map_err(bad)? {
            Line::Empty => {}
            Line::Group(name) => {
                group = Some(match name {
                    b"client" => Some(&mut client),
                    b"spillway" => Some(&mut own),
                    _ => None,
                });
                if let Some(Some(account)) = &mut group {
                    account.has_group = true;
                }
            }
            Line::Option { name, value } => match (&mut group, name) {
                (None, _) => return Err(bad("stands before the first group: write [client] above it")),
                (Some(Some(account)), b"user") => account.user = Some(value),
                (Some(Some(account)), b"password") => account.password = Some(value),
                _ => {}
            },
        }
    }
    Ok(Account {
        has_group: client.has_group || own.has_group,
        user: own.user.or(client.user),
        password: own.password.or(client.password),
    })
}

enum Line<'a> {
    Empty,
    Group(&'a [u8]),
    /// An option without a value has an empty one.
    Option {
        name: &'a [u8],
        value: Value,
    },
}

fn parse_line(line: &[u8]) -> Result<Line<'_>, &'static str> {
    let line = trim(line);
    match line.first() {
        None | Some(b'#' | b';') => return Ok(Line::Empty),
        Some(b'[') => {
            let end = line.iter().position(|&byte| byte == b']').ok_or("is a group without its `]`")?;
            return Ok(Line::Group(trim(&line[1..end])));
        }
        Some(b'!') => return Err("includes another file: name that one"),
        Some(_) => {}
    }
    let line = trim(&line[..end_of_option(line)]);
    let (name, value) = match line.iter().position(|&byte| byte == b'=') {
        Some(at) => (trim(&line[..at]), trim(&line[at + 1..])),
        None => (line, [].as_slice()),
    };
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    if name.is_empty() || !name.iter().all(is_name) || value.contains(&0) {
        return Err("is no option: write `name = value`");
    }
    Ok(Line::Option { name, value: unescape(unquote(value)) })
}

/// Where the option ends: at a `#` that stands in no quotes. Quotes may begin anywhere (`it's # no comment`).
fn end_of_option(line: &[u8]) -> usize {
    let (mut quote, mut escaped) = (None, false);
    for (at, &byte) in line.iter().enumerate() {
        if !escaped && (byte == b'\'' || byte == b'"') {
            match quote {
                None => quote = Some(byte),
                Some(open) if open == byte => quote = None,
                Some(_) => {}
            }
        }
        if quote.is_none() && byte == b'#' {
            return at;
        }
        escaped = quote.is_some() && byte == b'\\' && !escaped;
    }
    line.len()
}

fn unquote(value: &[u8]) -> &[u8] {
    match value {
        [b'"', content @ .., b'"'] | [b'\'', content @ .., b'\''] => content,
        _ => value,
    }
}

/// Escapes count with and without quotes; an unknown one stands for itself, and so does a backslash at the end.
fn unescape(value: &[u8]) -> Value {
    let mut text = Zeroizing::new(Vec::with_capacity(value.len()));
    let mut rest = value;
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        match (byte, behind.first()) {
            (b'\\', Some(&escaped)) => {
                rest = &behind[1..];
                match escaped {
                    b'n' => text.push(b'\n'),
                    b't' => text.push(b'\t'),
                    b'r' => text.push(b'\r'),
                    b'b' => text.push(0x08),
                    b's' => text.push(b' '),
                    b'\\' | b'"' | b'\'' => text.push(escaped),
                    _ => text.extend_from_slice(&[b'\\', escaped]),
                }
            }
            _ => text.push(byte),
        }
    }
    text
}

/// The blanks of C's `isspace`; `trim_ascii` leaves the vertical tab.
fn trim(text: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
    let start = text.iter().position(|byte| !is_blank(byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|byte| !is_blank(byte)).map_or(start, |last| last + 1);
    &text[start..end]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// User and password, as text.
    fn account(text: &str) -> (Option<String>, Option<String>) {
        let account = parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error:?}"));
        let text = |value: Option<Value>| value.map(|value| String::from_utf8_lossy(&value).into_owned());
        (text(account.user), text(account.password))
    }

    fn password(line: &str) -> String {
        account(&format!("[client]\n{line}\n")).1.expect(line)
    }

    /// Each is what `my_print_defaults` of MariaDB 10.11 makes of it.
    #[test]
    fn values() {
        for (line, value) in [
            ("password=secret", "secret"),
            ("  password \t=  two words \t\r", "two words"),
            ("password", ""),
            ("password=", ""),
            ("password = ''", ""),
            ("password = \" blanks \"", " blanks "),
            ("password = 'it''s'", "it''s"),
            ("password = \"a'b\"", "a'b"),
            ("password = 'open", "'open"),
            ("password = '", "'"),
            ("password = a=b", "a=b"),
            ("password = a#b", "a"),
            ("password = a;b", "a;b"),
            ("password = 'a#b' # comment", "a#b"),
            ("password = it's#1", "it's#1"),
            ("password = 'a\\'#b'", "a'#b"),
            (r"password = \\\s\t\n\r\b\'\x", "\\ \t\n\r\x08'\\x"),
            (r#"password = "a\"b""#, "a\"b"),
            ("password = end\\", "end\\"),
        ] {
            assert_eq!(password(line), value, "{line}");
        }
    }

    #[test]
    fn groups() {
        let text = "# a comment\n; another\n\n[mysqldump]\nuser=no\n[ client ] # ours\nuser=a\nhost=db1\nquick\n\
                    [client-mariadb]\nuser=no\n[mysqld]\npassword=no\n[client]\npassword=b\npassword=c\n";
        assert_eq!(account(text), (Some("a".into()), Some("c".into())));
        let text = "[spillway]\nuser=own\npassword=x\n[client]\nuser=a\npassword=b";
        assert_eq!(account(text), (Some("own".into()), Some("x".into())));
        assert_eq!(
            account("[spillway]\nuser=own\n[client]\npassword=b"),
            (Some("own".into()), Some("b".into()))
        );
        assert_eq!(account(""), (None, None));
    }

    #[test]
    fn lines_that_are_no_options() {
        for (text, line) in [
            ("user=a", 1),
            ("[client]\nuser=a\n\nhunter 2\n", 4),
            ("[client]\n=a", 2),
            ("[client]\n!include /etc/my.cnf", 2),
            ("[client\nuser=a", 1),
            ("[client]\npass word=a", 2),
            ("[client]\nuser=a\0b", 2),
            ("[client]\n\u{e4}=a", 2),
        ] {
            assert_eq!(parse(text.as_bytes()).err().map(|error| error.line), Some(line), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes(text in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse(&text);
        }

        #[test]
        fn any_password_in_quotes(value in "[ -~]{0,20}") {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
            prop_assert_eq!(password(&format!("password=\"{escaped}\"")), value);
        }
    }
}
