// What was found by id, file name, hash, order or style number.

import { get, query } from "./api.js";
import { at, called, empty, link, table, when } from "./parts.js";
import { h } from "./tree.js";
import { counted } from "./units.js";

const TYPES = { upload: "upload", file: "file", batch: "batch", org: "org", deadLetter: "dead letter", key: "key" };
const MATCHES = {
  id: "id",
  filename: "file name",
  hash: "hash",
  order: "order number",
  style: "style number",
  ref: "client's ref",
  name: "name",
};

export function open({ query: asked }, desk) {
  const sought = asked.get("q")?.trim() ?? "";
  return {
    title: sought ? `Search: ${sought}` : "Search",
    load: async (signal) => (sought ? get(`search${query({ q: sought })}`, signal) : { results: [] }),
    draw: ({ results, truncated }) => {
      if (!sought) return empty("Type an id, a file name, a hash, an order or a style number into the field above.");
      if (!results.length)
        return empty("Nothing was found. Names and numbers have to be whole: “A-100” does not find “A-1001”.");
      return [
        h(
          "p",
          { key: "number", class: "muted" },
          truncated
            ? `The newest ${counted(results.length, "result")}; there are more.`
            : `${counted(results.length, "result")}.`,
        ),
        found(results),
      ];
    },
  };
}

const found = (results) =>
  table(
    "What was found",
    ["What", "Is", "Found by", "Detail", "Org", "Made"],
    results.map((result) => ({
      key: `${result.type} ${result.id} ${result.matched}`,
      cells: [
        address(result) ? link(address(result), called(result.title)) : called(result.title),
        TYPES[result.type] ?? result.type,
        MATCHES[result.matched] ?? result.matched,
        detail(result),
        result.orgId ? link(at("orgs", result.orgId), called(result.orgName ?? result.orgId)) : "–",
        when(result.createdAt),
      ],
    })),
  );

/** A batch has no view of its own: a command tells of it. */
const detail = ({ type, id, detail }) => [
  called(detail),
  type === "batch" && [" · ", h("code", { class: "whole" }, `longshore status ${id}`)],
];

function address({ type, id, uploadId, orgId }) {
  if (type === "deadLetter") return at("dead-letters", id);
  if (uploadId) return at("uploads", uploadId);
  if (type === "org") return at("orgs", id);
  return type === "key" && orgId ? at("orgs", orgId) : null;
}
