use proptest::prelude::*;

use super::StatementKind::{DefaultDatabase, Other, Setting, SystemVariableRead};
use super::*;

fn assert_all(kind: StatementKind, texts: &[&str]) {
    for text in texts {
        assert_eq!(classify(text.as_bytes()), kind, "{text}");
    }
}

/// From the general log of a server.
#[test]
fn what_dump_programs_send_before_their_first_query() {
    assert_all(
        Setting,
        &[
            // mariadb-dump 10.11
            "/*!40100 SET @@SQL_MODE='' */",
            "/*!40103 SET TIME_ZONE='+00:00' */",
            "/*M!100100 SET @@MAX_STATEMENT_TIME=0.000000 */",
            "/*M!100100 SET WAIT_TIMEOUT=DEFAULT */",
            "set optimizer_switch='semijoin=off'",
            "set optimizer_switch=default",
            "SET SQL_QUOTE_SHOW_CREATE=1",
            "SET SESSION character_set_results = 'binary'",
            "SET SESSION character_set_results = 'utf8mb4'",
            // mydumper 0.10
            "SET SESSION wait_timeout = 2147483",
            "SET SESSION net_write_timeout = 2147483",
            "/*!40101 SET NAMES binary*/",
            // mysqldump 8 and 9
            "/*!80000 SET SESSION information_schema_stats_expiry=0 */",
            "SET SESSION NET_READ_TIMEOUT= 86400, SESSION NET_WRITE_TIMEOUT= 86400",
        ],
    );
    assert_all(
        SystemVariableRead,
        &[
            "select @@version_comment limit 1",
            "SELECT @@version_comment, @@version",
            "select @@collation_database",
            "SHOW VARIABLES LIKE 'gtid\\_mode'",
            "SHOW VARIABLES LIKE 'ndbinfo\\_version'",
        ],
    );
    assert_all(
        Other,
        &[
            "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
            "START TRANSACTION /*!40100 WITH CONSISTENT SNAPSHOT */",
            "FLUSH TABLES WITH READ LOCK",
            "UNLOCK TABLES",
            "SHOW STATUS LIKE 'binlog_snapshot_%'",
            "SET @master_binlog_checksum='NONE'",
            "SAVEPOINT sp",
        ],
    );
}

#[test]
fn settings() {
    assert_all(
        Setting,
        &[
            "set sql_mode='ANSI'",
            "SET SQL_MODE = \"it's\"",
            "SET SESSION a = 1",
            "SET LOCAL a := -1.5",
            "SET @@a=ON",
            "SET@@a=ON",
            "SET @@session.a = off, @@LOCAL.b := True, c = FALSE, SESSION d = NULL, @@e=DEFAULT",
            " \t\n\r\x0b\x0cSET\na\t=\x0b+1 ",
            "SET lc_time_names = 'like\\_this\\%'",
            "SET a = 'x;(@y)--/*#'",
            "SET sql_log_bin = 0",
            "SET character_set_results = NULL",
            "SET character_set_client = latin1",
            "SET SESSION collation_connection=utf8mb4_general_ci",
            "SET collation_connection = uca1400_ai_ci",
            "SET NAMES utf8mb4",
            "set names 'utf8mb4' collate 'utf8mb4_bin'",
            "SET NAMES latin1 COLLATE latin1_swedish_ci",
            "/*M!100200 SET a = 1, b = 'c' */",
            "  /*!080012 SET a = 1*/  ",
        ],
    );
}

