// The first view: what needs a person, the funnel of uploads, the pools, and what runs beside them.

import { get, post } from "./api.js";
import { concerns } from "./concerns.js";
import { badge, button, empty, facts, link, section, table, when } from "./parts.js";
import { ask } from "./question.js";
import { h } from "./tree.js";
import { bytes, count, rate, span } from "./units.js";
import { address } from "./uploads.js";

const WAITS = {
  requested: "for a policy",
  issued: "for the client's bytes",
  arrived: "to be hashed",
  verified: "to be stored",
};

export const open = (route, desk) => ({
  title: "Overview",
  load: async (signal) => (await get("overview", signal)).overview[0],
  draw: (overview) => [
    concerns(overview),
    section("Uploads under way", funnel(overview)),
    section("Pools", pools(overview.pools, desk)),
    h(
      "div",
      { class: "columns", key: "beside" },
      section("Checks", checks(overview)),
      section("Reports", reports(overview.report)),
      section("Sweep", sweep(overview.sweep)),
      section("Schedules", schedules(overview.schedules)),
    ),
    h(
      "p",
      { class: "muted small", key: "version" },
      [`longshore ${overview.version}`, ...engines(overview.engines)].join(" · "),
    ),
  ],
});

const engines = (names) => Object.entries(names ?? {}).map(([what, name]) => `${what} ${name}`);

function funnel({ uploads, ended, endedCapped = [] }) {
  return [
    h(
      "ol",
      { class: "funnel" },
      Object.entries(WAITS).map(([state, waits]) => {
        const { count: open, oldestAgeSeconds: age } = uploads[state];
        return h(
          "li",
          { key: state },
          h("a", { class: "label", href: address({ status: state }) }, state),
          h("strong", {}, count(open)),
          h(
            "span",
            { class: "muted small" },
            age === null ? `none waits ${waits}` : `wait ${waits}, the oldest ${span(age)}`,
          ),
        );
      }),
    ),
    h(
      "dl",
      { class: "ended" },
      Object.entries(ended).map(([state, number]) =>
        h(
          "div",
          { key: state, "data-tone": state === "done" ? "good" : "calm" },
          h("dt", {}, state),
          h("dd", {}, many(state, number, endedCapped)),
        ),
      ),
    ),
  ];
}

/** Those that are done are nearly all there are: they are listed by org. */
function many(state, number, capped) {
  const text = count(number, capped.includes(state));
  return state === "done" ? text : h("a", { href: address({ status: state }), "aria-label": `${text} ${state}` }, text);
}

function pools(pools, desk) {
  return [
    pools.some(({ waiting }) => waiting === null) &&
      h(
        "p",
        { key: "away", class: "muted" },
        "The queue cannot be reached, so nobody can tell what waits and runs. Pause and resume work all the same.",
      ),
    staffed(pools, desk),
  ];
}

const staffed = (pools, desk) =>
  table(
    "Pools of workers and what waits for them",
    ["Pool", "State", "#Waiting", "#Due", "#Oldest", "#Running", "#Per second", "#Workers", "#Dead", ""],
    pools.map((pool) => ({
      key: pool.pool,
      cells: [
        pool.pool,
        pool.paused ? h("span", {}, badge("warn", "paused"), " ", when(pool.pausedAt)) : badge("good", "open"),
        count(pool.waiting),
        count(pool.due),
        pool.due ? span(pool.oldestAgeSeconds) : "–",
        count(pool.running),
        rate(pool.perSecond),
        count(pool.workers),
        pool.dead ? link(`#/dead-letters?pool=${pool.pool}`, count(pool.dead)) : "0",
        button(pool.paused ? "Resume" : "Pause", () => switchPool(pool, desk), {
          key: "switch",
          label: `${pool.paused ? "Resume" : "Pause"} ${pool.pool}`,
        }),
      ],
    })),
  );

async function switchPool({ pool, paused }, desk) {
  const question = {
    title: `Pause ${pool}?`,
    text: "Its jobs wait until somebody resumes it, in every process. Those that run come to their end.",
    act: `Pause ${pool}`,
  };
  if (!paused && !(await ask(question))) return;
  await desk.act(async () => {
    await post(`pools/${pool}/${paused ? "resume" : "pause"}`);
    return paused ? `${pool} is resumed.` : `${pool} is paused. Its jobs wait until it is resumed.`;
  });
}

const checks = ({ checks }) =>
  h(
    "ul",
    { class: "lines" },
    Object.entries(checks).map(([name, outcome]) =>
      h("li", { key: name }, h("span", {}, name), badge(outcome === "ok" ? "good" : "bad", outcome)),
    ),
  );

const reports = ({ oldestDeltaAgeSeconds: age }) =>
  age === null
    ? empty("Every change is in the reports.")
    : empty(`The oldest change that no report shows yet is ${span(age)} old.`);

const sweep = (found) =>
  found.length
    ? facts(
        found.map(({ kind, orphans, bytes: size, asOf }) => [
          { staging: "In staging, needed by no upload", blob: "Blobs that no row names", row: "Blobs without their bytes" }[
            kind
          ] ?? kind,
          [`${count(orphans)}${size === null ? "" : `, ${bytes(size)}`}, `, when(asOf)],
        ]),
      )
    : empty("No sweep has told of anything yet.");

const schedules = (ticks) =>
  ticks.length
    ? h(
        "ul",
        { class: "lines" },
        ticks.map(({ kind, lastTickAt }) =>
          h(
            "li",
            { key: kind },
            h("span", {}, kind),
            h("span", { class: "muted" }, lastTickAt ? when(lastTickAt) : "not yet"),
          ),
        ),
      )
    : empty("Nothing is on a schedule.");
