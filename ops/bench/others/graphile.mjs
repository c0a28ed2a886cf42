// graphile-worker on PostgreSQL: BENCH_POSTGRES=postgres://… node graphile.mjs
//
// One process. Concurrency, with and without its local queue, and the size of a bulk push are tried, and the best counts. Bulk pushes go by
// `graphile_worker.add_jobs`, single ones by the library, both over connections that are open. No job has a key, so they are not kept
// unique as ours are, which is its fastest form.

import { createRequire } from "node:module";
import pg from "pg";
import { Logger, makeWorkerUtils, run, runMigrations } from "graphile-worker";
import { Counter, Figures, ROUNDS, Starts, WARM_UP, chunks, delays, now, payload, percentile } from "./measure.mjs";

const require = createRequire(import.meta.url);
const BULKS = [1_000, 5_000, 10_000];
const local = (size) => ({ localQueue: { size }, completeJobBatchDelay: 0, failJobBatchDelay: 0 });
const WORKERS = [
  { setting: "concurrency 24", concurrentJobs: 24, worker: {} },
  { setting: "concurrency 24, local queue 500", concurrentJobs: 24, worker: local(500) },
  { setting: "concurrency 100, local queue 1000", concurrentJobs: 100, worker: local(1_000) },
];

/** A crowd of workers that all look for the one job takes longer than a few. */
const FEW = { setting: "concurrency 4", concurrentJobs: 4, worker: {} };

const pgPool = new pg.Pool({ connectionString: process.env.BENCH_POSTGRES, max: 20 });
const tell = (error) => console.error(`  ${error.message}`);
pgPool.on("error", tell);
pgPool.on("connect", (client) => client.on("error", tell));
const logger = new Logger(() => (level, message) => {
  if (level === "error") console.error(`  ${message}`);
});
await pgPool.query("drop schema if exists graphile_worker cascade");
await runMigrations({ pgPool, logger });
const ADD = `select count(*) from graphile_worker.add_jobs(array(
  select row('noop', payload, null, null, null, null, null, null)::graphile_worker.job_spec
  from json_array_elements($1::json) payload))`;

async function push(count, bulk) {
  const started = now();
  for (const chunk of chunks(count, bulk)) {
    await pgPool.query(ADD, [JSON.stringify(chunk.map(payload))]);
  }
  const took = now() - started;
  const { rows } = await pgPool.query("select count(*)::int as waiting from graphile_worker._private_jobs");
  if (rows[0].waiting !== count) throw new Error(`${count} jobs were pushed, but ${rows[0].waiting} wait`);
  // What its own upkeep would do sooner or later, and ours too.
  await pgPool.query("vacuum analyze graphile_worker._private_jobs");
  return (count / took) * 1e3;
}

const start = (noop, { concurrentJobs, worker }) =>
  run({
    pgPool,
    logger,
    taskList: { noop },
    noHandleSignals: true,
    preset: { worker: { concurrentJobs, pollInterval: 2_000, ...worker } },
  });

/** From the start until the table is empty: a job is done when it is gone. */
async function drain(count, how) {
  const counter = new Counter();
  const all = counter.after(count);
  const started = now();
  const runner = await start(() => counter.hit(), how);
  await all;
  while ((await pgPool.query("select 1 from graphile_worker._private_jobs limit 1")).rowCount > 0);
  const took = now() - started;
  await runner.stop();
  return (count / took) * 1e3;
}

const figures = new Figures();
figures.set("versions", `graphile-worker ${require("graphile-worker/package.json").version}, node ${process.version}`);
await push(WARM_UP, 1_000);
await drain(WARM_UP, WORKERS[0]);
for (const jobs of ROUNDS) {
  const pushes = [];
  const drains = [];
  for (const [at, how] of WORKERS.entries()) {
    pushes.push({ setting: `bulk ${BULKS[at]}`, rate: await push(jobs, BULKS[at]) });
    drains.push({ setting: how.setting, rate: await drain(jobs, how) });
  }
  figures.best(`pushed_${jobs}`, pushes);
  figures.best(`drained_${jobs}`, drains);
}

const starts = new Starts();
const utils = await makeWorkerUtils({ pgPool, logger });
const told = [];
for (const how of [FEW, ...WORKERS]) {
  const runner = await start((job) => starts.began(job.id), how);
  const sorted = await delays((job) => utils.addJob("noop", job), starts);
  console.error(`  delay, ${how.setting}: p50 ${percentile(sorted, 0.5).toFixed(2)} ms`);
  told.push({ how, sorted });
  await runner.stop();
}
const quickest = told.reduce((a, b) => (percentile(b.sorted, 0.5) < percentile(a.sorted, 0.5) ? b : a));
figures.set("delay", quickest.how.setting);
figures.delays(quickest.sorted);
figures.print();
process.exit(0);
