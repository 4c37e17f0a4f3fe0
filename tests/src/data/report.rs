//! The table of the failure report: wide rows, doubled until there are enough.

use anyhow::{Result, bail};

use crate::server::Server;

/// Creates `database`.`test` with at least `bytes` of rows; gives the number of rows.
pub fn load(server: &Server, database: &str, bytes: u64) -> Result<u64> {
    server.sql(&format!(
        "CREATE DATABASE IF NOT EXISTS {database};
         USE {database};
         CREATE TABLE test (id bigint(20) NOT NULL auto_increment, b varchar(2000), c varchar(2000),
             d varchar(2000), e varchar(2000), PRIMARY KEY (id)) ENGINE=MyISAM DEFAULT CHARSET=utf8;
         INSERT INTO test (b, c, d, e) VALUES
             (lpad('a',1900,'b'), lpad('a',1900,'b'), lpad('a',1900,'b'), lpad('a',1900,'b'));"
    ))?;
    let mut rows = 1;
    while rows * ROW < bytes {
        server.sql(&format!(
            "INSERT INTO {database}.test (b, c, d, e) SELECT b, c, d, e FROM {database}.test"
        ))?;
        rows *= 2;
    }
    let counted = server.query(&format!("SELECT COUNT(*) FROM {database}.test"))?;
    if counted != [rows.to_string()] {
        bail!("{rows} rows wanted, {counted:?} loaded");
    }
    Ok(rows)
}

/// A row on the wire: a number, four times 1900 bytes with their lengths, a header.
pub const ROW: u64 = 4 * 1903 + 8;
