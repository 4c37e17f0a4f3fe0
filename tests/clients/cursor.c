/* What only the client library in C does: server-side cursors, prepare and execute sent in one go (with the statement
 * id -1), bulk execution, and several results of a prepared CALL.
 *
 * cursor HOST PORT USER PASSWORD [compress]
 * prints what it got, for comparison of a direct run with one through the proxy. Uses the database `test`. */
#include <mysql.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static MYSQL *mysql;

static void fail(const char *what, unsigned number, const char *text)
{
    fprintf(stderr, "%s: ERROR %u: %s\n", what, number, text);
    exit(1);
}

static void check(MYSQL_STMT *stmt, int failed, const char *what)
{
    if (failed)
        fail(what, mysql_stmt_errno(stmt), mysql_stmt_error(stmt));
}

static void query(const char *statement)
{
    if (mysql_query(mysql, statement))
        fail(statement, mysql_errno(mysql), mysql_error(mysql));
}

/* Fetches all rows of (bigint, text); prints their number, their sum and the bytes of text. */
static void fetch(MYSQL_STMT *stmt, const char *what)
{
    long long number = 0;
    static char text[70000];
    unsigned long length = 0;
    my_bool null = 0;
    MYSQL_BIND bind[2];
    memset(bind, 0, sizeof bind);
    bind[0].buffer_type = MYSQL_TYPE_LONGLONG;
    bind[0].buffer = &number;
    bind[1].buffer_type = MYSQL_TYPE_STRING;
    bind[1].buffer = text;
    bind[1].buffer_length = sizeof text;
    bind[1].length = &length;
    bind[1].is_null = &null;
    check(stmt, mysql_stmt_bind_result(stmt, bind), what);
    unsigned long long rows = 0, sum = 0, bytes = 0, nulls = 0;
    int status;
    while ((status = mysql_stmt_fetch(stmt)) == 0) {
        rows++;
        sum += (unsigned long long) number;
        if (null)
            nulls++;
        else
            bytes += length;
    }
    check(stmt, status != MYSQL_NO_DATA, what);
    printf("%s: %llu rows, sum %llu, %llu bytes, %llu nulls\n", what, rows, sum, bytes, nulls);
}

static void cursor(unsigned long prefetch)
{
    static const char statement[] = "SELECT seq, IF(seq % 7 = 0, NULL, REPEAT('c', seq % 3000)) FROM seq_1_to_5000"
                                    " WHERE seq > ?";
    unsigned long type = CURSOR_TYPE_READ_ONLY;
    long long from = 100;
    MYSQL_BIND parameter;
    memset(&parameter, 0, sizeof parameter);
    parameter.buffer_type = MYSQL_TYPE_LONGLONG;
    parameter.buffer = &from;
    MYSQL_STMT *stmt = mysql_stmt_init(mysql);
    check(stmt, mysql_stmt_prepare(stmt, statement, sizeof statement - 1), "prepare");
    check(stmt, mysql_stmt_attr_set(stmt, STMT_ATTR_CURSOR_TYPE, &type), "cursor type");
    check(stmt, mysql_stmt_attr_set(stmt, STMT_ATTR_PREFETCH_ROWS, &prefetch), "prefetch");
    check(stmt, mysql_stmt_bind_param(stmt, &parameter), "bind");
    for (from = 100; from <= 4900; from += 2400) {
        check(stmt, mysql_stmt_execute(stmt), "execute");
        printf("prefetch %lu, ", prefetch);
        fetch(stmt, "cursor");
    }
    /* A cursor that is not read to its end. */
    from = 0;
    check(stmt, mysql_stmt_execute(stmt), "execute");
    check(stmt, mysql_stmt_fetch(stmt), "one row");
    check(stmt, mysql_stmt_free_result(stmt), "free");
    check(stmt, mysql_stmt_reset(stmt), "reset");
    mysql_stmt_close(stmt);
}

static void pipelined(const char *statement)
{
    MYSQL_STMT *stmt = mysql_stmt_init(mysql);
    unsigned number = 0;
    if (mariadb_stmt_execute_direct(stmt, statement, strlen(statement)))
        printf("pipelined: ERROR %u %s\n", number = mysql_stmt_errno(stmt), mysql_stmt_sqlstate(stmt));
    else if (mysql_stmt_field_count(stmt))
        fetch(stmt, "pipelined");
    else
        printf("pipelined: %llu changed\n", (unsigned long long) mysql_stmt_affected_rows(stmt));
    mysql_stmt_close(stmt);
}

