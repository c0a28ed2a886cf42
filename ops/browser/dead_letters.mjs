// What an operator does about dead letters.

import assert from "node:assert/strict";

import { until } from "./server.mjs";

const admin = (server) => server.key("admin");
const letters = async (server, number) =>
  (await server.api("GET", "admin/dead-letters")).deadLetters.filter(({ filename }) => filename?.startsWith(number));

export async function dead_letter_is_found_understood_mended_and_retried(person, server) {
  const [upload] = await server.dooms(["DL1 <b>front</b>.jpg"], "DL-1");
  await person.console(await admin(server), `#/uploads/${upload.id}`);
  await person.sees("verify_upload");
  await person.looks("upload-waits");

  await server.api("POST", "admin/pools/verify/resume");
  await person.page.getByRole("heading", { name: "Dead letters" }).waitFor();
  await person.looks("upload-stuck");
  await person.follows("verify_upload");
  await person.titled("Dead letter · longshore console");
  await person.sees("Every attempt failed");
  await person.sees(/Is a directory|os error/);
  await person.looks("dead-letter");

  await upload.mend();
  await person.presses(/^Retry verify_upload of DL1/);
  await person.sees("Retry 1 dead letter?");
  await person.answers("Retry");
  await person.sees("1 job put on the queue again.");
  await person.sees("There is no such dead letter: it was retried or discarded.");
  await person.opens(`#/uploads/${upload.id}`);
  await person.page.getByText("done", { exact: true }).first().waitFor();
  await person.sees("DL1 <b>front</b>.jpg");
  assert.equal((await server.settles(upload.id)).status, "done");
  person.expects(/status of 404/);
}

