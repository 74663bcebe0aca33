/** Plays kept audio, one clip at a time. */

import { WIRE_RATE } from "./pcm.js";

export class ClipPlayer {
  /** @type {AudioContext | null} */
  #context = null;
  /** @type {{source: AudioBufferSourceNode, end: (finished: boolean) => void} | null} */
  #playing = null;
  /** Counts what was asked of it, so that a clip that is not the newest does not begin. */
  #turn = 0;

  /** Call it while handling a click, or the browser will not let it sound. */
  async unlock() {
    this.#context ??= new AudioContext({ sampleRate: WIRE_RATE });
    await this.#context.resume();
  }

  /**
   * @param {Float32Array} samples at the wire's rate
   * @param {(seconds: number) => void} onProgress often, how far it is
   * @returns {Promise<boolean>} at its end; whether it was played to its end
   */
  async play(samples, onProgress) {
    this.stop();
    const turn = this.#turn;
    await this.unlock();
    if (turn !== this.#turn) {
      return false;
    }
    const buffer = new AudioBuffer({ length: Math.max(1, samples.length), sampleRate: WIRE_RATE });
    buffer.copyToChannel(samples, 0);
    const source = new AudioBufferSourceNode(this.#context, { buffer });
    source.connect(this.#context.destination);
    const startedAt = this.#context.currentTime;
    const over = new Promise((resolve) => {
      this.#playing = { source, end: resolve };
      source.onended = () => resolve(true);
    });
    source.start();
    const follow = () => {
      if (this.#playing?.source === source) {
        onProgress(this.#context.currentTime - startedAt);
        requestAnimationFrame(follow);
      }
    };
    follow();
    const finished = await over;
    if (this.#playing?.source === source) {
      this.#playing = null;
    }
    return finished;
  }

  stop() {
    this.#turn += 1;
    if (this.#playing) {
      const { source, end } = this.#playing;
      this.#playing = null;
      source.onended = null;
      source.stop();
      end(false);
    }
  }
}
