//! Tables that a dump program's options leave out on purpose, so that nobody is warned of them.

use super::scan::Given;

/// What the command line and the option files leave out of a dump.
#[derive(Clone, Debug, Default)]
pub struct LeftOut {
    /// More than can be told: the whole check means nothing.
    is_unknown: bool,
    /// `schema.table`, as given.
    tables: Vec<String>,
    schemas: Vec<String>,
}

/// Options of mysqldump and mariadb-dump that name a table each.
const IGNORED_TABLE: [&str; 2] = ["ignore-table", "ignore-table-data"];
/// Options by which a dump is without the rows of many a table, or of all.
pub(super) const FREE_CHOICE: [&str; 10] = [
    "no-data",
    "regex",
    "tables-list",
    "omit-from-file",
    "ignore-engines",
    "no-tables",
    "exclude-tables",
    "include-tables",
    "exclude-databases",
    "include-databases",
];
/// All that is looked at.
pub(super) fn is_about_tables(name: &str) -> bool {
    IGNORED_TABLE.contains(&name) || FREE_CHOICE.contains(&name) || name == "ignore-database"
}

impl LeftOut {
    /// By the options of the program `name`.
    pub(super) fn read(name: &str, given: &[Given]) -> Self {
        let is_dump = matches!(name, "mysqldump" | "mariadb-dump" | "mydumper");
        let free = given.iter().any(|given| FREE_CHOICE.contains(&given.name.as_str()) && given.is_on());
        let values = |names: &[&str]| -> Vec<String> {
            let named = given.iter().filter(|given| names.contains(&given.name.as_str()));
            named.filter_map(|given| Some(given.text()?.to_string_lossy().into_owned())).collect()
        };
        Self {
            is_unknown: !is_dump || free,
            tables: values(&IGNORED_TABLE),
            schemas: values(&["ignore-database"]),
        }
    }

    /// Whether this table is left out, or may be.
    pub fn has(&self, schema: &str, table: &str) -> bool {
        let full = |named: &String| {
            named.split_once('.').is_some_and(|(in_schema, name)| (in_schema, name) == (schema, table))
        };
        self.is_unknown || self.tables.iter().any(full) || self.schemas.iter().any(|named| named == schema)
    }
}

#[cfg(test)]
mod tests {
    use super::super::scan::Origin;
    use super::*;

    fn left_out(program: &str, options: &[(&str, &str)]) -> LeftOut {
        let given = options.iter().map(|(name, value)| Given {
            name: (*name).to_owned(),
            value: Some(value.into()),
            origin: Origin::CommandLine,
        });
        LeftOut::read(program, &given.collect::<Vec<_>>())
    }

    #[test]
    fn named_tables_are_left_out() {
        let some = left_out("mysqldump", &[("ignore-table", "a.b"), ("ignore-table-data", "a.c.d")]);
        assert!(some.has("a", "b") && some.has("a", "c.d") && !some.has("a", "c") && !some.has("b", "b"));
        assert!(left_out("mariadb-dump", &[("ignore-database", "x")]).has("x", "t"));
        assert!(!left_out("mysqldump", &[("no-data", "0")]).has("a", "b"));
    }

    #[test]
    fn where_anything_may_be_left_out_nothing_is_missed() {
        assert!(left_out("mysqldump", &[("no-data", "1")]).has("a", "b"));
        assert!(left_out("mydumper", &[("regex", "^a")]).has("a", "b"));
        assert!(left_out("mysql", &[]).has("a", "b"));
    }
}
