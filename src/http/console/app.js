// The frame of the console: who is signed in, which view is open by the address, and how fresh what it shows is.

import { abandon, begin, untell } from "./acts.js";
import { Refused, forget, get, remember, sentence, signedIn } from "./api.js";
import { follow } from "./live.js";
import * as letters from "./letters.js";
import * as orgs from "./orgs.js";
import * as overview from "./overview.js";
import { called, empty, link, prose } from "./parts.js";
import { unask } from "./question.js";
import * as search from "./search.js";
import { draw, drawHeld, h } from "./tree.js";
import { plain, span } from "./units.js";
import * as uploads from "./uploads.js";
import * as workers from "./workers.js";

const VIEWS = { "": overview, "dead-letters": letters, orgs, search, uploads, workers };
const NOWHERE = {
  open: () => ({
    title: "Not found",
    load: async () => true,
    draw: () => empty("There is no such view. ", link("#/", "Overview")),
  }),
};

const REVOKED = "Your token is no longer accepted: it was revoked or has run out. Sign in with another.";

const $ = (id) => document.getElementById(id);

/** What is not there this many times in a row is not asked for any more. */
const GONE = 4;

/** The open view, what it last heard and when; null while nobody is signed in. */
let shown = null;
let signingIn = false;

// ---- Views --------------------------------------------------------------------------------------------------------------

function route() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?", 2);
  const [view, id] = path.split("/").map(decode);
  return { view, id, query: new URLSearchParams(query) };
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function unpaged(query) {
  const rest = new URLSearchParams(query);
  rest.delete("after");
  return rest.toString();
}

function navigate() {
  if (!signedIn()) return;
  const asked = route();
  const before = shown;
  before?.live.stop();
  unask();
  const view = (Object.hasOwn(VIEWS, asked.view) ? VIEWS[asked.view] : NOWHERE).open(asked, { act, redraw });
  const same = before && before.asked.view === asked.view && before.asked.id === asked.id;
  const onward = same && unpaged(before.asked.query) === unpaged(asked.query);
  shown = { asked, view, news: null, at: null, fault: null, misses: 0, before: null, leads: onward };
  // Another filter of the same view leaves a person where they are, and what they saw until its answer is there.
  if (same) Object.assign(shown, { before: before.news === null ? before.before : before, at: before.at });
  else untell();
  $("q").value = (asked.view === "search" && asked.query.get("q")) || "";
  redraw();
  shown.live = follow(view.load, told(shown));
  if (before && !same) $("heading").focus();
}

const told =
  (mine) =>
  ({ news, fault }) => {
    if (mine !== shown) return;
    if (fault instanceof Refused && fault.status === 401) return showDoor(REVOKED);
    const leads = mine.leads && !fault;
    mine.fault = fault ?? null;
    mine.misses = isGone(fault) ? mine.misses + 1 : 0;
    if (mine.misses === GONE) mine.live.stop();
    if (!fault) Object.assign(mine, { news, at: Date.now(), before: null, leads: false });
    redraw();
    // Another part of a list is read from its top.
    if (leads) $("heading").focus();
  };

function redraw() {
  if (!shown) return;
  fill();
  const { fault, asked } = shown;
  const { view, news } = seen();
  const title = (news !== null && view.name?.(news)) || view.title;
  draw($("heading"), called(title));
  document.title = plain(`${title === view.title ? title : `${title} · ${view.title}`} · longshore console`);
  for (const place of $("nav").children) {
    if (place.getAttribute("href") === `#/${asked.view}`) place.setAttribute("aria-current", "page");
    else place.removeAttribute("aria-current");
  }
  draw($("trouble"), fault && !isGone(fault) && h("p", { class: "note", "data-tone": "bad" }, sentence(fault)));
  freshen();
}

const isGone = (fault) => fault instanceof Refused && fault.status === 404;

/** What was heard last: by the open view, or by the one before it as long as its own answer may come. */
const seen = () => (shown.before && !(shown.fault instanceof Refused) ? shown.before : shown);

function fill() {
  try {
    drawHeld($("view"), content(seen()));
  } catch (error) {
    console.error(error);
    Object.assign(shown, { news: null, before: null, fault: error });
    draw($("view"));
  }
}

function content({ view, news, fault, misses }) {
  if (isGone(fault))
    return empty(view.gone ?? "There is no such thing.", misses >= GONE && " It is not asked for any more.");
  if (news !== null) return view.draw(news);
  return !fault && empty("Loading …");
}

const act = (thing) => begin(thing, { lockedOut: () => showDoor(REVOKED), ended: () => shown?.live.again() });

/** How old what is shown is; seen, but not read out. */
function freshen() {
  const { at = null, fault = null } = shown ?? {};
  const age = (Date.now() - at) / 1000;
  const old = fault !== null || age >= 5;
  const text = at === null || isGone(fault) ? "" : old ? `As of ${span(Math.max(1, Math.floor(age)))} ago` : "Live";
  $("fresh").dataset.tone = fault ? "bad" : "good";
  if ($("fresh").textContent !== text) $("fresh").textContent = text;
}

// ---- Coming in and going out --------------------------------------------------------------------------------------------

function showDoor(message = "") {
  forget();
  shown?.live.stop();
  shown = null;
  unask();
  show(false);
  abandon();
  for (const part of ["view", "trouble", "heading"]) draw($(part));
  $("q").value = $("token").value = "";
  document.title = "Sign in · longshore console";
  draw($("door-fault"), message);
  $("token").focus();
}

function show(desk) {
  for (const id of ["desk", "nav", "search", "sign-out", "skip"]) $(id).hidden = !desk;
  $("door").hidden = desk;
}

async function signIn(event) {
  event.preventDefault();
  const token = $("token").value.trim();
  if (!token) {
    draw($("door-fault"), "Paste your token first.");
    return $("token").focus();
  }
  if (signingIn) return;
  signingIn = true;
  draw($("door-fault"));
  try {
    await get("overview", null, token);
    remember(token);
    $("token").value = "";
    show(true);
    navigate();
    $("heading").focus();
  } catch (fault) {
    draw($("door-fault"), prose(refusal(fault)));
    $("token").focus();
  }
  signingIn = false;
}

function refusal(fault) {
  if (fault.status === 401) return "This token is not known here. Check that it was copied whole.";
  if (fault.status === 403)
    return "This token is good, but lacks the scope admin. `longshore key create --scopes admin` makes one that has it.";
  return fault.message;
}

$("door-form").addEventListener("submit", signIn);
$("sign-out").addEventListener("click", () => showDoor());
$("skip").addEventListener("click", () => $("heading").focus());
$("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const sought = $("q").value.trim();
  if (sought) location.hash = `#/search?${new URLSearchParams({ q: sought })}`;
});
addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, textarea, select, dialog");
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey || !shown) return;
  event.preventDefault();
  $("q").select();
});
addEventListener("hashchange", navigate);
setInterval(freshen, 1000);

if (signedIn()) {
  show(true);
  navigate();
} else {
  showDoor();
}
