//! What a statement of a dump is about: for reports and warnings, which may miss a statement that is written in an
//! unusual way. Nothing that must be right hangs on it.

/// A table by the name that a statement gives it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    /// None for the default database.
    pub schema: Option<Vec<u8>>,
    /// Without quotes.
    pub table: Vec<u8>,
}

/// What a statement is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// SELECT … FROM: the first table.
    Rows(TableName),
    /// SHOW TABLES, with FULL or without, of this schema or the default one.
    Tables(Option<Vec<u8>>),
    /// SHOW TABLE STATUS, of this schema or the default one.
    TableStatus(Option<Vec<u8>>),
    /// SHOW CREATE TABLE.
    CreateTable(TableName),
    /// Where in the binary log or among the GTIDs the server stands.
    BinlogPosition,
    /// USE.
    Use(Vec<u8>),
    /// START TRANSACTION … WITH CONSISTENT SNAPSHOT.
    Snapshot,
    /// The statement's first word, in capitals.
    Other(String),
}

/// Looks at the text of a COM_QUERY, all of it or its beginning.
///
/// ```
/// use spillway_protocol::{Subject, TableName, subject};
///
/// let about = subject(b"SELECT /*!40001 SQL_NO_CACHE */ `id` FROM `shop`.`orders` WHERE 1");
/// let orders = TableName { schema: Some(b"shop".to_vec()), table: b"orders".to_vec() };
/// assert_eq!(about, Subject::Rows(orders));
/// ```
pub fn subject(text: &[u8]) -> Subject {
    let mut words = Lexemes { rest: text };
    let first = words.word();
    let known = match first.as_str() {
        "SELECT" => select(words),
        "SHOW" => show(words),
        "USE" => words.name().map(Subject::Use),
        "START" => starts_snapshot(words).then_some(Subject::Snapshot),
        _ => None,
    };
    known.unwrap_or(Subject::Other(first))
}

fn select(words: Lexemes<'_>) -> Option<Subject> {
    let (mut depth, mut ahead) = (0_i32, words);
    while let Some(lexeme) = ahead.next() {
        match lexeme {
            Lexeme::Punctuation(b'(') => depth += 1,
            Lexeme::Punctuation(b')') => depth -= 1,
            Lexeme::Word(word) if depth == 0 && word.eq_ignore_ascii_case(b"FROM") => {
                return ahead.table_name().map(Subject::Rows);
            }
            Lexeme::Word(word) if is_gtid_word(word) => return Some(Subject::BinlogPosition),
            _ => {}
        }
    }
    None
}

fn is_gtid_word(word: &[u8]) -> bool {
    let names: [&[u8]; 5] =
        [b"BINLOG_GTID_POS", b"GTID_EXECUTED", b"GTID_CURRENT_POS", b"GTID_BINLOG_POS", b"GTID_SLAVE_POS"];
    names.iter().any(|name| word.eq_ignore_ascii_case(name))
}

fn show(mut words: Lexemes<'_>) -> Option<Subject> {
    let mut word = words.word();
    if matches!(word.as_str(), "FULL" | "EXTENDED" | "ALL") {
        word = words.word();
    }
    match word.as_str() {
        "TABLES" => Some(Subject::Tables(words.in_schema())),
        "TABLE" if words.word() == "STATUS" => Some(Subject::TableStatus(words.in_schema())),
        "CREATE" if words.word() == "TABLE" => words.table_name().map(Subject::CreateTable),
        "MASTER" | "SLAVE" | "SLAVES" | "REPLICA" | "BINLOG" if words.word() == "STATUS" => {
            Some(Subject::BinlogPosition)
        }
        "BINARY" if words.word() == "LOG" && words.word() == "STATUS" => Some(Subject::BinlogPosition),
        "STATUS" if words.word() == "LIKE" => match words.next() {
            Some(Lexeme::Quoted(pattern)) if pattern.to_ascii_lowercase().starts_with(b"binlog") => {
                Some(Subject::BinlogPosition)
            }
            _ => None,
        },
        _ => None,
    }
}

