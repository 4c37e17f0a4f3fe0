"""Reads every table of a database through a Python driver and prints it, with types, so that two runs that got the same
print the same bytes.

    dump.py pymysql|connector --host HOST --port PORT | --socket PATH
        --user USER --password PASSWORD [--ca FILE] [--compress] DATABASE

With --ca there is TLS, and the server's certificate and name are checked; without, there is none.
"""

import argparse
import hashlib
import sys


def main():
    options = parse()
    connection, prepared = CONNECT[options.driver](options)
    cursor = connection.cursor()
    tables = [row[0] for row in rows(cursor, "SHOW FULL TABLES")]
    for table in sorted(text(table) for table in tables):
        name = "`" + table.replace("`", "``") + "`"
        # The first column is a key everywhere.
        query = f"SELECT * FROM {name} ORDER BY 1"
        show(f"table {table}", cursor, query)
        # mysql-connector cannot read rows of a prepared statement that take more than one packet.
        if prepared is not None and table != "big":
            show(f"table {table}, prepared", prepared(), query)
    cursor.execute("SELECT 1 AS `one`, 'größer' AS `zwei 表`, NULL")
    print("last", cursor.fetchall())
    connection.close()


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("driver", choices=CONNECT)
    for option in ["host", "socket", "user", "password", "ca"]:
        parser.add_argument("--" + option)
    parser.add_argument("--port", type=int)
    parser.add_argument("--compress", action="store_true")
    parser.add_argument("database")
    return parser.parse_args()


def place(options):
    if options.socket:
        return {"unix_socket": options.socket}
    return {"host": options.host, "port": options.port}


def connect_pymysql(options):
    import pymysql

    assert not options.compress, "PyMySQL has no compression"
    tls = {"ssl_ca": options.ca, "ssl_verify_cert": True, "ssl_verify_identity": True} if options.ca else {}
    connection = pymysql.connect(
        user=options.user,
        password=options.password,
        database=options.database,
        charset="utf8mb4",
        max_allowed_packet=1 << 30,
        ssl_disabled=not options.ca,
        **place(options),
        **tls,
    )
    return connection, None


def connect_connector(options):
    import mysql.connector

    tls = {"ssl_ca": options.ca, "ssl_verify_cert": True, "ssl_verify_identity": True} if options.ca else {}
    connection = mysql.connector.connect(
        user=options.user,
        password=options.password,
        database=options.database,
        charset="utf8mb4",
        # The default one is not known to all servers.
        collation="utf8mb4_general_ci",
        # Its C extension is MySQL's client library, as in mysqldump, and does not load with every OpenSSL.
        use_pure=True,
        compress=options.compress,
        ssl_disabled=not options.ca,
        **place(options),
        **tls,
    )
    return connection, lambda: connection.cursor(prepared=True)


def rows(cursor, query):
    cursor.execute(query)
    return cursor.fetchall()


def show(title, cursor, query):
    cursor.execute(query)
    # Name, type and whatever else the driver tells of a column.
    print(title, [tuple(column) for column in cursor.description])
    for row in cursor:
        print(*[value(field) for field in row], sep="\t")


def value(field):
    """A value as Python shows it, of a long one the hash, of an unordered one the parts in order."""
    if isinstance(field, set):
        return f"set {sorted(field)}"
    if isinstance(field, bytearray):
        field = bytes(field)
    if isinstance(field, (bytes, str)) and len(field) > 200:
        raw = field if isinstance(field, bytes) else field.encode()
        return f"{type(field).__name__} of {len(field)}: {hashlib.sha256(raw).hexdigest()}"
    return f"{type(field).__name__} {field!r}"


def text(name):
    return name.decode() if isinstance(name, (bytes, bytearray)) else name


CONNECT = {"pymysql": connect_pymysql, "connector": connect_connector}

sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
main()
