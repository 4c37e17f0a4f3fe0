//! Which statements may be repeated in a new session so that it equals the old one.
//!
//! Never a guess: what is not recognised, letter by letter, is [`StatementKind::Other`].

use super::tokens::{Token, Tokens};
use super::variables::{is_session_state, is_setting, shows_session_state};

/// What a statement leaves in its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatementKind {
    /// A setting of the session and nothing else. The same text in a new session gives the same setting.
    Setting,
    /// The session's default database and nothing else.
    DefaultDatabase,
    /// Nothing: it reads system variables, and none whose value is this very session's.
    SystemVariableRead,
    /// Anything.
    Other,
}

/// Looks at the whole text of a COM_QUERY.
///
/// ```
/// use spillway_protocol::{StatementKind, classify};
///
/// assert_eq!(classify(b"/*!40103 SET TIME_ZONE='+00:00' */"), StatementKind::Setting);
/// assert_eq!(classify(b"select @@version_comment limit 1"), StatementKind::SystemVariableRead);
/// assert_eq!(classify(b"SET GLOBAL max_connections = 1"), StatementKind::Other);
/// ```
pub fn classify(text: &[u8]) -> StatementKind {
    let is = |form: fn(&mut Tokens<'_>) -> Option<()>| {
        let mut tokens = Tokens::new(text);
        form(&mut tokens).is_some() && tokens.at_end()
    };
    if is(set) || is(set_names) {
        StatementKind::Setting
    } else if is(use_database) {
        StatementKind::DefaultDatabase
    } else if is(select_variables) || is(show_variables) {
        StatementKind::SystemVariableRead
    } else {
        StatementKind::Other
    }
}

/// `SET [SESSION|LOCAL] name = literal`, `SET @@[session.|local.]name = literal`, or a list of these.
fn set(tokens: &mut Tokens<'_>) -> Option<()> {
    tokens.keyword("SET").then_some(())?;
    loop {
        let scoped = tokens.any_keyword(&["SESSION", "LOCAL"]);
        let name = match tokens.next()? {
            Token::Word(name) => name,
            Token::SystemVariable { scope, name } if !scoped && scope.is_none_or(is_session_scope) => name,
            _ => return None,
        };
        if !is_setting(name) || tokens.next()? != Token::Assign || !is_literal(tokens.next()?, name) {
            return None;
        }
        if !tokens.take(|token| token == Token::Comma) {
            return Some(());
        }
    }
}

/// `SET NAMES 'utf8mb4' [COLLATE 'utf8mb4_bin']`. With DEFAULT it would be the server's choice of a character set.
fn set_names(tokens: &mut Tokens<'_>) -> Option<()> {
    let names = tokens.keyword("SET") && tokens.keyword("NAMES") && tokens.take(is_charset);
    let collated = !tokens.keyword("COLLATE") || tokens.take(is_charset);
    (names && collated).then_some(())
}

/// `USE name`.
fn use_database(tokens: &mut Tokens<'_>) -> Option<()> {
    let name = |token| matches!(token, Token::Word(_) | Token::Backticked(_));
    (tokens.keyword("USE") && tokens.take(name)).then_some(())
}

/// `SELECT @@[scope.]name [AS alias], … [LIMIT n]`.
fn select_variables(tokens: &mut Tokens<'_>) -> Option<()> {
    tokens.keyword("SELECT").then_some(())?;
    loop {
        let Token::SystemVariable { scope, name } = tokens.next()? else { return None };
        let known =
            scope.is_none_or(|scope| is_session_scope(scope) || scope.eq_ignore_ascii_case(b"global"));
        if !known || is_session_state(name) {
            return None;
        }
        let alias = |token| matches!(token, Token::Word(_) | Token::Backticked(_) | Token::Quoted(_));
        if tokens.keyword("AS") && !tokens.take(alias) {
            return None;
        }
        if !tokens.take(|token| token == Token::Comma) {
            break;
        }
    }
    let count = |token| matches!(token, Token::Number(number) if number.iter().all(u8::is_ascii_digit));
    (!tokens.keyword("LIMIT") || tokens.take(count)).then_some(())
}

/// `SHOW [scope] VARIABLES [LIKE 'pattern']`. All variables of a session: only globally, as some are its very own.
fn show_variables(tokens: &mut Tokens<'_>) -> Option<()> {
    tokens.keyword("SHOW").then_some(())?;
    let global = tokens.keyword("GLOBAL");
    let _ = global || tokens.any_keyword(&["SESSION", "LOCAL"]);
    tokens.keyword("VARIABLES").then_some(())?;
    if !tokens.keyword("LIKE") {
        return global.then_some(());
    }
    match tokens.next()? {
        Token::Quoted(pattern) if !shows_session_state(pattern) => Some(()),
        _ => None,
    }
}

fn is_session_scope(scope: &[u8]) -> bool {
    scope.eq_ignore_ascii_case(b"session") || scope.eq_ignore_ascii_case(b"local")
}

/// Whether a value stands for itself. DEFAULT does, as far as anything does in a new session: it takes the global
/// value, as all variables do there that were never set.
fn is_literal(token: Token<'_>, name: &[u8]) -> bool {
    match token {
        Token::Number(_) | Token::Quoted(_) => true,
        Token::Word(_)
            if ["ON", "OFF", "TRUE", "FALSE", "NULL", "DEFAULT"].iter().any(|word| token.is(word)) =>
        {
            true
        }
        Token::Word(_) => {
            let name = name.to_ascii_lowercase();
            (name.starts_with(b"character_set_") || name.starts_with(b"collation_")) && is_charset(token)
        }
        _ => false,
    }
}

/// Whether this names a character set or a collation. A bare word does if it begins like one: any other may be a
/// function that needs no parentheses (CURRENT_USER).
fn is_charset(token: Token<'_>) -> bool {
    match token {
        Token::Quoted(_) => true,
        Token::Word(word) => {
            let first = word.split(|&byte| byte == b'_').next().unwrap_or_default();
            CHARSETS.iter().any(|charset| charset.as_bytes().eq_ignore_ascii_case(first))
        }
        _ => false,
    }
}

/// All that a client of MySQL 5.0 to 9 or MariaDB 5.1 to 12 can name, and `uca1400`, with which names of collations of
/// MariaDB begin that belong to no character set.
const CHARSETS: [&str; 43] = [
    "armscii8", "ascii", "big5", "binary", "cp1250", "cp1251", "cp1256", "cp1257", "cp850", "cp852", "cp866",
    "cp932", "dec8", "eucjpms", "euckr", "gb18030", "gb2312", "gbk", "geostd8", "greek", "hebrew", "hp8",
    "keybcs2", "koi8r", "koi8u", "latin1", "latin2", "latin5", "latin7", "macce", "macroman", "sjis", "swe7",
    "tis620", "ucs2", "ujis", "utf16", "utf16le", "utf32", "utf8", "utf8mb3", "utf8mb4", "uca1400",
];

#[cfg(test)]
mod tests;
