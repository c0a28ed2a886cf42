// Asks our own server for a signed form, posts the file to the bucket with it, and waits for what comes of it.

const PARALLEL = 3;
const REASONS = {
  digest_mismatch: "what arrived is not what this file holds",
  size_mismatch: "what arrived has another size; the file may have changed",
  too_large: "the file is too large",
  object_missing: "the file did not arrive",
  object_changed: "the file kept changing while it was checked",
};

const $ = (id) => document.getElementById(id);
const sleep = (millis) => new Promise((resolve) => setTimeout(resolve, millis));
const waiting = [];
const count = { running: 0, done: 0, failed: 0, all: 0 };

// ---- One file's way

async function send({ file, kind, number, show }) {
  show("Asking for a place");
  const { name: filename, size, type } = file;
  let upload = await ask("ask", { kind, number, filename, size, type, once: random() });
  const { id } = upload;
  let sent = false; // a busy server may take a while to notice
  for (;;) {
    if (upload.attention) throw new Error("Something is wrong with the upload service. Please tell the people who run it.");
    if (upload.status === "done") return;
    if (upload.status === "rejected") throw new Error(`Refused: ${REASONS[upload.reason] ?? upload.reason}.`);
    if (upload.status === "cancelled") throw new Error("The upload was cancelled.");
    if (upload.form && !sent) {
      sent = await post(upload.form, file, show);
      upload = await ask(sent ? "confirm" : "renew", { id });
    } else if (upload.status === "expired") {
      sent = false;
      upload = await ask("renew", { id });
    } else {
      show(sent ? "Checking what arrived" : "Waiting for a place");
      const asked = Date.now();
      upload = await ask("status", { id });
      await sleep(Math.max(0, 500 - (Date.now() - asked)));
    }
  }
}

/** A question to our own server. What a second try may mend is tried again. */
async function ask(what, body) {
  for (let attempt = 1; ; attempt++) {
    const answer = await fetch(`upload.php?do=${what}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    }).catch(() => null);
    const told = await answer?.json().catch(() => null);
    if (answer?.ok && told) return told;
    if (attempt === 4 || (answer && answer.status !== 503)) {
      throw new Error(told?.problem ?? "This site cannot be reached. Please check the connection and try again.");
    }
    await sleep(1000 * 2 ** attempt * (0.75 + Math.random() / 2));
  }
}

/** By which the server knows a question again whose answer got lost. */
function random() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Posts the file to the bucket. False if the form's time had run out. */
async function post(form, file, show) {
  const ends = Date.now() + form.expires * 1000;
  for (let attempt = 1; ; attempt++) {
    const { status, text } = await postOnce(form, file, show);
    if (status >= 200 && status < 300) return true;
    if (status === 403 && (Date.now() >= ends || /expired/i.test(text))) return false;
    const passing = status === 0 || status === 429 || status >= 500;
    if (!passing || attempt === 5) {
      const message = /<Message>([^<]*)/.exec(text)?.[1];
      throw new Error(status === 0 ? "The connection broke off. Please try again." : `Refused: ${message ?? `HTTP ${status}`}`);
    }
    show("Connection lost, trying again");
    await sleep(500 * 2 ** attempt * (0.75 + Math.random() / 2));
  }
}

function postOnce({ url, fields }, file, show) {
  const body = new FormData();
  for (const [name, value] of Object.entries(fields)) body.append(name, value);
  body.append("file", file); // last: the bucket ignores what comes after it
  return new Promise((resolve) => {
    const request = new XMLHttpRequest(); // fetch cannot tell how far it is
    request.upload.onprogress = ({ loaded, total }) => show(`Sending, ${Math.floor((100 * loaded) / total)} %`, loaded / total);
    request.onloadend = () => resolve({ status: request.status, text: request.responseText });
    request.open("POST", url);
    request.send(body);
  });
}

// ---- The page

function row(file) {
  const row = $("row").content.firstElementChild.cloneNode(true);
  const state = row.querySelector(".state"), bar = row.querySelector("progress");
  row.querySelector(".name").textContent = file.name;
  bar.setAttribute("aria-label", `Progress of ${file.name}`);
  $("list").append(row);
  return (text, part = null, outcome = "") => {
    state.textContent = text;
    row.className = outcome;
    if (part === null) bar.removeAttribute("value");
    else bar.value = part;
  };
}

function pump() {
  while (waiting.length > 0 && count.running < PARALLEL) take(waiting.shift());
  const { running, done, failed, all } = count;
  if (all > 0) $("tally").textContent = `${done} of ${all} sent${failed ? `, ${failed} not sent` : ""}${running ? " …" : "."}`;
}

async function take(item) {
  count.running++;
  try {
    await send(item);
    count.done++;
    item.show("Done", 1, "good");
  } catch (error) {
    count.failed++;
    item.show(error.message, 0, "bad");
  }
  count.running--;
  pump();
}

function complain(field, text) {
  $("problem").textContent = text;
  for (const id of ["number", "files"]) $(id).setAttribute("aria-invalid", String(field === id));
  if (field) $(field).focus();
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const { kind, number, files } = event.target.elements;
  if (!number.value.trim()) return complain("number", `Type the ${kind.value} number.`);
  if (files.files.length === 0) return complain("files", "Choose at least one file.");
  complain(null, "");
  for (const file of files.files) {
    const show = row(file);
    show("Waiting", 0);
    count.all++;
    waiting.push({ file, kind: kind.value, number: number.value.trim(), show });
  }
  files.value = "";
  pump();
});

$("form").addEventListener("change", ({ target }) => {
  if (target.name === "kind") $("kind").textContent = target.value === "order" ? "Order" : "Style";
});

addEventListener("beforeunload", (event) => {
  if (count.running > 0) event.preventDefault();
});
