// Orgs with their reports, and one org with its figures.

import { get, post, query } from "./api.js";
import { STATUS_TONES, at, button, called, empty, facts, field, link, section, table, textField, when } from "./parts.js";
import { h } from "./tree.js";
import { bytes, count, span } from "./units.js";
import { address } from "./uploads.js";

export const open = (route, desk) => (route.id ? one(route.id, desk) : list(route.query));

function list(asked) {
  const name = asked.get("name") ?? "";
  const after = asked.get("after");
  return {
    title: "Orgs",
    load: (signal) => get(`orgs${query({ name, after, perPage: 50 })}`, signal),
    draw: (part) => [
      h(
        "form",
        { key: "filter", class: "filter card", "aria-label": "Filter", onsubmit: submit },
        field("name", "Name contains", textField("name", name)),
        h(
          "div",
          { class: "buttons" },
          h("button", { type: "submit", class: "act" }, "Filter"),
          name && link("#/orgs", "Show all"),
        ),
      ),
      part.orgs.length
        ? orgs(part.orgs)
        : empty(name ? "No org has a name like this." : "There are no orgs yet. `longshore org create NAME` makes one."),
      h(
        "p",
        { key: "pages", class: "pages" },
        after && link(`#/orgs${query({ name })}`, "First"),
        part.next && link(`#/orgs${query({ name, after: part.next })}`, "Next"),
      ),
    ],
  };
}

function submit(event) {
  event.preventDefault();
  location.hash = `#/orgs${query({ name: new FormData(event.target).get("name").trim() })}`;
}

const orgs = (orgs) =>
  table(
    "Orgs and their reports",
    ["Org", "#Files", "#Size", "#Distinct files", "#Distinct size", "Report as of", "Made"],
    orgs.map((org) => ({
      key: org.id,
      cells: [
        link(at("orgs", org.id), called(org.name)),
        count(org.report.count),
        bytes(org.report.sizeBytes),
        count(org.report.uniqueCount),
        bytes(org.report.uniqueSizeBytes),
        when(org.report.asOf),
        when(org.createdAt),
      ],
    })),
  );

/** A figure, which may be of those that are counted up to a bound. */
const figure = (metrics, name, value = metrics[name]) => count(value, metrics.capped.includes(name));

const one = (id, desk) => ({
  title: "Org",
  load: async (signal) => {
    const path = `orgs/${encodeURIComponent(id)}`;
    const [orgs, metrics] = await Promise.all([get(path, signal), get(`${path}/metrics`, signal)]);
    return { org: orgs.orgs[0], metrics: metrics.metrics[0] };
  },
  gone: "No org has this id.",
  name: ({ org }) => org.name,
  draw: ({ org, metrics }) =>
    h(
      "div",
      { class: "columns wide" },
      section(
        "Report",
        report(org.report, metrics),
        h(
          "div",
          { class: "buttons" },
          button("Rebuild the report", () => rebuild(org, desk)),
        ),
      ),
      section(
        "Uploads",
        facts(
          Object.keys(STATUS_TONES).map((status) => [
            status,
            uploads(org, status, count(metrics.uploads[status], metrics.uploadsCapped.includes(status))),
          ]),
        ),
        facts([
          ["Open batches", figure(metrics, "openBatches")],
          ["Last upload", metrics.lastUploadAt ? when(metrics.lastUploadAt) : "none yet"],
        ]),
      ),
      section(
        "Beside them",
        facts([
          [
            "Dead letters",
            metrics.deadLetters ? link(`#/dead-letters${query({ org: org.id })}`, figure(metrics, "deadLetters")) : "0",
          ],
          ["Keys that stand", figure(metrics, "keys", metrics.keys.standing)],
          ["Bytes that no file refers to", unreferenced(metrics)],
          ["Org", org.id],
          ["Made", when(org.createdAt)],
        ]),
      ),
    ),
});

const uploads = (org, status, text) =>
  h("a", { href: address({ status, org: org.id }), "aria-label": `${text} ${status}` }, text);

const report = (report, metrics) =>
  facts([
    ["Files", `${count(report.count)}, ${bytes(report.sizeBytes)}`],
    ["Distinct files", `${count(report.uniqueCount)}, ${bytes(report.uniqueSizeBytes)}`],
    ["Saved by keeping bytes once", bytes(report.sizeBytes - report.uniqueSizeBytes)],
    ["As of", report.asOf ? when(report.asOf) : "nothing was folded yet"],
    [
      "Changes not in it yet",
      metrics.unfoldedDeltas
        ? `${figure(metrics, "unfoldedDeltas")}, the oldest ${span(metrics.oldestDeltaAgeSeconds)} old`
        : "none",
    ],
  ]);

function unreferenced(metrics) {
  const least = metrics.capped.includes("unreferencedBlobs") ? "at least " : "";
  const blobs = figure(metrics, "unreferencedBlobs");
  return `${least}${bytes(metrics.unreferencedBytes)} in ${blobs} blobs, removed after their grace`;
}

const rebuild = (org, desk) =>
  desk.act(async () => {
    await post(`orgs/${encodeURIComponent(org.id)}/rebuild`);
    return [
      "The report of ",
      called(org.name),
      " is being recounted from its files. If it was off, it changes within seconds.",
    ];
  });
