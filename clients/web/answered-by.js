/** Which model answers, and why: a name to open. */

import { decisionOf, roleWord } from "./decision.js";
import { closeWhenLeft, make } from "./dom.js";
import { nameOf } from "./format.js";

export class AnsweredBy {
  #elements;

  /** @param {{menu: HTMLDetailsElement, name: HTMLElement, version: HTMLElement, why: HTMLElement}} elements */
  constructor(elements) {
    this.#elements = elements;
    closeWhenLeft(elements.menu);
  }

  /** @param {ReturnType<typeof decisionOf>} decision */
  show(decision) {
    const { menu, name, version, why } = this.#elements;
    menu.hidden = decision === null;
    if (decision) {
      const { model } = nameOf(decision.version);
      name.textContent = [model, roleWord(decision.role)].filter(Boolean).join(" · ");
      version.textContent = decision.version;
      why.replaceChildren(...decision.reasons.map((reason) => make("li", {}, reason)));
    }
  }
}
