// Dead letters: which there are, filtered, and what to do with some or all of them.

import { get, query } from "./api.js";
import * as letter from "./letter.js";
import { at, button, empty, field, link, textField } from "./parts.js";
import { h } from "./tree.js";
import { count } from "./units.js";

const FIELDS = ["kind", "pool", "reason", "org", "error"];
const NAMES = { kind: "Job", pool: "Pool", reason: "Reason", org: "Org" };
const PART = 30;

export function open(route, desk) {
  if (route.id) return letter.open(route, desk);
  const filter = Object.fromEntries(FIELDS.map((name) => [name, route.query.get(name) ?? ""]).filter(([, value]) => value));
  const after = route.query.get("after");
  const ticked = new Set();
  let choices = null;
  return {
    title: "Dead letters",
    load: async (signal) => {
      choices ??= await choose(signal);
      return get(`dead-letters${query({ ...filter, after, perPage: PART })}`, signal);
    },
    draw: (part) => list(part, { filter, after, ticked, choices, desk }),
  };
}

/** What pools and orgs there are to choose from: read once. */
async function choose(signal) {
  const [pools, orgs] = await Promise.all([get("pools", signal), get("orgs?perPage=100", signal)]);
  return { pool: pools.pools.map(({ pool }) => [pool, pool]), org: orgs.orgs.map(({ id, name }) => [id, name]) };
}

function list(part, view) {
  const { filter, after, ticked, desk } = view;
  const letters = part.deadLetters;
  for (const id of ticked) if (!letters.some((letter) => letter.id === id)) ticked.delete(id);
  if (!part.kinds.length) {
    return empty("There are no dead letters. That is good: every job has come to its end, or is still being tried.");
  }
  return [
    groups(part.kinds, filter),
    form(part.kinds, view),
    letters.length > 0 && bulk(part, view),
    letters.length === 0 && empty(after ? "There are no older ones." : "No dead letter fits this filter."),
    h(
      "div",
      { key: "letters", class: "letters" },
      letters.map((one) => letter.show(one, desk, box(one, ticked, desk))),
    ),
    h(
      "p",
      { key: "pages", class: "pages" },
      after && link(address(filter), "Newest"),
      part.next && link(address({ ...filter, after: part.next }), "Older"),
    ),
  ];
}

const address = (filter) => `${at("dead-letters")}${query(filter)}`;

/** All that died, by job and reason: one look at what is going on. */
const groups = (kinds, filter) =>
  h(
    "ul",
    { key: "groups", class: "groups", "aria-label": "All dead letters by job and reason" },
    kinds.map(({ kind, reason, count: number }) =>
      h(
        "li",
        { key: `${kind} ${reason}` },
        h(
          "a",
          {
            href: address({ kind, reason }),
            "aria-current": filter.kind === kind && filter.reason === reason ? "true" : null,
          },
          `${kind}, ${reason} `,
          h("b", {}, count(number)),
        ),
      ),
    ),
  );

function form(kinds, { filter, choices }) {
  const once = (name) => [...new Set(kinds.map((one) => one[name]))].sort().map((value) => [value, value]);
  const options = { ...choices, kind: once("kind"), reason: once("reason") };
  return h(
    "form",
    { key: "filter", class: "filter card", "aria-label": "Filter", onsubmit: submit },
    Object.entries(NAMES).map(([name, text]) => field(name, text, select(name, filter[name], options[name]))),
    field("error", "Error contains", textField("error", filter.error)),
    h(
      "div",
      { class: "buttons" },
      h("button", { type: "submit", class: "act" }, "Filter"),
      Object.keys(filter).length > 0 && link(at("dead-letters"), "Show all"),
    ),
  );
}

/** What is chosen is among the choices, also when nothing of it is left. */
function select(name, chosen = "", options) {
  const all = chosen && !options.some(([value]) => value === chosen) ? [...options, [chosen, chosen]] : options;
  return h(
    "select",
    { id: name, name, value: chosen },
    h("option", { value: "", key: "" }, "any"),
    all.map(([value, text]) => h("option", { value, key: value }, text)),
  );
}

function submit(event) {
  event.preventDefault();
  location.hash = address(Object.fromEntries([...new FormData(event.target)].map(([name, value]) => [name, value.trim()])));
}

const box = ({ id, kind, ...rest }, ticked, desk) =>
  h("input", {
    type: "checkbox",
    "aria-label": `Choose ${kind} of ${letter.name(rest)}`,
    checked: ticked.has(id),
    onchange: ({ target }) => {
      if (target.checked) ticked.add(id);
      else ticked.delete(id);
      desk.redraw();
    },
  });

function bulk(part, { filter, ticked, desk }) {
  const letters = part.deadLetters;
  const every = letters.every(({ id }) => ticked.has(id));
  const some = ticked.size > 0;
  const number = some ? ticked.size : part.count;
  const chosen = some ? { ids: [...ticked] } : { filter };
  const what = some
    ? `${count(number)} chosen`
    : `all ${count(number, part.countCapped)}${Object.keys(filter).length ? " that fit" : ""}`;
  const go = (verb) => () => letter.settle(verb, chosen, number, desk, !some && part.countCapped);
  return h(
    "div",
    { key: "bulk", class: "bulk" },
    h(
      "label",
      {},
      h("input", {
        type: "checkbox",
        checked: every,
        onchange: ({ target }) => {
          for (const { id } of letters) target.checked ? ticked.add(id) : ticked.delete(id);
          desk.redraw();
        },
      }),
      letters.length === 1 ? "Choose the one shown" : `Choose the ${count(letters.length)} shown`,
    ),
    button(`Retry ${what}`, go("retry"), { key: "retry" }),
    button(`Discard ${what}`, go("discard"), { key: "discard", quiet: true }),
  );
}
