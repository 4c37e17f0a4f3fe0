//! The data that is measured. The wide table is [`spillway_tests::data::report`]'s.

use std::fmt::Write as _;

use anyhow::{Result, ensure};
use spillway_tests::Server;

/// `narrow`.`test`: rows of 24 bytes, a number of seven digits and fifteen letters with a length byte each.
pub fn load_narrow(server: &Server, rows: u64) -> Result<()> {
    let last = FIRST + rows - 1;
    ensure!(last < 10 * FIRST, "numbers of seven digits are enough for {} rows", 9 * FIRST);
    server.sql(&format!(
        "CREATE DATABASE narrow;
         CREATE TABLE narrow.test (id int NOT NULL, b char(15) NOT NULL) ENGINE=MyISAM DEFAULT CHARSET=latin1;
         INSERT INTO narrow.test SELECT seq, 'abcdefghijklmno' FROM test.seq_{FIRST}_to_{last};"
    ))
}

/// `tables`: so many empty tables.
pub fn load_tables(server: &Server, count: u32) -> Result<()> {
    let mut script = String::from("CREATE DATABASE tables; USE tables;\n");
    for number in 1..=count {
        writeln!(
            script,
            "CREATE TABLE t{number:04} (id int NOT NULL, name varchar(100), PRIMARY KEY (id)) ENGINE=MyISAM;"
        )?;
    }
    server.sql(&script)
}

const FIRST: u64 = 1_000_000;
