/** Muse's voice: what the server sends, played without gaps, softly or not at all, and how much of it was heard. */

import { WIRE_RATE, decodePcm16 } from "./pcm.js";
import { problems } from "./problems.js";

/**
 * @typedef {object} PlayoutListener
 * @property {(itemId: string, waited: number) => void} onStarted  the first sound of an item is heard, `waited` ms
 *   after it arrived
 * @property {(itemId: string, samples: number) => void} onHeard  so many samples of the item have been heard
 * @property {(itemId: string, samples: number) => void} onFinished  the item was heard to its end
 * @property {(items: import("./jitter-buffer.js").Heard[]) => void} onFlushed  playing was cut short
 */

export class Playout {
  #context;
  #node;
  #listener;
  /** @type {string | null} the response whose audio is played; any other's is late */
  #response = null;
  /** @type {Map<string, number>} when the first sound of an item arrived, on the context's clock, in seconds */
  #arrivals = new Map();
  /** Samples heard in finished and interrupted items, then in the item being played. */
  #heardBefore = 0;
  #heardNow = 0;
  /** How often a reply's audio ran out before its end. */
  underruns = 0;
  /** Frames that were not played: they came after an interruption, or did not fit. */
  dropped = 0;

  /** @param {AudioContext} context @param {AudioWorkletNode} node @param {PlayoutListener} listener */
  constructor(context, node, listener) {
    this.#context = context;
    this.#node = node;
    this.#listener = listener;
    this.analyser = new AnalyserNode(context, { fftSize: 512 });
    node.connect(this.analyser).connect(context.destination);
    node.port.onmessage = ({ data }) => this.#receive(data);
  }

  /**
   * Call it while handling a click, or the browser will not let it sound.
   *
   * @param {{sinkId: string, listener: PlayoutListener}} options `sinkId` "" is the default loudspeaker
   * @returns {Promise<Playout>}
   * @throws {import("./problems.js").Problem}
   */
  static async open({ sinkId, listener }) {
    if (!isSecureContext) {
      throw problems.insecure();
    }
    if (typeof AudioWorkletNode === "undefined") {
      throw problems.unsupported();
    }
    const context = new AudioContext({ sampleRate: WIRE_RATE, latencyHint: "interactive" });
    await context.audioWorklet.addModule(new URL("playout-worklet.js", import.meta.url));
    const node = new AudioWorkletNode(context, "playout", { numberOfInputs: 0, outputChannelCount: [1] });
    const playout = new Playout(context, node, listener);
    await playout.useSink(sinkId);
    await context.resume();
    return playout;
  }

  /** @returns {number} seconds heard so far */
  get heard() {
    return (this.#heardBefore + this.#heardNow) / WIRE_RATE;
  }

  /** From now on only this response is played. @param {string} responseId */
  accept(responseId) {
    this.#response = responseId;
    this.#node.port.postMessage({ type: "duck", softly: false });
  }

  /**
   * @param {string} responseId
   * @param {string} itemId
   * @param {string} delta base64 PCM
   * @returns {number} samples taken; 0 when they came too late
   */
  push(responseId, itemId, delta) {
    if (responseId !== this.#response) {
      this.dropped += 1;
      return 0;
    }
    if (!this.#arrivals.has(itemId)) {
      this.#arrivals.set(itemId, this.#context.currentTime);
    }
    const samples = decodePcm16(delta);
    const { length } = samples;
    this.#node.port.postMessage({ type: "push", id: itemId, samples }, [samples.buffer]);
    return length;
  }

  /** @param {string} itemId has no more audio */
  end(itemId) {
    this.#node.port.postMessage({ type: "end", id: itemId });
  }

  /** @param {boolean} softly */
  duck(softly) {
    this.#node.port.postMessage({ type: "duck", softly });
  }

  /** Stop at once, and take no more of the present response. */
  flush() {
    this.#response = null;
    this.#node.port.postMessage({ type: "flush" });
  }

  /** @param {string} sinkId */
  async useSink(sinkId) {
    if (sinkId && "setSinkId" in this.#context) {
      await this.#context.setSinkId(sinkId).catch(() => {
        // The loudspeaker is gone: the default one goes on playing.
      });
    }
  }

  close() {
    this.#node.port.onmessage = null;
    this.#node.port.postMessage({ type: "close" });
    this.#context.close();
  }

  /** @param {import("./playout-worklet.js").PlayoutReport} event */
  #receive(event) {
    switch (event.type) {
      case "started":
        this.#listener.onStarted(event.id, this.#waited(event));
        break;
      case "progress":
        this.#heardNow = event.played;
        this.#listener.onHeard(event.id, event.played);
        break;
      case "finished":
        this.#settle([event]);
        this.#listener.onFinished(event.id, event.played);
        break;
      case "flushed":
        this.#settle(event.items);
        this.#listener.onFlushed(event.items);
        break;
      case "underrun":
        this.underruns += 1;
        break;
      case "overflow":
        this.dropped += 1;
        break;
    }
  }

  /** @param {{id: string, time: number}} started @returns {number} ms from the item's arrival to its first sound */
  #waited({ id, time }) {
    const arrival = this.#arrivals.get(id) ?? time;
    const device = this.#context.outputLatency || this.#context.baseLatency;
    return 1000 * (Math.max(0, time - arrival) + device);
  }

  /** @param {import("./jitter-buffer.js").Heard[]} items that are over */
  #settle(items) {
    for (const { id, played } of items) {
      this.#heardBefore += played;
      this.#arrivals.delete(id);
    }
    this.#heardNow = 0;
  }
}
