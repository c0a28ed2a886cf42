#!/usr/bin/env node
/**
 * Uploads files to a longshore server. Node 20 or later, nothing else.
 *
 *     As a program:  node longshore.mjs FILE... --order A-100
 *     As a module:   await new Longshore(server, token).upload("front.jpg", { target: order("A-100") })
 *
 * The server signs a form, the file goes straight to the bucket with it, and the server checks what arrived. Everything here
 * may be run twice: an upload carries a `ref` made of its content, so the server knows it again.
 */

import { createHash, randomUUID } from "node:crypto";
import { once } from "node:events";
import { createReadStream, realpathSync } from "node:fs";
import { stat } from "node:fs/promises";
import * as http from "node:http";
import * as https from "node:https";
import { basename, isAbsolute, normalize, sep } from "node:path";
import { pipeline } from "node:stream/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const ATTEMPTS = 6;
const PASSING = new Set([429, 500, 502, 503, 504]);
const FINAL = new Set(["done", "rejected", "cancelled"]);
// A batch takes 10,000 lines and 16 MiB; a line of ours has at most about 5 kB, and mostly 300 bytes.
const BATCH_LINES = 10_000;
const BATCH_BYTES = 15 * 1024 * 1024;

/** An upload that did not become a file. The message is for people. */
export class LongshoreError extends Error {}

/** No answer, after several tries. */
export class Unreachable extends LongshoreError {}

/** The server or the bucket said no, and would again. `type` is the API's `error.type`. */
export class Refused extends LongshoreError {
  constructor(status, type, message) {
    super(`${message} (HTTP ${status}${type && `, ${type}`})`);
    Object.assign(this, { status, type });
  }
}

export const order = (number) => ({ kind: "order", number });
export const style = (number) => ({ kind: "style", number });

/** A server and the token to come in with. */
export class Longshore {
  #server;
  #token;

  constructor(server, token) {
    this.#server = server.replace(/\/+$/, "");
    this.#token = token;
  }

  /**
   * Uploads one file; resolves to the upload, which is `done`: `fileId`, `hash`, `deduplicated`, ... With `sha256`, the file
   * must have that hash; without, it is read once more.
   */
  async upload(path, { target, name, sha256 } = {}) {
    return this.#finish(path, await this.#create(await wishFor(path, { target, name, sha256 })));
  }

  /**
   * Uploads many files, asking for up to 10,000 at a time. Yields `{ path, upload }` or `{ path, error }` in their order, those
   * first that cannot be read. The same name with the same bytes, given twice, is one upload.
   */
  async *batch(paths, { target, concurrency = 8 } = {}) {
    const wishes = new Map();
    for (const path of paths) {
      const name = isAbsolute(path) || path.split(sep).includes("..") ? undefined : normalize(path);
      try {
        const wish = await wishFor(path, { target, name });
        wishes.set(wish.ref, { path, wish, line: `${JSON.stringify(wish)}\n` });
      } catch (error) {
        yield { path, error };
      }
    }
    for (const some of portions([...wishes.values()])) {
      yield* inOrder(await this.#placesFor(some), concurrency, async ({ ref, place }) => {
        const { path } = wishes.get(ref);
        try {
          return { path, upload: await this.#finish(path, await place()) };
        } catch (error) {
          return { path, error };
        }
      });
    }
  }

  // ---- One upload's way

