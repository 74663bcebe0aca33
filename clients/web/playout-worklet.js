/**
 * In the audio thread: plays what the page pushes, and reports what has been heard.
 *
 * @typedef {(import("./jitter-buffer.js").BufferEvent | {type: "progress", id: string, played: number})
 *   & {time: number}} PlayoutReport  `time`: when, on the context's clock, in seconds
 */

import { JitterBuffer } from "./jitter-buffer.js";

const PROGRESS_SECONDS = 0.05;

class PlayoutProcessor extends AudioWorkletProcessor {
  #buffer = new JitterBuffer({ rate: sampleRate, emit: (event) => this.#report(event) });
  #nextProgress = 0;
  #running = true;

  constructor() {
    super();
    this.port.onmessage = ({ data }) => this.#obey(data);
  }

  /** @param {unknown} _inputs @param {Float32Array[][]} outputs @returns {boolean} whether to go on */
  process(_inputs, [[channel]]) {
    this.#buffer.render(channel);
    const current = this.#buffer.current;
    if (current && currentTime >= this.#nextProgress) {
      this.#nextProgress = currentTime + PROGRESS_SECONDS;
      this.port.postMessage({ type: "progress", ...current, time: currentTime });
    }
    return this.#running;
  }

  /** @param {import("./jitter-buffer.js").BufferEvent} event */
  #report(event) {
    const time = event.type === "started" ? currentTime + event.offset / sampleRate : currentTime;
    this.port.postMessage({ ...event, time });
  }

  /** @param {{type: string, id?: string, samples?: Float32Array, softly?: boolean}} command */
  #obey({ type, id, samples, softly }) {
    if (type === "push") {
      this.#buffer.push(id, samples);
    } else if (type === "end") {
      this.#buffer.end(id);
    } else if (type === "duck") {
      this.#buffer.duck(softly);
    } else if (type === "flush") {
      this.#buffer.flush();
    } else if (type === "close") {
      this.#running = false;
    }
  }
}

registerProcessor("playout", PlayoutProcessor);
