//! The dump by mysql_async: each table with types, by a plain query and by a prepared statement.

use std::fmt::Write as _;

use anyhow::Result;
use mysql_async::prelude::Queryable as _;
use mysql_async::{Column, Conn, OptsBuilder, Row, SslOpts, Value};
use spillway_tests::Endpoint;
use spillway_tests::data::common::DATABASE;
use spillway_tests::matrix::{Access, Compression};
use spillway_tests::server::PASSWORD;

pub(crate) fn dump(access: &Access<'_>) -> Result<Vec<u8>> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let mut conn = Conn::new(options(access)).await?;
        let mut text = String::new();
        let mut tables: Vec<(String, String)> = conn.query("SHOW FULL TABLES").await?;
        tables.sort();
        for (table, kind) in tables {
            // The first column is a key everywhere.
            let query = format!("SELECT * FROM `{}` ORDER BY 1", table.replace('`', "``"));
            writeln!(text, "{kind} {table}")?;
            show(&mut text, conn.query(&query).await?)?;
            writeln!(text, "prepared")?;
            show(&mut text, conn.exec(&query, ()).await?)?;
        }
        conn.disconnect().await?;
        Ok(text.into_bytes())
    })
}

fn options(access: &Access<'_>) -> OptsBuilder {
    let options = OptsBuilder::default()
        .user(Some(access.user))
        .pass(Some(PASSWORD))
        .db_name(Some(DATABASE))
        .prefer_socket(false)
        .max_allowed_packet(Some(1 << 30))
        .ssl_opts(access.ca.map(|ca| {
            SslOpts::default().with_root_certs(vec![ca.to_owned().into()]).with_disable_built_in_roots(true)
        }))
        .compression((access.compression != Compression::Off).then(mysql_async::Compression::default));
    match access.endpoint {
        Endpoint::Tcp(address) => options.ip_or_hostname(address.ip().to_string()).tcp_port(address.port()),
        Endpoint::Unix(path) => options.socket(Some(path.display().to_string())),
    }
}

fn show(text: &mut String, rows: Vec<Row>) -> Result<()> {
    for column in rows.first().map(Row::columns_ref).into_iter().flatten() {
        show_column(text, column)?;
    }
    for row in rows {
        for value in row.unwrap_raw() {
            match value {
                Some(Value::Bytes(bytes)) => write!(text, "{}\t", bytes.escape_ascii())?,
                value => write!(text, "{value:?}\t")?,
            }
        }
        text.push('\n');
    }
    Ok(())
}

fn show_column(text: &mut String, column: &Column) -> Result<()> {
    let (name, of) = (column.name_str(), column.column_type());
    let (length, flags) = (column.column_length(), column.flags());
    let (set, decimals) = (column.character_set(), column.decimals());
    writeln!(text, "column {name}: {of:?} of {length}, {flags:?}, character set {set}, {decimals} decimals")?;
    Ok(())
}
