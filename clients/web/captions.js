/** Shows the transcript as a conversation. */

const SPEAKERS = { user: "You", muse: "Muse" };
const REMARKS = {
  pending: "",
  spoken: "",
  interrupted: "interrupted",
  failed: "could not be understood",
  unwritten: "spoken; this model does not write it down",
};
const NEAR_END_PX = 80;

export class Captions {
  #list;
  #scroller;
  #empty;
  /** @type {Map<string, HTMLElement>} */
  #lines = new Map();

  /** @param {{list: HTMLElement, scroller: HTMLElement, empty: HTMLElement}} elements */
  constructor({ list, scroller, empty }) {
    this.#list = list;
    this.#scroller = scroller;
    this.#empty = empty;
  }

  clear() {
    this.#lines.clear();
    this.#list.replaceChildren();
    this.#empty.hidden = false;
  }

  /** @param {import("./transcript.js").Line | null} line null removes it @param {string} id */
  show(line, id) {
    const follow = this.#scroller.scrollHeight - this.#scroller.scrollTop - this.#scroller.clientHeight < NEAR_END_PX;
    if (line) {
      fill(this.#elementFor(line), line);
    } else {
      this.#lines.get(id)?.remove();
      this.#lines.delete(id);
    }
    this.#empty.hidden = this.#lines.size > 0;
    if (follow) {
      this.#scroller.scrollTop = this.#scroller.scrollHeight;
    }
  }

  /** @param {import("./transcript.js").Line} line @returns {HTMLElement} */
  #elementFor({ id, speaker }) {
    const known = this.#lines.get(id);
    if (known) {
      return known;
    }
    const element = lineElement(speaker);
    this.#lines.set(id, element);
    this.#list.append(element);
    return element;
  }
}

/** @param {"user" | "muse"} speaker @returns {HTMLElement} */
function lineElement(speaker) {
  const element = document.createElement("li");
  element.className = `line line-${speaker}`;
  const name = document.createElement("span");
  name.className = "speaker";
  name.textContent = SPEAKERS[speaker];
  const words = document.createElement("p");
  words.className = "words";
  words.append(span("heard"), span("ahead"));
  element.append(name, words, span("remark"));
  return element;
}

/** @param {string} className @returns {HTMLElement} */
function span(className) {
  const element = document.createElement("span");
  element.className = className;
  return element;
}

/** @param {HTMLElement} element @param {import("./transcript.js").Line} line */
function fill(element, { text, heard, state }) {
  element.dataset.state = state;
  element.classList.toggle("waiting", state === "pending" && text === "");
  element.querySelector(".heard").textContent = text.slice(0, heard);
  element.querySelector(".ahead").textContent = text.slice(heard);
  element.querySelector(".remark").textContent = state === "spoken" && text === "" ? "no words" : REMARKS[state];
}
