/**
 * Holds a reply's audio until it is played, and knows what has been heard.
 *
 * Playing begins once `target` seconds wait, or the whole item. When the audio runs out before its item has ended, that
 * is an underrun: it is counted, the sound decays without a click and the buffer fills again, a little deeper each
 * time. Pure: no clocks and no audio API, so that it is tested outside a browser.
 *
 * @typedef {{id: string, chunks: Float32Array[], offset: number, waiting: number, played: number, ended: boolean}} Item
 * @typedef {{id: string, played: number}} Heard  samples of an item that reached the loudspeaker
 * @typedef {{type: "started", id: string, offset: number}
 *   | {type: "finished", id: string, played: number}
 *   | {type: "flushed", items: Heard[]}
 *   | {type: "underrun"}
 *   | {type: "overflow"}} BufferEvent
 */

const DUCKED_GAIN = 0.2;
const RAMP_SECONDS = 0.02;
const FADE_SECONDS = 0.01;
const CLICK_DECAY = 0.97;
const DEEPER_SECONDS = 0.02;
const DEEPEST_SECONDS = 0.2;

export class JitterBuffer {
  #rate;
  #target;
  #capacity;
  #emit;
  /** @type {Item[]} */
  #items = [];
  /** @type {Item[] | null} items that fade out after a flush */
  #fading = null;
  #playing = false;
  #ducked = false;
  #gain = 1;
  #last = 0;

  /**
   * @param {{rate: number, target?: number, capacity?: number, emit: (event: BufferEvent) => void}} options
   *   rate in Hz, target and capacity in seconds
   */
  constructor({ rate, target = 0.06, capacity = 300, emit }) {
    this.#rate = rate;
    this.#target = Math.round(target * rate);
    this.#capacity = capacity * rate;
    this.#emit = emit;
  }

  /** @returns {Heard | null} the item being played */
  get current() {
    const item = (this.#fading ?? this.#items)[0];
    return item && item.played > 0 ? { id: item.id, played: item.played } : null;
  }

  /** @returns {number} samples that wait */
  get waiting() {
    return this.#items.reduce((sum, item) => sum + item.waiting, 0);
  }

  /** @param {string} id @param {Float32Array} samples */
  push(id, samples) {
    if (samples.length === 0) {
      return;
    }
    if (this.waiting + samples.length > this.#capacity) {
      this.#emit({ type: "overflow" });
      return;
    }
    const item = this.#itemFor(id);
    item.chunks.push(samples);
    item.waiting += samples.length;
  }

  /** No more audio will come for this item. @param {string} id */
  end(id) {
    const item = this.#items.find((candidate) => candidate.id === id);
    if (item) {
      item.ended = true;
    }
  }

  /** Play softly (the user may be interrupting) or at full level. @param {boolean} softly */
  duck(softly) {
    this.#ducked = softly;
  }

  /** Stop now, with a short fade; what was heard of each item follows in a `flushed` event. */
  flush() {
    this.#ducked = false;
    if (this.#fading) {
      return;
    }
    this.#fading = this.#items;
    this.#items = [];
    if (!this.#playing) {
      this.#finishFlush();
    }
  }

  /** Fill `output` with the next samples. @param {Float32Array} output */
  render(output) {
    for (let index = 0; index < output.length; index += 1) {
      output[index] = this.#fading ? this.#fadeOut() : this.#play(index);
    }
  }

  /** @param {string} id @returns {Item} */
  #itemFor(id) {
    const last = this.#items.at(-1);
    if (last?.id === id) {
      return last;
    }
    if (last) {
      last.ended = true;
    }
    const item = { id, chunks: [], offset: 0, waiting: 0, played: 0, ended: false };
    this.#items.push(item);
    return item;
  }

  /** @param {number} index position in the block @returns {number} */
  #play(index) {
    if (!this.#playing && !this.#mayStart()) {
      return this.#silence();
    }
    const item = this.#frontWithAudio();
    if (!item) {
      return this.#runDry();
    }
    if (item.played === 0) {
      this.#emit({ type: "started", id: item.id, offset: index });
    }
    if (!this.#playing) {
      this.#playing = true;
      this.#gain = 0;
    }
    this.#approach(this.#ducked ? DUCKED_GAIN : 1, RAMP_SECONDS);
    this.#last = take(item) * this.#gain;
    return this.#last;
  }

  #mayStart() {
    const [first] = this.#items;
    return first !== undefined && (first.ended || this.#items.length > 1 || first.waiting >= this.#target);
  }

  /** Finish the items that are over. @returns {Item | null} the first that has audio */
  #frontWithAudio() {
    while (this.#items.length > 0) {
      const [item] = this.#items;
      if (item.waiting > 0) {
        return item;
      }
      if (!item.ended) {
        return null;
      }
      this.#items.shift();
      this.#emit({ type: "finished", id: item.id, played: item.played });
    }
    return null;
  }

  #runDry() {
    if (this.#playing && this.#items.length > 0) {
      this.#emit({ type: "underrun" });
      this.#target = Math.min(this.#target + DEEPER_SECONDS * this.#rate, DEEPEST_SECONDS * this.#rate);
    }
    this.#playing = false;
    return this.#silence();
  }

  #silence() {
    this.#last *= CLICK_DECAY;
    return this.#last;
  }

  #fadeOut() {
    const item = this.#fading.find((candidate) => candidate.waiting > 0);
    this.#approach(0, FADE_SECONDS);
    if (!item || this.#gain === 0) {
      this.#finishFlush();
      return this.#silence();
    }
    this.#last = take(item) * this.#gain;
    return this.#last;
  }

  #finishFlush() {
    const items = this.#fading.map(({ id, played }) => ({ id, played }));
    this.#fading = null;
    this.#playing = false;
    this.#emit({ type: "flushed", items });
  }

  /**
   * Move the gain one sample towards `goal`.
   *
   * @param {number} goal
   * @param {number} seconds that the whole way from 0 to 1 takes
   */
  #approach(goal, seconds) {
    const step = 1 / (seconds * this.#rate);
    this.#gain = this.#gain < goal ? Math.min(goal, this.#gain + step) : Math.max(goal, this.#gain - step);
  }
}

/** @param {Item} item with audio waiting @returns {number} its next sample */
function take(item) {
  const [chunk] = item.chunks;
  const sample = chunk[item.offset];
  item.offset += 1;
  item.waiting -= 1;
  item.played += 1;
  if (item.offset === chunk.length) {
    item.chunks.shift();
    item.offset = 0;
  }
  return sample;
}
