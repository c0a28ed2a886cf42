// Uploads by where they stand, of all orgs or of one: each leads to its timeline.

import { get, query } from "./api.js";
import { Orgs } from "./org_choice.js";
import { STATUS_TONES, at, badge, called, empty, field, link, table, when } from "./parts.js";
import { h } from "./tree.js";
import { bytes, count } from "./units.js";
import * as upload from "./upload.js";

const PART = 50;
/** Those that went badly first. */
const STATUSES = ["rejected", "expired", "cancelled", "requested", "issued", "arrived", "verified", "done"];
const REASONS = [
  "digest_mismatch",
  "size_mismatch",
  "too_large",
  "object_missing",
  "object_changed",
  "unsafe_path",
  "too_many_files",
];

/** The address of a list: a status, an org's id. */
export const address = (filter) => `${at("uploads")}${query(filter)}`;

export function open(route, desk) {
  if (route.id) return upload.open(route, desk);
  const [status, reason, org] = ["status", "reason", "org"].map((name) => route.query.get(name) ?? "");
  const filter = { status: status || "rejected", reason, org };
  const after = route.query.get("after");
  const orgs = new Orgs(org, desk);
  return {
    title: "Uploads",
    load: async (signal) => {
      const asked = tooMany(filter) ? { uploads: [] } : get(`uploads${query({ ...filter, after, perPage: PART })}`, signal);
      const [part] = await Promise.all([asked, orgs.known(signal)]);
      return part;
    },
    draw: (part) => [groups(filter), form(filter, orgs), ...list(part, filter, after)],
  };
}

/** Nearly all uploads are done: the server lists those of one org. */
const tooMany = ({ status, org }) => status === "done" && !org;

const groups = ({ status, org }) =>
  h(
    "ul",
    { key: "groups", class: "groups", "aria-label": "Where they stand" },
    STATUSES.map((one) =>
      h(
        "li",
        { key: one },
        h("a", { href: address({ status: one, org }), "aria-current": one === status ? "true" : null }, one),
      ),
    ),
  );

function form(filter, orgs) {
  const { status, reason, org } = filter;
  return h(
    "form",
    { key: "filter", class: "filter card", "aria-label": "Filter", onsubmit: (event) => submit(event, filter, orgs) },
    status === "rejected" && field("reason", "Reason", reasons(reason)),
    orgs.field("org", "Org, by name or id"),
    h(
      "div",
      { class: "buttons" },
      h("button", { type: "submit", class: "act" }, "Filter"),
      (reason || org) && link(address({ status }), "Show all"),
    ),
  );
}

const reasons = (chosen) =>
  h(
    "select",
    { id: "reason", name: "reason", value: chosen },
    h("option", { value: "", key: "" }, "any"),
    REASONS.map((value) => h("option", { value, key: value }, value)),
  );

async function submit(event, { status }, orgs) {
  event.preventDefault();
  const form = event.target;
  const { reason, org: text } = Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, value.trim()]));
  const org = text && (await orgs.idOf(text, form.elements.org));
  if (org !== null && form.isConnected) location.hash = address({ status, reason, org });
}

function list(part, filter, after) {
  if (tooMany(filter)) return [empty("Nearly all uploads are done. Choose an org, or search for a name, hash or number.")];
  if (!part.uploads.length) return [empty(none(filter, after))];
  const number = part.count === 1 ? "1 upload." : `${count(part.count, part.countCapped)} uploads, the latest first.`;
  return [
    h("p", { key: "number", class: "muted" }, number),
    rows(part.uploads),
    h(
      "p",
      { key: "pages", class: "pages" },
      after && link(address(filter), "Newest"),
      part.next && link(address({ ...filter, after: part.next }), "Older"),
    ),
  ];
}

function none({ status, reason, org }, after) {
  if (after) return "There are no older ones.";
  return `No upload ${org ? "of this org " : ""}is ${status}${reason ? ` for ${reason}` : ""}.`;
}

const rows = (uploads) =>
  table(
    "Uploads",
    ["File", "Stands", "Org", "For", "#Size", "Asked for", "Last moved"],
    uploads.map((one) => ({
      key: one.id,
      cells: [
        link(at("uploads", one.id), called(one.filename)),
        [
          badge(STATUS_TONES[one.status], one.reason ?? one.status),
          one.attention && [" ", badge("bad", "needs a person")],
        ],
        link(at("orgs", one.orgId), called(one.orgName)),
        one.target ? [`${one.target.kind} `, called(one.target.number)] : "–",
        bytes(one.size),
        when(one.createdAt),
        when(one.updatedAt),
      ],
    })),
  );