static void bulk(void)
{
    static const char statement[] = "INSERT INTO bulk VALUES (?, ?)";
    enum { COUNT = 300 };
    static long long numbers[COUNT];
    static char *texts[COUNT];
    static unsigned long lengths[COUNT];
    static char marks[COUNT];
    unsigned count = COUNT;
    for (int i = 0; i < COUNT; i++) {
        numbers[i] = i;
        lengths[i] = (unsigned long) i * 10;
        texts[i] = malloc(lengths[i] + 1);
        memset(texts[i], 'b', lengths[i]);
        marks[i] = i % 5 ? STMT_INDICATOR_NONE : STMT_INDICATOR_NULL;
    }
    MYSQL_BIND bind[2];
    memset(bind, 0, sizeof bind);
    bind[0].buffer_type = MYSQL_TYPE_LONGLONG;
    bind[0].buffer = numbers;
    bind[1].buffer_type = MYSQL_TYPE_STRING;
    bind[1].buffer = texts;
    bind[1].length = lengths;
    bind[1].u.indicator = marks;
    MYSQL_STMT *stmt = mysql_stmt_init(mysql);
    check(stmt, mysql_stmt_prepare(stmt, statement, sizeof statement - 1), "prepare");
    check(stmt, mysql_stmt_attr_set(stmt, STMT_ATTR_ARRAY_SIZE, &count), "array size");
    check(stmt, mysql_stmt_bind_param(stmt, bind), "bind");
    check(stmt, mysql_stmt_execute(stmt), "bulk execute");
    printf("bulk: %llu changed\n", (unsigned long long) mysql_stmt_affected_rows(stmt));
    mysql_stmt_close(stmt);
}

static void long_data(void)
{
    static const char statement[] = "SELECT 1, MD5(?)";
    static char piece[100000];
    MYSQL_BIND bind;
    memset(&bind, 0, sizeof bind);
    memset(piece, 'l', sizeof piece);
    bind.buffer_type = MYSQL_TYPE_BLOB;
    MYSQL_STMT *stmt = mysql_stmt_init(mysql);
    check(stmt, mysql_stmt_prepare(stmt, statement, sizeof statement - 1), "prepare");
    check(stmt, mysql_stmt_bind_param(stmt, &bind), "bind");
    for (int i = 0; i < 30; i++)
        check(stmt, mysql_stmt_send_long_data(stmt, 0, piece, sizeof piece), "long data");
    check(stmt, mysql_stmt_execute(stmt), "execute");
    fetch(stmt, "long data");
    mysql_stmt_close(stmt);
}

static void call(void)
{
    static const char statement[] = "CALL results(5)";
    MYSQL_STMT *stmt = mysql_stmt_init(mysql);
    check(stmt, mysql_stmt_prepare(stmt, statement, sizeof statement - 1), "prepare");
    check(stmt, mysql_stmt_execute(stmt), "call");
    int status;
    do {
        if (mysql_stmt_field_count(stmt))
            fetch(stmt, "call");
        else
            printf("call: end\n");
        status = mysql_stmt_next_result(stmt);
    } while (status == 0);
    check(stmt, status > 0, "next result");
    mysql_stmt_close(stmt);
}

int main(int argc, char **argv)
{
    int compress = argc == 6 && strcmp(argv[5], "compress") == 0;
    if (argc != 5 && !compress) {
        fprintf(stderr, "usage: cursor HOST PORT USER PASSWORD [compress]\n");
        return 2;
    }
    mysql = mysql_init(NULL);
    if (mysql && compress)
        mysql_options(mysql, MYSQL_OPT_COMPRESS, NULL);
    unsigned port = (unsigned) strtoul(argv[2], NULL, 10);
    if (!mysql || !mysql_real_connect(mysql, argv[1], argv[3], argv[4], "test", port, NULL, 0))
        fail("connect", mysql_errno(mysql), mysql_error(mysql));
    query("DROP TABLE IF EXISTS bulk");
    query("CREATE TABLE bulk (id int PRIMARY KEY, t text)");
    query("CREATE OR REPLACE PROCEDURE results(IN n int) BEGIN"
          " SELECT seq, REPEAT('p', n) FROM seq_1_to_10; SELECT seq, NULL FROM seq_1_to_20; END");
    cursor(1);
    cursor(100);
    cursor(100000);
    pipelined("SELECT seq, REPEAT('d', 100) FROM seq_1_to_1000");
    pipelined("INSERT INTO bulk VALUES (1000000, 'direct')");
    pipelined("SELECT nonsense FROM nowhere");
    pipelined("SELECT seq, NULL FROM seq_1_to_3");
    bulk();
    long_data();
    call();
    printf("at last: %s", mysql_ping(mysql) ? "no ping\n" : "ping\n");
    mysql_close(mysql);
    return 0;
}
