// What a person does, side by side: a pool can be paused while ten thousand jobs are retried.

import { Refused, Unreachable, sentence } from "./api.js";
import { button } from "./parts.js";
import { draw, drawHeld, h } from "./tree.js";

const $ = (id) => document.getElementById(id);

/** What is under way. */
const doings = new Set();
/** What came of those that ended since the last one began. */
let outcomes = [];

/**
 * Does a thing and says what came of it: a text, or `{text, tone}`. One that takes long calls `doing.tells(text)` between its
 * steps, and ends early once `doing.stopped`. Then calls `ended()`, and `lockedOut()` where the token is good no more.
 */
export async function begin(thing, { lockedOut, ended }) {
  const doing = { text: "", stopped: false, tells };
  doings.add(doing);
  untell();
  try {
    const outcome = await thing(doing);
    tell(doing, outcome.text ?? outcome, outcome.tone ?? "good");
  } catch (fault) {
    if (!(fault instanceof Refused && fault.status === 401)) tell(doing, [doing.text, " ", failure(fault)], "bad");
    else if (doings.has(doing)) lockedOut();
  } finally {
    doings.delete(doing);
    showDoings();
    ended();
  }
}

/** For somebody who signs out: what is under way ends as soon as it can, and has nobody to tell. */
export function abandon() {
  for (const doing of doings) doing.stopped = true;
  doings.clear();
  showDoings();
  untell();
}

/** So that what is told next is seen and read out, also when it is the same again. */
export function untell() {
  outcomes = [];
  draw($("told"));
}

function tell(doing, text, tone) {
  if (doings.has(doing)) outcomes.push(h("p", { key: doing, class: "note", "data-tone": tone }, text));
  draw($("told"), outcomes);
}

const failure = (fault) =>
  fault instanceof Unreachable ? `${fault.message} Look whether it happened before you try again.` : sentence(fault);

function tells(text) {
  this.text = text;
  showDoings();
}

const showDoings = () => drawHeld($("doings"), [...doings].filter(({ text }) => text).map(show));

const show = (doing) =>
  h(
    "div",
    { key: doing, class: "note doing", "data-tone": "busy" },
    h("p", {}, doing.text),
    doing.stopped ? h("p", { class: "muted" }, "Stopping …") : button("Stop", () => stop(doing)),
  );

function stop(doing) {
  doing.stopped = true;
  showDoings();
}
