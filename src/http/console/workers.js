// The processes that work, each with its pools.

import { get } from "./api.js";
import { empty, table, when } from "./parts.js";
import { count, rate } from "./units.js";

export const open = () => ({
  title: "Workers",
  load: async (signal) => (await get("workers", signal)).workers,
  gone: "This server does not tell of its workers.",
  draw: (workers) =>
    workers.length
      ? table(
          "Workers and their pools",
          ["Worker", "Version", "Pool", "#Running", "#At most", "#Per second", "Started", "Seen"],
          workers.flatMap((worker) =>
            worker.pools.map((pool) => ({
              key: `${worker.name} ${pool.pool}`,
              cells: [
                worker.name,
                worker.version,
                pool.pool,
                count(pool.running),
                count(pool.concurrency),
                rate(pool.perSecond),
                when(worker.startedAt),
                when(worker.seenAt),
              ],
            })),
          ),
        )
      : empty("No worker runs: jobs wait. `longshore up` or `longshore worker` starts one."),
});
