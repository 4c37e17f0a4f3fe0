//! A schema of many small tables: statement round trips.

use std::rc::Rc;

use anyhow::Result;
use spillway_tests::Server;

use super::dump::Dump;
use crate::case::Subject;
use crate::data;
use crate::stock::Stock;

/// On a server of its own: with all these tables open, another case's statements would take longer.
pub(super) fn prepare(stock: &mut Stock) -> Result<Box<dyn Subject>> {
    let tables = stock.size().of(10_000, 500);
    let server = Server::start(&OPTIONS)?;
    stock.say(&format!("creating {tables} tables"));
    data::load_tables(&server, "tables", tables)?;
    let title = format!("mysqldump --single-transaction of {tables} tables of two rows");
    // Under LOCK TABLES, the default, the server looks at all tables at the end of every statement, beside which nothing
    // that a proxy does would show.
    let arguments = vec!["--single-transaction".to_owned(), "tables".to_owned()];
    Ok(Box::new(Dump::new(Rc::new(server), &title, arguments)))
}

/// All tables stay open: the server is as fast as it can be.
const OPTIONS: [&str; 4] = [
    "--table-open-cache=24000",
    "--table-definition-cache=24000",
    "--open-files-limit=60000",
    "--sync-frm=OFF",
];
