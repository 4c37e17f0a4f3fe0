//! The console's statements, and those that clients send by themselves.

use super::packets::UNKNOWN_COMMAND;
use crate::printable::printable;

/// A statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Statement<'a> {
    Help,
    ShowSessions,
    ShowSpool,
    ShowRoutes,
    ShowUpstreams,
    ShowStatus(Option<&'a str>),
    ShowVariables(Option<&'a str>),
    ShowWarnings,
    Kill(u64),
    Drain,
    /// What clients ask when they connect.
    Select(Vec<(&'a str, Item)>),
    /// What has no meaning here and does no harm: SET, COMMIT.
    Setting,
}

/// What can be selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item {
    Version,
    VersionComment,
    User,
    Database,
    ConnectionId,
    CharacterSet,
    Number(u64),
}

/// A statement that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Mistake {
    #[error("spillway: no statement of the console: '{0}'; SHOW HELP lists what there is")]
    UnknownStatement(String),
    #[error("spillway: no command of the console; SHOW HELP lists what there is")]
    UnknownCommand,
}

/// Each statement with what it does, as HELP shows it.
pub(super) const HELP: [(&str, &str); 10] = [
    ("SHOW SESSIONS", "the running sessions; sizes in bytes, times in milliseconds"),
    ("SHOW SPOOL", "memory and disk that the backlogs take, in all and by session"),
    ("SHOW ROUTES", "where clients come in, and where they are led"),
    ("SHOW UPSTREAMS", "the servers, and what the last attempt has shown of each"),
    ("SHOW STATUS [LIKE 'pattern']", "totals since the start"),
    ("SHOW VARIABLES [LIKE 'pattern']", "the settings in force"),
    ("KILL [CONNECTION] id", "ends a session at once; its client gets an error"),
    ("DRAIN", "takes no new sessions any more, for good; the running ones go on"),
    ("SHOW HELP", "this list; also HELP, which most clients keep for themselves"),
    ("QUIT", "by the client: ends the connection"),
];

impl<'a> Statement<'a> {
    /// Reads a statement, in upper or lower case, with or without a semicolon.
    pub(super) fn parse(text: &'a str) -> Result<Self, Mistake> {
        if text == UNKNOWN_COMMAND {
            return Err(Mistake::UnknownCommand);
        }
        Self::recognise(text.trim().trim_end_matches(';').trim_end())
            .ok_or_else(|| Mistake::UnknownStatement(printable(text.trim().as_bytes())))
    }

    fn recognise(text: &'a str) -> Option<Self> {
        let first = text.split_whitespace().next()?;
        match first.to_ascii_uppercase().as_str() {
            "SET" | "COMMIT" | "ROLLBACK" => return Some(Self::Setting),
            "SELECT" => return selected(&text[first.len()..]).map(Self::Select),
            _ => {}
        }
        let (head, pattern) = match text.find(['\'', '"']) {
            Some(at) => (&text[..at], Some(literal(&text[at..])?)),
            None => (text, None),
        };
        let mut words: Vec<_> = head.split_whitespace().map(str::to_ascii_uppercase).collect();
        if words.len() > 2 && ["GLOBAL", "SESSION"].contains(&words[1].as_str()) {
            words.remove(1);
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match (words.as_slice(), pattern) {
            (["SHOW", "STATUS"], None) | (["SHOW", "STATUS", "LIKE"], Some(_)) => {
                Some(Self::ShowStatus(pattern))
            }
            (["SHOW", "VARIABLES"], None) | (["SHOW", "VARIABLES", "LIKE"], Some(_)) => {
                Some(Self::ShowVariables(pattern))
            }
            (["KILL", id] | ["KILL", "CONNECTION", id], None) => number(id).map(Self::Kill),
            (words, None) => Some(match words {
                ["HELP"] | ["SHOW", "HELP"] => Self::Help,
                ["SHOW", "SESSIONS"] => Self::ShowSessions,
                ["SHOW", "SPOOL"] => Self::ShowSpool,
                ["SHOW", "ROUTES"] => Self::ShowRoutes,
                ["SHOW", "UPSTREAMS"] => Self::ShowUpstreams,
                ["SHOW", "WARNINGS"] => Self::ShowWarnings,
                ["DRAIN"] => Self::Drain,
                _ => return None,
            }),
            _ => None,
        }
    }
}

/// What stands in quotes.
fn literal(text: &str) -> Option<&str> {
    let quote = text.chars().next()?;
    let inside = text.strip_prefix(quote)?.strip_suffix(quote)?;
    (!inside.contains(quote)).then_some(inside)
}

fn number(word: &str) -> Option<u64> {
    // `u64::from_str` would take a plus sign.
    word.bytes().all(|byte| byte.is_ascii_digit()).then(|| word.parse().ok())?
}

/// The items behind a SELECT, each with its text.
fn selected(text: &str) -> Option<Vec<(&str, Item)>> {
    let mut list = text.trim();
    if let [.., limit, count] = list.split_whitespace().collect::<Vec<_>>().as_slice()
        && limit.eq_ignore_ascii_case("LIMIT")
        && number(count).is_some()
    {
        list = list.strip_suffix(count)?.trim_end();
        list = list[..list.len() - limit.len()].trim_end();
    }
    list.split(',').map(|item| item_named(item.trim()).map(|known| (item.trim(), known))).collect()
}

fn item_named(name: &str) -> Option<Item> {
    match name.to_ascii_lowercase().as_str() {
        "@@version" | "version()" => Some(Item::Version),
        "@@version_comment" => Some(Item::VersionComment),
        "user()" | "current_user()" | "current_user" => Some(Item::User),
        "database()" | "schema()" => Some(Item::Database),
        "connection_id()" => Some(Item::ConnectionId),
        name if name.starts_with("@@character_set_") => Some(Item::CharacterSet),
        digits => number(digits).map(Item::Number),
    }
}

/// Whether a name is like a pattern: % is any text, _ any character; upper and lower case are the same.
pub(super) fn is_like(name: &str, pattern: &str) -> bool {
    let letters = |text: &str| text.to_lowercase().chars().collect::<Vec<_>>();
    let (name, pattern) = (letters(name), letters(pattern));
    let (mut at, mut in_pattern) = (0, 0);
    // Behind the last %, and how far the name went into it.
    let mut any = None;
    while at < name.len() {
        match pattern.get(in_pattern) {
            Some('%') => {
                in_pattern += 1;
                any = Some((in_pattern, at));
            }
            Some(&letter) if letter == '_' || letter == name[at] => {
                (at, in_pattern) = (at + 1, in_pattern + 1);
            }
            _ => {
                let Some((behind, from)) = any else { return false };
                (at, in_pattern) = (from + 1, behind);
                any = Some((behind, at));
            }
        }
    }
    pattern[in_pattern..].iter().all(|&letter| letter == '%')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is() {
        for (text, expected) in [
            ("SHOW SESSIONS", Statement::ShowSessions),
            (" show  sessions ; ", Statement::ShowSessions),
            ("Show Status Like 'sess%'", Statement::ShowStatus(Some("sess%"))),
            ("SHOW GLOBAL STATUS LIKE \"a b\";", Statement::ShowStatus(Some("a b"))),
            ("SHOW SESSION VARIABLES", Statement::ShowVariables(None)),
            ("kill 7", Statement::Kill(7)),
            ("KILL CONNECTION 18446744073709551615", Statement::Kill(u64::MAX)),
            ("help;", Statement::Help),
            ("drain", Statement::Drain),
            ("SET NAMES 'utf8mb4'", Statement::Setting),
            ("set autocommit=0", Statement::Setting),
            ("select 1", Statement::Select(vec![("1", Item::Number(1))])),
            (
                "select @@version_comment limit 1",
                Statement::Select(vec![("@@version_comment", Item::VersionComment)]),
            ),
            (
                "select DATABASE(), USER() limit 1",
                Statement::Select(vec![("DATABASE()", Item::Database), ("USER()", Item::User)]),
            ),
        ] {
            assert_eq!(Statement::parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_there_is_not() {
        for text in [
            "",
            ";",
            "SHOW",
            "SHOW TABLES",
            "SHOW STATUS LIKE",
            "SHOW STATUS LIKE 'a",
            "SHOW STATUS 'a'",
            "SHOW STATUS LIKE 'a' 'b'",
            "SELECT @@secret",
            "KILL",
            "KILL +7",
            "KILL QUERY 7",
            "KILL 18446744073709551616",
            "KILL 7; DRAIN",
            "DRAIN 'x'",
            "SELECT",
            "SELECT $$",
            "SELECT * FROM t",
            "UNDRAIN",
        ] {
            assert!(matches!(Statement::parse(text), Err(Mistake::UnknownStatement(_))), "{text}");
        }
        assert_eq!(Statement::parse(UNKNOWN_COMMAND), Err(Mistake::UnknownCommand));
    }

    #[test]
    fn patterns() {
        for (name, pattern, expected) in [
            ("Sessions_running", "sessions_running", true),
            ("Sessions_running", "sess%", true),
            ("Sessions_running", "%run%ing", true),
            ("Sessions_running", "%run", false),
            ("memory", "m_mor_", true),
            ("memory", "m_mor", false),
            ("memory", "", false),
            ("memory", "%", true),
            ("", "%%", true),
        ] {
            assert_eq!(is_like(name, pattern), expected, "{name} {pattern}");
        }
        // Takes no time, whatever somebody writes.
        assert!(!is_like(&"a".repeat(40), &format!("{}b", "%a".repeat(2000))));
    }
}
