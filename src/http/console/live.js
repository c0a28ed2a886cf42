// Asks again and again while the page is seen: every two seconds, less often where answers are slow, and on and on when
// none comes.

const PACE = 2000;
const SLOWEST = 30_000;

/**
 * Calls `load(signal)` now and then, and `told({news})` or `told({fault})` with what came of it.
 * `again()` asks at once, `stop()` ends it.
 */
export function follow(load, told) {
  const end = new AbortController();
  let timer = null;
  let asking = false;
  let wanted = false;
  let failures = 0;

  async function again() {
    clearTimeout(timer);
    // What is under way may have been answered before the thing happened that somebody wants to see.
    wanted = asking;
    if (asking || end.signal.aborted) return;
    asking = true;
    const took = await turn();
    asking = false;
    if (end.signal.aborted) return;
    if (wanted) again();
    else if (!document.hidden) timer = setTimeout(again, pause(took));
  }

  async function turn() {
    const began = performance.now();
    try {
      const news = await load(end.signal);
      failures = 0;
      if (!end.signal.aborted) told({ news });
    } catch (fault) {
      failures++;
      if (!end.signal.aborted) told({ fault });
    }
    return performance.now() - began;
  }

  const pause = (took) =>
    failures ? Math.min(PACE * 2 ** (failures - 1), 15_000) : Math.min(Math.max(PACE, took * 4), SLOWEST);

  function stop() {
    clearTimeout(timer);
    end.abort();
  }

  document.addEventListener(
    "visibilitychange",
    () => {
      if (!document.hidden) again();
    },
    { signal: end.signal },
  );
  addEventListener("online", again, { signal: end.signal });
  again();
  return { again, stop };
}
