// A plain pipeline in Node with BullMQ, as one would write it first: form → notice → GET and SHA-256 → copy → delete → a row.
//
//   BENCH_CLOUD=http://… BENCH_REDIS=redis://… BENCH_POSTGRES=postgres://… node pipeline.mjs
//
// This process is the client: it posts forms of random bytes, so many at once, each in flight until its row is there. The pipeline
// runs in processes of its own; one and two of them are tried, and the best counts. It asks for no policy, keeps no upload row, claims
// nothing about crashes and dedupes nothing: all of that is work which longshore's figure has in it and this one has not.

import { fork } from "node:child_process";
import { createHash, randomBytes, randomUUID } from "node:crypto";
import { CopyObjectCommand, DeleteObjectCommand, GetObjectCommand, S3Client } from "@aws-sdk/client-s3";
import { DeleteMessageBatchCommand, ReceiveMessageCommand, SQSClient } from "@aws-sdk/client-sqs";
import { Queue, Worker } from "bullmq";
import { Redis } from "ioredis";
import pg from "pg";
import { Figures, now, percentile } from "./measure.mjs";

const CLOUD = process.env.BENCH_CLOUD;
const UPLOADS = Number(process.env.BENCH_UPLOADS ?? 10_000);
const SIZE = Number(process.env.BENCH_SIZE ?? 10_240);
const IN_FLIGHT = Number(process.env.BENCH_CONCURRENCY ?? 512);
const BUCKET = "plain";
const QUEUE_URL = `${CLOUD}/000000000000/notices`;
const RECEIVERS = 4;
const CONCURRENCY = 100;

const connect = () => new Redis(process.env.BENCH_REDIS, { maxRetriesPerRequest: null });
const postgres = () => new pg.Pool({ connectionString: process.env.BENCH_POSTGRES, max: 20 });

/** One process of the pipeline. Tells its parent the keys that are done. */
async function serve() {
  const aws = { endpoint: CLOUD, region: "us-east-1", credentials: { accessKeyId: "any", secretAccessKey: "any" } };
  const requestHandler = { httpAgent: { keepAlive: true, maxSockets: 256 } };
  const s3 = new S3Client({ ...aws, forcePathStyle: true, requestHandler, requestChecksumCalculation: "WHEN_REQUIRED",
    responseChecksumValidation: "WHEN_REQUIRED" });
  const sqs = new SQSClient({ ...aws, requestHandler: { httpAgent: { keepAlive: true, maxSockets: 64 } } });
  const queue = new Queue("pipeline", { connection: connect(), defaultJobOptions: { removeOnComplete: true, attempts: 5 } });
  const pool = postgres();

  async function receive() {
    for (;;) {
      const asked = new ReceiveMessageCommand({ QueueUrl: QUEUE_URL, MaxNumberOfMessages: 10, WaitTimeSeconds: 20 });
      const { Messages: messages = [] } = await sqs.send(asked);
      if (messages.length === 0) continue;
      const arrivals = messages.flatMap(({ Body }) => JSON.parse(Body).Records.map(({ s3: { object } }) => object));
      const key = (object) => decodeURIComponent(object.key.replaceAll("+", " "));
      await queue.addBulk(arrivals.map((object) => ({ name: "verify", data: { key: key(object), etag: object.eTag } })));
      const Entries = messages.map(({ ReceiptHandle }, at) => ({ Id: String(at), ReceiptHandle }));
      await sqs.send(new DeleteMessageBatchCommand({ QueueUrl: QUEUE_URL, Entries }));
    }
  }

  async function verify({ data: { key, etag } }) {
    const { Body } = await s3.send(new GetObjectCommand({ Bucket: BUCKET, Key: key, IfMatch: `"${etag}"` }));
    const hash = createHash("sha256");
    let size = 0;
    for await (const chunk of Body) {
      hash.update(chunk);
      size += chunk.length;
    }
    const sha256 = hash.digest("hex");
    const blob = `blobs/${sha256}/${randomUUID()}`;
    const CopySource = `${BUCKET}/${key}`;
    await s3.send(new CopyObjectCommand({ Bucket: BUCKET, Key: blob, CopySource, CopySourceIfMatch: `"${etag}"` }));
    await s3.send(new DeleteObjectCommand({ Bucket: BUCKET, Key: key }));
    await pool.query("insert into plain_files (key, blob, sha256, size) values ($1, $2, $3, $4)", [key, blob, sha256, size]);
    process.send(key);
  }

  const worker = new Worker("pipeline", verify, { connection: connect(), concurrency: CONCURRENCY });
  worker.on("failed", (job, error) => console.error(`  ${error.message}`));
  await worker.waitUntilReady();
  for (let number = 0; number < RECEIVERS; number += 1) {
    receive().catch((error) => {
      console.error(`  ${error.stack}`);
      process.exit(1);
    });
  }
  process.send("ready");
}

/** The client: uploads in flight until they are done. The delays from a form's answer until its row, in order. */
async function upload(count, done) {
  let begun = 0;
  const seen = [];
  async function client() {
    while (begun < count) {
      begun += 1;
      const key = `staging/${randomUUID()}`;
      const ended = new Promise((resolve) => done.set(key, resolve));
      const form = new FormData();
      form.set("key", key);
      form.set("success_action_status", "201");
      form.set("file", new Blob([randomBytes(SIZE)]));
      const answer = await fetch(`${CLOUD}/${BUCKET}`, { method: "POST", body: form });
      if (answer.status !== 201) throw new Error(`the form was answered with ${answer.status}`);
      await answer.text();
      const sent = now();
      seen.push(Math.max(0, (await ended) - sent));
    }
  }
  await Promise.all(Array.from({ length: IN_FLIGHT }, client));
  return seen.sort((a, b) => a - b);
}

async function measure(processes) {
  const done = new Map();
  const children = Array.from({ length: processes }, () => fork(new URL(import.meta.url), ["serve"]));
  let isOver = false;
  await Promise.all(children.map((child) => new Promise((resolve) => {
    child.on("exit", () => isOver || process.exit(1));
    child.on("message", (key) => {
      if (key === "ready") return resolve();
      done.get(key)?.(now());
      done.delete(key);
    });
  })));
  await upload(Math.min(UPLOADS, IN_FLIGHT), done);
  const started = now();
  const seen = await upload(UPLOADS, done);
  const took = now() - started;
  isOver = true;
  children.forEach((child) => child.kill());
  return { setting: `${processes} processes`, rate: (UPLOADS / took) * 1e3, seen };
}

async function main() {
  const pool = postgres();
  await pool.query("drop table if exists plain_files");
  await pool.query("create table plain_files (key text primary key, blob text not null, sha256 text not null, size bigint not null)");
  const tries = [await measure(1), await measure(2)];
  const { rows } = await pool.query("select count(*)::int as files from plain_files");
  const expected = 2 * (UPLOADS + Math.min(UPLOADS, IN_FLIGHT));
  if (rows[0].files !== expected) throw new Error(`${expected} were uploaded, but there are ${rows[0].files} rows`);
  const figures = new Figures();
  const { seen } = figures.best("uploaded", tries);
  figures.add("done_p50", "milliseconds", percentile(seen, 0.5));
  figures.add("done_p99", "milliseconds", percentile(seen, 0.99));
  figures.print();
  process.exit(0);
}

await (process.argv[2] === "serve" ? serve() : main());
