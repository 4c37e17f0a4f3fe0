//! KILL statements, whose connection id may have to be another one for the server.

use std::ops::Range;

use super::tokens::is_blank;

/// A statement that kills a connection or its query by the connection's id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kill {
    id: u64,
    ends_connection: bool,
    /// Where the id stands in the text.
    digits: Range<usize>,
}

impl Kill {
    /// The connection id that the client named.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Whether the connection ends, and not only its query.
    pub fn ends_connection(&self) -> bool {
        self.ends_connection
    }

    /// The same statement for another connection. `text` is what [`kill_target`] was given.
    pub fn with_id(&self, text: &[u8], id: u64) -> Vec<u8> {
        let (before, behind) = (text.get(..self.digits.start), text.get(self.digits.end..));
        [before.unwrap_or_default(), id.to_string().as_bytes(), behind.unwrap_or_default()].concat()
    }
}

/// Reads a COM_QUERY's text that is exactly `KILL [HARD|SOFT] [CONNECTION|QUERY] n`, perhaps with a `;` behind it.
///
/// `QUERY ID n` names a query and `USER name` a user: both are none.
pub fn kill_target(text: &[u8]) -> Option<Kill> {
    let mut rest = keyword(text, "KILL")?;
    rest = keyword(rest, "HARD").or_else(|| keyword(rest, "SOFT")).unwrap_or(rest);
    let query = keyword(rest, "QUERY");
    rest = query.or_else(|| keyword(rest, "CONNECTION")).unwrap_or(rest);
    let number = skip_blanks(rest);
    let len = number.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let behind = skip_blanks(&number[len..]);
    if !skip_blanks(behind.strip_prefix(b";").unwrap_or(behind)).is_empty() {
        return None;
    }
    let start = text.len() - number.len();
    let id = str::from_utf8(&number[..len]).ok()?.parse().ok()?;
    Some(Kill { id, ends_connection: query.is_none(), digits: start..start + len })
}

/// What stands behind a keyword and a blank.
fn keyword<'a>(text: &'a [u8], keyword: &str) -> Option<&'a [u8]> {
    let text = skip_blanks(text);
    let (word, rest) = text.split_at_checked(keyword.len())?;
    (word.eq_ignore_ascii_case(keyword.as_bytes()) && rest.first().is_some_and(|&byte| is_blank(byte)))
        .then_some(rest)
}

fn skip_blanks(text: &[u8]) -> &[u8] {
    &text[text.iter().take_while(|&&byte| is_blank(byte)).count()..]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn kills() {
        for (text, id, other) in [
            ("KILL 5", 5, "KILL 77"),
            ("kill\tquery  12 ; \n", 12, "kill\tquery  77 ; \n"),
            (" Kill Hard Connection 18446744073709551615;", u64::MAX, " Kill Hard Connection 77;"),
            ("KILL SOFT 007", 7, "KILL SOFT 77"),
            ("KILL\nSOFT\x0bQUERY 1", 1, "KILL\nSOFT\x0bQUERY 77"),
        ] {
            let kill = kill_target(text.as_bytes()).expect(text);
            assert_eq!(kill.ends_connection(), !text.to_ascii_uppercase().contains("QUERY"), "{text}");
            assert_eq!(kill.id(), id, "{text}");
            assert_eq!(kill.with_id(text.as_bytes(), 77), other.as_bytes(), "{text}");
        }
    }

    #[test]
    #[rustfmt::skip]
    fn no_kills() {
        for text in [
            "", "KILL", "KILL ", "KILL5", "KILL QUERY", "KILL QUERY5", "KILL QUERY ID 5", "KILL ID 5",
            "KILL USER root", "KILL USER 5", "KILL QUERY HARD 5", "KILL HARD SOFT 5",
            "KILL QUERY CONNECTION 5", "KILL -5", "KILL +5", "KILL 5.0", "KILL 5e1", "KILL 0x5", "KILL 5a",
            "KILL '5'", "KILL (5)", "KILL 5, 6", "KILL 5 6", "KILL 5;;", "KILL 5; KILL 6", "KILL 2+3",
            "KILL @a", "KILL CONNECTION_ID()", "/*!40000 KILL 5 */", "KILL /**/ 5", "KILL 5 -- x",
            "KILL 5 # x", "KILL 18446744073709551616", "SKILL 5", "KILL\u{a0}5",
        ] {
            assert_eq!(kill_target(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_number_alone_is_replaced(
            words in "(?i-u)[ \t\r\n]{0,2}KILL[ \n]{1,2}((HARD|SOFT) )?((CONNECTION|QUERY)[\t ])?", id: u64, other: u64,
            end in " {0,2};?\n{0,1}",
        ) {
            let text = format!("{words}{id}{end}");
            let kill = kill_target(text.as_bytes());
            prop_assert_eq!(kill.as_ref().map(Kill::id), Some(id));
            let replaced = kill.map(|kill| kill.with_id(text.as_bytes(), other));
            prop_assert_eq!(replaced, Some(format!("{words}{other}{end}").into_bytes()));
        }

        #[test]
        fn any_bytes(text in prop::collection::vec(any::<u8>(), 0..40), other: u64) {
            if let Some(kill) = kill_target(&text) {
                let replaced = kill.with_id(&text, other);
                prop_assert_eq!(kill_target(&replaced).map(|kill| kill.id()), Some(other));
            }
        }
    }
}
