// The upload page: asks for an upload, posts the form to the bucket, waits for the final state. See "Uploads" in the API.

const PARALLEL = 3;
const HASH_LIMIT = 64 * 1024 * 1024;
const FINAL = new Set(["done", "rejected", "expired", "cancelled"]);
const TOKEN = "longshore.token";

const REASONS = {
  digest_mismatch: "what arrived is not what this file holds. It may have changed on its way",
  size_mismatch: "what arrived has another size. The file may have changed on its way",
  too_large: "the file is too large",
  object_missing: "the bytes were gone before they could be checked",
  object_changed: "the bytes kept changing while they were checked",
  unsafe_path: "the file's name is not allowed",
  too_many_files: "there are too many files",
};

const $ = (id) => document.getElementById(id);
const items = [];
let running = 0;
let maxSize = null;
let announced = "";
let refreshing = null;

// ---- Talking to the server ----------------------------------------------------------------------------------------------

class Refused extends Error {
  constructor(status, type, message) {
    super(message);
    this.status = status;
    this.type = type;
  }
}

const sleep = (millis, signal) => new Promise((resolve, reject) => {
  const timer = setTimeout(resolve, millis);
  signal?.addEventListener("abort", () => { clearTimeout(timer); reject(signal.reason); }, { once: true });
});

const token = () => sessionStorage.getItem(TOKEN);

/** One call; a lost connection and a server that is busy are tried again for about half a minute. */
async function call(method, path, { body, wait, signal, bearer = token(), tries = 7 } = {}) {
  for (let attempt = 1; ; attempt++) {
    const headers = { authorization: `Bearer ${bearer}` };
    if (body) headers["content-type"] = "application/json";
    if (wait) headers.prefer = `wait=${wait}`;
    let answer = null;
    try {
      answer = await fetch(path, { method, headers, signal, body: body && JSON.stringify(body), cache: "no-store" });
    } catch (error) {
      if (signal?.aborted) throw error;
    }
    const passing = !answer || answer.status === 429 || answer.status >= 500;
    if (passing && attempt < tries) {
      const asked = Number(answer?.headers.get("retry-after"));
      await sleep(asked > 0 ? Math.min(asked, 30) * 1000 : Math.min(8000, 400 * 2 ** attempt) * (0.75 + Math.random() / 2), signal);
      continue;
    }
    if (!answer) throw new Error("The server cannot be reached. Check the connection and try again.");
    return read(answer);
  }
}

async function read(answer) {
  const told = await answer.json().catch(() => null);
  if (answer.ok) return { status: answer.status, told, headers: answer.headers };
  const message = told?.error?.message || told?.message || `The server answered ${answer.status}.`;
  if (answer.status === 401) showDoor("The token is no longer accepted. Sign in again, then try the files again.");
  throw new Refused(answer.status, told?.error?.type ?? "", message);
}

const first = ({ told }) => {
  const upload = told?.uploads?.[0];
  if (!upload) throw new Error("The server's answer cannot be read.");
  return upload;
};

// ---- One file's way -----------------------------------------------------------------------------------------------------

async function send(item) {
  const signal = item.abort.signal;
  const sha256 = await hash(item);
  signal.throwIfAborted();
  show(item, "busy", "Asking for a place");
  let upload = await ask(item, sha256);
  for (let renewals = 0; ; renewals++) {
    item.id = upload.id;
    if (upload.status === "issued") {
      if (await post(item, upload.upload)) {
        item.sent = true;
        show(item, "busy", "Checking what arrived", NaN);
        await tell(item);
        upload = await settle(item, upload);
      }
    } else if (!FINAL.has(upload.status)) {
      upload = await settle(item, upload);
    }
    // Issued still: its policy ran out before the bucket took the form.
    const wanted = upload.status === "issued" || upload.status === "expired";
    if (!wanted || renewals >= 2) return upload;
    upload = await renew(item, upload);
    if (unsigned(upload)) upload = await ask(item, sha256);
  }
}

