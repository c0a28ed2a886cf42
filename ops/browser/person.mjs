// Somebody with a browser window, who notices whatever the browser complains of.

import assert from "node:assert/strict";
import { join } from "node:path";

const PATIENCE = 20_000;

export class Person {
  static async at(browser, url, { axe, pictures }) {
    const person = new Person();
    person.context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
    person.page = await person.context.newPage();
    person.page.setDefaultTimeout(PATIENCE);
    Object.assign(person, { url, axe, pictures, complaints: [], allowed: [] });
    person.page.on("pageerror", (error) => person.complaints.push(error.stack));
    person.page.on("console", (message) => {
      if (["error", "warning"].includes(message.type()))
        person.complaints.push(`${message.text()} (${message.location().url})`);
    });
    return person;
  }

  leaves = () => this.context.close();

  /** A complaint that belongs to the story, as that a request was refused. */
  expects(complaint) {
    this.allowed.push(complaint);
  }

  complainsOfNothing() {
    assert.deepEqual(
      this.complaints.filter((text) => !this.allowed.some((allowed) => allowed.test(text))),
      [],
      "the browser complains",
    );
  }

  /** A picture of the whole page, which has to fit the window's width and have no serious fault that axe can find. */
  async looks(name) {
    await this.picture(name);
    const beyond = await this.page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(beyond <= 0, `${name}: it is ${beyond} pixels wider than the window`);
    await this.page.evaluate(`${this.axe}; undefined`);
    const { violations } = await this.page.evaluate(() => globalThis.axe.run());
    const grave = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
    assert.deepEqual(
      grave.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]),
      [],
      `${name}: accessibility`,
    );
  }

  picture = (name) => this.page.screenshot({ path: join(this.pictures, `${name}.png`), fullPage: true });

  /** Waits until that text can be seen. */
  sees = (text) => this.page.getByText(text).filter({ visible: true }).first().waitFor();

  presses = (name, options = {}) => this.page.getByRole("button", { name, ...options }).click();

  /** Answers the question that is open. */
  answers = (act) => this.page.getByRole("dialog").getByRole("button", { name: act, exact: true }).click();

  follows = (name) =>
    this.page
      .getByRole("link", { name, exact: typeof name === "string" })
      .first()
      .click();

  titled = (title) => this.page.waitForFunction((title) => document.title === title, title);

  async console(token, fragment = "") {
    await this.page.goto(`${this.url}/console${fragment}`);
    await this.page.getByLabel("Access token").fill(token);
    await this.presses("Continue");
    await this.page.getByRole("navigation").waitFor();
  }

  async opens(fragment) {
    await this.page.evaluate((fragment) => {
      location.hash = fragment;
    }, fragment);
    await this.page.waitForFunction(() => document.querySelector("#view").textContent !== "Loading …");
  }

  /** By keyboard alone: on with Tab until what is called so has the focus. */
  async tabsTo(role, name) {
    const target = this.page.getByRole(role, { name, exact: true }).first();
    await target.waitFor();
    for (let presses = 0; presses < 60; presses++) {
      if (await target.evaluate((node) => node === document.activeElement)) return;
      await this.page.keyboard.press("Tab");
    }
    assert.fail(`${role} ${name} is not reached by Tab`);
  }

  /** From now on what the server answers is changed before the browser has it. */
  async hears(path, change) {
    await this.page.unrouteAll({ behavior: "wait" });
    await this.page.route(`**/api/admin/${path}`, async (route) => {
      const response = await route.fetch();
      const json = await response.json();
      change(json);
      await route.fulfill({ response, json });
    });
  }

  type = (text) => this.page.keyboard.type(text);

  press = (key) => this.page.keyboard.press(key);

  focused = () => this.page.evaluate(() => document.activeElement.id || document.activeElement.textContent.trim());

  async on({ dark = false, phone = false }) {
    await this.page.emulateMedia({ colorScheme: dark ? "dark" : "light" });
    await this.page.setViewportSize(phone ? { width: 360, height: 740 } : { width: 1280, height: 800 });
  }
}
