/** Records a question with the page's microphone. */

import { Microphone } from "./microphone.js";
import { joined } from "./recording.js";

export class Recorder {
  #microphone;
  /** @type {ArrayBuffer[]} */
  #chunks;

  /** @param {Microphone} microphone @param {ArrayBuffer[]} chunks that it fills */
  constructor(microphone, chunks) {
    this.#microphone = microphone;
    this.#chunks = chunks;
  }

  /**
   * Call it while handling a click.
   *
   * @param {{onLost: (problem: Error) => void}} options
   * @returns {Promise<Recorder>} that records
   * @throws {import("./problems.js").Problem}
   */
  static async open({ onLost }) {
    /** @type {ArrayBuffer[]} */
    const chunks = [];
    const microphone = await Microphone.open({ deviceId: "", onChunk: (chunk) => chunks.push(chunk), onLost });
    return new Recorder(microphone, chunks);
  }

  get analyser() {
    return this.#microphone.analyser;
  }

  /** @returns {Int16Array} what was recorded, at the wire's rate */
  stop() {
    this.#microphone.close();
    return joined(this.#chunks);
  }
}
