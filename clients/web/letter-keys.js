/**
 * Keys of one letter, each for a button. They do nothing where a letter is written, and the user can switch them off:
 * who dictates presses many by accident (WCAG 2.1.4).
 */

import { Remembered } from "./remembered.js";

const WRITTEN_INTO = 'input:not([type="checkbox"], [type="radio"]), select, textarea';

export class LetterKeys {
  #on = new Remembered("muse.letter-keys", true);
  /** @type {HTMLElement[]} */
  #buttons;

  /** For the buttons that have a `data-key`. @param {HTMLInputElement} box that switches them on and off */
  constructor(box) {
    this.#buttons = [...document.querySelectorAll("[data-key]")].filter((one) => one instanceof HTMLElement);
    box.checked = this.#on.value;
    box.addEventListener("change", () => {
      this.#on.value = box.checked;
      this.#show();
    });
    document.addEventListener("keydown", (event) => this.#onKeyDown(event));
    this.#show();
  }

  /** @param {KeyboardEvent} event of which a browser that fills in a form leaves out the key */
  #onKeyDown({ key, target, ctrlKey, metaKey, altKey, repeat }) {
    const written = target instanceof Element && target.matches(WRITTEN_INTO);
    if (this.#on.value && !written && !ctrlKey && !metaKey && !altKey && !repeat) {
      this.#buttons.find((button) => button.dataset.key === key?.toUpperCase())?.click();
    }
  }

  #show() {
    for (const button of this.#buttons) {
      button.querySelector("kbd").hidden = !this.#on.value;
      if (this.#on.value) {
        button.setAttribute("aria-keyshortcuts", button.dataset.key);
      } else {
        button.removeAttribute("aria-keyshortcuts");
      }
    }
  }
}
