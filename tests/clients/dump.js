// Reads every table of a database through Node's mysql2 and prints it, with types, so that two runs that got the same
// print the same bytes.
//
//     node dump.js host=HOST port=PORT | socketPath=PATH user=USER password=PASSWORD database=DATABASE
//         [ca=FILE] [compress=yes]
//
// With ca there is TLS, and the server's certificate and name are checked; without, there is none. NODE_PATH tells
// where mysql2 is.

const { createHash } = require("node:crypto");
const { readFileSync } = require("node:fs");
const mysql = require("mysql2/promise");

async function main({ ca, compress, ...options }) {
  const connection = await mysql.createConnection({
    ...options,
    ...(ca && { ssl: { ca: readFileSync(ca), verifyIdentity: true } }),
    compress: compress === "yes",
    charset: "utf8mb4",
    // Nothing is rounded, and no time zone has a say.
    supportBigNumbers: true,
    bigNumberStrings: true,
    dateStrings: true,
  });
  const select = async (sql) => (await connection.query({ sql, rowsAsArray: true }))[0];
  const tables = (await select("SHOW FULL TABLES")).map(([table]) => table).sort();
  for (const table of tables) {
    const name = mysql.escapeId(table, true);
    // The first column is a key everywhere.
    const sql = `SELECT * FROM ${name} ORDER BY 1`;
    show(`table ${table}`, await connection.query({ sql, rowsAsArray: true }));
    show(`table ${table}, prepared`, await connection.execute({ sql, rowsAsArray: true }));
  }
  const [last] = await select("SELECT 1 AS `one`, 'größer' AS `zwei 表`, NULL");
  console.log("last", last);
  await connection.end();
}

function show(title, [rows, fields]) {
  const columns = fields.map((field) => [
    field.name, field.columnType, field.columnLength, field.characterSet, field.flags, field.decimals,
  ]);
  const lines = rows.map((row) => row.map(value).join("\t") + "\n");
  process.stdout.write(`${title} ${JSON.stringify(columns)}\n${lines.join("")}`);
}

// A value and its type, of a long one the hash.
function value(field) {
  if (field === null) {
    return "NULL";
  }
  const shown = () => (typeof field === "object" ? JSON.stringify(field) : String(field));
  const raw = Buffer.isBuffer(field) ? field : Buffer.from(shown());
  if (raw.length > 500) {
    return `${typeof field} of ${raw.length}: ${createHash("sha256").update(raw).digest("hex")}`;
  }
  return Buffer.isBuffer(field) ? `bytes ${field.toString("hex")}` : `${typeof field} ${JSON.stringify(field)}`;
}

const options = process.argv.slice(2).map((option) => {
  const [, name, value] = option.match(/^(.*?)=(.*)$/s);
  return [name, value];
});
main(Object.fromEntries(options)).catch((error) => {
  console.error(`${error.code ?? ""} ${error.errno ?? ""} ${error.message}`);
  process.exit(1);
});
