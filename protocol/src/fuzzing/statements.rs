//! The text of a COM_QUERY.

use super::within;
use crate::statement::{StatementKind, Subject, classify, kill_target, lock_effect, subject};

/// More than the longest name or word that is kept.
const MOST_NAME_LEN: usize = 1024;

/// A name or a word that is kept has a bound, whatever the statement has; and a KILL whose number was replaced is one
/// with that number.
pub(super) fn statements(input: &[u8]) {
    // A copy of the longest word, which is not kept, is the most that reading takes.
    let about = within(4 * input.len() + 4 * MOST_NAME_LEN, || subject(input));
    let names: [&[u8]; 2] = match &about {
        Subject::Rows(name) | Subject::CreateTable(name) => {
            [name.schema.as_deref().unwrap_or_default(), &name.table]
        }
        Subject::Tables(schema) | Subject::TableStatus(schema) => {
            [schema.as_deref().unwrap_or_default(), &[]]
        }
        Subject::Use(schema) => [schema, &[]],
        Subject::Other(word) => [word.as_bytes(), &[]],
        Subject::BinlogPosition | Subject::Snapshot => [&[], &[]],
    };
    assert!(names.iter().all(|name| name.len() <= MOST_NAME_LEN), "{about:?}");
    let (kind, kill, _) = within(input.len(), || (classify(input), kill_target(input), lock_effect(input)));
    if let Some(kill) = kill {
        assert_eq!(kind, StatementKind::Other);
        for id in [0, 4_294_967_296, u64::MAX] {
            let again = kill_target(&kill.with_id(input, id));
            assert_eq!(
                again.map(|again| (again.id(), again.ends_connection())),
                Some((id, kill.ends_connection()))
            );
        }
    }
    if kind == StatementKind::Setting {
        assert!(input.is_ascii(), "a setting with bytes that servers may read in several ways");
        // A server reads the same where somebody has put more behind it.
        let another = [input.trim_ascii_end(), b"; DROP TABLE t"].concat();
        assert_eq!(classify(&another), StatementKind::Other);
    }
}
