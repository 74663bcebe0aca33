/** In the audio thread: the microphone at the device's rate in, chunks of 16-bit PCM at the wire's rate out. */

import { WIRE_RATE, toInt16 } from "./pcm.js";
import { Resampler } from "./resampler.js";

const QUANTUM = 128;

class CaptureProcessor extends AudioWorkletProcessor {
  #resampler = new Resampler(sampleRate, WIRE_RATE, QUANTUM);
  #resampled = new Float32Array(Math.ceil((QUANTUM * WIRE_RATE) / sampleRate) + 1);
  #chunk;
  #filled = 0;
  #running = true;

  /** @param {{processorOptions: {chunkSamples: number}}} options */
  constructor({ processorOptions }) {
    super();
    this.#chunk = new Int16Array(processorOptions.chunkSamples);
    this.port.onmessage = () => {
      this.#running = false;
    };
    this.port.postMessage({ delay: this.#resampler.delay });
  }

  /** @param {Float32Array[][]} inputs @returns {boolean} whether to go on */
  process([[channel]]) {
    if (channel) {
      const count = this.#resampler.process(channel, this.#resampled);
      for (let index = 0; index < count; index += 1) {
        this.#append(toInt16(this.#resampled[index]));
      }
    }
    return this.#running;
  }

  /** @param {number} sample */
  #append(sample) {
    this.#chunk[this.#filled] = sample;
    this.#filled += 1;
    if (this.#filled === this.#chunk.length) {
      const chunk = this.#chunk.slice().buffer;
      this.port.postMessage({ chunk }, [chunk]);
      this.#filled = 0;
    }
  }
}

registerProcessor("capture", CaptureProcessor);
