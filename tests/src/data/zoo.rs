//! One of everything that a dump may meet.

use std::fmt::Write as _;

use anyhow::Result;

use crate::server::Server;

/// The database with most of it.
pub const DATABASE: &str = "zoo";
/// A database, and in it a table, with a name that needs quoting everywhere.
pub const ODD_NAME: &str = "zö \"o\" 'q' `b`";
/// How many small tables there are in [`DATABASE`], `t000` and on; every other one is MyISAM.
pub const SMALL_TABLES: usize = 300;
/// The size of the one big value (table `big`).
pub const BIG_VALUE: usize = 40 << 20;

/// Creates both databases. Clients need `--max-allowed-packet=1G` for the big row.
pub fn load(server: &Server) -> Result<()> {
    server.run_sql(include_bytes!("zoo.sql"))?;
    server.sql(&blobs()?)?;
    server.sql(&small_tables()?)?;
    let odd = ODD_NAME.replace('`', "``");
    server.sql(&format!(
        "CREATE DATABASE `{odd}`; USE `{odd}`;
         CREATE TABLE `{odd}` (`c ``1``` int, `Größe \"x\"` varchar(20), PRIMARY KEY (`c ``1```)) ENGINE=InnoDB;
         INSERT INTO `{odd}` VALUES (1, 'it''s'), (2, NULL), (3, '\\\\');
         CREATE VIEW `v {odd}` AS SELECT * FROM `{odd}`;
         CREATE TABLE `naïve 表` (`select` int) ENGINE=MyISAM; INSERT INTO `naïve 表` VALUES (1);"
    ))
}

/// Each byte value alone, all of them in one value, and the big row.
fn blobs() -> Result<String> {
    let all: String = (0..=255_u8).map(|byte| format!("{byte:02x}")).collect();
    let mut script = format!(
        "USE {DATABASE};
         CREATE TABLE blobs (id int PRIMARY KEY, b blob, m mediumblob, t longtext CHARACTER SET latin1) ENGINE=InnoDB;
         INSERT INTO blobs VALUES (1000, '', NULL, NULL), (1001, x'{all}', REPEAT(x'{all}', 300), x'{all}');
         CREATE TABLE big (id int PRIMARY KEY, b longblob) ENGINE=InnoDB;
         INSERT INTO big VALUES (1, 'before'), (2, REPEAT(x'{all}', {})), (3, 'after');
         INSERT INTO blobs VALUES",
        BIG_VALUE / 256
    );
    for byte in 0..=255_u8 {
        let comma = if byte == 0 { ' ' } else { ',' };
        write!(script, "{comma}({byte}, x'{byte:02x}', x'{byte:02x}{byte:02x}', NULL)")?;
    }
    script.push(';');
    Ok(script)
}

fn small_tables() -> Result<String> {
    let mut script = format!("USE {DATABASE};\n");
    for number in 0..SMALL_TABLES {
        let engine = if number % 2 == 0 { "InnoDB" } else { "MyISAM" };
        writeln!(
            script,
            "CREATE TABLE t{number:03} (id int NOT NULL AUTO_INCREMENT PRIMARY KEY, v varchar(50)) ENGINE={engine};"
        )?;
        // Every third is empty.
        if number % 3 != 0 {
            writeln!(script, "INSERT INTO t{number:03} (v) VALUES ('row of {number}'), (NULL);")?;
        }
    }
    Ok(script)
}
