/**
 * What both sides said, in order. Pure; `captions.js` shows it.
 *
 * @typedef {"pending" | "spoken" | "interrupted" | "failed" | "unwritten"} LineState
 * @typedef {object} Line
 * @property {string} id  the conversation item's
 * @property {"user" | "muse"} speaker
 * @property {string} text
 * @property {number} heard  characters of the text that have been heard so far
 * @property {LineState} state
 */

const MAX_LINES = 200;
/** Samples at 24 kHz that a character takes in unhurried English; used while a line's own audio is still on its way. */
const SAMPLES_PER_CHARACTER = 1600;

export class Transcript {
  /** @type {Map<string, Line>} */
  #lines = new Map();
  /** @type {Map<string, Pace>} */
  #paces = new Map();
  #onChange;

  /** @param {(line: Line | null, id: string) => void} onChange a line is new or changed, or gone (null) */
  constructor(onChange) {
    this.#onChange = onChange;
  }

  /** @param {string} id @param {"user" | "muse"} speaker @param {string} [text] */
  add(id, speaker, text = "") {
    if (this.#lines.has(id)) {
      return;
    }
    const state = speaker === "user" && text ? "spoken" : "pending";
    this.#put({ id, speaker, text, heard: text.length, state });
    this.#paces.set(id, new Pace());
    if (this.#lines.size > MAX_LINES) {
      this.#remove(this.#lines.keys().next().value);
    }
  }

  /** More words. @param {string} id @param {"user" | "muse"} speaker @param {string} delta */
  append(id, speaker, delta) {
    this.add(id, speaker);
    const line = this.#lines.get(id);
    if (line.state === "interrupted") {
      return;
    }
    this.#paces.get(id).words(line.text.length);
    const text = line.text + delta;
    this.#put({ ...line, text, heard: speaker === "user" ? text.length : line.heard });
  }

  /**
   * All the words. Of a line of Muse's there were some before: one that is not there has been removed, unheard.
   *
   * @param {string} id @param {"user" | "muse"} speaker @param {string} text
   */
  complete(id, speaker, text) {
    if (speaker === "muse" && !this.#lines.has(id)) {
      return;
    }
    this.add(id, speaker);
    const line = this.#lines.get(id);
    const state = line.state === "interrupted" || speaker === "muse" ? line.state : "spoken";
    const heard = state === "pending" ? line.heard : text.length;
    this.#put({ ...line, text, heard: Math.min(heard, text.length), state });
  }

  /** Nobody will find out the words. @param {string} id */
  leave(id) {
    const line = this.#lines.get(id);
    if (line?.state === "pending") {
      this.#put({ ...line, state: "unwritten" });
    }
  }

  /** The words could not be found out. @param {string} id */
  fail(id) {
    this.add(id, "user");
    this.#put({ ...this.#lines.get(id), state: "failed" });
  }

  /** More of a line's audio has arrived. @param {string} id @param {number} samples */
  sound(id, samples) {
    this.#paces.get(id)?.sound(samples);
  }

  /** @param {string} id @param {number} samples heard of the line so far */
  hear(id, samples) {
    const line = this.#lines.get(id);
    if (line?.state === "pending") {
      const characters = this.#paces.get(id).heard(line.text.length, samples);
      this.#put({ ...line, heard: endOfWord(line.text, characters) });
    }
  }

  /** The line was heard, or shown, to its end. @param {string} id */
  finish(id) {
    const line = this.#lines.get(id);
    if (line?.state === "pending") {
      this.#put({ ...line, heard: line.text.length, state: "spoken" });
    }
  }

  /** Only what was heard remains. @param {string} id @param {number} samples heard */
  interrupt(id, samples) {
    this.hear(id, samples);
    const line = this.#lines.get(id);
    if (line?.state !== "pending") {
      return;
    }
    const text = line.text.slice(0, line.heard).trim();
    if (text) {
      this.#put({ ...line, text, heard: text.length, state: "interrupted" });
    } else {
      this.#remove(id);
    }
  }

  /** @param {Line} line */
  #put(line) {
    this.#lines.set(line.id, line);
    this.#onChange(line, line.id);
  }

  /** @param {string} id */
  #remove(id) {
    this.#lines.delete(id);
    this.#paces.delete(id);
    this.#onChange(null, id);
  }
}

/** Where in a line's words its audio is: words and audio arrive in turns, so each arrival ties one to the other. */
class Pace {
  /** @type {{characters: number, samples: number}[]} */
  #anchors = [];
  #samples = 0;

  /** Words are about to arrive. @param {number} characters so far */
  words(characters) {
    if (this.#anchors.at(-1)?.samples !== this.#samples) {
      this.#anchors.push({ characters, samples: this.#samples });
    }
  }

  /** @param {number} samples more */
  sound(samples) {
    this.#samples += samples;
  }

  /** @param {number} characters in all @param {number} samples heard @returns {number} characters heard */
  heard(characters, samples) {
    const index = this.#anchors.findLastIndex((anchor) => anchor.samples <= samples);
    if (index < 0) {
      return 0;
    }
    const from = this.#anchors[index];
    const to = this.#anchors[index + 1] ?? this.#end(from, characters);
    const share = Math.min(1, (samples - from.samples) / Math.max(1, to.samples - from.samples));
    return Math.round(from.characters + share * (to.characters - from.characters));
  }

  /** @param {{characters: number, samples: number}} from @param {number} characters in all */
  #end(from, characters) {
    const spoken = from.samples + (characters - from.characters) * SAMPLES_PER_CHARACTER;
    return { characters, samples: Math.max(this.#samples, spoken) };
  }
}

/** @param {string} text @param {number} position @returns {number} where the word at `position` ends */
function endOfWord(text, position) {
  if (position === 0) {
    return 0;
  }
  const rest = text.slice(position).search(/\s/);
  return rest < 0 ? text.length : position + rest;
}