#[test]
#[rustfmt::skip]
fn what_is_more_than_a_setting() {
    assert_all(
        Other,
        &[
            // Not for this session alone.
            "SET GLOBAL a = 1", "SET PERSIST a = 1", "SET PERSIST_ONLY a = 1", "SET @@global.a = 1",
            "SET @@persist.a = 1", "SET @@GLOBAL.a = 1", "SET a = 1, GLOBAL b = 1",
            "SET a = 1, @@persist_only.b = 1", "SET global = 1",
            // Other statements that begin with SET.
            "SET PASSWORD = 'x'", "SET PASSWORD FOR a = 'x'", "SET ROLE x", "SET ROLE NONE",
            "SET DEFAULT ROLE x", "SET role = 'x'", "SET STATEMENT a = 1 FOR SELECT 1",
            "SET TRANSACTION READ ONLY", "SET SESSION TRANSACTION READ ONLY",
            "SET LOCAL TRANSACTION ISOLATION LEVEL SERIALIZABLE", "SET CHARACTER SET utf8",
            "SET CHARSET utf8", "SET CHARSET 'utf8'", "SET RESOURCE GROUP x", "SET ONE_SHOT a = 1",
            // Variables that act, or that statements change.
            "SET autocommit = 0", "SET AUTOCOMMIT=1", "SET SESSION autocommit = ON",
            "SET @@autocommit := 0", "SET @@session.autocommit = DEFAULT", "SET a = 1, autocommit = 0",
            "/*!40100 SET autocommit=0 */", "SET insert_id = 1", "SET last_insert_id = 1",
            "SET identity = 1", "SET timestamp = 1", "SET TIMESTAMP = DEFAULT", "SET rand_seed1 = 1",
            "SET rand_seed2 = 1", "SET gtid_next = 'AUTOMATIC'", "SET gtid_domain_id = 1",
            "SET pseudo_thread_id = 1", "SET @@SESSION.PSEUDO_SLAVE_MODE=1", "SET wsrep_on = 0",
            "SET debug_sync = 'x'", "SET debug = 'd'", "SET completion_type = 1",
            "SET transaction_isolation = 'SERIALIZABLE'", "SET @@tx_read_only = 1",
            "SET sql_slave_skip_counter = 1", "SET profiling = 1", "SET optimizer_trace = 'enabled=on'",
            "SET character_set_database = utf8", "SET collation_database = 'utf8_bin'",
            "SET rocksdb_bulk_load = 0",
        ],
    );
}

