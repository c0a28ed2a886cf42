// What needs a person: the same conditions, and as grave, as in ops/prometheus/alerts.yaml.

import { now } from "./api.js";
import { at, link, prose } from "./parts.js";
import { h } from "./tree.js";
import { counted, plain, span } from "./units.js";

// In seconds.
const SILENCE = 600;
const STALE_REPORT = 300;
const LATE = 300;
/** Whoever asks for an upload waits for a job of the pool `issue`. */
const LATE_POLICY = 30;

export function concerns(overview) {
  const found = [
    failing(overview.checks),
    lost(overview.sweep),
    dead(overview.deadLetters),
    ...(overview.failing ?? []).map(faltering),
    ...overview.pools.map(halted),
    idle(overview.pools),
    ...overview.pools.map(late),
    silent(overview),
    overview.report.oldestDeltaAgeSeconds > STALE_REPORT && [
      "warn",
      "The reports are behind: nothing has been folded for a while.",
    ],
  ].filter(Boolean);
  if (!found.length) return h("p", { key: "concerns", class: "concern", "data-tone": "good" }, "Nothing needs a person.");
  return h(
    "ul",
    { key: "concerns", class: "concerns", "aria-label": "What needs a person" },
    found.map(([tone, ...text]) => h("li", { class: "concern", "data-tone": tone }, text)),
  );
}

function failing(checks) {
  const names = Object.entries(checks)
    .filter(([, outcome]) => outcome !== "ok")
    .map(([name]) => name);
  return names.length > 0 && ["bad", `${names.join(", ")}: the check fails. Work that needs it waits.`];
}

/** What the sweep finds of other kinds costs space and harms nobody. */
function lost(found) {
  const number = found.find(({ kind }) => kind === "row")?.orphans ?? 0;
  const told = `The bucket has lost the bytes of ${counted(number, "blob")}: files cannot be read. Stop what deletes from it. `;
  return number > 0 && ["bad", told, prose("`longshore sweep --list` names the files.")];
}

const dead = (number) =>
  number > 0 && [
    "bad",
    link("#/dead-letters", counted(number, "dead letter")),
    number === 1 ? ": a job that goes on only when you say so." : ": jobs that go on only when you say so.",
  ];

/** What jobs are about that are about everything. */
const NOTHING = "00000000-0000-0000-0000-000000000000";

/** Those that came right meanwhile count, too; the others are retried, for hours. */
const faltering = ({ kind, jobs, error, example }) => [
  "warn",
  `${counted(jobs, "job")} of ${kind} failed in the last 15 minutes: ${short(error)} `,
  example && example !== NOTHING && link(at("uploads", example), "One of them"),
];

/** What was tried stands at the beginning of an error, and the cause at its end. */
function short(error) {
  const line = plain(error.split("\n", 1)[0]);
  return line.length > 240 ? `${line.slice(0, 100)} … ${line.slice(-130)}` : line;
}

const isLate = ({ pool, due, oldestAgeSeconds: age }) => due > 0 && age > (pool === "issue" ? LATE_POLICY : LATE);
const toneOf = (pool) => (pool.pool === "issue" && isLate(pool) ? "bad" : "warn");
const waits = ({ due, oldestAgeSeconds: age }) => `${counted(due, "job is", "jobs are")} due, the oldest for ${span(age)}`;

const halted = (pool) =>
  pool.paused && [toneOf(pool), `${pool.pool}: paused until somebody resumes it.${pool.due > 0 ? ` ${waits(pool)}.` : ""}`];

function idle(pools) {
  const names = pools.filter(({ workers }) => workers === 0).map(({ pool }) => pool);
  return names.length > 0 && ["bad", `${names.join(", ")}: no worker takes ${names.length === 1 ? "its" : "their"} jobs.`];
}

const late = (pool) => isLate(pool) && !pool.paused && [toneOf(pool), `${pool.pool}: ${waits(pool)}.`];

/** By default several tick each minute. Before the first tick of all, what waits for one tells how long there was none. */
function silent({ schedules, uploads, report }) {
  const ticks = schedules.flatMap(({ lastTickAt }) => (lastTickAt ? [(now() - Date.parse(lastTickAt)) / 1000] : []));
  const ages = [...Object.values(uploads).map((open) => open.oldestAgeSeconds), report.oldestDeltaAgeSeconds];
  const quiet = ticks.length ? Math.min(...ticks) : Math.max(...ages);
  return (
    schedules.length > 0 &&
    quiet > SILENCE && ["warn", "No schedule has ticked for ten minutes: nothing is expired, polled for or put on again."]
  );
}
