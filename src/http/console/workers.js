// The processes that work, each with its pools.

import { get, now } from "./api.js";
import { badge, empty, section, table, when } from "./parts.js";
import { h } from "./tree.js";
import { count, rate } from "./units.js";

export const open = () => ({
  title: "Workers",
  load: async (signal) => (await get("workers", signal)).workers,
  gone: "This server does not tell of its workers.",
  draw: (workers) =>
    workers.length
      ? workers.map((worker) => section(worker.name, seen(worker), pools(worker)))
      : empty("No worker runs: jobs wait. `longshore up` or `longshore worker` starts one."),
});

/** In milliseconds; one that lives is seen every ten seconds. */
const GONE = 30_000;

const seen = ({ version, startedAt, seenAt }) =>
  h(
    "p",
    { class: "muted" },
    now() - Date.parse(seenAt) > GONE && [badge("warn", "gone"), " "],
    `Version ${version}, started `,
    when(startedAt),
    ", last seen ",
    when(seenAt),
  );

const pools = (worker) =>
  table(
    `Pools of ${worker.name}`,
    ["Pool", "#Running", "#At most", "#Per second"],
    worker.pools.map((pool) => ({
      key: pool.pool,
      cells: [pool.pool, count(pool.running), count(pool.concurrency), rate(pool.perSecond)],
    })),
  );
