/** Something the user chose, kept in this browser where it allows that. */

/** @template T */
export class Remembered {
  #name;
  #value;

  /** @param {string} name @param {T} atFirst */
  constructor(name, atFirst) {
    this.#name = name;
    this.#value = read(name, atFirst);
  }

  get value() {
    return this.#value;
  }

  set value(value) {
    this.#value = value;
    try {
      localStorage.setItem(this.#name, JSON.stringify(value));
    } catch {
      // It is remembered until the page is left.
    }
  }
}

/** @template T @param {string} name @param {T} atFirst @returns {T} what was stored, if it is of the same type */
function read(name, atFirst) {
  try {
    const stored = JSON.parse(localStorage.getItem(name) ?? "null");
    return stored !== null && typeof stored === typeof atFirst ? stored : atFirst;
  } catch {
    return atFirst;
  }
}
