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

const FIRST: u64 = 1_000_000;