#[test]
#[rustfmt::skip]
fn what_is_no_setting_by_its_form() {
    assert_all(
        Other,
        &[
            "", " ", "SET", "SET a", "SET a =", "SET = 1", "SET a = 1,", "SET a = 1 b = 2", "SET a == 1",
            "SET a : = 1", "SET SESSION", "SETa = 1", "SET SESSION @@a = 1", "SET SESSION SESSION a = 1",
            "SET `a` = 1", "SET @@`a` = 1", "SET 'a' = 1",
            // Component and structured names.
            "SET a.b = 1", "SET @@a.b = 1", "SET @@session.a.b = 1", "SET session.a = 1",
            "SET @@default.a = 1", "SET @@ a = 1", "SET @@session. a = 1",
            // User variables.
            "SET @a = 1", "SET @a := 1", "SET a = @b", "SET a = 1, @b = 2", "SET @`a` = 1", "SET @'a' = 1",
            "SET @OLD=@@SQL_MODE",
            // Values that are no literals.
            "SET sql_mode = @@global.sql_mode", "SET a = @@b", "SET a = b", "SET sql_mode = ANSI",
            "SET a = (1)", "SET a = 1 + 1", "SET a = 1-1", "SET a = - 1", "SET a = --1", "SET a = NOT 1",
            "SET a = !1", "SET a = f()", "SET a = 'x' 'y'", "SET a = CONCAT(@@sql_mode, ',ANSI')",
            "SET a = (SELECT 1)", "SET a = 0x10", "SET a = x'10'", "SET a = b'1'", "SET a = 1e5",
            "SET a = 1.", "SET a = .5", "SET a = 1a", "SET a = 1.5.5", "SET a = _utf8'x'", "SET a = N'x'",
            "SET a = 'x' COLLATE utf8_bin", "SET a = ON + 1", "SET a = ALL", "SET a = `b`",
            "SET a = DEFAULT(b)", "SET a = 'x' || 'y'", "SET a = 1 FOR SELECT 1",
            "SET a = CURRENT_TIMESTAMP", "SET a = CURRENT_USER", "SET a = LOCALTIME", "SET a = UTC_DATE",
            "SET a = SYSDATE", "SET character_set_results = CURRENT_USER",
            "SET collation_connection = LOCALTIMESTAMP", "SET character_set_results = UTC_TIME",
            "SET character_set_results = latin1 + 1", "SET sql_mode = binary", "SET NAMES CURRENT_USER",
            "SET NAMES DEFAULT", "SET NAMES utf8 COLLATE DEFAULT", "SET NAMES", "SET NAMES utf8 COLLATE",
            "SET NAMES utf8, a = 1", "SET a = 1, NAMES utf8", "SET NAMES = utf8", "SET NAMES @a",
            "SET NAMES 1", "SET NAMES _utf8'x'", "SET NAMES `utf8`", "SET NAMES COLLATE utf8_bin",
            "SET SESSION NAMES utf8",
            // A second statement.
            "SET a = 1;", "SET a = 1; SELECT 1", "SET a = 1 ; ", "USE a;", "SET NAMES utf8;", ";SET a = 1",
            "/*!40100 SET a = 1; */", "/*!40100 SET a = 1 */;",
            // Comments.
            "/* x */ SET a = 1", "SET /* x */ a = 1", "SET a = 1 /* x */", "SET a = 1 -- x", "SET a = 1 --",
            "SET a = 1 # x", "-- x\nSET a = 1", "#\nSET a = 1", "SET a = 1 /*! , b = 2 */",
            "SET a = 1 /*!40100 , b = 2 */", "/*!40100 SET */ a = 1", "/*!40100 SET a = 1 */ /*!40100 */",
            "/*!40100 SET a = 1", "/*!40100 SET a = 1 *", "/*!40100 SET a = 1 -- */",
            "/*!40100 SET a = /*!50000 1 */ */", "/*!40100 SET a = 1 /* x */ */",
            "/*!40100 SET a = '*/' */", "/*!SET a = 1 */", "/*! SET a = 1 */", "/*!401 SET a = 1 */",
            "/*!4010000 SET a = 1 */", "/*!40100SET a = 1 */", "/*M 100200 SET a = 1 */",
            "/*+ SET a = 1 */", "/*!40100*/", "/**/", "/*!40100 */",
            // Where a string ends must be certain.
            "SET a = 'x", "SET a = x'", "SET a = 'x''y'", "SET a = \"x\"\"y\"", "SET a = 'x\\'",
            "SET a = 'x\\'y'", "SET a = 'x\\\\'", "SET a = 'x\\n'", "SET a = 'x\0'", "SET a = 'größe'",
            "SET a = \"ß\"", "SET a = ’x’", "SET a\u{a0}= 1", "SET a = 1\0",
            // Databases.
            "USE", "USE 'a'", "USE \"a\"", "USE a b", "USE a.b", "USE a-b", "USE 1", "USE 1a", "USE ``",
            "USE `a``b`", "USE `a", "USE `größe`", "USE größe", "USE @a", "USE @@a", "USEa", "USE a, b",
            "USE a$b",
            // Others.
            "BEGIN", "DO 1", "SELECT 1", "INSERT INTO a VALUES (1)", "CALL a", "EXECUTE a", "XA START 'a'",
            "RESET a", "DESCRIBE a",
        ],
    );
    assert_eq!(classify(b"SET a = '\xbf'"), Other);
    assert_eq!(classify(b"SET a = '\xbf\x27', autocommit = 0 -- '"), Other);
}

