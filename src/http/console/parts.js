// What several views are made of.

import { distance, moment, plain } from "./units.js";
import { h } from "./tree.js";

/** An address within the console. */
export const at = (...path) => `#/${path.map(encodeURIComponent).join("/")}`;

export const link = (address, ...text) => h("a", { href: address }, ...text);

/** A name that a stranger gave: nothing in it is hidden, and it turns nothing around that stands beside it. */
export const called = (name) => h("bdi", {}, plain(name));

/** A time as its distance from now, and in full when pointed at. */
export const when = (time) => (time ? h("time", { datetime: time, title: `${moment(time)} UTC` }, distance(time)) : "–");

/** Tone: good, busy, warn, bad or calm. */
export const badge = (tone, text) => h("span", { class: "badge", "data-tone": tone }, text);

export const button = (text, onclick, { label, quiet = false, key = text } = {}) =>
  h("button", { type: "button", key, class: quiet ? "act quiet" : "act", "aria-label": label, onclick }, text);

/** A part of a filter; the control has the name as its id. */
export const field = (name, label, control) =>
  h("div", { key: name, class: "field" }, h("label", { for: name }, label), control);

export const textField = (name, value = "", more = {}) =>
  h("input", { type: "text", id: name, name, maxlength: "200", autocomplete: "off", spellcheck: "false", value, ...more });

export const empty = (...text) =>
  h(
    "p",
    { class: "empty" },
    text.map((part) => (typeof part === "string" ? prose(part) : part)),
  );

export const section = (title, ...children) =>
  h("section", { key: title, class: "part", "aria-label": title }, h("h2", {}, title), ...children);

/** Names and values; a value of null is left out. */
export const facts = (pairs) =>
  h(
    "dl",
    { class: "facts" },
    pairs
      .filter(([, value]) => value !== null && value !== undefined)
      .map(([name, value]) => h("div", { key: name }, h("dt", {}, name), h("dd", {}, value))),
  );

/**
 * A table, whose rows become cards on a phone. Heads are texts, those of numbers begin with "#"; a row is `{key, cells}`, and
 * its first cell is its heading.
 */
export function table(caption, heads, rows) {
  const number = heads.map((head) => head.startsWith("#") && "number");
  const names = heads.map((head) => head.replace(/^#/, ""));
  const cell = (content, index) =>
    index === 0
      ? h("th", { scope: "row" }, content)
      : h("td", { class: number[index], "data-head": names[index] }, h("span", {}, content));
  return h(
    "table",
    { key: caption },
    h("caption", { class: "offscreen" }, caption),
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        names.map((name, index) =>
          h("th", { scope: "col", class: number[index] }, name || h("span", { class: "offscreen" }, "Actions")),
        ),
      ),
    ),
    h(
      "tbody",
      {},
      rows.map(({ key, cells }) => h("tr", { key }, cells.map(cell))),
    ),
  );
}

/** Text whose `commands` are shown as such. */
export const prose = (text) => text.split("`").map((part, index) => (index % 2 ? h("code", {}, part) : part));

export const STATUS_TONES = {
  requested: "busy",
  issued: "busy",
  arrived: "busy",
  verified: "busy",
  done: "good",
  rejected: "bad",
  expired: "warn",
  cancelled: "calm",
};
