/* A client that fetches row by row without buffering (mysql_use_result) and takes its time.
 *
 * use_result HOST PORT USER PASSWORD STATEMENT SLOW_ROWS MILLISECONDS
 * sleeps MILLISECONDS before each of the first SLOW_ROWS rows, and prints the number of rows and of their bytes.
 * Ends with status 1 and "ERROR <number>: <text>" where the result does not end well. */
#include <mysql.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int fail(MYSQL *mysql)
{
    fprintf(stderr, "ERROR %u: %s\n", mysql_errno(mysql), mysql_error(mysql));
    return 1;
}

int main(int argc, char **argv)
{
    if (argc != 8) {
        fprintf(stderr, "usage: use_result HOST PORT USER PASSWORD STATEMENT SLOW_ROWS MILLISECONDS\n");
        return 2;
    }
    unsigned long slow = strtoul(argv[6], NULL, 10);
    useconds_t pause = (useconds_t) strtoul(argv[7], NULL, 10) * 1000;
    MYSQL *mysql = mysql_init(NULL);
    unsigned port = (unsigned) strtoul(argv[2], NULL, 10);
    if (!mysql || !mysql_real_connect(mysql, argv[1], argv[3], argv[4], NULL, port, NULL, 0))
        return fail(mysql);
    if (mysql_query(mysql, argv[5]))
        return fail(mysql);
    MYSQL_RES *result = mysql_use_result(mysql);
    if (!result)
        return fail(mysql);
    unsigned long long rows = 0, bytes = 0;
    for (;;) {
        if (rows < slow)
            usleep(pause);
        MYSQL_ROW row = mysql_fetch_row(result);
        if (!row)
            break;
        unsigned long *lengths = mysql_fetch_lengths(result);
        for (unsigned field = 0; field < mysql_num_fields(result); field++)
            bytes += lengths[field];
        rows++;
    }
    if (mysql_errno(mysql))
        return fail(mysql);
    printf("%llu rows, %llu bytes\n", rows, bytes);
    mysql_free_result(result);
    mysql_close(mysql);
    return 0;
}
