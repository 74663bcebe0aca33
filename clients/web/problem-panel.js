/** Says what went wrong and what to do, and asks for a key where the server wants one. */

import { rememberKey } from "./api.js";

/** What can be sent in a WebSocket's subprotocol, where browsers put their key (RFC 9110, section 5.6.2). */
const KEY_PATTERN = String.raw`\s*[\w!#$%&'*+.^\x60~\|\-]+\s*`;

export class ProblemPanel {
  #elements;

  /**
   * @param {{panel: HTMLElement, title: HTMLElement, advice: HTMLElement, form: HTMLFormElement, key: HTMLInputElement,
   *   retry: HTMLButtonElement}} elements
   * @param {() => void} onRetry the user wants it tried again, with a new key perhaps
   */
  constructor(elements, onRetry) {
    this.#elements = elements;
    const { form, key, retry } = elements;
    key.pattern = KEY_PATTERN;
    key.title = "A key has letters, digits and some signs, and no spaces.";
    retry.addEventListener("click", onRetry);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      rememberKey(key.value.trim());
      key.value = "";
      onRetry();
    });
  }

  /** The panel whose parts have the usual ids. @param {() => void} onRetry @returns {ProblemPanel} */
  static find(onRetry) {
    const element = (/** @type {string} */ id) => /** @type {any} */ (document.getElementById(id));
    const [panel, title, advice] = ["problem", "problem-title", "problem-advice"].map(element);
    return new ProblemPanel(
      { panel, title, advice, form: element("key-form"), key: element("key"), retry: element("retry") },
      onRetry,
    );
  }

  /** @param {import("./problems.js").Problem} problem @param {{focus?: boolean, advice?: string}} [options] */
  show(problem, { focus = true, advice = problem.advice } = {}) {
    const { panel, title, advice: advised, form, key, retry } = this.#elements;
    const { message, needsKey } = problem;
    panel.hidden = false;
    title.textContent = message;
    advised.textContent = advice;
    form.hidden = !needsKey;
    retry.hidden = needsKey;
    if (focus) {
      (needsKey ? key : retry).focus();
    }
  }

  hide() {
    this.#elements.panel.hidden = true;
  }
}
