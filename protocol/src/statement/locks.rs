//! What a statement does to the session's locks, as far as its first words tell.

/// What a statement may do to locks that outlive it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockEffect {
    /// It may take one: LOCK TABLES, FLUSH TABLES … WITH READ LOCK, BACKUP STAGE, LOCK INSTANCE FOR BACKUP, GET_LOCK().
    Takes,
    /// It gives up those that UNLOCK TABLES gives up.
    Releases,
    /// Neither.
    None,
}

/// Reads the beginning of a COM_QUERY's text. A guess on the safe side: it decides no more than how long a session
/// that idles is kept alive.
pub fn lock_effect(text: &[u8]) -> LockEffect {
    let text = skip_comments(text);
    let word = |word: &[u8]| text.len() >= word.len() && text[..word.len()].eq_ignore_ascii_case(word);
    if word(b"UNLOCK") || word(b"BACKUP STAGE END") {
        LockEffect::Releases
    } else if word(b"LOCK") || word(b"FLUSH") || word(b"BACKUP") || contains(text, b"GET_LOCK") {
        LockEffect::Takes
    } else {
        LockEffect::None
    }
}

/// Passes over blanks, `/* … */` and the opening of an executable comment (`/*!40000 `, `/*M!100100 `).
fn skip_comments(mut text: &[u8]) -> &[u8] {
    loop {
        text = text.trim_ascii_start();
        let Some(comment) = text.strip_prefix(b"/*") else {
            return text;
        };
        let executable = comment.strip_prefix(b"!").or_else(|| comment.strip_prefix(b"M!"));
        text = match executable {
            Some(body) => &body[body.iter().take_while(|byte| byte.is_ascii_digit()).count()..],
            None => match comment.windows(2).position(|pair| pair == b"*/") {
                Some(end) => &comment[end + 2..],
                None => return &[],
            },
        };
    }
}

fn contains(text: &[u8], needle: &[u8]) -> bool {
    text.windows(needle.len()).any(|window| window.eq_ignore_ascii_case(needle))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_of_dump_programs_are_seen() {
        for text in [
            "LOCK TABLES `t` READ /*!32311 LOCAL */",
            "FLUSH /*!40101 LOCAL */ TABLES",
            "  flush tables with read lock",
            "/*!80000 LOCK INSTANCE FOR BACKUP */",
            "BACKUP STAGE START",
            "SELECT get_lock('x', 1)",
        ] {
            assert_eq!(lock_effect(text.as_bytes()), LockEffect::Takes, "{text}");
        }
        assert_eq!(lock_effect(b"UNLOCK TABLES"), LockEffect::Releases);
        assert_eq!(lock_effect(b"SELECT /*!40001 SQL_NO_CACHE */ * FROM `t`"), LockEffect::None);
        assert_eq!(lock_effect(b"/* LOCK TABLES"), LockEffect::None);
    }
}
