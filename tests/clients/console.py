"""Runs statements of Spillway's console by PyMySQL, and prints of each the columns with the types of their values.

    console.py --host HOST --port PORT [--password PASSWORD] STATEMENT...
"""

import argparse

import pymysql


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--password", default="")
    parser.add_argument("statement", nargs="+")
    options = parser.parse_args()
    connection = pymysql.connect(
        host=options.host,
        port=options.port,
        user="admin",
        password=options.password,
        charset="utf8mb4",
        autocommit=True,
        ssl_disabled=True,
    )
    connection.ping(reconnect=False)
    for statement in options.statement:
        cursor = connection.cursor()
        try:
            cursor.execute(statement)
        except pymysql.Error as error:
            print(statement, "error", error.args[0], error.args[1])
            continue
        print(statement, "gives", cursor.rowcount)
        if cursor.description is None:
            continue
        rows = cursor.fetchall()
        for number, column in enumerate(cursor.description):
            values = {type(row[number]).__name__ for row in rows} - {"NoneType"}
            print(" ", column[0], column[1], *sorted(values))
    connection.commit()
    connection.close()


main()
