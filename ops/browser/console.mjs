// What an operator sees and does in the console.

import assert from "node:assert/strict";

import { until } from "./server.mjs";

const admin = (server) => server.key("admin");

export async function console_tells_a_wrong_token_a_missing_scope_and_a_right_one_apart(person, server) {
  person.expects(/status of (401|403)/);
  const token = await admin(server);
  await person.page.goto(`${server.url}/console`);
  await person.looks("console-door");
  await person.presses("Continue");
  await person.sees("Paste your token first.");
  for (const [wrong, told] of [
    ["lsk_wrong_wrong", "This token is not known here."],
    ["not a token ü", "This token is not known here."],
    [await server.key("read"), "lacks the scope admin"],
  ]) {
    await person.page.getByLabel("Access token").fill(wrong);
    await person.presses("Continue");
    await person.sees(told);
  }
  await person.picture("console-door-refused");
  await person.page.getByLabel("Access token").fill(token);
  await person.presses("Continue");
  await person.titled("Overview · longshore console");
  await person.sees("Nothing needs a person.");
  await person.sees("Live");

  const kept = await person.page.evaluate(() =>
    [location.href, document.cookie, JSON.stringify(localStorage), document.body.innerHTML].join(" "),
  );
  assert.ok(!kept.includes(token), "the token is kept in no address, cookie, store of the browser's, or element");
  await person.page.reload();
  await person.sees("Pools");
  await person.presses("Sign out");
  await person.page.getByLabel("Access token").waitFor();
  assert.equal(await person.page.evaluate(() => sessionStorage.length), 0, "it is forgotten");
}

export async function revoked_token_signs_out_with_a_sentence(person, server) {
  person.expects(/status of 401/);
  const token = await admin(server);
  await person.console(token, "#/orgs");
  await person.sees("default");

  await server.cli("key", "revoke", token);

  await person.sees("Your token is no longer accepted");
  assert.equal(await person.page.evaluate(() => sessionStorage.length), 0, "it is forgotten");
  assert.equal(await person.page.getByText("default").count(), 0, "nothing of before can be seen");
}

export async function pool_is_paused_after_one_question_and_resumed_without(person, server) {
  await person.console(await admin(server));
  await person.presses("Pause verify");
  await person.sees("Pause verify?");
  await person.answers("Cancel");
  await person.presses("Pause verify");
  await person.answers("Pause verify");
  await person.sees("verify is paused. Its jobs wait until it is resumed.");
  const id = await server.sends("waits.txt", "waits", "PAUSED-1");

  await person.sees("verify: paused until somebody resumes it.");
  await person.page.getByRole("row", { name: /^verify paused/ }).waitFor();
  await person.looks("overview-paused");
  assert.match(await server.cli("pool", "list"), /verify.*paused/);

  await person.presses("Resume verify");
  await person.sees("verify is resumed.");
  assert.equal(await person.focused(), "Pause", "the focus stays on the button, which now pauses");
  assert.equal((await server.settles(id)).status, "done");
}

export async function timeline_of_an_upload_that_is_done_shows_each_step(person, server) {
  const id = await server.sends("way.txt", "a way", "WAY-1");
  const { fileId } = await server.settles(id);
  await person.console(await admin(server), `#/uploads/${fileId}`);
  await person.titled("way.txt · Upload · longshore console");

  for (const step of ["Requested", "Policy signed", "Hashed", "Stored", "Done"]) {
    const row = person.page.getByRole("listitem").filter({ hasText: step });
    await row
      .getByText(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}$/)
      .first()
      .waitFor();
  }
  await person.sees("order WAY-1");
  await person.sees("None: every attempt so far went well.");
  await person.looks("upload-done");
}

export async function timeline_of_a_rejected_upload_says_why(person, server) {
  const id = await server.rejects("torn.txt", "TORN-1");
  await person.console(await admin(server), `#/uploads/${id}`);

  await person.sees("digest_mismatch");
  await person.sees("What arrived has another SHA-256 than was promised");
  await person.page.getByRole("listitem").filter({ hasText: "Rejected" }).locator("time").waitFor();
  await person.looks("upload-rejected");
}

export async function upload_is_seen_to_move_without_a_reload(person, server) {
  await server.api("POST", "admin/pools/verify/pause");
  const id = await server.sends("moves.txt", "moves", "MOVES-1");
  await person.console(await admin(server), `#/uploads/${id}`);
  await person.sees("arrived");
  await person.page.getByRole("listitem").filter({ hasText: "Done" }).getByText("not yet").waitFor();

  await server.api("POST", "admin/pools/verify/resume");

  await person.page.getByRole("listitem").filter({ hasText: "Done" }).locator("time").waitFor();
}

