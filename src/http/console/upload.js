// One upload's way from the request to its end, as it happens.

import { get, now, query } from "./api.js";
import * as letter from "./letter.js";
import { at, badge, called, empty, facts, link, prose, section, STATUS_TONES, table, when } from "./parts.js";
import { h } from "./tree.js";
import { bytes, count, lines, moment, span } from "./units.js";

const STEPS = {
  requested: "Requested",
  policy: "Policy signed",
  landed: "Bytes landed",
  notified: "Arrival told",
  hashed: "Hashed",
  deduplicated: "Bytes were known",
  stored: "Stored",
  done: "Done",
  rejected: "Rejected",
  expired: "Expired",
  cancelled: "Cancelled",
  deleted: "File deleted",
};
const TONES = { done: "good", rejected: "bad", expired: "warn", cancelled: "calm", deleted: "calm" };

export const open = ({ id }, desk) => ({
  title: "Upload",
  load: async (signal) => (await get(`uploads/${encodeURIComponent(id)}`, signal)).uploads[0],
  gone: ["No upload and no file has this id. ", link(`#/search${query({ q: id })}`, "Search for what has it")],
  name: ({ upload }) => upload.filename,
  draw: (timeline) => [
    stand(timeline),
    why(timeline),
    differences(timeline),
    section("Timeline", way(timeline.steps)),
    timeline.deadLetters.length > 0 &&
      section(
        "Dead letters",
        timeline.deadLetters.map((one) => letter.show(one, desk)),
      ),
    section("Jobs", jobs(timeline.jobs)),
    section("Attempts that failed", failures(timeline.failures)),
    section("Details", details(timeline)),
  ],
});

const stand = ({ upload, waitsFor }) =>
  h(
    "p",
    { key: "stand", class: "stand" },
    badge(STATUS_TONES[upload.status], upload.status),
    upload.reason && badge("bad", upload.reason),
    upload.deduplicated && badge("calm", "bytes were known"),
    upload.attention && badge("bad", "needs a person"),
    waitsFor && waitsFor !== "nothing" && h("span", {}, "Waits for ", prose(waitsFor)),
  );

/** Why it ended badly, and what to do about it. */
const why = ({ meaning }) => meaning && h("p", { key: "why", class: "why" }, prose(meaning));

/** What was promised beside what came; nothing where nobody promised anything, or nothing came. */
function differences({ upload, declared, found }) {
  if (upload.status !== "rejected") return null;
  const row = (name, one, other) => one !== null && other !== null && { key: name, cells: [name, one, other] };
  const rows = [
    row("Size", known(declared.size), known(found.size)),
    row("Hash", declared.hash, found.hash),
  ].filter(Boolean);
  const caption = "What was promised and what was found";
  return rows.length > 0 && section("Promised and found", table(caption, ["What", "Promised", "Found"], rows));
}

function way(steps) {
  const told = steps.filter(({ at }) => at);
  const next = steps.find(({ at }) => !at);
  const total = told.length > 1 ? seconds(told[0], told.at(-1)) : null;
  return [
    h(
      "ol",
      { class: "way" },
      steps.map((step, index) =>
        h(
          "li",
          {
            key: `${step.step} ${index}`,
            "data-tone": step.at ? (TONES[step.step] ?? "past") : step === next ? "busy" : "calm",
            "aria-current": step === next ? "step" : null,
          },
          h("span", { class: "step" }, STEPS[step.step] ?? step.step),
          ...times(step, told),
          step.note && h("span", { class: "remark muted small" }, prose(step.note)),
        ),
      ),
    ),
    total !== null &&
      h("p", { class: "muted small" }, `${span(total)} from the first of these to the last. Times are UTC.`),
  ];
}

const seconds = (from, to) => (Date.parse(to.at) - Date.parse(from.at)) / 1000;

function times(step, told) {
  if (!step.at) return [h("span", { class: "muted small" }, "not yet")];
  const before = told[told.indexOf(step) - 1];
  const took = before && seconds(before, step);
  return [
    h("time", { datetime: step.at, class: "small" }, moment(step.at, 23)),
    h("span", { class: "took muted small" }, before ? `${took < 0 ? "−" : "+"}${span(Math.abs(took))}` : ""),
  ];
}

const jobs = (jobs) =>
  jobs.length
    ? table(
        "Jobs on the queue for this upload",
        ["Job", "Pool", "State", "Due", "#Attempts", "Last error"],
        jobs.map((job) => ({
          key: job.kind,
          cells: [
            job.kind,
            job.pool,
            job.state ?? "not known",
            when(job.dueAt),
            `${count(job.attempts)} of ${count(job.maxAttempts)}`,
            job.error === null ? "–" : lines(job.error),
          ],
        })),
      )
    : empty("No job is on the queue for it now.");

const failures = (failures) =>
  failures.length
    ? table(
        "Attempts that failed",
        ["Job", "#Times", "First", "Last", "Error"],
        failures.map((failure, index) => ({
          key: `${failure.kind} ${index}`,
          cells: [failure.kind, count(failure.attempts), when(failure.firstAt), when(failure.lastAt), lines(failure.error)],
        })),
      )
    : empty("None: every attempt so far went well.");

function size(number) {
  if (number === null) return "not known yet";
  return number < 1000 ? bytes(number) : `${bytes(number)} (${count(number)} bytes)`;
}

/** What is dead is not taken up by itself, and what is due has not happened yet. */
function ahead({ attention }, time) {
  if (!time || attention) return null;
  return Date.parse(time) > now() ? when(time) : "any moment now";
}

const known = (number) => (number === null ? null : size(number));

const details = ({ upload, org }) =>
  facts([
    ["File name", called(upload.filename)],
    ["Size", size(upload.size)],
    ["Type", upload.type && called(upload.type)],
    ["Hash", upload.hash],
    ["For", upload.target && [`${upload.target.kind} `, called(upload.target.number)]],
    ["Org", link(at("orgs", org.id), called(org.name))],
    ["Upload", upload.id],
    ["File", upload.fileId],
    ["Batch", upload.batchId],
    ["User", upload.userId],
    ["Client's ref", upload.ref && called(upload.ref)],
    ["Client's metadata", upload.metadata && called(JSON.stringify(upload.metadata))],
    ["Object key", upload.objectKey && called(upload.objectKey)],
    ["ETag", upload.etag],
    ["Arrival told by", upload.arrivedVia],
    ["Changed while read", upload.changes ? `${count(upload.changes)} times` : null],
    ["Put on again", ahead(upload, upload.resumeAt)],
    ["Looked for", ahead(upload, upload.nextPollAt)],
    ["Requested", when(upload.createdAt)],
    ["Last moved", when(upload.updatedAt)],
    ["Trace", upload.traceId],
  ]);
