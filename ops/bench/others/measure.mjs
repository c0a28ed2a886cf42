// What the benches of other systems share: the load, which is that of `longshore bench queue`, and how figures are told.
//
// Every system gets the same: payloads of 200 bytes as JSON, jobs that do nothing, a warm-up that does not count, the same numbers
// of jobs and of single pushes. A script prints one JSON document of the shape of `longshore bench --json`, so that
// ops/bench/compare reads them alike.

import { randomUUID } from "node:crypto";

/** Numbers of jobs, one round each. */
export const ROUNDS = (process.env.BENCH_JOBS ?? "20000").split(",").map(Number);
export const SINGLES = Number(process.env.BENCH_SINGLES ?? 500);
export const PAYLOAD = Number(process.env.BENCH_PAYLOAD ?? 200);
export const WARM_UP = 2_000;
export const FIRST_SINGLES = 50;
export const PAUSE_MS = 4;

const bare = JSON.stringify({ id: randomUUID(), padding: "" }).length;
const padding = "x".repeat(Math.max(0, PAYLOAD - bare));

/** A payload of PAYLOAD bytes as JSON. */
export const payload = () => ({ id: randomUUID(), padding });

/** Arrays of at most `size` numbers, together 0 to count - 1. */
export function* chunks(count, size) {
  for (let first = 0; first < count; first += size) {
    yield Array.from({ length: Math.min(size, count - first) }, (_, at) => first + at);
  }
}

/** Milliseconds with fractions. */
export const now = () => performance.now();

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Counts what ran; `after(n)` resolves when n more have. */
export class Counter {
  #count = 0;
  #goal = Infinity;
  #reached = () => {};

  hit() {
    this.#count += 1;
    if (this.#count === this.#goal) this.#reached();
  }

  after(more) {
    this.#goal = this.#count + more;
    return new Promise((resolve) => (this.#reached = resolve));
  }
}

/** Resolves `began(id)` for each `expect(id)`, to time from a push to the start of its job. */
export class Starts {
  #waiting = new Map();

  began(id) {
    this.#waiting.get(id)?.(now());
    this.#waiting.delete(id);
  }

  expect(id) {
    return new Promise((resolve) => this.#waiting.set(id, resolve));
  }
}

/** Pushes one by one onto an idle queue; `push` takes a payload. The delays in order. */
export async function delays(push, starts) {
  const seen = [];
  for (let number = 0; number < FIRST_SINGLES + SINGLES; number += 1) {
    const job = payload();
    const began = starts.expect(job.id);
    const pushed = now();
    await push(job);
    const delay = (await began) - pushed;
    if (number >= FIRST_SINGLES) seen.push(delay);
    await pause(PAUSE_MS);
  }
  return seen.sort((a, b) => a - b);
}

export const percentile = (sorted, share) => sorted[Math.min(Math.floor(sorted.length * share), sorted.length - 1)];

export class Figures {
  #settings = [];
  #figures = [];

  set(name, value) {
    this.#settings.push({ name, value: String(value) });
  }

  add(name, unit, value) {
    this.#figures.push({ name, unit, value });
  }

  /** The best of several tries of one system, which is what it is compared by; each try is told on stderr. */
  best(name, tries) {
    for (const { setting, rate } of tries) console.error(`  ${name}, ${setting}: ${rate.toFixed(0)} /s`);
    const best = tries.reduce((a, b) => (b.rate > a.rate ? b : a));
    this.add(name, "per_second", best.rate);
    this.set(name, best.setting);
    return best;
  }

  delays(sorted) {
    this.add("delay_p50", "milliseconds", percentile(sorted, 0.5));
    this.add("delay_p99", "milliseconds", percentile(sorted, 0.99));
  }

  print() {
    console.log(JSON.stringify({ settings: this.#settings, figures: this.#figures }));
  }
}
