// BullMQ on Redis: BENCH_REDIS=redis://… node bullmq.mjs
//
// One process, which is how its own benches run it; a worker's concurrency and the size of a bulk push are tried, and the best counts.
// Jobs are removed when they are done, as ours are.

import { createRequire } from "node:module";
import { Queue, Worker } from "bullmq";
import { Redis } from "ioredis";
import { Counter, Figures, ROUNDS, Starts, WARM_UP, chunks, delays, now, payload } from "./measure.mjs";

const require = createRequire(import.meta.url);
const CONCURRENCIES = [50, 100, 200];
const BULKS = [500, 1_000, 5_000];
const KEPT = { removeOnComplete: true, removeOnFail: true };

const connect = () => new Redis(process.env.BENCH_REDIS, { maxRetriesPerRequest: null });
const name = "bench";
const queue = new Queue(name, { connection: connect(), defaultJobOptions: KEPT });
await queue.obliterate({ force: true });

async function push(count, bulk) {
  const started = now();
  for (const chunk of chunks(count, bulk)) {
    await queue.addBulk(chunk.map(() => ({ name: "noop", data: payload() })));
  }
  const took = now() - started;
  const waiting = await queue.getWaitingCount();
  if (waiting !== count) throw new Error(`${count} jobs were pushed, but ${waiting} wait`);
  return (count / took) * 1e3;
}

/** A worker that is connected and has not begun; the time until it has run all. */
async function drain(count, concurrency) {
  const counter = new Counter();
  const worker = new Worker(name, async () => {}, { connection: connect(), concurrency, autorun: false });
  worker.on("completed", () => counter.hit());
  await worker.waitUntilReady();
  const all = counter.after(count);
  const started = now();
  const running = worker.run();
  await all;
  const took = now() - started;
  await worker.close();
  await running;
  return (count / took) * 1e3;
}

const figures = new Figures();
figures.set("versions", `bullmq ${require("bullmq/package.json").version}, node ${process.version}`);
await push(WARM_UP, 1_000);
await drain(WARM_UP, 100);
for (const jobs of ROUNDS) {
  const pushes = [];
  const drains = [];
  for (const [at, concurrency] of CONCURRENCIES.entries()) {
    pushes.push({ setting: `bulk ${BULKS[at]}`, rate: await push(jobs, BULKS[at]) });
    drains.push({ setting: `concurrency ${concurrency}`, rate: await drain(jobs, concurrency) });
  }
  figures.best(`pushed_${jobs}`, pushes);
  figures.best(`drained_${jobs}`, drains);
}

const starts = new Starts();
const worker = new Worker(name, async (job) => starts.began(job.data.id), { connection: connect(), concurrency: 100 });
await worker.waitUntilReady();
figures.delays(await delays((job) => queue.add("noop", job), starts));
await worker.close();
figures.print();
process.exit(0);