#[test]
#[rustfmt::skip]
fn reads_of_system_variables() {
    assert_all(
        SystemVariableRead,
        &[
            "SELECT @@a", "select@@a",
            "SELECT @@session.a, @@GLOBAL.b AS b, @@local.c as 'x;(' , @@d AS `e` LIMIT 10",
            "/*!50001 SELECT @@a */", "SHOW VARIABLES LIKE 'sql\\_mode'",
            "show session variables like \"character\\_set\\_%\"", "SHOW LOCAL VARIABLES LIKE ''",
            "SHOW GLOBAL VARIABLES LIKE 'a'", "SHOW GLOBAL VARIABLES",
            " /*!40000 SHOW GLOBAL VARIABLES */ ",
        ],
    );
    assert_all(
        Other,
        &[
            "SELECT", "SELECT a", "SELECT 1", "SELECT *", "SELECT @a", "SELECT @@a, @b", "SELECT @@a, 1",
            "SELECT @@a,", "SELECT @@a @@b", "SELECT @@a b", "SELECT @@a AS", "SELECT @@a AS 1",
            "SELECT @@a.b", "SELECT @@persist.a", "SELECT @@global.a.b", "SELECT DISTINCT @@a",
            "SELECT @@a + 1", "SELECT (@@a)", "SELECT f(@@a)", "SELECT @@a := 1", "SELECT @@a = 1",
            "SELECT @@a LIMIT", "SELECT @@a LIMIT -1", "SELECT @@a LIMIT 1.5", "SELECT @@a LIMIT 1, 2",
            "SELECT @@a LIMIT 1 OFFSET 1", "SELECT @@a LIMIT ?", "SELECT @@a INTO @b",
            "SELECT @@a INTO OUTFILE 'x'", "SELECT @@a FROM b", "SELECT @@a FROM DUAL",
            "SELECT @@a FOR UPDATE", "SELECT @@a LIMIT 1 FOR UPDATE", "SELECT @@a LOCK IN SHARE MODE",
            "SELECT @@a UNION SELECT 1", "SELECT @@a;", "SELECT @@a /* x */", "/* x */ SELECT @@a",
            "SELECT /*!40001 SQL_NO_CACHE */ @@a", "SELECT @@a -- x", "SELECT @@a WHERE 1",
            "SELECT @@a PROCEDURE x", "WITH a AS (SELECT @@b) SELECT 1",
            // Values that belong to this session, or to what it did.
            "SELECT @@last_insert_id", "SELECT @@IDENTITY", "SELECT @@session.insert_id",
            "SELECT @@a, @@warning_count", "SELECT @@error_count", "SELECT @@in_transaction",
            "SELECT @@pseudo_thread_id", "SELECT @@timestamp", "SELECT @@rand_seed1", "SELECT @@gtid_next",
            "SELECT @@session.gtid_executed", "SELECT @@last_gtid", "SELECT @@gtid_seq_no",
            "SHOW VARIABLES", "SHOW SESSION VARIABLES", "SHOW VARIABLES LIKE '%'",
            "SHOW VARIABLES LIKE 'pseudo%'", "SHOW LOCAL VARIABLES LIKE 'TIME_TAMP'",
            // Other forms of SHOW.
            "SHOW VARIABLES WHERE 1", "SHOW VARIABLES LIKE a", "SHOW VARIABLES LIKE 'a' 'b'",
            "SHOW VARIABLES LIKE 'a\\'", "SHOW VARIABLES LIKE 'ä'", "SHOW VARIABLES LIKE @a",
            "SHOW VARIABLES LIKE", "SHOW GLOBAL SESSION VARIABLES", "SHOW STATUS", "SHOW WARNINGS",
            "SHOW VARIABLES;", "SHOW GLOBAL VARIABLES;", "SHOW GLOBAL STATUS", "SHOW", "SHOW GLOBAL",
            "SHOW PERSIST VARIABLES", "SHOW GLOBAL VARIABLES 'a'",
        ],
    );
}

/// The statement without what stands in quotes.
fn outside_quotes(text: &str) -> String {
    let mut outside = String::new();
    let mut open = None;
    for letter in text.chars() {
        match open {
            Some(quote) if quote == letter => open = None,
            Some(_) => {}
            None if "'\"`".contains(letter) => open = Some(letter),
            None => outside.push(letter),
        }
    }
    outside
}