  #create(json) {
    // A lost answer makes us ask again; with this key the server knows that it is the same question.
    const headers = { "Idempotency-Key": randomUUID(), Prefer: "wait=10" };
    return this.#call("POST", "/api/uploads", { json, headers });
  }

  async #finish(path, upload) {
    const { size } = await stat(path);
    const deadline = Date.now() + 600_000 + size / 1000;
    const place = `/api/uploads/${upload.id}`;
    let sent = false;
    while (!FINAL.has(upload.status)) {
      if (upload.attention) throw new LongshoreError("the server needs its operator's attention for this upload");
      if (Date.now() > deadline) throw new LongshoreError(`still ${upload.status}; look later at ${place}`);
      if (upload.upload && !sent) {
        sent = await this.#postForm(upload.upload, path, size);
        if (sent) await this.#call("POST", `${place}/callback`);
        upload = await (sent ? this.#settled(place) : this.#renew(place));
      } else if (upload.status === "expired") {
        sent = false;
        upload = await this.#renew(place);
      } else if (!sent && ["requested", "issued"].includes(upload.status)) {
        await sleep(500); // its form is about to be signed
        upload = await this.#call("GET", place);
      } else {
        upload = await this.#settled(place);
      }
    }
    if (upload.status !== "done") {
      throw new LongshoreError(`the upload ended ${upload.status}: ${upload.reason ?? "no reason given"}`);
    }
    return upload;
  }

  /** The upload once it has ended, or as it is after 20 s. */
  #settled(place) {
    return this.#call("GET", place, { headers: { Prefer: "wait=20" } });
  }

  async #renew(place) {
    try {
      return await this.#call("POST", `${place}/policy`);
    } catch (error) {
      if (error.status !== 409) throw error;
      return this.#call("GET", place); // it has moved on meanwhile
    }
  }

  /** Posts the file to the bucket. False if the form's time had run out. */
  async #postForm({ url, fields, expires }, path, size) {
    const boundary = randomUUID();
    const part = (name, more = "") => `--${boundary}\r\nContent-Disposition: form-data; name="${name}"${more}\r\n\r\n`;
    const before = Object.entries(fields).map(([name, value]) => `${part(name)}${value}\r\n`);
    // The bucket ignores whatever comes after the file.
    const head = Buffer.from(before.join("") + part("file", '; filename="file"'));
    const tail = Buffer.from(`\r\n--${boundary}--\r\n`);
    const headers = {
      "Content-Type": `multipart/form-data; boundary=${boundary}`,
      "Content-Length": head.length + size + tail.length, // S3 takes no chunked forms
    };
    const ends = Date.now() + expires * 1000;
    const answer = await send(url, () => postOnce(url, headers, around(head, path, size, tail)));
    if (answer.ok) return true;
    const message = /<Message>([^<]*)/.exec(answer.text)?.[1] ?? "no reason given";
    if (answer.status === 403 && (Date.now() >= ends || /expired/i.test(message))) return false;
    throw new Refused(answer.status, "", `the bucket refused it: ${message}`);
  }

  // ---- A batch's way

  /** By their refs, how to come by the uploads of these lines. */
  async #placesFor(some) {
    try {
      const uploads = await this.#batchOf(some.map(({ line }) => line).join(""));
      return uploads.map((upload) => ({ ref: upload.ref, place: () => upload }));
    } catch (error) {
      if (error.status !== 422) throw error;
      // One line will not do, and so none was taken: each goes by itself then, and those that will do go through.
      return some.map(({ wish }) => ({ ref: wish.ref, place: () => this.#create(wish) }));
    }
  }

  /** The uploads of these lines, each with its form if it needs one. */
  async #batchOf(lines) {
    const headers = { "Idempotency-Key": randomUUID(), "Content-Type": "application/x-ndjson" };
    let batch = await this.#call("POST", "/api/batches", { body: lines, headers });
    const place = `/api/batches/${batch.id}`;
    for (const deadline = Date.now() + 300_000; !batch.ready; batch = await this.#call("GET", place)) {
      if (Date.now() > deadline) throw new LongshoreError(`its forms are not signed yet; look later at ${place}`);
      await sleep(250);
    }
    const listing = await this.#request("GET", `${place}/uploads`, { headers: { Accept: "application/x-ndjson" } });
    return listing.trim().split("\n").map((line) => JSON.parse(line));
  }

  // ---- The API

  /** One call; resolves to the first upload or batch of the answer. */
  async #call(method, place, options) {
    const answer = JSON.parse(await this.#request(method, place, options));
    return (answer.uploads ?? answer.batches)[0];
  }

  async #request(method, place, { json, body = json && JSON.stringify(json), headers = {} } = {}) {
    headers = { Authorization: `Bearer ${this.#token}`, ...(json && { "Content-Type": "application/json" }), ...headers };
    const url = this.#server + place;
    const answer = await send(url, () => fetchOnce(url, { method, headers, body, redirect: "manual" }));
    if (answer.ok) return answer.text;
    let told;
    try {
      told = JSON.parse(answer.text).error;
    } catch {
      // Said below.
    }
    const { type = "", message = `${this.#server} does not answer as a longshore server would` } = told ?? {};
    throw new Refused(answer.status, type, message);
  }
}

// ---- What goes out

/** What to ask the server for. */
async function wishFor(path, { target, name = basename(path), sha256 }) {
  const filename = name.split(sep).join("/");
  sha256 ??= await hash("sha256", createReadStream(path));
  return {
    filename,
    size: (await stat(path)).size,
    sha256, // bytes that the server has need not be sent
    ref: await hash("sha256", [JSON.stringify([filename, sha256, target ?? null])]), // asking twice gives the same upload
    target,
  };
}

async function hash(algorithm, chunks) {
  const digest = createHash(algorithm);
  await pipeline(chunks, digest);
  return digest.digest("hex");
}

/** The form piece by piece, so that no file is ever held in memory. */
async function* around(head, path, size, tail) {
  yield head;
  let left = size;
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) {
    left -= chunk.length;
    if (left < 0) break;
    yield chunk;
  }
  if (left !== 0) throw new LongshoreError("the file changed while it was sent");
  yield tail;
}

