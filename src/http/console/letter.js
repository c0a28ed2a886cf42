// A dead letter in full, and what can be done with it.

import { get, post } from "./api.js";
import { at, badge, button, facts, link, prose, when } from "./parts.js";
import { ask } from "./question.js";
import { h } from "./tree.js";
import { count, counted } from "./units.js";

/** One by itself. */
export const open = ({ id }, desk) => ({
  title: "Dead letter",
  load: async (signal) => (await get(`dead-letters/${encodeURIComponent(id)}`, signal)).deadLetters[0],
  gone: ["There is no such dead letter: it was retried or discarded. ", link("#/dead-letters", "All dead letters")],
  draw: (letter) => [show(letter, desk), h("p", { key: "all" }, link("#/dead-letters", "All dead letters"))],
});

/** `tick` is its box to choose it with others, where there is one. */
export const show = (letter, desk, tick = null) =>
  h(
    "article",
    { key: letter.id, class: "letter card", "aria-label": `${letter.kind}, ${letter.reason}` },
    h(
      "div",
      { class: "letter-head" },
      tick,
      h("h2", {}, link(at("dead-letters", letter.id), letter.kind)),
      badge("bad", letter.reason),
      h("span", { class: "muted small" }, "died ", when(letter.diedAt)),
      h(
        "span",
        { class: "muted small" },
        `${counted(letter.attempts, "attempt")}${letter.crashes ? `, ${counted(letter.crashes, "crash", "crashes")}` : ""}`,
      ),
    ),
    h("p", { class: "about" }, about(letter)),
    h("pre", { class: "error", tabindex: "0", "aria-label": "Error" }, letter.error),
    h("p", { class: "advice" }, prose(letter.advice)),
    h(
      "details",
      {},
      h("summary", {}, "Payload and ids"),
      h(
        "pre",
        { tabindex: "0", "aria-label": "Payload" },
        typeof letter.payload === "string" ? letter.payload : JSON.stringify(letter.payload, null, 2),
      ),
      facts([
        ["Letter", letter.id],
        [`Subject${letter.subjectKind ? ` (${letter.subjectKind})` : ""}`, letter.subject],
        ["Org", letter.orgId],
        ["Pool", `${letter.pool}, ${letter.lane}`],
      ]),
    ),
    h(
      "div",
      { class: "buttons" },
      button("Retry", () => settle("retry", { ids: [letter.id] }, 1, desk), {
        label: `Retry ${letter.kind} of ${name(letter)}`,
      }),
      button("Discard", () => settle("discard", { ids: [letter.id] }, 1, desk), {
        label: `Discard ${letter.kind} of ${name(letter)}`,
        quiet: true,
      }),
    ),
  );

export const name = (letter) => letter.filename ?? letter.subject;

function about(letter) {
  if (letter.subjectKind === "upload") return ["Upload ", link(at("uploads", letter.subject), name(letter))];
  if (letter.subjectKind === "org") return ["Org ", link(at("orgs", letter.subject), letter.subject)];
  return `${{ batch: "Batch", blob: "Blob" }[letter.subjectKind] ?? "About"} ${name(letter)}`;
}

const QUESTIONS = {
  retry: (one) => ({
    act: "Retry",
    text: one
      ? "Its job is put on the queue again, with all attempts."
      : "Their jobs are put on the queue again, with all attempts.",
  }),
  discard: (one) => ({
    act: "Discard",
    text: one ? "It is gone for good, and its job stays undone." : "They are gone for good, and their jobs stay undone.",
    destroys: true,
  }),
};

/** Retries or discards what is chosen, once the person said yes. */
export async function settle(verb, chosen, number, desk, capped = false) {
  const question = QUESTIONS[verb](number === 1);
  question.title = `${question.act} ${count(number, capped)} dead ${number === 1 ? "letter" : "letters"}?`;
  if (!(await ask(question))) return false;
  return desk.act(async () => {
    const told = await all(verb, chosen, capped ? Infinity : number);
    const done =
      verb === "retry"
        ? `${counted(told.changed, "job")} put on the queue again.`
        : `${counted(told.changed, "dead letter")} discarded.`;
    return told.unknown ? `${done} ${count(told.unknown)} stay: this version knows no such job.` : done;
  });
}

/** The server takes some thousands in one go. What died anew meanwhile is not taken again: no more than were asked about. */
async function all(verb, chosen, limit) {
  for (let changed = 0; ;) {
    const told = await post(`dead-letters/${verb}`, chosen);
    const some = told.putOn ?? told.discarded ?? 0;
    changed += some;
    if (!told.more || !some || changed >= limit) return { changed, unknown: told.unknown ?? 0 };
  }
}
