// A person with a browser: fills in the page, sends files, and reads what it says.
//
//     browser.mjs MODULES CHROMIUM URL [SCREENSHOTS]

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { resolve } from "node:path";

const [modules, executablePath, url, screenshots] = process.argv.slice(2);
const { chromium } = createRequire(resolve(modules, "page.js"))("playwright-core");

const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];
const file = (name, bytes) => ({ name, mimeType: "text/plain", buffer: Buffer.alloc(bytes, name) });

const browser = await chromium.launch({ executablePath, args: FLAGS });
try {
  const page = await browser.newPage();
  const faults = [];
  page.on("pageerror", (error) => faults.push(error.message));
  page.on("console", (message) => message.type() === "error" && faults.push(message.text()));
  const picture = (name) => screenshots && page.screenshot({ path: `${screenshots}/${name}.png`, fullPage: true });
  const says = (text) => page.getByText(text, { exact: true }).first().waitFor({ timeout: 20_000 });

  await page.goto(url);
  await page.getByRole("button", { name: "Send" }).click();
  await says("Type the order number.");
  await picture("empty");

  await page.getByLabel("Order number").fill("WEB-1");
  await page.getByLabel("Files").setInputFiles([file("front.txt", 300_000), file("back.txt", 7), file("empty.txt", 0)]);
  await page.getByRole("button", { name: "Send" }).click();
  await says("3 of 3 sent.");
  await picture("sent");

  await page.emulateMedia({ colorScheme: "dark" });
  await page.setViewportSize({ width: 360, height: 640 });
  await page.getByLabel("a style").check();
  await page.getByLabel("Style number").fill("WEB-2");
  await page.getByLabel("Files").setInputFiles([file("sleeve.txt", 20)]);
  await page.getByRole("button", { name: "Send" }).click();
  await says("4 of 4 sent.");
  assert.deepEqual(faults, [], "the browser complains of nothing");

  await page.getByLabel("Style number").fill("<script>");
  await page.getByLabel("Files").setInputFiles([file("refused.txt", 20)]);
  await page.getByRole("button", { name: "Send" }).click();
  await says("Type the style number as it is written on your papers, for example A-100.");
  await says("4 of 5 sent, 1 not sent.");
  await picture("refused");
  const wide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
  assert.equal(wide, false, "a phone need not scroll sideways");
} finally {
  await browser.close();
}
