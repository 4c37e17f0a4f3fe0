//! What all servers take, small enough to be dumped some hundred times.

use anyhow::Result;

use crate::server::Server;

/// The database with all of it.
pub const DATABASE: &str = "common";
/// The size of a value that takes more than one packet.
pub const BIG_VALUE: usize = (17 << 20) + 5;
/// The size of one that cannot be compressed.
pub const DENSE_VALUE: usize = 300_000;
/// Rows in the table `many`; a power of two.
pub const MANY: usize = 2048;

/// Creates the database. Clients need `--max-allowed-packet=1G` for the big row.
pub fn load(server: &Server) -> Result<()> {
    server.run_sql(include_bytes!("common.sql"))?;
    let mut script = format!("USE {DATABASE};\n");
    for doubling in 0..MANY.ilog2() {
        let half = 1 << doubling;
        script += &format!("INSERT INTO many SELECT id + {half}, SHA2(id + {half}, 224) FROM many;\n");
    }
    let dense: String = dense_bytes().take(DENSE_VALUE).map(|byte| format!("{byte:02x}")).collect();
    script += &format!(
        "CREATE TABLE big (id int PRIMARY KEY, b longblob) ENGINE=InnoDB;
         INSERT INTO big VALUES (1, 'before'), (2, LEFT(REPEAT('0123456789abcdef', {}), {BIG_VALUE})), (3, x'{dense}');",
        BIG_VALUE / 16 + 1
    );
    server.sql(&script)
}

/// Bytes without a pattern that a compressor would find, the same ones each time (xorshift64).
fn dense_bytes() -> impl Iterator<Item = u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
}
