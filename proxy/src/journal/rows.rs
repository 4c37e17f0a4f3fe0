//! What is taken from the rows of a response as they pass: a checksum, and the values of those that tell about tables.

use spillway_protocol::{RowSink, split_lenenc_int};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// The longest row whose values are looked at: of SHOW CREATE TABLE with some thousand columns.
pub(super) const MAX_ROW_LEN: usize = 256 * 1024;

/// Columns that are looked at, as many as a table can have, and how long a name of one is at the most: 64 characters. A
/// server that names more has nothing to tell about tables.
pub(super) const MAX_COLUMNS: usize = 4096;
const MAX_NAME_LEN: usize = 256;

/// The first byte of a NULL in a text row.
const NULL: u8 = 0xfb;

/// Rows, their bytes, and a checksum that does not depend on their order: the sum, modulo 2^64, of each row's XXH3 (64
/// bits, seed 0) over its payload. A restored table gives its rows in another order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowSum {
    /// How many.
    pub rows: u64,
    /// Payload bytes of the rows.
    pub bytes: u64,
    /// The sum of their hashes.
    pub checksum: u64,
}

impl RowSum {
    /// Adds other rows. A report may claim any number of them.
    pub(crate) fn add(&mut self, others: Self) {
        self.rows = self.rows.saturating_add(others.rows);
        self.bytes = self.bytes.saturating_add(others.bytes);
        self.checksum = self.checksum.wrapping_add(others.checksum);
    }
}

/// Sums the rows of one response.
#[derive(Default)]
pub(crate) struct Summing {
    sum: RowSum,
    /// The row under way, where it came in pieces.
    pieces: Option<Box<Xxh3>>,
    pieces_len: u64,
}

impl Summing {
    pub(crate) fn sum(&self) -> RowSum {
        self.sum
    }

    fn add(&mut self, checksum: u64, bytes: u64) {
        self.sum.add(RowSum { rows: 1, bytes, checksum });
    }
}

impl RowSink for Summing {
    fn on_payload(&mut self, piece: &[u8]) {
        self.pieces.get_or_insert_with(|| Box::new(Xxh3::new())).update(piece);
        self.pieces_len += piece.len() as u64;
    }

    fn on_end(&mut self, is_row: bool) {
        let len = std::mem::take(&mut self.pieces_len);
        if is_row {
            let hash = self.pieces.as_ref().map_or_else(|| xxh3_64(&[]), |pieces| pieces.digest());
            self.add(hash, len);
        }
        if let Some(pieces) = &mut self.pieces {
            pieces.reset();
        }
    }

    fn on_row(&mut self, payload: &[u8]) {
        self.add(xxh3_64(payload), payload.len() as u64);
    }
}

/// A text row with the names of its columns.
pub(crate) struct Row<'a> {
    columns: &'a [String],
    values: Vec<Option<&'a [u8]>>,
}

impl Row<'_> {
    /// The value of the column of this name; none for NULL, or where there is no such column.
    pub(crate) fn get(&self, column: &str) -> Option<&[u8]> {
        let at = self.columns.iter().position(|name| name.eq_ignore_ascii_case(column))?;
        *self.values.get(at)?
    }

    /// Whether there is such a column.
    pub(crate) fn has(&self, column: &str) -> bool {
        self.columns.iter().any(|name| name.eq_ignore_ascii_case(column))
    }

    /// The value of the first column.
    pub(crate) fn first(&self) -> Option<&[u8]> {
        *self.values.first()?
    }

    /// All columns with their values, as text.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (String, Option<String>)> {
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        self.columns.iter().cloned().zip(self.values.iter().map(move |value| value.map(text)))
    }
}

/// Reads the rows of a small text result, and the names of its columns.
pub(crate) struct Reading<F> {
    /// Columns that the result has; none before its first packet.
    count: Option<usize>,
    columns: Vec<String>,
    packet: Vec<u8>,
    is_too_long: bool,
    on_row: F,
}

impl<F: FnMut(&Row<'_>)> Reading<F> {
    /// Calls `on_row` for each row that is not too long.
    pub(crate) fn new(on_row: F) -> Self {
        Self { count: None, columns: Vec::new(), packet: Vec::new(), is_too_long: false, on_row }
    }

    fn on_definition(&mut self) {
        match self.count {
            None => {
                let count = split_lenenc_int(&self.packet);
                self.count = count.map(|(count, _)| count.min(MAX_COLUMNS as u64) as usize);
            }
            Some(count) if self.columns.len() < count => {
                // Catalog, schema, table, the table's own name, then the column's.
                let name = lenenc_strings(&self.packet).nth(4).flatten().unwrap_or_default();
                let name = &name[..name.len().min(MAX_NAME_LEN)];
                self.columns.push(String::from_utf8_lossy(name).into_owned());
            }
            Some(_) => {}
        }
    }
}

