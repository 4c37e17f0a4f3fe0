//! What the responses of a dump tell about tables: which there are, of which engine, and which were read.

use std::collections::BTreeMap;

use spillway_protocol::Subject;

use super::rows::Row;
use super::warning::Warning;

/// Engines with transactions, in small letters.
const TRANSACTIONAL: [&str; 7] = ["innodb", "xtradb", "tokudb", "rocksdb", "ndbcluster", "ndb", "sequence"];

/// Engines whose tables dump programs do not read, as the rows are another table's.
const WITHOUT_ROWS: [&str; 5] = ["mrg_myisam", "mrg_isam", "merge", "federated", "blackhole"];

/// Schemas without tables of their own: what is read there is the server's view of itself.
const VIRTUAL_SCHEMAS: [&str; 3] = ["information_schema", "performance_schema", "sys"];

/// Schemas that are the server's own. Their tables' engines are not the user's choice, and dump programs leave some of
/// them out.
const OWN_SCHEMAS: [&str; 4] = ["mysql", "sys", "information_schema", "performance_schema"];

/// A table with its schema.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Table {
    pub(crate) schema: String,
    pub(crate) table: String,
}

impl Table {
    /// Whether its rows are data that a dump could hold.
    pub(crate) fn has_data(&self) -> bool {
        !VIRTUAL_SCHEMAS.iter().any(|schema| self.schema.eq_ignore_ascii_case(schema))
    }

    fn is_servers_own(&self) -> bool {
        OWN_SCHEMAS.iter().any(|schema| self.schema.eq_ignore_ascii_case(schema))
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

#[derive(Debug, Default)]
struct Facts {
    engine: Option<String>,
    is_view: bool,
    is_listed: bool,
    is_read: bool,
    is_read_in_snapshot: bool,
    is_warned_of: bool,
}

/// The tables of a dump.
#[derive(Debug)]
pub(crate) struct Tables {
    facts: BTreeMap<Table, Facts>,
    most: usize,
}

impl Tables {
    /// Keeps `most` tables in mind; what is beyond is not watched.
    pub(crate) fn new(most: usize) -> Self {
        Self { facts: BTreeMap::new(), most }
    }

    /// Takes notice of a row of a response to a statement about `subject`, in the default schema `schema`.
    pub(crate) fn on_row(
        &mut self,
        subject: &Subject,
        schema: Option<&str>,
        row: &Row<'_>,
    ) -> Option<Warning> {
        let text = |value: Option<&[u8]>| value.map(|value| String::from_utf8_lossy(value).into_owned());
        let of = |named: &Option<Vec<u8>>| text(named.as_deref()).or_else(|| schema.map(str::to_owned));
        let (schema, table, told) = match subject {
            Subject::Tables(named) => {
                let is_view = text(row.get("Table_type")).is_some_and(|kind| kind.contains("VIEW"));
                (of(named)?, text(row.first())?, Told { is_listed: true, engine: None, is_view })
            }
            Subject::TableStatus(named) => {
                let (engine, comment) = (text(row.get("Engine")), row.get("Comment"));
                let is_view = engine.is_none() && comment.is_some_and(|comment| comment.starts_with(b"VIEW"));
                (of(named)?, text(row.get("Name"))?, Told { is_listed: true, engine, is_view })
            }
            Subject::CreateTable(name) => {
                let engine = row.get("Create Table").and_then(engine_of);
                let told = Told { is_listed: false, engine, is_view: row.has("Create View") };
                (of(&name.schema)?, text(Some(&name.table))?, told)
            }
            // information_schema.TABLES
            _ => {
                let is_view = text(row.get("TABLE_TYPE")).is_some_and(|kind| kind.contains("VIEW"));
                let told = Told { is_listed: false, engine: text(row.get("ENGINE")), is_view };
                (text(row.get("TABLE_SCHEMA"))?, text(row.get("TABLE_NAME"))?, told)
            }
        };
        self.note(Table { schema, table }, |facts| facts.learn(told))
    }

    /// The rows of a table were read to their end.
    pub(crate) fn on_read(&mut self, table: &Table, in_snapshot: bool) -> Option<Warning> {
        self.note(table.clone(), |facts| {
            facts.is_read = true;
            facts.is_read_in_snapshot |= in_snapshot;
        })
    }

    /// A table's rows were asked for, in vain: it is not left out, and was told of already.
    pub(crate) fn on_failed(&mut self, table: &Table) {
        self.note(table.clone(), |facts| facts.is_read = true);
    }

    fn note(&mut self, table: Table, note: impl FnOnce(&mut Facts)) -> Option<Warning> {
        if self.facts.len() >= self.most && !self.facts.contains_key(&table) {
            return None;
        }
        let shown = table.to_string();
        let is_servers_own = table.is_servers_own();
        let facts = self.facts.entry(table).or_default();
        note(facts);
        let engine = facts.engine.as_deref().filter(|engine| !is_one_of(engine, &TRANSACTIONAL))?;
        if !facts.is_read_in_snapshot || facts.is_view || is_servers_own {
            return None;
        }
        let is_new = !std::mem::replace(&mut facts.is_warned_of, true);
        is_new.then(|| Warning::non_transactional(shown, engine))
    }

    /// Tables that were read.
    pub(crate) fn read(&self) -> usize {
        self.facts.values().filter(|facts| facts.is_read).count()
    }

    /// Tables that were listed and not read, though they have rows of their own.
    pub(crate) fn left_out(&self) -> impl Iterator<Item = &Table> {
        self.facts.iter().filter_map(|(table, facts)| {
            let engine = facts.engine.as_deref().unwrap_or_default();
            let expected = facts.is_listed && !facts.is_view && !is_one_of(engine, &WITHOUT_ROWS);
            (expected && !facts.is_read && !table.is_servers_own()).then_some(table)
        })
    }
}

/// What a row tells of a table.
struct Told {
    is_listed: bool,
    engine: Option<String>,
    is_view: bool,
}

impl Facts {
    fn learn(&mut self, told: Told) {
        self.is_listed |= told.is_listed;
        self.is_view |= told.is_view;
        self.engine = told.engine.or_else(|| self.engine.take());
    }
}

fn is_one_of(engine: &str, engines: &[&str]) -> bool {
    engines.iter().any(|known| known.eq_ignore_ascii_case(engine))
}

/// The engine in the answer to SHOW CREATE TABLE. It stands behind the last bracket; a column's comment could say the
/// same before.
fn engine_of(statement: &[u8]) -> Option<String> {
    const MARK: &[u8] = b") ENGINE=";
    let at = statement.windows(MARK.len()).rposition(|window| window == MARK)? + MARK.len();
    let name = statement[at..].iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_');
    Some(name.map(|&byte| char::from(byte)).collect())
}
