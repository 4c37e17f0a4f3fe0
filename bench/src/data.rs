//! The data that is measured. The wide table is [`spillway_tests::data::report`]'s.

use std::fmt::Write as _;

use anyhow::{Result, ensure};
use spillway_tests::Server;

/// `database`.`test`: rows of 24 bytes, a number of seven digits and fifteen letters with a length byte each.
pub fn load_narrow(server: &Server, database: &str, rows: u64) -> Result<()> {
    let last = FIRST + rows - 1;
    ensure!(last < 10 * FIRST, "numbers of seven digits are enough for {} rows", 9 * FIRST);
    server.sql(&format!(
        "CREATE DATABASE {database};
         CREATE TABLE {database}.test (id int NOT NULL, b char(15) NOT NULL) ENGINE=MyISAM DEFAULT CHARSET=latin1;
         INSERT INTO {database}.test SELECT seq, 'abcdefghijklmno' FROM test.seq_{FIRST}_to_{last};"
    ))
}

/// `database`: so many tables of two rows each.
pub fn load_tables(server: &Server, database: &str, count: u32) -> Result<()> {
    let mut script = format!("CREATE DATABASE {database}; USE {database};\n");
    for number in 1..=count {
        writeln!(
            script,
            "CREATE TABLE t{number:05} (id int NOT NULL, name varchar(100), PRIMARY KEY (id)) ENGINE=MyISAM;
             INSERT INTO t{number:05} VALUES (1, 'first'), (2, 'second');"
        )?;
    }
    server.sql(&script)
}

/// What is in the cells of [`load_cells`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cells {
    /// Words of a made-up language, in any order.
    Text,
    /// Bytes, in any order.
    Random,
}

/// `database`.`test`: at least so many bytes of rows, each with a number and four cells of 1,900 bytes. The first 4 MB
/// (more than any compressor of these measurements looks back) are doubled until there are enough.
pub fn load_cells(server: &Server, database: &str, bytes: u64, cells: Cells) -> Result<()> {
    let mut dice = Dice(1);
    let words: Vec<String> = (0..WORDS).map(|_| dice.word()).collect();
    let mut cell = || match cells {
        Cells::Text => dice.text(&words),
        Cells::Random => (0..CELL).map(|_| (dice.next() >> 56) as u8).collect(),
    };
    let mut script = format!(
        "CREATE DATABASE {database}; USE {database};
         CREATE TABLE test (id bigint NOT NULL auto_increment, b varbinary(2000), c varbinary(2000),
             d varbinary(2000), e varbinary(2000), PRIMARY KEY (id)) ENGINE=MyISAM;\n"
    );
    for _ in 0..DISTINCT_ROWS {
        let values: Vec<String> = (0..4).map(|_| literal(&cell())).collect();
        writeln!(script, "INSERT INTO test (b, c, d, e) VALUES ({});", values.join(","))?;
    }
    server.sql(&script)?;
    let mut rows = DISTINCT_ROWS;
    while rows * spillway_tests::data::report::ROW < bytes {
        server.sql(&format!(
            "INSERT INTO {database}.test (b, c, d, e) SELECT b, c, d, e FROM {database}.test"
        ))?;
        rows *= 2;
    }
    Ok(())
}

fn literal(bytes: &[u8]) -> String {
    bytes.iter().fold("0x".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The same numbers in every run (xorshift64*).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 33) as usize % end
    }

    /// Two to nine letters, some more likely than others.
    fn word(&mut self) -> String {
        let length = 2 + self.below(8);
        (0..length)
            .map(|_| char::from(LETTERS[self.below(LETTERS.len()).min(self.below(LETTERS.len()))]))
            .collect()
    }

    /// A cell full of words, some more likely than others.
    fn text(&mut self, words: &[String]) -> Vec<u8> {
        let mut text = Vec::with_capacity(CELL + 16);
        while text.len() < CELL {
            text.extend_from_slice(words[self.below(words.len()).min(self.below(words.len()))].as_bytes());
            text.push(b' ');
        }
        text.truncate(CELL);
        text
    }
}

const LETTERS: &[u8] = b"etaoinshrdlcumwfgypbvkjxqz";
const WORDS: usize = 5_000;
const CELL: usize = 1_900;
const DISTINCT_ROWS: u64 = 512;
const FIRST: u64 = 1_000_000;
