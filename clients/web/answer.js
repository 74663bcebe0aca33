/**
 * An answer as it would have been heard: its audio at the times when it came, counted from the end of the question.
 * Pure.
 */

import { WIRE_RATE } from "./pcm.js";

/** What comes so much later than the end of what came before leaves a gap; less is the network's. */
const GAP_SECONDS = 0.25;
const AUDIBLE = 0.01;

/** @typedef {{response: string, at: number, samples: Float32Array}} Piece  `at`: seconds after the question's end */

export class Answer {
  /** @type {Piece[]} */
  #pieces = [];

  /**
   * @param {string} response
   * @param {number} at seconds after the question's end, negative before it
   * @param {Float32Array} samples
   */
  add(response, at, samples) {
    const last = this.#pieces.at(-1);
    const end = last ? endOf(last) : -Infinity;
    const follows = last?.response === response && at < end + GAP_SECONDS;
    this.#pieces.push({ response, at: follows ? end : Math.max(at, end), samples });
  }

  /**
   * Nothing is heard of the response from `at` on: it was interrupted.
   *
   * @param {string} response
   * @param {number} at seconds
   */
  cut(response, at) {
    this.#pieces = this.#pieces
      .filter((piece) => piece.response !== response || piece.at < at)
      .map((piece) =>
        piece.response === response && endOf(piece) > at
          ? { ...piece, samples: piece.samples.subarray(0, Math.round((at - piece.at) * WIRE_RATE)) }
          : piece,
      );
  }

  /** @returns {boolean} whether anything is heard after the question */
  get sounds() {
    return this.wait !== null;
  }

  /** @returns {number | null} seconds from the question's end to the first sound; null for none */
  get wait() {
    const first = this.samples.findIndex((sample) => Math.abs(sample) > AUDIBLE);
    return first < 0 ? null : first / WIRE_RATE;
  }

  /** @returns {Float32Array} from the question's end on, the wait included */
  get samples() {
    const heard = this.#pieces.filter((piece) => endOf(piece) > 0);
    const length = heard.reduce((end, piece) => Math.max(end, Math.round(endOf(piece) * WIRE_RATE)), 0);
    const samples = new Float32Array(length);
    for (const { at, samples: piece } of heard) {
      const start = Math.round(at * WIRE_RATE);
      const skipped = Math.max(0, -start);
      samples.set(piece.subarray(skipped, skipped + length - Math.max(0, start)), Math.max(0, start));
    }
    return samples;
  }
}

/** @param {Piece} piece @returns {number} seconds */
function endOf({ at, samples }) {
  return at + samples.length / WIRE_RATE;
}
