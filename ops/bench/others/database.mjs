// Makes databases anew: BENCH_POSTGRES=postgres://… node database.mjs NAME…

import pg from "pg";

const client = new pg.Client({ connectionString: process.env.BENCH_POSTGRES });
await client.connect();
for (const name of process.argv.slice(2)) {
  await client.query(`drop database if exists ${client.escapeIdentifier(name)}`);
  await client.query(`create database ${client.escapeIdentifier(name)}`);
}
await client.end();
