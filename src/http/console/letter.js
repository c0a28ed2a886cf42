// A dead letter in full, and what can be done with it.

import { get, post } from "./api.js";
import { at, badge, button, called, facts, link, prose, when } from "./parts.js";
import { ask } from "./question.js";
import { h } from "./tree.js";
import { count, counted, lines, plain } from "./units.js";

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
    h("pre", { class: "error", tabindex: "0", "aria-label": "Error" }, lines(letter.error)),
    h("p", { class: "advice" }, prose(advice(letter))),
    h(
      "details",
      {},
      h("summary", {}, "Payload and ids"),
      h(
        "pre",
        { tabindex: "0", "aria-label": "Payload" },
        lines(typeof letter.payload === "string" ? letter.payload : JSON.stringify(letter.payload, null, 2)),
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

/** For which the cause says what to do. */
const OF_ANOTHER_VERSION = ["undecodable", "unknown_kind"];

/** The cause as the server tells it; what can be done stands below, and need not be typed. */
function advice(letter) {
  const [cause] = letter.advice.split("\n", 1);
  const comes = name(letter) === "everything" ? " The schedule runs the next one in any case." : "";
  const retry = ` Then retry it below, or by \`longshore jobs retry ${letter.id}\`.`;
  return `${cause}${comes}${OF_ANOTHER_VERSION.includes(letter.reason) ? "" : retry}`;
}

/** What the job was about; the nil UUID is that of a job about everything. */
export const name = ({ filename, subject }) => plain(filename ?? (/^[0-]+$/.test(subject) ? "everything" : subject));

function about(letter) {
  if (letter.subjectKind === "upload") return ["Upload ", link(at("uploads", letter.subject), called(name(letter)))];
  if (letter.subjectKind === "org") return ["Org ", link(at("orgs", letter.subject), letter.subject)];
  return [{ batch: "Batch ", blob: "Blob " }[letter.subjectKind] ?? "About ", called(name(letter))];
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
  if (!(await ask(question))) return;
  await desk.act(async (doing) => {
    const { changed, unknown, more } = await all(verb, chosen, doing, `${count(number, capped)}`);
    const gone = number - changed - unknown;
    const told = [
      more && "Stopped.",
      `${said(verb, changed)}.`,
      more && "The others are still dead letters.",
      unknown > 0 && `${counted(unknown, "letter stays", "letters stay")}: this version knows no such job.`,
      !more && !capped && gone > 0 && `${counted(gone, "letter was", "letters were")} gone already.`,
    ];
    return { text: told.filter(Boolean).join(" "), tone: more || unknown || !changed ? "warn" : "good" };
  });
}

const said = (verb, number) =>
  verb === "retry" ? `${counted(number, "job")} put on the queue again` : `${counted(number, "dead letter")} discarded`;

/**
 * The server takes some thousands in one go, the oldest first. Those that die after the first call are not meant: one that
 * dies again at once would be taken over and over.
 */
async function all(verb, chosen, doing, number) {
  for (let changed = 0; ;) {
    const { putOn, discarded, unknown, more, before } = await post(`dead-letters/${verb}`, chosen);
    changed += putOn ?? discarded;
    if (!more || doing.stopped) return { changed, unknown, more };
    chosen = { filter: { ...chosen.filter, before } };
    doing.tells(`${said(verb, changed)}, of ${number}.`);
  }
}
