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

export async function overview_names_what_an_alert_would(person, server) {
  const changed = (change) =>
    person.hears("overview", ({ overview: [overview] }) => {
      const pool = (name) => overview.pools.find(({ pool }) => pool === name);
      change(overview, pool);
    });
  const ago = (seconds) => new Date(Date.now() - seconds * 1000).toISOString();
  const found = (orphans) => [{ kind: "row", orphans, bytes: 7, asOf: ago(60) }];
  await changed((overview, pool) => {
    Object.assign(pool("verify"), { due: 5, oldestAgeSeconds: 300 });
    Object.assign(pool("issue"), { due: 1, oldestAgeSeconds: 30 });
    overview.report.oldestDeltaAgeSeconds = 300;
    overview.schedules = [{ kind: "fold_reports", lastTickAt: ago(500) }];
    overview.sweep = [...found(0), { kind: "blob", orphans: 4, bytes: 7, asOf: ago(60) }];
    overview.failing = [];
  });
  await person.console(await admin(server));
  await person.sees("Nothing needs a person.");

  await changed((overview, pool) => {
    Object.assign(pool("verify"), { due: 5, oldestAgeSeconds: 301 });
    Object.assign(pool("issue"), { due: 1, oldestAgeSeconds: 31 });
    Object.assign(pool("store"), { paused: true, pausedAt: ago(90), due: 2, oldestAgeSeconds: 60 });
    overview.report.oldestDeltaAgeSeconds = 301;
    overview.schedules = [{ kind: "fold_reports", lastTickAt: ago(660) }];
    overview.sweep = found(2);
    overview.checks.bucket = "failed";
    overview.failing = [{ kind: "store_file", error: "copy: denied", jobs: 3, lastAt: ago(9), example: null }];
  });
  for (const told of [
    "bucket: the check fails.",
    "3 jobs of store_file failed in the last 15 minutes: copy: denied",
    "The bucket has lost the bytes of 2 blobs",
    "store: paused until somebody resumes it. 2 jobs are due, the oldest for 1 min.",
    "issue: 1 job is due, the oldest for 31 s.",
    "verify: 5 jobs are due, the oldest for 5 min 1 s.",
    "No schedule has ticked for ten minutes",
    "The reports are behind",
  ])
    await person.sees(told);
  assert.equal(await person.page.getByText("Nothing needs a person.").count(), 0);
  await person.looks("overview-concerns");
}

export async function pools_can_be_paused_while_the_queue_is_away(person, server) {
  await person.hears("overview", ({ overview: [overview] }) => {
    const unknown = { waiting: null, due: null, running: null, oldestAgeSeconds: null };
    for (const pool of overview.pools) Object.assign(pool, unknown);
    overview.checks.queue = "failed";
  });
  await person.console(await admin(server));

  await person.sees("The queue cannot be reached, so nobody can tell what waits and runs.");
  await person.sees("queue: the check fails.");
  await person.page.getByRole("row", { name: /^report open – – – –/ }).waitFor();
  await person.looks("overview-queue-away");
  await person.presses("Pause report");
  await person.answers("Pause report");
  await person.sees("report is paused.");
  await server.api("POST", "admin/pools/report/resume");
}

export async function names_hide_nothing_and_turn_nothing_around(person, server) {
  const names = { "\u202Egpj.exe": "[U+202E]gpj.exe", "\u200B": "[U+200B]", "חשבון.pdf": "חשבון.pdf" };
  for (const name of Object.keys(names)) await server.settles(await server.sends(name, name, "HOSTILE-1"));
  await person.console(await admin(server), "#/search?q=HOSTILE-1");

  for (const shown of Object.values(names))
    await person.page.getByRole("link", { name: shown, exact: true }).first().waitFor();
  await person.looks("search-hostile");
  await person.follows("[U+202E]gpj.exe");
  await person.titled("[U+202E]gpj.exe · Upload · longshore console");
}

export async function batch_that_is_found_leads_to_a_command(person, server) {
  const {
    batches: [{ id }],
  } = await server.api("POST", "batches", {
    mode: "prefix",
    maxFiles: 5,
    maxFileSize: 1000,
    target: { kind: "style", number: "BATCH-1" },
  });
  await person.console(await admin(server), `#/search?q=${id}`);
  await person.sees(`longshore status ${id}`);
  await person.looks("search-batch");

  person.expects(/status of 404/);
  await person.opens(`#/uploads/${id}`);
  await person.follows("Search for what has it");
  await person.sees(`longshore status ${id}`);
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

export async function failed_upload_is_found_from_the_overview_without_its_name(person, server) {
  const id = await server.rejects("lost <i>proof</i>.txt", "LOST-1");
  await person.console(await admin(server));
  await person.follows(/^\d+ rejected$/);
  await person.titled("Uploads · longshore console");
  await person.page.getByRole("row", { name: /lost <i>proof<\/i>\.txt digest_mismatch default style LOST-1/ }).waitFor();
  await person.looks("uploads-rejected");

  await person.page.getByLabel("Reason").selectOption("too_large");
  await person.presses("Filter");
  await person.sees("No upload is rejected for too_large.");
  await person.follows("Show all");
  await person.page.getByLabel("Org, by name or id").fill("default");
  await person.presses("Filter");
  await person.follows("lost <i>proof</i>.txt");
  await person.titled("lost <i>proof</i>.txt · Upload · longshore console");
  assert.match(person.page.url(), new RegExp(`#/uploads/${id}$`));
  await person.sees("What arrived has another SHA-256 than was promised");
  await person.page.getByRole("row", { name: /^Hash sha256-\w+ sha256-\w+$/ }).waitFor();

  await person.opens("#/uploads?status=done");
  await person.sees("Nearly all uploads are done.");
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

  const told = person.page.getByText("The report of default is being recounted from its files.");
  await told.waitFor();
  let goOn;
  await person.page.route("**/rebuild", async (route) => {
    await new Promise((resolve) => (goOn = resolve));
    await route.continue();
  });
  await person.presses("Rebuild the report");
  await told.waitFor({ state: "detached" });
  goOn();
  await told.waitFor();
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
  await person.sees("It is not asked for any more.");
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
    uploads: `#/uploads?status=done&org=${org.id}`,
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
