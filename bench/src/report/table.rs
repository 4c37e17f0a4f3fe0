//! A table in Markdown with columns that stand under each other.

use std::fmt;

/// Rows of as many cells as there are heads.
#[derive(Clone, Debug)]
pub(super) struct Table {
    /// The heads first.
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(heads: Vec<String>) -> Self {
        Self { rows: vec![heads] }
    }

    /// In a cell, `|` would be the end of it.
    pub(super) fn push(&mut self, row: Vec<String>) {
        self.rows.push(row.into_iter().map(|cell| cell.replace('|', "\\|")).collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or_default()
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for (number, row) in self.rows.iter().enumerate() {
            for (cell, width) in row.iter().zip(&widths) {
                write!(f, "| {cell:width$} ")?;
            }
            f.write_str("|\n")?;
            if number == 0 {
                for width in &widths {
                    write!(f, "|{}", "-".repeat(width + 2))?;
                }
                f.write_str("|\n")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(vec!["a".to_owned(), "bc".to_owned()]);
        table.push(vec!["long".to_owned(), "x".to_owned()]);
        table.push(vec!["a|b".to_owned(), "-".to_owned()]);
        assert_eq!(table.to_string(), "| a    | bc |\n|------|----|\n| long | x  |\n| a\\|b | -  |\n");
    }
}