function* portions(wishes) {
  let some = [], size = 0;
  for (const wish of wishes) {
    const length = Buffer.byteLength(wish.line);
    if (some.length === BATCH_LINES || (some.length && size + length > BATCH_BYTES)) {
      yield some;
      some = [];
      size = 0;
    }
    some.push(wish);
    size += length;
  }
  if (some.length) yield some;
}

/** Runs `work` on every item, so many at a time, and yields what came of them in their order. */
async function* inOrder(items, concurrency, work) {
  const running = [];
  for (const item of items) {
    running.push(work(item));
    if (running.length >= concurrency) yield await running.shift();
  }
  for (const rest of running) yield await rest;
}

// ---- Requests with second tries

/** Calls `attempt` until its answer is one that a second try would not change. */
async function send(url, attempt) {
  for (let tries = 1; ; tries++) {
    let pause = Math.min(20_000, 300 * 2 ** tries) * (0.75 + Math.random() / 2);
    try {
      const answer = await attempt();
      if (!PASSING.has(answer.status) || tries === ATTEMPTS) return answer;
      if (answer.retryAfter > 0) pause = Math.min(60, answer.retryAfter) * 1000;
    } catch (error) {
      if (error instanceof LongshoreError || error.path) throw error; // it is about our own file
      if (tries === ATTEMPTS) {
        const { message, code } = error.cause ?? error;
        throw new Unreachable(`${new URL(url).host} cannot be reached: ${message || code}`);
      }
    }
    await sleep(pause);
  }
}

async function fetchOnce(url, request) {
  const answer = await fetch(url, { ...request, signal: AbortSignal.timeout(90_000) });
  const { ok, status, headers } = answer;
  return { ok, status, text: await answer.text(), retryAfter: Number(headers.get("retry-after")) };
}

/** Not by `fetch`: that of Node 20 reads a body ahead, however slowly it is taken, and so holds the whole file in memory. */
async function postOnce(url, headers, chunks) {
  const { request } = url.startsWith("https:") ? https : http;
  const outgoing = request(url, { method: "POST", headers });
  outgoing.setTimeout(90_000, () => outgoing.destroy(new Error("no answer in time")));
  let fault;
  const sent = pipeline(chunks, outgoing).catch((error) => { fault = error; });
  // A form that is refused in the midst is answered all the same: then the answer counts, not how the sending went.
  const [answer] = await once(outgoing, "response").catch(async (error) => {
    await sent;
    throw fault ?? error;
  });
  let text = "";
  for await (const chunk of answer.setEncoding("utf8")) text += chunk;
  const status = answer.statusCode;
  return { ok: status < 300, status, text, retryAfter: Number(answer.headers["retry-after"]) };
}

// ---- As a program

const USAGE = "usage: node longshore.mjs FILE... [--order NUMBER | --style NUMBER] [--sha256 HEX] [--batch]";

async function main() {
  const { LONGSHORE_SERVER: server = "http://127.0.0.1:8080", LONGSHORE_TOKEN: token } = process.env;
  const { paths, options, batch } = readArguments();
  if (!token) usage("set LONGSHORE_TOKEN to an API token (lsk_...)");
  const longshore = new Longshore(server, token.trim());
  const outcomes = batch ? longshore.batch(paths, options) : oneByOne(longshore, paths, options);
  try {
    for await (const { path, upload, error } of outcomes) report(path, upload, error);
  } catch (error) {
    fail(`failed: ${error.message}`);
  }
}

function readArguments() {
  const string = { type: "string" };
  try {
    const { values, positionals: paths } = parseArgs({
      options: { order: string, style: string, sha256: string, batch: { type: "boolean" } },
      allowPositionals: true,
    });
    if (paths.length === 0) usage("no file is given");
    if (values.order && values.style) usage("--order and --style exclude each other");
    if (values.sha256 && (values.batch || paths.length > 1)) usage("--sha256 is for one file");
    const target = values.order ? order(values.order) : values.style ? style(values.style) : undefined;
    return { paths, options: { target, sha256: values.sha256 }, batch: values.batch };
  } catch (error) {
    return usage(error.message);
  }
}

async function* oneByOne(longshore, paths, options) {
  for (const path of paths) {
    try {
      yield { path, upload: await longshore.upload(path, options) };
    } catch (error) {
      // No other file would fare better.
      if (error instanceof Unreachable || error.status === 401 || error.status === 403) throw error;
      yield { path, error };
    }
  }
}

function report(path, upload, error) {
  if (error) return fail(`failed ${path}: ${error.message}`);
  const note = upload.deduplicated ? "  (these bytes were known)" : "";
  console.log(`done   ${path}  file ${upload.fileId}  ${upload.hash}${note}`);
}

function fail(message) {
  console.error(message);
  process.exitCode = 1;
}

function usage(message) {
  console.error(`${USAGE}\n${message}`);
  process.exit(2);
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) await main();