/** Whether a worker has yet to sign its policy: the first, or a fresh one in place of one that ran out. */
const unsigned = (upload) => upload.status === "requested" || (upload.status === "issued" && !upload.upload);

/** The digest lets the server find bytes that it has: then nothing has to travel. */
async function hash(item) {
  if (!globalThis.crypto?.subtle || item.file.size > HASH_LIMIT) return undefined;
  show(item, "busy", "Reading the file", NaN);
  let bytes;
  try {
    bytes = await item.file.arrayBuffer();
  } catch {
    throw new Error("The file cannot be read. It may have been moved or changed; choose it again.");
  }
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Asks until the upload has a policy or needs none. The `ref` makes asking twice give the same upload. */
async function ask(item, sha256) {
  const { file, name, target, ref } = item;
  const body = { filename: name, size: file.size, type: file.type || undefined, sha256, target, ref };
  const options = { body, signal: item.abort.signal };
  let upload = first(await call("POST", "api/uploads", options));
  for (let again = 0; unsigned(upload) && again < 6; again++) {
    item.id = upload.id;
    show(item, "busy", "Waiting for a place", NaN);
    await sleep(500, options.signal);
    upload = first(await call("POST", "api/uploads", { ...options, wait: 10 }));
  }
  if (unsigned(upload)) throw new Error("The server is very busy. Try again in a while.");
  return upload;
}

/** False when the policy ran out before the bucket took the form. */
async function post(item, policy) {
  const ends = Date.now() + (policy.expires ?? 900) * 1000;
  for (let attempt = 1; ; attempt++) {
    const answer = await postOnce(item, policy);
    if (answer.status >= 200 && answer.status < 300) return true;
    const expired = Date.now() >= ends || (answer.status === 403 && /expired/i.test(answer.text));
    if (expired) return false;
    const passing = answer.status === 0 || answer.status === 429 || answer.status >= 500;
    if (!passing || attempt >= 5) throw new Error(refusal(answer));
    show(item, "busy", "Connection lost, trying again", NaN);
    await sleep(500 * 2 ** attempt, item.abort.signal);
  }
}

function postOnce(item, policy) {
  return new Promise((resolve, reject) => {
    const form = new FormData();
    for (const [name, value] of Object.entries(policy.fields)) form.append(name, value);
    form.append("file", item.file, "file");
    const request = new XMLHttpRequest();
    const signal = item.abort.signal;
    const stop = () => request.abort();
    request.upload.onprogress = (event) => {
      if (event.lengthComputable) progress(item, event.loaded / event.total);
    };
    request.onloadend = () => {
      signal.removeEventListener("abort", stop);
      if (signal.aborted) reject(signal.reason);
      else resolve({ status: request.status, text: request.responseText ?? "" });
    };
    request.open("POST", policy.url);
    signal.addEventListener("abort", stop, { once: true });
    progress(item, 0);
    request.send(form);
  });
}

function refusal({ status, text }) {
  if (status === 0) return "The connection to the storage broke off. Check it and try again.";
  const message = /<Message>([^<]*)<\/Message>/.exec(text)?.[1];
  return `The storage refused the file: ${message ?? `it answered ${status}.`}`;
}

/** The bucket tells the server too, so that a callback which gets lost costs time alone. */
async function tell(item) {
  try {
    await call("POST", `api/uploads/${item.id}/callback`, { signal: item.abort.signal, tries: 3 });
  } catch (error) {
    if (item.abort.signal.aborted || error.status === 401) throw error;
  }
}

async function renew(item, upload) {
  show(item, "busy", "Asking for a fresh permit", NaN);
  const options = { signal: item.abort.signal };
  try {
    return first(await call("POST", `api/uploads/${upload.id}/policy`, options));
  } catch (error) {
    // It has moved on in the meantime: the bytes are there.
    if (error.status === 409) return first(await call("GET", `api/uploads/${upload.id}`, options));
    throw error;
  }
}

async function settle(item, upload) {
  const signal = item.abort.signal;
  show(item, "busy", "Checking what arrived", NaN);
  for (let rounds = 0; !FINAL.has(upload.status); rounds++) {
    if (upload.attention) throw new Error("Something went wrong on the server. Tell the people who run it; the file is not lost.");
    if (rounds >= 90) throw new Error("The check takes unusually long. Come back later: the file has arrived.");
    const asked = Date.now();
    upload = first(await call("GET", `api/uploads/${upload.id}`, { wait: 20, signal }));
    // A server that does not wait must not be asked in a tight loop.
    if (!FINAL.has(upload.status)) await sleep(Math.max(0, 1000 - (Date.now() - asked)), signal);
  }
  return upload;
}

async function take(item) {
  running++;
  item.abort = new AbortController();
  item.phase = "running";
  try {
    conclude(item, await send(item));
  } catch (error) {
    if (item.abort.signal.aborted) conclude(item, { status: "cancelled" });
    else fail(item, error instanceof Refused ? `Refused: ${error.message}` : error.message);
  }
  running--;
  pump();
}

function conclude(item, upload) {
  item.phase = "over";
  item.outcome = upload.status;
  if (upload.status === "done" && upload.deduplicated) {
    show(item, "good", item.sent ? "Done. These bytes were known, so they are kept once" : "Done. Already stored, nothing had to be sent");
  } else if (upload.status === "done") {
    show(item, "good", "Done");
  } else if (upload.status === "rejected") {
    show(item, "bad", `Rejected: ${REASONS[upload.reason] ?? upload.reason ?? "no reason was given"}.`);
  } else if (upload.status === "cancelled") {
    show(item, "calm", "Cancelled");
  } else {
    item.outcome = "expired";
    show(item, "warn", "Expired: the file did not arrive in time.");
  }
}

function fail(item, message) {
  item.phase = "over";
  item.outcome = "failed";
  show(item, "bad", message);
}

function pump() {
  while (running < PARALLEL && token()) {
    const next = items.find((item) => item.phase === "queued");
    if (!next) break;
    take(next);
  }
  refresh();
}

// ---- Rows ---------------------------------------------------------------------------------------------------------------

const unit = (bytes) => {
  const names = ["bytes", "kB", "MB", "GB", "TB"];
  let step = 0;
  for (; bytes >= 1000 && step < names.length - 1; step++) bytes /= 1000;
  return `${Number(bytes.toFixed(step && bytes < 10 ? 1 : 0))} ${names[step]}`;
};

function random() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** A row of its own; without a file, one that says why it is not there. */
function add(file, path, why) {
  const name = path || file.name;
  const same = (item) => item.phase === "ready" && item.name === name && item.file.size === file?.size
    && item.file.lastModified === file?.lastModified;
  if (items.some(same)) return;
  const row = $("row").content.firstElementChild.cloneNode(true);
  const part = (kind) => row.querySelector(`.${kind}`);
  const item = { file, name, row, phase: "ready", outcome: null, ref: null, id: null, sent: false, target: null, abort: null,
    state: part("state"), meta: part("meta"), bar: row.querySelector("progress"), again: part("again"), off: part("off") };
  part("name").textContent = name;
  item.meta.textContent = file ? unit(file.size) : "";
  item.bar.setAttribute("aria-label", `Progress of ${name}`);
  item.off.setAttribute("aria-label", `Remove ${name}`);
  item.again.setAttribute("aria-label", `Try ${name} again`);
  item.off.onclick = () => dismiss(item);
  item.again.onclick = () => queue(item);
  items.push(item);
  $("list").append(row);
  if (!file) fail(item, why);
  else if (maxSize !== null && file.size > maxSize) {
    fail(item, `Too large: at most ${unit(maxSize)} can be sent.`);
    item.again.hidden = true;
  } else show(item, "calm", "Ready");
}

/** `part` is a share of 1, NaN for no telling, nothing for no bar. */
function show(item, tone, text, part) {
  item.row.dataset.tone = tone;
  item.state.textContent = text;
  item.bar.hidden = part === undefined;
  if (Number.isNaN(part)) item.bar.removeAttribute("value");
  else if (part !== undefined) item.bar.value = part;
  const over = item.phase === "over";
  item.again.hidden = !(over && item.file && ["failed", "rejected", "expired", "cancelled"].includes(item.outcome));
  const act = { ready: "Remove", queued: "Remove", running: "Cancel", over: "Dismiss" }[item.phase];
  item.off.textContent = act;
  item.off.setAttribute("aria-label", `${act} ${item.name}`);
  refresh();
}

function progress(item, part) {
  const text = part < 1 ? `Sending, ${Math.floor(part * 100)} %` : "Sent, waiting for the storage";
  show(item, "busy", text, part < 1 ? part : NaN);
}

function queue(item) {
  item.ref = item.ref && item.outcome === "failed" ? item.ref : `page-${random()}`;
  item.sent = false;
  item.phase = "queued";
  item.outcome = null;
  show(item, "calm", "Waiting its turn");
  pump();
}

function dismiss(item) {
  if (item.phase === "running") {
    item.abort.abort(new Error("cancelled"));
    // Whether the server hears of it does not matter: an upload that nobody completes expires.
    if (item.id) call("DELETE", `api/uploads/${item.id}`, { tries: 1 }).catch(() => {});
    return;
  }
  const next = item.row.nextElementSibling ?? item.row.previousElementSibling;
  items.splice(items.indexOf(item), 1);
  item.row.remove();
  (next?.querySelector(".off") ?? $("files")).focus();
  refresh();
}

/** Soon and once, however many files have changed. */
function refresh() {
  refreshing ??= setTimeout(() => { refreshing = null; summarize(); }, 40);
}

function summarize() {
  const count = (test) => items.filter(test).length;
  const ready = count((item) => item.phase === "ready");
  const done = count((item) => item.outcome === "done");
  const bad = count((item) => item.phase === "over" && item.outcome !== "done");
  const moving = count((item) => item.phase === "queued" || item.phase === "running");
  $("go").disabled = ready === 0;
  $("go").textContent = ready === 0 ? "Upload" : `Upload ${ready} ${ready === 1 ? "file" : "files"}`;
  $("list-part").hidden = items.length === 0;
  $("clear").hidden = done === 0;
  const parts = [`${done} of ${items.length} done`];
  if (moving) parts.push(`${moving} under way`);
  if (bad) parts.push(`${bad} not uploaded`);
  // Said again only when it changes, so that screen readers are not flooded.
  const told = parts.join(" · ");
  if (told !== announced) $("tally").textContent = announced = told;
}

// ---- Picking and dropping -----------------------------------------------------------------------------------------------

/** Every file of a dropped folder, with its path; what cannot be read is kept apart, so that it costs nothing else. */
async function walk(entry, found, unread) {
  const path = entry.fullPath.replace(/^\//, "");
  try {
    if (entry.isFile) {
      found.push([await new Promise((resolve, reject) => entry.file(resolve, reject)), path]);
      return;
    }
    const reader = entry.createReader();
    for (;;) {
      const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      if (some.length === 0) return;
      for (const inner of some) await walk(inner, found, unread);
    }
  } catch {
    unread.push([path, entry.isFile ? "The file cannot be read." : "Not everything in this folder can be read."]);
  }
}

async function dropped(transfer) {
  // Entries must be taken before the first await: the browser empties the list after the event.
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (entries.length === 0) {
    for (const file of transfer.files) add(file);
    return;
  }
  const found = [], unread = [];
  for (const entry of entries) await walk(entry, found, unread);
  for (const [file, path] of found) add(file, path);
  for (const [path, why] of unread) add(null, path, why);
}

function picked(input) {
  for (const file of input.files) add(file, file.webkitRelativePath);
  input.value = "";
}

function listenForDrops() {
  const drop = $("drop");
  let depth = 0;
  const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
  const over = (on) => drop.classList.toggle("over", on && !$("desk").hidden);
  addEventListener("dragenter", (event) => { if (holdsFiles(event)) over(++depth > 0); });
  addEventListener("dragleave", (event) => { if (holdsFiles(event)) over(--depth > 0); });
  addEventListener("dragover", (event) => { if (holdsFiles(event)) event.preventDefault(); });
  addEventListener("drop", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    over((depth = 0) > 0);
    if (!$("desk").hidden) dropped(event.dataTransfer);
  });
}

// ---- Order or style -----------------------------------------------------------------------------------------------------

const kind = () => document.querySelector("input[name=kind]:checked").value;

function fault(text) {
  $("number-fault").textContent = text;
  $("number").setAttribute("aria-invalid", String(text !== ""));
}

function start(event) {
  event.preventDefault();
  const number = $("number").value.trim();
  if (!number) {
    fault(`Type the ${kind()} number first.`);
    $("number").focus();
    return;
  }
  if (new TextEncoder().encode(number).length > 128) {
    fault("The number is too long.");
    $("number").focus();
    return;
  }
  fault("");
  const target = { kind: kind(), number };
  for (const item of items.filter((item) => item.phase === "ready")) {
    item.target = target;
    item.meta.textContent = `${unit(item.file.size)} · ${kind() === "order" ? "Order" : "Style"} ${number}`;
    queue(item);
  }
}

// ---- Coming in and going out --------------------------------------------------------------------------------------------

function showDoor(message = "") {
  sessionStorage.removeItem(TOKEN);
  $("desk").hidden = $("sign-out").hidden = true;
  $("door").hidden = false;
  $("door-fault").textContent = message;
  $("token").value = "";
  $("token").focus();
}

function showDesk() {
  $("door").hidden = true;
  $("desk").hidden = $("sign-out").hidden = false;
  $("limit").textContent = maxSize === null ? "" : `Up to ${unit(maxSize)} each`;
  pump();
}

async function enter(bearer) {
  const { told } = await call("GET", "api/uploads/config", { bearer, tries: 2 });
  const config = told?.uploads?.[0] ?? told?.config ?? told;
  maxSize = Number(config?.maxSize) || null;
}

async function signIn(event) {
  event.preventDefault();
  const bearer = $("token").value.trim();
  if (!bearer) {
    $("door-fault").textContent = "Paste your token first.";
    return;
  }
  $("door-go").disabled = true;
  try {
    await enter(bearer);
    sessionStorage.setItem(TOKEN, bearer);
    $("token").value = "";
    showDesk();
    $("number").focus();
  } catch (error) {
    const wrong = error.status === 401;
    $("door-fault").textContent = wrong ? "This token is not known here. Check that it was copied whole." : error.message;
    $("token").focus();
  }
  $("door-go").disabled = false;
}

function signOut() {
  const moving = items.some((item) => item.phase === "running" || item.phase === "queued");
  if (moving && !confirm("Uploads are under way. Sign out and cancel them?")) return;
  for (const item of [...items]) {
    if (item.phase === "running") dismiss(item);
    item.row.remove();
  }
  items.length = 0;
  refresh();
  showDoor();
}

$("door-form").addEventListener("submit", signIn);
$("desk-form").addEventListener("submit", start);
$("sign-out").addEventListener("click", signOut);
$("files").addEventListener("change", (event) => picked(event.target));
$("folder").addEventListener("change", (event) => picked(event.target));
$("number").addEventListener("input", () => fault(""));
$("clear").addEventListener("click", () => {
  for (const item of items.filter((item) => item.outcome === "done")) {
    items.splice(items.indexOf(item), 1);
    item.row.remove();
  }
  refresh();
});
for (const radio of document.querySelectorAll("input[name=kind]")) {
  radio.addEventListener("change", () => {
    $("number-label").textContent = kind() === "order" ? "Order number" : "Style number";
    fault("");
  });
}
addEventListener("beforeunload", (event) => {
  if (items.some((item) => item.phase === "running" || item.phase === "queued")) event.preventDefault();
});
listenForDrops();

if (token()) {
  enter(token()).then(showDesk, (error) => { if (error.status !== 401) showDesk(); });
} else {
  showDoor();
}