fn starts_snapshot(mut words: Lexemes<'_>) -> bool {
    words.word() == "TRANSACTION"
        && words.any(|lexeme| matches!(lexeme, Lexeme::Word(word) if word.eq_ignore_ascii_case(b"SNAPSHOT")))
}

/// The longest word or name that is looked at. A name has 64 characters of four bytes at most.
const MAX_WORD_LEN: usize = 256;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Lexeme<'a> {
    /// A keyword, a name, or a number.
    Word(&'a [u8]),
    /// A name in backticks.
    Name(Vec<u8>),
    /// A string; after FROM a name, under ANSI_QUOTES.
    Quoted(Vec<u8>),
    Punctuation(u8),
}

/// What a statement is made of. Comments are passed over, but for what is in executable ones.
#[derive(Clone, Debug)]
struct Lexemes<'a> {
    rest: &'a [u8],
}

impl<'a> Lexemes<'a> {
    /// The next word in capitals; nothing where another thing stands.
    fn word(&mut self) -> String {
        match self.next() {
            Some(Lexeme::Word(word)) => {
                let word = &word[..word.len().min(MAX_WORD_LEN)];
                String::from_utf8_lossy(word).to_ascii_uppercase()
            }
            _ => String::new(),
        }
    }

    fn name(&mut self) -> Option<Vec<u8>> {
        match self.next()? {
            Lexeme::Word(word) => Some(word.to_vec()),
            Lexeme::Name(name) | Lexeme::Quoted(name) => Some(name),
            Lexeme::Punctuation(_) => None,
        }
        .filter(|name| !name.is_empty() && name.len() <= MAX_WORD_LEN)
    }

    fn table_name(&mut self) -> Option<TableName> {
        let first = self.name()?;
        let mut ahead = self.clone();
        if ahead.next() != Some(Lexeme::Punctuation(b'.')) {
            return Some(TableName { schema: None, table: first });
        }
        *self = ahead;
        Some(TableName { schema: Some(first), table: self.name()? })
    }

    /// FROM or IN, and a name.
    fn in_schema(&mut self) -> Option<Vec<u8>> {
        matches!(self.word().as_str(), "FROM" | "IN").then(|| self.name()).flatten()
    }

    /// Blanks, comments, and the brackets of executable comments.
    fn skip_blanks(&mut self) {
        loop {
            self.rest = self.rest.trim_ascii_start();
            let text = self.rest;
            self.rest = if let Some(body) = text.strip_prefix(b"/*!").or_else(|| text.strip_prefix(b"/*M!")) {
                &body[body.iter().take_while(|byte| byte.is_ascii_digit()).count()..]
            } else if let Some(comment) = text.strip_prefix(b"/*") {
                comment.windows(2).position(|pair| pair == b"*/").map_or(&[], |end| &comment[end + 2..])
            } else if let Some(rest) = text.strip_prefix(b"*/") {
                rest
            } else if text.starts_with(b"#") || text.starts_with(b"-- ") {
                text.iter().position(|&byte| byte == b'\n').map_or(&[], |end| &text[end..])
            } else {
                return;
            };
        }
    }
}

impl<'a> Iterator for Lexemes<'a> {
    type Item = Lexeme<'a>;

    fn next(&mut self) -> Option<Lexeme<'a>> {
        self.skip_blanks();
        let text = self.rest;
        let (lexeme, len) = match *text.first()? {
            b'`' => {
                let (name, len) = quoted(text, false);
                (Lexeme::Name(name), len)
            }
            b'\'' | b'"' => {
                let (content, len) = quoted(text, true);
                (Lexeme::Quoted(content), len)
            }
            _ => match text.iter().take_while(|byte| is_word_byte(**byte)).count() {
                0 => (Lexeme::Punctuation(text[0]), 1),
                len => (Lexeme::Word(&text[..len]), len),
            },
        };
        self.rest = &text[len..];
        Some(lexeme)
    }
}

fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || byte >= 0x80
}

/// What stands between the quote that `text` begins with and the next one, and how long it is with both. A doubled quote
/// stands for one.
fn quoted(text: &[u8], escapes: bool) -> (Vec<u8>, usize) {
    let quote = text[0];
    let (mut content, mut at) = (Vec::new(), 1);
    while let Some(&byte) = text.get(at) {
        let next = text.get(at + 1);
        at += 1;
        if byte == quote && next != Some(&quote) {
            break;
        }
        if byte == quote || byte == b'\\' && escapes && next.is_some() {
            at += 1;
        }
        if content.len() <= MAX_WORD_LEN {
            content.push(byte);
        }
    }
    (content, at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(schema: Option<&str>, table: &str) -> TableName {
        TableName { schema: schema.map(Into::into), table: table.into() }
    }

    fn other(word: &str) -> Subject {
        Subject::Other(word.to_owned())
    }

    #[test]
    fn statements_of_dump_programs() {
        use Subject::{BinlogPosition, CreateTable, Rows, Snapshot, TableStatus, Tables, Use};
        for (text, expected) in [
            ("SELECT /*!40001 SQL_NO_CACHE */ `a`, `from` FROM `t`", Rows(name(None, "t"))),
            ("SELECT /*!40001 SQL_NO_CACHE */ * FROM `a`.`b``c` WHERE `x`=')'", Rows(name(Some("a"), "b`c"))),
            ("select * from db.t1", Rows(name(Some("db"), "t1"))),
            ("SELECT * FROM \"t\"", Rows(name(None, "t"))),
            ("SELECT (SELECT 1 FROM a), 'it''s \\' from z' FROM b", Rows(name(None, "b"))),
            ("-- a\n# b\n/* c */ SELECT 1 FROM ä", Rows(name(None, "ä"))),
            ("show tables", Tables(None)),
            ("SHOW FULL TABLES FROM `a b` LIKE 'x'", Tables(Some(b"a b".to_vec()))),
            ("SHOW TABLES LIKE 't'", Tables(None)),
            ("show table status like 't'", TableStatus(None)),
            ("SHOW TABLE STATUS FROM db", TableStatus(Some(b"db".to_vec()))),
            ("show create table `t`", CreateTable(name(None, "t"))),
            ("SHOW CREATE TABLE `a`.`t`", CreateTable(name(Some("a"), "t"))),
            ("SHOW MASTER STATUS", BinlogPosition),
            ("SHOW BINARY LOG STATUS", BinlogPosition),
            ("SHOW ALL SLAVES STATUS", BinlogPosition),
            ("SELECT BINLOG_GTID_POS('a', 4)", BinlogPosition),
            ("SELECT @@GLOBAL.GTID_EXECUTED", BinlogPosition),
            ("SHOW STATUS LIKE 'binlog_snapshot_%'", BinlogPosition),
            ("use `a`", Use(b"a".to_vec())),
            ("START TRANSACTION /*!40100 WITH CONSISTENT SNAPSHOT */", Snapshot),
            ("START TRANSACTION", other("START")),
            ("select @@version_comment limit 1", other("SELECT")),
            ("SELECT * FROM (SELECT 1) AS x", other("SELECT")),
            ("/*!40103 SET TIME_ZONE='+00:00' */", other("SET")),
            ("SHOW STATUS LIKE 'x'", other("SHOW")),
            ("", other("")),
            ("`", other("")),
        ] {
            assert_eq!(subject(text.as_bytes()), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_has_one(text in prop::collection::vec(any::<u8>(), 0..200)) {
            subject(&text);
        }

        #[test]
        fn a_quoted_name_is_read_as_written(table in "[a-z`\"' .*/#\\\\-]{1,20}") {
            let text = format!("SELECT * FROM `{}`", table.replace('`', "``"));
            prop_assert_eq!(subject(text.as_bytes()), Subject::Rows(name(None, &table)));
        }
    }
}
