//! System variables that are no mere settings.

/// Names for which an assignment does more than keep a value, so that repeating it in a new session is not the same.
///
/// Assignments with GLOBAL and PERSIST are none of these; they are refused by their form.
const NO_SETTINGS: [&str; 34] = [
    // Ends or begins a transaction, and decides that every later statement does.
    "autocommit",
    // COMMIT then begins a transaction or ends the session.
    "completion_type",
    // Follow the current database, and change with it.
    "character_set_database",
    "collation_database",
    // Values that statements use up or change.
    "identity",
    "insert_id",
    "last_insert_id",
    "rand_seed1",
    "rand_seed2",
    // Stops the session's clock.
    "timestamp",
    // Records statements in the session (`SHOW PROFILES`).
    "profiling",
    "profiling_history_size",
    // The applier's own words about the transaction that follows, from binary logs.
    "immediate_server_version",
    "original_commit_timestamp",
    "original_server_version",
    "skip_replication",
    "skip_parallel_replication",
    // Act on the replica that the session names, whatever their scope is called.
    "default_master_connection",
    "max_relay_log_size",
    "sql_replica_skip_counter",
    "sql_slave_skip_counter",
    // Cannot be taken back in a session; sets aside privileges.
    "require_row_format",
    // Words of other statements: SET PASSWORD = … changes the account, SET GLOBAL a = … is not for the session alone.
    "character",
    "charset",
    "default",
    "global",
    "local",
    "names",
    "one_shot",
    "password",
    "persist",
    "persist_only",
    "role",
    "session",
];

/// Beginnings of such names.
const NO_SETTINGS_PREFIXES: [&str; 9] = [
    // Test facilities: set off signals, wait for others, make the server fail.
    "debug",
    // The identity of the next transaction in the binary log.
    "gtid_",
    // Records statements in the session (INFORMATION_SCHEMA.OPTIMIZER_TRACE).
    "optimizer_trace",
    // Lets the session pass for another one or for a replica.
    "pseudo_",
    // MyRocks: the end of a bulk load is an assignment.
    "rocksdb_",
    // Isolation and access mode: with `SET @@…` for the next transaction only.
    "transaction_",
    "tx_",
    // A Galera node's transactions, and how it runs DDL.
    "wsrep_",
    // NDB: which rows the following transactions touch and log.
    "ndb_",
];

/// Variables whose value belongs to this very session or to what it did last: a client that has read one could tell a
/// new session from the old, so that it must not get one unnoticed.
const SESSION_STATE: [&str; 18] = [
    // The connection's own id, which the client may use for KILL.
    "pseudo_thread_id",
    // What the last statements left.
    "error_count",
    "identity",
    "insert_id",
    "last_insert_id",
    "statement_id",
    "warning_count",
    // Whether a transaction is open.
    "in_transaction",
    // The clock and the dice.
    "rand_seed1",
    "rand_seed2",
    "timestamp",
    // The place of the session's last or next transaction in the binary log.
    "gtid_domain_id",
    "gtid_executed",
    "gtid_next",
    "gtid_owned",
    "gtid_seq_no",
    "last_gtid",
    "wsrep_gtid_seq_no",
];

/// Whether `SET name = literal` keeps a value in the session and does nothing else.
pub(super) fn is_setting(name: &[u8]) -> bool {
    let begins = |prefix: &&str| {
        name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
    };
    !contains(&NO_SETTINGS, name) && !NO_SETTINGS_PREFIXES.iter().any(begins)
}

/// Whether the value of a variable is that of this very session.
pub(super) fn is_session_state(name: &[u8]) -> bool {
    contains(&SESSION_STATE, name)
}

/// Whether `SHOW VARIABLES LIKE pattern` may show one of those.
pub(super) fn shows_session_state(pattern: &[u8]) -> bool {
    SESSION_STATE.iter().any(|name| like(pattern, name.as_bytes()))
}

fn contains(names: &[&str], name: &[u8]) -> bool {
    names.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(name))
}

/// LIKE with `\` as escape, without case. Linear but for a `%`, behind which it starts again at each place.
fn like(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut pos) = (0, 0);
    let mut retry = None;
    loop {
        let (escaped, unit) = match pattern.get(at..) {
            Some([b'\\', byte, ..]) => (true, Some(*byte)),
            Some([byte, ..]) => (false, Some(*byte)),
            _ => (false, None),
        };
        match (unit, text.get(pos)) {
            (Some(b'%'), _) if !escaped => {
                at += 1;
                retry = Some((at, pos));
                continue;
            }
            (Some(b'_'), Some(_)) if !escaped => {
                (at, pos) = (at + 1, pos + 1);
                continue;
            }
            (Some(wanted), Some(byte)) if wanted.eq_ignore_ascii_case(byte) => {
                (at, pos) = (at + 1 + usize::from(escaped), pos + 1);
                continue;
            }
            (None, None) => return true,
            _ => {}
        }
        match retry {
            Some((behind, from)) if from < text.len() => {
                retry = Some((behind, from + 1));
                (at, pos) = (behind, from + 1);
            }
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_any_case() {
        assert!(is_setting(b"sql_mode") && is_setting(b"SQL_LOG_BIN") && is_setting(b"wait_timeout"));
        assert!(!is_setting(b"AutoCommit") && !is_setting(b"WSREP_ON") && !is_setting(b"debug"));
        assert!(is_session_state(b"LAST_insert_id") && !is_session_state(b"insert"));
    }

    #[test]
    fn patterns() {
        for (pattern, matches) in [
            ("a_c", true),
            ("A%", true),
            ("%c", true),
            ("%b%", true),
            ("%", true),
            ("%%", true),
            ("abc%", true),
            ("%_", true),
            ("___", true),
            ("____", false),
            ("a\\_c", false),
            ("a\\bc", true),
            ("ab", false),
            ("", false),
            ("%d", false),
            ("abc\\", false),
        ] {
            assert_eq!(like(pattern.as_bytes(), b"abc"), matches, "{pattern}");
        }
        assert!(like(b"gtid\\_mode", b"gtid_mode") && like(b"%a%b%c", b"aXbbXabc"));
        assert!(shows_session_state(b"%_id") && shows_session_state(b"pseudo\\_thread\\_id"));
        assert!(!shows_session_state(b"gtid\\_mode") && !shows_session_state(b"character_set_%"));
    }
}
