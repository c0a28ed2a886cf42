// Tells every story, each in a browser window of its own, against one `longshore up`.
//
//     stories.mjs MODULES CHROMIUM BINARY PICTURES [WORD]

import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";

import * as console_stories from "./console.mjs";
import * as letter_stories from "./dead_letters.mjs";
import { Person } from "./person.mjs";
import { Server } from "./server.mjs";
import * as page_stories from "./upload_page.mjs";

const [modules, executablePath, binary, pictures, word = ""] = process.argv.slice(2);
const require = createRequire(resolve(modules, "stories.js"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

const began = Date.now();
const stories = [page_stories, console_stories, letter_stories]
  .flatMap(Object.entries)
  .filter(([name]) => name.includes(word));
const server = await Server.start(resolve(binary));
let held = 0;
try {
  const browser = await chromium.launch({ executablePath, args: FLAGS });
  for (const [name, story] of stories) held += await tell(browser, name, story);
  await browser.close();
} finally {
  await server.stop();
}
console.log(`${held} of ${stories.length} stories in a browser hold (${Math.round((Date.now() - began) / 1000)} s)`);
process.exitCode = held === stories.length ? 0 : 1;

async function tell(browser, name, story) {
  const person = await Person.at(browser, server.url, { axe, pictures });
  try {
    await story(person, server);
    person.complainsOfNothing();
    console.log(`ok      ${name.replaceAll("_", " ")}`);
    return true;
  } catch (error) {
    console.error(`FAILED  ${name.replaceAll("_", " ")}: ${error.stack}`);
    await person.picture(`failed-${name}`);
    return false;
  } finally {
    await person.leaves();
  }
}
