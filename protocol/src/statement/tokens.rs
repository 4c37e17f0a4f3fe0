//! The few tokens of which settings are made, read so that no server could read them in another way.
//!
//! Where a token ends must not depend on the sql_mode (ANSI_QUOTES, NO_BACKSLASH_ESCAPES), on the character set of the
//! client (in GBK or SJIS a byte that looks like a quote or a backslash may be half of a character) or on the server's
//! version. A byte for which that is not certain is no token.

/// What stands in a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A bare word: a keyword or a name.
    Word(&'a [u8]),
    /// A name in backticks, without them.
    Backticked(&'a [u8]),
    /// The content of a string in single or double quotes.
    Quoted(&'a [u8]),
    /// A decimal number with its sign, if it has one.
    Number(&'a [u8]),
    /// `@@name` or `@@scope.name`.
    SystemVariable { scope: Option<&'a [u8]>, name: &'a [u8] },
    /// `=` or `:=`.
    Assign,
    /// A comma.
    Comma,
}

impl Token<'_> {
    /// Whether this is the keyword, in any case.
    pub(super) fn is(self, keyword: &str) -> bool {
        matches!(self, Self::Word(word) if word.eq_ignore_ascii_case(keyword.as_bytes()))
    }
}

/// The tokens of a statement, one after the other.
#[derive(Clone, Debug)]
pub(super) struct Tokens<'a> {
    rest: &'a [u8],
    /// Something stood there that is none of the tokens.
    failed: bool,
}

impl<'a> Tokens<'a> {
    /// The tokens of a statement. Where the whole statement is one executable comment (`/*!40100 … */`,
    /// `/*M!100200 … */`), those in it.
    pub(super) fn new(text: &'a [u8]) -> Self {
        let text = trim_blanks(text);
        match text.strip_prefix(b"/*") {
            None => Self { rest: text, failed: false },
            Some(comment) => executable_body(comment)
                .map_or(Self { rest: b"", failed: true }, |body| Self { rest: body, failed: false }),
        }
    }

    /// The next token if it is this keyword; else nothing is taken.
    pub(super) fn keyword(&mut self, keyword: &str) -> bool {
        self.take(|token| token.is(keyword))
    }

    /// The next token if it is one of these keywords.
    pub(super) fn any_keyword(&mut self, keywords: &[&str]) -> bool {
        self.take(|token| keywords.iter().any(|keyword| token.is(keyword)))
    }

    /// The next token if `wanted` says so; else nothing is taken.
    pub(super) fn take(&mut self, wanted: impl FnOnce(Token<'a>) -> bool) -> bool {
        let mut ahead = self.clone();
        let taken = ahead.next().is_some_and(wanted);
        if taken {
            *self = ahead;
        }
        taken
    }

    /// Whether all of the statement was read, and understood.
    pub(super) fn at_end(&mut self) -> bool {
        self.next().is_none() && !self.failed
    }

    fn read(&mut self) -> Option<Token<'a>> {
        let text = self.rest;
        let (token, len) = match *text.first()? {
            b',' => (Token::Comma, 1),
            b'=' => (Token::Assign, 1),
            b':' if text.get(1) == Some(&b'=') => (Token::Assign, 2),
            b'`' => {
                let name = quoted(text).filter(|name| !name.is_empty())?;
                (Token::Backticked(name), name.len() + 2)
            }
            b'\'' | b'"' => {
                let content = quoted(text).filter(|content| is_plain_content(content))?;
                (Token::Quoted(content), content.len() + 2)
            }
            b'@' => system_variable(text)?,
            b'+' | b'-' | b'0'..=b'9' => {
                let number = number(text)?;
                (Token::Number(number), number.len())
            }
            _ => {
                let word = word(text)?;
                (Token::Word(word), word.len())
            }
        };
        self.rest = &text[len..];
        Some(token)
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.rest = trim_blanks(self.rest);
        if self.failed || self.rest.is_empty() {
            return None;
        }
        let token = self.read();
        self.failed = token.is_none();
        token
    }
}

/// The blanks of all servers, in all character sets. (`trim_ascii` leaves the vertical tab.)
pub(super) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

fn trim_blanks(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|&byte| !is_blank(byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|&byte| !is_blank(byte)).map_or(start, |last| last + 1);
    &text[start..end]
}

/// What stands in `!40100 … */`. The version has five or six digits and a blank behind it: what a server makes of
/// others differs. A comment inside, or what looks like one in a string, is refused: a server that passes over the
/// comment for its version would see another end of it.
fn executable_body(comment: &[u8]) -> Option<&[u8]> {
    let numbered = comment.strip_prefix(b"!").or_else(|| comment.strip_prefix(b"M!"))?;
    let digits = numbered.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let body = numbered[digits..].strip_suffix(b"*/")?;
    let version = (digits == 5 || digits == 6) && body.first().is_some_and(|&byte| is_blank(byte));
    let nested = body.windows(2).any(|pair| pair == b"/*" || pair == b"*/");
    (version && !nested).then_some(body)
}

/// The ASCII content of what begins with a quote, up to the same quote.
fn quoted(text: &[u8]) -> Option<&[u8]> {
    let (&quote, rest) = text.split_first()?;
    let content = &rest[..rest.iter().position(|&byte| byte == quote)?];
    // A doubled quote stands for one, and the name or string goes on.
    let doubled = rest.get(content.len() + 1) == Some(&quote);
    (!doubled && content.iter().all(|&byte| byte.is_ascii() && byte != 0)).then_some(content)
}

/// Without a backslash that could hide the quote; `\_` and `\%` are the same with and without NO_BACKSLASH_ESCAPES.
fn is_plain_content(content: &[u8]) -> bool {
    let mut bytes = content.iter();
    while let Some(byte) = bytes.next() {
        if *byte == b'\\' && !matches!(bytes.next(), Some(b'_' | b'%')) {
            return false;
        }
    }
    true
}

fn word(text: &[u8]) -> Option<&[u8]> {
    let len = text.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
    let word = &text[..len];
    (!word.first()?.is_ascii_digit()).then_some(word)
}

fn system_variable(text: &[u8]) -> Option<(Token<'_>, usize)> {
    let first = word(text.strip_prefix(b"@@")?)?;
    let len = 2 + first.len();
    if text.get(len) != Some(&b'.') {
        return Some((Token::SystemVariable { scope: None, name: first }, len));
    }
    let name = word(&text[len + 1..])?;
    Some((Token::SystemVariable { scope: Some(first), name }, len + 1 + name.len()))
}

/// `86400`, `-1`, `0.5`; what goes on as a name (`1a`, `1e5`, `0x1F`) is none.
fn number(text: &[u8]) -> Option<&[u8]> {
    let digits = |at: usize| text[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let sign = usize::from(matches!(text.first(), Some(b'+' | b'-')));
    let mut len = sign + Some(digits(sign)).filter(|&count| count > 0)?;
    if text.get(len) == Some(&b'.') {
        len += 1 + Some(digits(len + 1)).filter(|&count| count > 0)?;
    }
    let goes_on = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'.');
    (!text.get(len).is_some_and(goes_on)).then(|| &text[..len])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Option<Vec<Token<'_>>> {
        let mut tokens = Tokens::new(text.as_bytes());
        let read = tokens.by_ref().collect();
        tokens.at_end().then_some(read)
    }

    #[test]
    fn all_kinds() {
        use Token::*;
        assert_eq!(
            tokens(" /*M!100200 SET\x0b@@session.a:=-1.5,`b c`= \"x\\_'\" */\n"),
            Some(vec![
                Word(b"SET"),
                SystemVariable { scope: Some(b"session"), name: b"a" },
                Assign,
                Number(b"-1.5"),
                Comma,
                Backticked(b"b c"),
                Assign,
                Quoted(b"x\\_'"),
            ])
        );
        assert_eq!(tokens(" "), Some(vec![]));
    }

    #[test]
    #[rustfmt::skip]
    fn what_is_no_token() {
        for text in [
            ";", "a;", "(", "@a", "@@", "@@ a", "@@1", "@@a.", "@@`a`", "a$", "a.b", "1a", "1e5", "0x1F",
            "1.", ".5", "-", "- 1", "--", "# a", "/* a */", "/**/", "/*!40100 a", "/*!4010 a */",
            "/*!4010000 a */", "/*!40100a */", "/*! a */", "/*!40100 a */ b", "/*!40100 /*!40100 a */ */",
            "/*!40100 '*/' */", "/*!40100 '/*' */", "/*!40100*/", "'a", "'a''b'", "'\\'", "'\\''", "'\\\\'",
            "'\\n'", "'a\0'", "'ä'", "`ä`", "``", "`a", "`a``b`", "ä", "[a]", "a:b", "~", "!",
        ] {
            assert_eq!(tokens(text), None, "{text}");
        }
    }
}
