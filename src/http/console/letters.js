// Dead letters: which there are, filtered, and what to do with some or all of them.

import { get, query } from "./api.js";
import * as letter from "./letter.js";
import { Orgs } from "./org_choice.js";
import { at, button, empty, field, link, textField } from "./parts.js";
import { h } from "./tree.js";
import { count, plain } from "./units.js";

const FIELDS = ["kind", "pool", "reason", "org", "error"];
/** As `Pool` has them: they cannot be asked for while the queue is away, which is when letters are looked at. */
const POOLS = ["issue", "arrive", "verify", "store", "report", "upkeep"];
const PART = 30;

export function open(route, desk) {
  if (route.id) return letter.open(route, desk);
  const filter = Object.fromEntries(FIELDS.map((name) => [name, route.query.get(name) ?? ""]).filter(([, value]) => value));
  const after = route.query.get("after");
  const ticked = new Set();
  const orgs = new Orgs(filter.org, desk);
  return {
    title: "Dead letters",
    load: async (signal) => {
      const [part] = await Promise.all([
        get(`dead-letters${query({ ...filter, after, perPage: PART })}`, signal),
        orgs.known(signal),
      ]);
      return part;
    },
    draw: (part) => list(part, { filter, after, ticked, orgs, desk }),
  };
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

function form(kinds, { filter, orgs }) {
  const once = (name) => [...new Set(kinds.map((one) => one[name]))].sort();
  const choice = (name, text, options) => field(name, text, select(name, filter[name], options));
  return h(
    "form",
    { key: "filter", class: "filter card", "aria-label": "Filter", onsubmit: (event) => submit(event, orgs) },
    choice("kind", "Job", once("kind")),
    choice("pool", "Pool", POOLS),
    choice("reason", "Reason", once("reason")),
    orgs.field("org", "Org, by name or id"),
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
  const all = chosen && !options.includes(chosen) ? [...options, chosen] : options;
  return h(
    "select",
    { id: name, name, value: chosen },
    h("option", { value: "", key: "" }, "any"),
    all.map((value) => h("option", { value, key: value }, plain(value))),
  );
}

async function submit(event, orgs) {
  event.preventDefault();
  const form = event.target;
  const fields = Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, value.trim()]));
  const org = fields.org && (await orgs.idOf(fields.org, form.elements.org));
  if (org !== null && form.isConnected) location.hash = address({ ...fields, org });
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

function bulk(part, { filter, after, ticked, desk }) {
  const letters = part.deadLetters;
  const every = letters.every(({ id }) => ticked.has(id));
  const some = ticked.size > 0;
  const number = some ? ticked.size : part.count;
  // Seen from the top, the newest is known: what dies while the question is read was not asked about.
  const before = after ? undefined : letters[0].id;
  const chosen = some ? { ids: [...ticked] } : { filter: { ...filter, before } };
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
    // What is about to be pressed does not come to mean all when the chosen ones go.
    button(`Retry ${what}`, go("retry"), { key: `retry ${some}` }),
    button(`Discard ${what}`, go("discard"), { key: `discard ${some}`, quiet: true }),
  );
}