fn literal() -> impl Strategy<Value = String> {
    prop_oneof![
        "[+-]?[0-9]{1,12}(\\.[0-9]{1,6})?",
        "'([ -&(-\\[\\]-~]|\\\\_|\\\\%){0,12}'",
        "\"([ -!#-\\[\\]-~]|\\\\_|\\\\%){0,12}\"",
        "(?i-u)(ON|OFF|TRUE|FALSE|NULL|DEFAULT)",
    ]
}

fn assignment() -> impl Strategy<Value = String> {
    ("(?i-u)((SESSION|LOCAL)[ \t\n]|@@((session|local)\\.)?)?", "v[a-zA-Z0-9_]{0,9}", " ?:?= ?", literal())
        .prop_map(|(scope, name, assign, literal)| format!("{scope}{name}{assign}{literal}"))
}

#[test]
fn the_default_database() {
    let texts = ["USE shop", "use `my;shop (@x)`", "USE`shop`", "/*!40100 USE `shop` */", "\x0bUSE shop"];
    assert_all(DefaultDatabase, &texts);
}

fn setting() -> impl Strategy<Value = String> {
    let list = prop::collection::vec(assignment(), 1..4).prop_map(|list| format!("SET {}", list.join(" , ")));
    prop_oneof![
        4 => list,
        1 => "(?i-u)set names ('[a-z0-9]{1,8}'|utf8mb4|latin1_bin)( collate \"[a-z0-9_]{1,8}\")?",
        1 => "(?i-u)use (`[ -_a-~]{1,12}`|[a-z_][a-z0-9_]{0,8})",
    ]
}

proptest! {
    #[test]
    fn any_bytes_do_no_harm(text in prop::collection::vec(any::<u8>(), 0..60)) {
        classify(&text);
    }

    #[test]
    fn generated_settings_are_recognised(setting in setting(), version in prop_oneof!["![0-9]{5} ", "M![0-9]{6} "], blanks in "[ \t\r\n]{0,2}") {
        let text = format!("{blanks}{setting}{blanks}");
        let kind = if setting.to_ascii_uppercase().starts_with("USE") { DefaultDatabase } else { Setting };
        prop_assert_eq!(classify(text.as_bytes()), kind);
        if !setting.contains("*/") && !setting.contains("/*") {
            let text = format!("{blanks}/*{version}{setting}{blanks}*/{blanks}");
            prop_assert_eq!(classify(text.as_bytes()), kind);
        }
    }

    #[test]
    fn one_more_piece_makes_no_setting_of_something_else(
        setting in setting(),
        piece in prop_oneof!["[;(#@$]", "/\\*", "--", "[ -~]{1,3}", " ?@[a-z]", "\\PC"],
        at: prop::sample::Index,
    ) {
        let at = at.index(setting.len() + 1);
        let text = [&setting[..at], &piece, &setting[at..]].concat();
        if classify(text.as_bytes()) == Setting {
            let outside = outside_quotes(&text).replace("@@", "");
            prop_assert!(!outside.contains([';', '(', '@', '#', '$', '/', '*']) && outside.is_ascii(), "{}", text);
        }
    }

    #[test]
    fn pieces_of_sql_make_no_setting_with_a_function_or_a_second_statement(
        pieces in prop::collection::vec(
            prop::sample::select(vec![
                "SET ", "SESSION ", "@@", "a", "x=", "=", ":=", "1", "'", "\"", "`", "\\", ",", ";", "(", ")", "@b", " ", "--", "/*",
                "*/", "/*!40100 ", "#", "NAMES ", "utf8", "USE ", "b", "GLOBAL ", "''", "ON", "\n", "ä", "autocommit",
            ]),
            0..12,
        ),
    ) {
        let text = pieces.concat();
        if classify(text.as_bytes()) == Setting {
            let outside = outside_quotes(&text).replace("@@", "");
            prop_assert!(!outside.contains([';', '(', ')', '@', '#']), "{}", text);
            let database = outside.contains("USE"); // which may have any name
            prop_assert!(database || !outside.contains("autocommit") && !outside.contains("GLOBAL"), "{}", text);
        }
    }
}