export async function letters_are_filtered_and_settled_one_some_and_all_after_one_question(person, server) {
  const names = ["DL2-a.jpg", "DL2-b.jpg", "DL2-c.jpg", "DL2-d.jpg"];
  const doomed = await server.buries(names, "DL-2");
  await person.console(await admin(server), "#/dead-letters");
  for (const name of names) await person.sees(name);
  await person.looks("dead-letters");

  await person.page.getByLabel("Job", { exact: true }).selectOption("verify_upload");
  await person.page.getByLabel("Error contains").fill("no such text");
  await person.presses("Filter");
  await person.sees("No dead letter fits this filter.");
  assert.match(person.page.url(), /#\/dead-letters\?kind=verify_upload&error=no\+such\+text$/);
  await person.page.goBack();
  await person.sees("DL2-a.jpg");

  // One, and no.
  await person.presses("Discard verify_upload of DL2-a.jpg");
  await person.sees("Discard 1 dead letter?");
  assert.equal(await person.focused(), "question-no", "what destroys does not have the focus");
  await person.press("Escape");
  assert.equal(await person.focused(), "Discard", "the focus is back where it was");
  assert.equal((await letters(server, "DL2")).length, 4, "nothing happened");

  // Some.
  await person.page.getByLabel("Choose verify_upload of DL2-a.jpg").check();
  await person.page.getByLabel("Choose verify_upload of DL2-b.jpg").check();
  await person.presses("Discard 2 chosen");
  await person.sees("Discard 2 dead letters?");
  await person.picture("dead-letters-question");
  await person.answers("Discard");
  await person.sees("2 dead letters discarded.");
  await person.page.getByText("DL2-a.jpg").waitFor({ state: "detached" });

  // All that fit.
  for (const { mend } of doomed.slice(2)) await mend();
  await person.follows(/^verify_upload, attempts/);
  await person.presses("Retry all 2 that fit");
  await person.sees("Retry 2 dead letters?");
  await person.answers("Retry");
  await person.sees("2 jobs put on the queue again.");
  await person.sees("There are no dead letters. That is good");
  await person.looks("dead-letters-none");
  for (const { id } of doomed.slice(2)) assert.equal((await server.settles(id)).status, "done");
}

export async function many_are_retried_in_parts_beside_other_acts_until_somebody_stops_it(person, server) {
  const doomed = await server.buries(["DL5.jpg"], "DL-5");
  const everything = {
    kind: "fold_reports",
    subject: "00000000-0000-0000-0000-000000000000",
    subjectKind: null,
    filename: null,
  };
  await person.hears("dead-letters?*", (part) => {
    part.count = 53_210;
    part.deadLetters.push({ ...part.deadLetters[0], id: "another", ...everything });
  });
  const [{ id }] = await letters(server, "DL5");
  const asked = [];
  let goOn;
  await person.page.route("**/api/admin/dead-letters/retry", async (route) => {
    asked.push(route.request().postDataJSON());
    if (asked.length > 1) await new Promise((resolve) => (goOn = resolve));
    await route.fulfill({ json: { putOn: 10_000, unknown: 0, more: true, before: id } });
  });
  await person.console(await admin(server), "#/dead-letters");

  await person.sees("About everything");
  await person.page.getByRole("button", { name: "Retry fold_reports of everything" }).waitFor();
  await person.presses("Retry all 53,210");
  await person.answers("Retry");
  await person.sees("10,000 jobs put on the queue again, of 53,210.");
  await person.follows("Overview");
  await person.presses("Pause report");
  await person.answers("Pause report");
  await person.sees("report is paused. Its jobs wait until it is resumed.");
  await person.looks("acts-side-by-side");
  await person.presses("Resume report");
  await person.sees("report is resumed.");
  await person.presses("Stop");
  await person.sees("Stopping …");
  goOn();

  await person.sees("Stopped. 20,000 jobs put on the queue again. The others are still dead letters.");
  assert.deepEqual(asked, [{ filter: { before: id } }, { filter: { before: id } }], "none that dies later is meant");
  assert.equal(await person.page.getByText("of 53,210").count(), 0, "nothing is under way");
  await person.page.unrouteAll();
  for (const { mend } of doomed) await mend();
  await server.api("POST", "admin/dead-letters/retry", { filter: {} });
}

export async function filter_takes_an_org_by_its_name_and_keeps_what_is_seen_meanwhile(person, server) {
  const doomed = await server.buries(["DL6.jpg"], "DL-6");
  const {
    orgs: [org],
  } = await server.api("GET", "admin/orgs?name=default");
  await person.console(await admin(server), "#/dead-letters");
  await person.sees("DL6.jpg");
  const field = person.page.getByLabel("Org, by name or id");
  await field.fill("nobody's");
  await field.press("Enter");
  await person.page.waitForFunction(() => document.querySelector("#org").validationMessage === "No org is called so.");

  let goOn;
  await person.page.route("**/api/admin/dead-letters?*org=*", async (route) => {
    await new Promise((resolve) => (goOn = resolve));
    await route.continue();
  });
  await field.fill("default");
  await field.press("Enter");
  await until(() => goOn);
  assert.match(person.page.url(), new RegExp(`org=${org.id}$`));
  assert.equal(await person.focused(), "org", "the focus stays");
  await person.sees("DL6.jpg");
  await person.page.unrouteAll({ behavior: "ignoreErrors" });
  goOn();

  await person.follows("Show all");
  for (const { mend } of doomed) await mend();
  await server.api("POST", "admin/dead-letters/retry", { filter: {} });
}

export async function keyboard_alone_gets_from_the_door_to_a_retried_letter(person, server) {
  const [upload] = await server.buries(["DL3.jpg"], "DL-3");
  await upload.mend();
  const token = await admin(server);
  await person.page.goto(`${server.url}/console`);
  await person.page.getByLabel("Access token").waitFor();

  await person.type(token);
  await person.press("Enter");
  await until(async () => (await person.focused()) === "heading");
  await person.press("/");
  assert.equal(await person.focused(), "q", "the slash leads to the search");
  await person.type("DL-3");
  await person.press("Enter");
  await person.titled("Search: DL-3 · longshore console");
  assert.equal(await person.focused(), "heading", "a new view has the focus on its heading");
  await person.tabsTo("link", "DL3.jpg");
  await person.press("Enter");
  await person.titled("DL3.jpg · Upload · longshore console");
  await person.tabsTo("link", "Dead letters");
  await person.press("Enter");
  await person.titled("Dead letters · longshore console");
  await person.tabsTo("button", "Retry verify_upload of DL3.jpg");
  await person.picture("keyboard-focus");
  await person.press("Enter");
  await person.sees("Retry 1 dead letter?");
  await person.press("Enter");
  await person.sees("1 job put on the queue again.");

  await person.page.getByText("DL3.jpg").waitFor({ state: "detached" });
  assert.equal(await person.focused(), "heading", "the focus is not lost with the button that had it");
  assert.equal((await server.settles(upload.id)).status, "done");
}

export async function refresh_takes_nothing_from_a_person_who_reads(person, server) {
  const doomed = await server.buries(["DL4-a.jpg", "DL4-b.jpg"], "DL-4");
  await person.console(await admin(server), "#/dead-letters");
  await person.sees("DL4-a.jpg");
  await person.page.setViewportSize({ width: 1280, height: 400 });
  await person.page.locator("summary").last().click();
  await person.page.getByLabel("Choose verify_upload of DL4-a.jpg").check();
  await person.page.getByLabel("Error contains").pressSequentially("half a wo");
  await person.page.evaluate(() => {
    getSelection().selectAllChildren(document.querySelector(".error"));
    scrollTo(0, 150);
    globalThis.seen = [...document.querySelectorAll("#view *")].slice(0, 40);
  });
  const stands = () =>
    person.page.evaluate(() => ({
      text: document.querySelector("[name=error]").value,
      ticked: document.querySelectorAll(".letter input:checked").length,
      open: document.querySelectorAll("details[open]").length,
      selected: getSelection().toString(),
      scrolled: scrollY,
      same: seen.every((node) => node.isConnected),
    }));
  const before = await stands();

  // A question stays open, too, and news come in meanwhile.
  await person.presses("Retry 1 chosen");
  for (let polls = 0; polls < 2; polls++)
    await person.page.waitForResponse((answer) => answer.url().includes("admin/dead-letters?"));
  assert.equal(await person.focused(), "question-yes", "the focus stays in the question");
  await person.press("Escape");

  assert.deepEqual(await stands(), before);
  assert.equal(before.text, "half a wo");
  assert.ok(before.selected.length > 10 && before.open === 1 && before.ticked === 1 && before.same);
  for (const { mend } of doomed) await mend();
  await server.api("POST", "admin/dead-letters/retry", { filter: {} });
}
