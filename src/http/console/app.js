// The frame of the console: who is signed in, which view is open by the address, and how fresh what it shows is.

import { Refused, Unreachable, forget, get, remember, signedIn } from "./api.js";
import { follow } from "./live.js";
import * as letters from "./letters.js";
import * as orgs from "./orgs.js";
import * as overview from "./overview.js";
import { empty, link, prose } from "./parts.js";
import { unask } from "./question.js";
import * as search from "./search.js";
import { draw, h } from "./tree.js";
import { span } from "./units.js";
import * as upload from "./upload.js";
import * as workers from "./workers.js";

const VIEWS = { "": overview, "dead-letters": letters, orgs, search, uploads: upload, workers };
const NOWHERE = {
  open: () => ({
    title: "Not found",
    load: async () => true,
    draw: () => empty("There is no such view. ", link("#/", "Overview")),
  }),
};

const REVOKED = "Your token is no longer accepted: it was revoked or has run out. Sign in with another.";

const $ = (id) => document.getElementById(id);

/** The open view, what it last heard and when; null while nobody is signed in. */
let shown = null;
let acting = false;

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

function navigate() {
  if (!signedIn()) return;
  const asked = route();
  const before = shown;
  before?.live.stop();
  unask();
  const view = (Object.hasOwn(VIEWS, asked.view) ? VIEWS[asked.view] : NOWHERE).open(asked, { act, redraw });
  shown = { asked, view, news: null, at: null, fault: null };
  const same = before && before.asked.view === asked.view && before.asked.id === asked.id;
  if (!same) tell("");
  $("q").value = (asked.view === "search" && asked.query.get("q")) || "";
  redraw();
  shown.live = follow(view.load, told(shown));
  // Another filter of the same view leaves a person where they are.
  if (before && !same) $("heading").focus();
}

const told =
  (mine) =>
  ({ news, fault }) => {
    if (mine !== shown) return;
    if (fault instanceof Refused && fault.status === 401) return showDoor(REVOKED);
    mine.fault = fault ?? null;
    if (!fault) Object.assign(mine, { news, at: Date.now() });
    redraw();
  };

function redraw() {
  if (!shown) return;
  fill();
  const { view, news, fault, asked } = shown;
  const title = (news && view.name?.(news)) ?? view.title;
  if ($("heading").textContent !== title) $("heading").textContent = title;
  document.title = `${title === view.title ? title : `${title} · ${view.title}`} · longshore console`;
  for (const place of $("nav").children) {
    if (place.getAttribute("href") === `#/${asked.view}`) place.setAttribute("aria-current", "page");
    else place.removeAttribute("aria-current");
  }
  draw($("trouble"), fault && !isGone(fault) && h("p", { class: "note", "data-tone": "bad" }, sentence(fault)));
  freshen();
}

const isGone = (fault) => fault instanceof Refused && fault.status === 404;

/** Draws the view; whoever had the focus in something that is no more has it on the heading. */
function fill() {
  const held = $("view").contains(document.activeElement);
  try {
    draw($("view"), content(shown));
  } catch (error) {
    console.error(error);
    Object.assign(shown, { news: null, fault: error });
    draw($("view"));
  }
  if (held && document.activeElement === document.body) $("heading").focus({ preventScroll: true });
}

function content({ view, news, fault }) {
  if (isGone(fault)) return empty(view.gone ?? "There is no such thing.");
  if (news !== null) return view.draw(news);
  return !fault && empty("Loading …");
}

/** The same while the trouble lasts, so that it is read out once. */
function sentence(fault) {
  if (fault instanceof Refused && fault.status === 403) return `Your token may not do this any more: ${fault.message}`;
  if (fault instanceof Refused) return `The server refused: ${fault.message}`;
  if (fault instanceof Unreachable) return `${fault.message} It is asked again every few seconds.`;
  return "The server's answer cannot be read. It may be of another version: reload this page.";
}

/** How old what is shown is; seen, but not read out. */
function freshen() {
  const { at = null, fault = null } = shown ?? {};
  const age = (Date.now() - at) / 1000;
  const old = fault !== null || age >= 5;
  const text = at === null ? "" : old ? `As of ${span(Math.max(1, Math.floor(age)))} ago` : "Live";
  $("fresh").dataset.tone = fault ? "bad" : "good";
  if ($("fresh").textContent !== text) $("fresh").textContent = text;
}

// ---- Acts ---------------------------------------------------------------------------------------------------------------

/** Does one thing at a time, and says what came of it. True when it went well. */
async function act(thing) {
  if (acting) return false;
  acting = true;
  try {
    tell(await thing(), "good");
    return true;
  } catch (fault) {
    if (fault instanceof Refused && fault.status === 401) showDoor(REVOKED);
    else
      tell(
        fault instanceof Unreachable ? `${fault.message} Look whether it happened before you try again.` : sentence(fault),
        "bad",
      );
    return false;
  } finally {
    acting = false;
    shown?.live.again();
  }
}

function tell(text, tone = "calm") {
  draw($("told"), text && h("p", { class: "note", "data-tone": tone }, text));
}

// ---- Coming in and going out --------------------------------------------------------------------------------------------

function showDoor(message = "") {
  forget();
  shown?.live.stop();
  shown = null;
  unask();
  show(false);
  for (const part of ["view", "trouble", "told"]) draw($(part));
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
  if (acting) return;
  acting = true;
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
  acting = false;
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
