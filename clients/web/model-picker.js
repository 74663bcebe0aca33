/** The choice of the model that answers the next call: the leaderboard's, or one by name. */

import { getJson, problemOf } from "./api.js";
import { STATUSES } from "./board-table.js";
import { AUTO } from "./connection.js";
import { closeWhenLeft, keepingFocus, make, setText } from "./dom.js";
import { Remembered } from "./remembered.js";

const NOTE = "Takes effect with your next call.";

/** @typedef {{id: string, muse?: {rank: number, status: string, mode: string, languages: string[]}}} Listed */

export class ModelPicker {
  #elements;
  #chosen = new Remembered("muse.model", AUTO);
  /** @type {Listed[]} */
  #models = [];
  #asked = false;

  /** @param {{menu: HTMLDetailsElement, name: HTMLElement, list: HTMLElement, note: HTMLElement}} elements */
  constructor(elements) {
    this.#elements = elements;
    closeWhenLeft(elements.menu);
    elements.menu.addEventListener("toggle", () => elements.menu.open && this.#refresh());
    this.#show();
  }

  /** @returns {string} what a call asks for */
  get model() {
    return this.#chosen.value;
  }

  async #refresh() {
    try {
      const { data } = await getJson("/v1/models");
      this.#models = data.filter(({ id }) => id !== AUTO);
      this.#asked = true;
      setText(this.#elements.note, NOTE);
    } catch (error) {
      setText(this.#elements.note, `The models could not be listed. ${problemOf(error).message}.`);
    }
    this.#show();
  }

  #show() {
    const { name, list } = this.#elements;
    const { model } = this;
    name.textContent = model === AUTO ? "Auto" : model;
    const known = model === AUTO || this.#models.some(({ id }) => id === model);
    const gone = known ? [] : [this.#entry(model, this.#asked ? "Not available now" : "")];
    keepingFocus(list, () =>
      list.replaceChildren(
        this.#entry(AUTO, "The leaderboard decides"),
        ...this.#models.map((listed) => this.#entry(listed.id, describe(listed))),
        ...gone,
      ),
    );
  }

  /** @param {string} id @param {string} about */
  #entry(id, about) {
    const checked = id === this.model;
    const input = make("input", { type: "radio", name: "model", value: id, checked, "data-focus": `model-${id}` });
    input.addEventListener("change", () => {
      this.#chosen.value = id;
      this.#elements.name.textContent = id === AUTO ? "Auto" : id;
    });
    const words = make("span", {}, make("b", {}, id === AUTO ? "Auto" : id), about && make("small", {}, about));
    return make("label", { class: "model" }, input, words);
  }
}

/** @param {Listed} listed @returns {string} */
function describe({ muse }) {
  if (!muse) {
    return "";
  }
  const mode = muse.mode === "duplex" ? "duplex" : "turn-based";
  return [STATUSES[muse.status]?.label ?? muse.status, mode, muse.languages?.join(", ")].filter(Boolean).join(" · ");
}
