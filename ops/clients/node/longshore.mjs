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
import { createReadStream, openAsBlob, realpathSync } from "node:fs";
import { access } from "node:fs/promises";
import { basename, sep } from "node:path";
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
    const file = await open(path);
    const wish = await wishFor(path, file, { target, name, sha256 });
    // A lost answer makes us ask again; with this key the server knows that it is the same question.
    const headers = { "Idempotency-Key": randomUUID(), Prefer: "wait=10" };
    return this.#finish(file, await this.#call("POST", "/api/uploads", { json: wish, headers }));
  }

  /**
   * Uploads many files, asking for up to 10,000 at a time. Yields `{ path, upload }` or `{ path, error }` in their order. The
   * same name with the same bytes, given twice, is one upload.
   */
  async *batch(paths, { target, concurrency = 8 } = {}) {
    const wishes = new Map();
    for (const path of paths) {
      const name = path.startsWith(sep) || path.split(sep).includes("..") ? undefined : path;
      const wish = await wishFor(path, await open(path), { target, name });
      wishes.set(wish.ref, { path, line: `${JSON.stringify(wish)}\n` });
    }
    for (const some of portions([...wishes.values()])) {
      const uploads = await this.#placesFor(some.map(({ line }) => line).join(""));
      yield* inOrder(uploads, concurrency, async (upload) => {
        const { path } = wishes.get(upload.ref);
        try {
          return { path, upload: await this.#finish(await open(path), upload) };
        } catch (error) {
          return { path, error };
        }
      });
    }
  }

  // ---- One upload's way

  async #finish(file, upload) {
    const deadline = Date.now() + 600_000 + file.size / 1000;
    const place = `/api/uploads/${upload.id}`;
    let sent = false;
    while (!FINAL.has(upload.status)) {
      if (upload.attention) throw new LongshoreError("the server needs its operator's attention for this upload");
      if (Date.now() > deadline) throw new LongshoreError(`still ${upload.status}; look later at ${place}`);
      if (upload.upload && !sent) {
        sent = await this.#postForm(upload.upload, file);
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
  async #postForm({ url, fields, expires }, file) {
    const ends = Date.now() + expires * 1000;
    const answer = await send(url, () => {
      const body = new FormData();
      for (const [name, value] of Object.entries(fields)) body.append(name, value);
      body.append("file", file, "file"); // the bucket ignores whatever comes after it
      return { method: "POST", body };
    });
    if (answer.ok) return true;
    const message = /<Message>([^<]*)/.exec(answer.text)?.[1] ?? "no reason given";
    if (answer.status === 403 && (Date.now() >= ends || /expired/i.test(message))) return false;
    throw new Refused(answer.status, "", `the bucket refused it: ${message}`);
  }

  // ---- A batch's way

  /** The uploads of these lines, each with its form if it needs one. */
  async #placesFor(lines) {
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
    const answer = await send(this.#server + place, () => ({ method, headers, body, signal: AbortSignal.timeout(90_000) }));
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

async function open(path) {
  await access(path); // says why a file cannot be had, which openAsBlob does not
  return openAsBlob(path);
}

/** What to ask the server for. */
async function wishFor(path, file, { target, name = basename(path), sha256 }) {
  const filename = name.split(sep).join("/");
  sha256 ??= await hash("sha256", createReadStream(path));
  return {
    filename,
    size: file.size,
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

/** Sends until the answer is one that a second try would not change. `request()` makes it anew for each try. */
async function send(url, request) {
  for (let attempt = 1; ; attempt++) {
    let pause = Math.min(20_000, 300 * 2 ** attempt) * (0.75 + Math.random() / 2);
    try {
      const answer = await fetch(url, { redirect: "manual", ...request() });
      const { ok, status } = answer, text = await answer.text();
      if (!PASSING.has(status) || attempt === ATTEMPTS) return { ok, status, text };
      const asked = Number(answer.headers.get("retry-after"));
      if (asked > 0) pause = Math.min(60, asked) * 1000;
    } catch (error) {
      if (isOurs(error)) throw new LongshoreError("the file changed while it was sent", { cause: error });
      if (attempt === ATTEMPTS) {
        throw new Unreachable(`${new URL(url).host} cannot be reached: ${error.cause?.message || error.cause?.code || error.message}`);
      }
    }
    await sleep(pause);
  }
}

const isOurs = (error) => [error, error.cause].some((part) => part?.name === "NotReadableError");

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