impl<F: FnMut(&Row<'_>)> RowSink for Reading<F> {
    fn on_payload(&mut self, piece: &[u8]) {
        self.is_too_long |= self.packet.len() + piece.len() > MAX_ROW_LEN;
        if !self.is_too_long {
            self.packet.extend_from_slice(piece);
        }
    }

    fn on_end(&mut self, is_row: bool) {
        if !self.is_too_long && is_row {
            // In a row of NULLs each byte is a value.
            let values = lenenc_strings(&self.packet).take(self.count.unwrap_or_default()).collect();
            (self.on_row)(&Row { columns: &self.columns, values });
        } else if !self.is_too_long {
            self.on_definition();
        }
        self.packet.clear();
        self.is_too_long = false;
    }
}

/// The values of a text row; none for NULL.
fn lenenc_strings(mut bytes: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    std::iter::from_fn(move || {
        if let [NULL, rest @ ..] = bytes {
            bytes = rest;
            return Some(None);
        }
        let (len, rest) = split_lenenc_int(bytes)?;
        let (value, rest) = rest.split_at_checked(usize::try_from(len).ok()?)?;
        bytes = rest;
        Some(Some(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_depends_on_the_rows_and_not_on_their_order_or_pieces() {
        let sum = |rows: &[&[u8]]| {
            let mut whole = Summing::default();
            let mut pieces = Summing::default();
            for row in rows {
                whole.on_row(row);
                pieces.on_payload(b"no row");
                pieces.on_end(false);
                for piece in row.chunks(2) {
                    pieces.on_payload(piece);
                }
                pieces.on_end(true);
            }
            assert_eq!(whole.sum(), pieces.sum());
            whole.sum()
        };
        assert_eq!(sum(&[b"one", b"", b"three"]), sum(&[b"three", b"one", b""]));
        assert_ne!(sum(&[b"one", b"two"]).checksum, sum(&[b"one", b"twp"]).checksum);
        assert_eq!(sum(&[b"one", b""]).rows, 2);
        assert_eq!(sum(&[b"one", b""]).bytes, 3);
    }

    #[test]
    fn values_are_found_by_their_columns() {
        let mut found = Vec::new();
        let mut reading = Reading::new(|row: &Row<'_>| {
            found.push((
                row.get("engine").map(<[u8]>::to_vec),
                row.first().map(<[u8]>::to_vec),
                row.has("x"),
            ));
        });
        for definition in
            [&b"\x02"[..], b"\x03def\0\0\0\x04Name\0", b"\x03def\0\0\0\x06Engine\0", b"\xfe\0\0\0\0"]
        {
            reading.on_payload(definition);
            reading.on_end(false);
        }
        reading.on_row(b"\x01a\x06InnoDB");
        reading.on_row(b"\x01b\xfb");
        reading.on_row(&vec![1; MAX_ROW_LEN + 1]);
        reading.on_row(b"");
        drop(reading);
        assert_eq!(
            found,
            [
                (Some(b"InnoDB".to_vec()), Some(b"a".to_vec()), false),
                (None, Some(b"b".to_vec()), false),
                (None, None, false)
            ]
        );
    }

    #[test]
    fn a_server_cannot_have_more_columns_than_a_table() {
        let mut longest = (0, 0);
        let mut reading = Reading::new(|row: &Row<'_>| longest = (row.columns.len(), row.values.len()));
        let mut packet = |payload: &[u8]| {
            reading.on_payload(payload);
            reading.on_end(false);
        };
        packet(b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff");
        for _ in 0..2 * MAX_COLUMNS {
            packet(b"\x03def\0\0\0\x04Name\0");
        }
        packet(b"\xfe\0\0\0\0");
        reading.on_row(&vec![NULL; MAX_ROW_LEN]);
        drop(reading);
        assert_eq!(longest, (MAX_COLUMNS, MAX_COLUMNS));
    }

    #[test]
    fn sums_of_a_report_have_an_end() {
        let most = RowSum { rows: u64::MAX, bytes: u64::MAX, checksum: u64::MAX };
        let mut sum = most;
        sum.add(most);
        assert_eq!((sum.rows, sum.bytes), (u64::MAX, u64::MAX));
    }
}
