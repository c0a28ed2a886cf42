// The upload page, as somebody uses it who has files for an order.

import assert from "node:assert/strict";

const file = (name, bytes, fill = name) => ({ name, mimeType: "text/plain", buffer: Buffer.alloc(bytes, fill) });

async function desk(person, server) {
  await person.page.goto(server.url);
  await person.page.getByLabel("Access token").fill(await server.key("upload"));
  await person.presses("Continue");
}

/** Chooses files for an order and sends them. */
async function send(person, number, files) {
  await person.page.getByLabel("Order number").fill(number);
  await person.page.getByLabel("Choose files").setInputFiles(files);
  await person.presses(/^Upload \d/);
}

export async function upload_page_tells_a_wrong_token_from_a_right_one(person, server) {
  await person.page.goto(server.url);
  await person.looks("page-door");
  await person.presses("Continue");
  await person.sees("Paste your token first.");
  person.expects(/status of 401/);
  await person.page.getByLabel("Access token").fill("lsk_wrong_wrong");
  await person.presses("Continue");
  await person.sees("This token is not known here.");

  await person.page.getByLabel("Access token").fill(await server.key("upload"));
  await person.page.keyboard.press("Enter");
  await person.page.getByRole("heading", { name: "Upload files" }).waitFor();
  assert.equal(new URL(person.page.url()).search, "", "the token is not in the address");
}

export async function several_files_for_an_order_are_sent_with_progress_and_stored(person, server) {
  await desk(person, server);
  await person.page.evaluate(() => {
    globalThis.told = [];
    new MutationObserver(() =>
      told.push(...[...document.querySelectorAll(".row .state")].map((state) => state.textContent)),
    ).observe(document.querySelector("#list"), { subtree: true, childList: true, characterData: true });
  });
  // Slow enough for a person to see it move.
  const line = await person.context.newCDPSession(person.page);
  await line.send("Network.emulateNetworkConditions", {
    offline: false,
    latency: 0,
    downloadThroughput: -1,
    uploadThroughput: 1_500_000,
  });

  await send(person, "WEB-1", [file("front.txt", 1_500_000), file("back.txt", 7), file("empty.txt", 0)]);
  await person.sees("3 of 3 done");

  await person.looks("page-sent");
  const told = await person.page.evaluate(() => told);
  assert.ok(
    told.some((text) => /^Sending, [1-9]\d? %$/.test(text)),
    `progress was shown: ${[...new Set(told)]}`,
  );
  const uploads = await server.uploads("WEB-1");
  assert.deepEqual(
    uploads.map(({ status }) => status),
    ["done", "done", "done"],
  );
  assert.deepEqual(uploads.map(({ filename }) => filename).sort(), ["back.txt", "empty.txt", "front.txt"]);
}

export async function refused_file_says_why_and_costs_the_others_nothing(person, server) {
  await desk(person, server);
  person.expects(/status of 400/);
  // One file changes between the request and its arrival.
  await person.page.route("**/bucket/**", (route) => {
    const sent = route.request().postDataBuffer();
    const at = sent?.indexOf("wellknown") ?? -1;
    if (at < 0) return route.continue();
    sent.write("WELLKNOWN", at);
    return route.continue({ postData: sent });
  });

  await send(person, "WEB-2", [file("large.txt", 2_500_000), file("changed.txt", 900, "wellknown"), file("good.txt", 90)]);
  await person.sees("1 of 3 done · 2 not uploaded");

  await person.sees("Too large: at most 2 MB can be sent.");
  await person.sees(/^The storage refused the file: .+/);
  await person.looks("page-refused");
  const done = (await server.uploads("WEB-2")).filter(({ status }) => status === "done");
  assert.deepEqual(
    done.map(({ filename }) => filename),
    ["good.txt"],
  );
}

export async function known_bytes_are_not_sent_again(person, server) {
  await desk(person, server);
  await send(person, "WEB-3", [file("first.txt", 5000, "the same")]);
  await person.sees("1 of 1 done");

  await person.page.getByText("A style").click();
  await person.page.getByLabel("Style number").fill("STYLE-3");
  await person.page.getByLabel("Choose files").setInputFiles([file("second.txt", 5000, "the same")]);
  await person.presses("Upload 1 file");

  await person.sees("Done. Already stored, nothing had to be sent");
  await person.looks("page-duplicate");
  const [upload] = await server.uploads("STYLE-3");
  assert.deepEqual([upload.status, upload.deduplicated], ["done", true]);
}

export async function upload_page_works_on_a_phone_and_in_the_dark(person, server) {
  await person.on({ phone: true, dark: true });
  await desk(person, server);
  await send(person, "WEB-4", [file(`${"a very long name ".repeat(6)}.txt`, 20), file("<b>bold</b>.txt", 20)]);
  await person.sees("2 of 2 done");
  await person.sees("<b>bold</b>.txt");
  await person.looks("page-phone-dark");
}