export async function search_finds_by_number_name_hash_and_id_from_everywhere(person, server) {
  const hostile = "<img src=x onerror=alert(1)>.txt";
  const id = await server.sends(hostile, "found", "FIND-1");
  const { fileId, hash } = await server.settles(id);
  await person.console(await admin(server), "#/orgs");

  for (const sought of ["FIND-1", hostile, hash, hash.replace("sha256-", ""), id, fileId]) {
    await person.page.getByRole("heading", { level: 1 }).focus();
    await person.press("/");
    await person.type(sought);
    await person.press("Enter");
    await person.titled(`Search: ${sought} · longshore console`);
    await person.page.getByRole("link", { name: hostile }).first().waitFor();
  }
  await person.looks("search");
  await person.follows(hostile);
  await person.titled(`${hostile} · Upload · longshore console`);
  await person.opens("#/search?q=nothing-is-called-so");
  await person.sees("Nothing was found.");
}

export async function org_shows_its_report_and_has_it_rebuilt(person, server) {
  const id = await server.sends("counted.txt", "counted", "ORG-1");
  await server.settles(id);
  await person.console(await admin(server), "#/orgs");
  await person.looks("orgs");
  await person.follows("default");
  await person.titled("default · Org · longshore console");
  await person.sees("Saved by keeping bytes once");
  await person.looks("org");

  await person.presses("Rebuild the report");

  await person.sees("The report of default is being recounted from its files.");
}

export async function addresses_lead_back_and_forward_and_survive_a_reload(person, server) {
  await person.console(await admin(server));
  await person.titled("Overview · longshore console");
  await person.follows("Orgs");
  await person.titled("Orgs · longshore console");
  assert.equal(await person.focused(), "heading");
  await person.follows("Dead letters");
  await person.titled("Dead letters · longshore console");
  await person.page.goBack();
  await person.titled("Orgs · longshore console");
  await person.page.goForward();
  await person.titled("Dead letters · longshore console");
  await person.page.reload();
  await person.titled("Dead letters · longshore console");
  await person.opens("#/nowhere/%ff");
  await person.sees("There is no such view.");
  person.expects(/status of 404/);
  await person.opens("#/uploads/none");
  await person.sees("No upload and no file has this id.");
}

export async function server_that_goes_away_is_told_and_waited_for(person, server) {
  person.expects(/ERR_INTERNET_DISCONNECTED/);
  await person.console(await admin(server));
  await person.sees("Live");

  await person.context.setOffline(true);
  await person.sees("The server cannot be reached. It is asked again every few seconds.");
  await person.sees(/^As of \d+ s ago$/);
  await person.sees("Pools");
  await person.looks("overview-unreachable");

  await person.context.setOffline(false);
  await person.sees("Live");
  await person.page.getByText("The server cannot be reached").waitFor({ state: "detached" });
}

export async function server_that_answers_badly_is_told_and_asked_again(person, server) {
  await person.console(await admin(server));
  await person.sees("Pools");
  const answers = (status, json) => person.page.route("**/api/admin/overview", (route) => route.fulfill({ status, json }));

  person.expects(/status of 503/);
  await answers(503, { error: { type: "unavailable_error", message: "The ledger is away" } });
  await person.sees("The server cannot answer at the moment: The ledger is away");
  await person.sees("Pools");

  person.expects(/TypeError/);
  await answers(200, { overview: [{ of: "another version" }] });
  await person.sees("The server's answer cannot be read.");

  await person.page.unrouteAll();
  await person.sees("Pools");
  await person.sees("Live");
}

export async function every_view_suits_a_phone_the_dark_and_a_screen_reader(person, server) {
  const id = await server.sends(`${"a-long-name-".repeat(12)}.txt`, "long", "VIEWS-1");
  await server.settles(id);
  const [doomed] = await server.buries(["views.jpg"], "VIEWS-1");
  const [{ id: letter }] = (await server.api("GET", `admin/dead-letters?subject=${doomed.id}`)).deadLetters;
  const {
    orgs: [org],
  } = await server.api("GET", "admin/orgs");
  await person.console(await admin(server));
  const views = {
    overview: "#/",
    letters: "#/dead-letters",
    letter: `#/dead-letters/${letter}`,
    upload: `#/uploads/${id}`,
    orgs: "#/orgs",
    org: `#/orgs/${org.id}`,
    search: "#/search?q=VIEWS-1",
    workers: "#/workers",
  };
  for (const [suffix, how] of [
    ["light", {}],
    ["dark", { dark: true }],
    ["phone", { phone: true }],
    ["phone-dark", { phone: true, dark: true }],
  ]) {
    await person.on(how);
    for (const [name, fragment] of Object.entries(views)) {
      await person.opens(fragment);
      await person.looks(`${name}-${suffix}`);
    }
  }
  await doomed.mend();
  await server.api("POST", "admin/dead-letters/retry", { filter: {} });
  await until(async () => (await server.settles(doomed.id)).status === "done");
}
