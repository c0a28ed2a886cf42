// A field for an org, by its name or its id.

import { Refused, Unreachable, get, query } from "./api.js";
import { field, textField } from "./parts.js";
import { h } from "./tree.js";
import { plain } from "./units.js";

const ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
/** In milliseconds, from the last letter that was typed. */
const PAUSE = 250;

export class Orgs {
  /** Their names by their ids, as far as they were looked up. */
  #names = new Map();
  #asked = null;
  #timer = null;

  constructor(chosen, desk) {
    this.chosen = chosen ?? "";
    this.desk = desk;
  }

  /** Once the name of the chosen one and some to choose from were looked up. Without them the field takes ids. */
  known(signal) {
    this.#asked ??= Promise.all([
      this.chosen && this.#learn(`orgs/${encodeURIComponent(this.chosen)}`, signal),
      this.#learn("orgs?perPage=100", signal),
    ]);
    return this.#asked;
  }

  field(name, label) {
    const options = [...this.#names.keys()].map((id) => h("option", { key: id, value: this.#text(id) }, this.#label(id)));
    return field(name, label, [
      textField(name, this.#text(this.chosen), { list: `${name}-choices`, oninput: (event) => this.#typed(event.target) }),
      h("datalist", { id: `${name}-choices` }, options),
    ]);
  }

  /** What stands in the field for an org: a name, if it is one that can be read and typed. */
  #text(id) {
    const name = this.#names.get(id);
    return name && plain(name) === name ? name : id;
  }

  #label(id) {
    const name = plain(this.#names.get(id));
    return name === this.#text(id) ? null : name;
  }

  /** The id of the org that is named so; null when there is none, which the input then says. */
  async idOf(text, input) {
    if (ID.test(text)) return text;
    try {
      const { orgs } = await get(`orgs${query({ name: text, perPage: 100 })}`);
      const named = orgs.find(({ name }) => name === text) ?? (orgs.length === 1 ? orgs[0] : null);
      if (named) return named.id;
      refuse(
        input,
        orgs.length ? "Several orgs have this in their names: write the name in full, or the id." : "No org is called so.",
      );
    } catch (fault) {
      if (!(fault instanceof Refused || fault instanceof Unreachable)) throw fault;
      refuse(input, fault.message);
    }
    return null;
  }

  /** Where there are very many, what was typed tells which may be meant. */
  #typed(input) {
    input.setCustomValidity("");
    clearTimeout(this.#timer);
    this.#timer = setTimeout(async () => {
      await this.#learn(`orgs${query({ name: input.value.trim(), perPage: 20 })}`);
      this.desk.redraw();
    }, PAUSE);
  }

  async #learn(path, signal) {
    try {
      const { orgs } = await get(path, signal);
      for (const { id, name } of orgs) this.#names.set(id, name);
    } catch (fault) {
      console.debug(fault);
    }
  }
}

function refuse(input, sentence) {
  input.setCustomValidity(sentence);
  input.reportValidity();
}
