/**
 * Both voices as they happen: the user's above the line, Muse's below it, the present at the right.
 * With reduced motion nothing scrolls: two meters show the levels, four times a second.
 */

import { loudness } from "./level-meter.js";

const COLUMN_PX = 5;
const BAR_PX = 3;
const COLUMN_MS = 50;
const METER_MS = 250;

/**
 * @typedef {{user?: AnalyserNode, muse?: AnalyserNode}} Analysers
 * @typedef {{user: number, muse: number}} Levels  in [0, 1]
 */

export class Waveform {
  #canvas;
  #paint;
  #analysers;
  #onLevels;
  #reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");
  /** @type {Levels[]} */
  #columns = [];
  /** @type {Levels} the loudest since the last column */
  #peak = { user: 0, muse: 0 };
  #columnAt = 0;
  #frame = 0;
  #samples = new Float32Array(1024);

  /**
   * @param {HTMLCanvasElement} canvas its colours come from the custom properties --you, --muse and --line
   * @param {() => Analysers} analysers
   * @param {(levels: Levels) => void} onLevels called as often as something is drawn
   */
  constructor(canvas, analysers, onLevels) {
    this.#canvas = canvas;
    this.#paint = canvas.getContext("2d");
    this.#analysers = analysers;
    this.#onLevels = onLevels;
    new ResizeObserver(() => this.#fit()).observe(canvas);
  }

  start() {
    this.stop();
    this.#frame = requestAnimationFrame((time) => this.#tick(time));
  }

  stop() {
    cancelAnimationFrame(this.#frame);
    this.#onLevels({ user: 0, muse: 0 });
    this.#draw();
  }

  /** @param {number} time ms */
  #tick(time) {
    this.#frame = requestAnimationFrame((next) => this.#tick(next));
    const { user, muse } = this.#analysers();
    this.#peak.user = Math.max(this.#peak.user, this.#level(user));
    this.#peak.muse = Math.max(this.#peak.muse, this.#level(muse));
    const reduced = this.#reducedMotion.matches;
    if (!reduced) {
      this.#onLevels(this.#peak);
    }
    if (time - this.#columnAt >= (reduced ? METER_MS : COLUMN_MS)) {
      this.#columnAt = time;
      this.#columns = [...this.#columns, this.#peak].slice(-this.#capacity);
      this.#peak = { user: 0, muse: 0 };
      this.#draw();
    }
  }

  /** @param {AnalyserNode | undefined} analyser @returns {number} */
  #level(analyser) {
    if (!analyser) {
      return 0;
    }
    const samples = this.#samples.subarray(0, analyser.fftSize);
    analyser.getFloatTimeDomainData(samples);
    return loudness(samples);
  }

  get #capacity() {
    return Math.ceil(this.#canvas.clientWidth / COLUMN_PX);
  }

  #fit() {
    const { clientWidth, clientHeight } = this.#canvas;
    this.#canvas.width = Math.round(clientWidth * devicePixelRatio);
    this.#canvas.height = Math.round(clientHeight * devicePixelRatio);
    this.#draw();
  }

  #draw() {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    this.#paint.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    this.#paint.clearRect(0, 0, width, height);
    const style = getComputedStyle(this.#canvas);
    const colours = { you: style.getPropertyValue("--you"), muse: style.getPropertyValue("--muse") };
    this.#paint.fillStyle = style.getPropertyValue("--line");
    this.#paint.fillRect(0, height / 2 - 0.5, width, 1);
    if (this.#reducedMotion.matches) {
      this.#drawMeters(width, height, colours);
    } else {
      this.#columns.forEach((levels, index) => {
        this.#drawColumn(width - (this.#columns.length - index) * COLUMN_PX, height, levels, colours);
      });
    }
  }

  /** @param {number} x @param {number} height @param {Levels} levels @param {{you: string, muse: string}} colours */
  #drawColumn(x, height, { user, muse }, colours) {
    const reach = height / 2 - 3;
    this.#bar(x, height / 2 - 2 - user * reach, BAR_PX, user * reach, colours.you);
    this.#bar(x, height / 2 + 2, BAR_PX, muse * reach, colours.muse);
  }

  /** @param {number} width @param {number} height @param {{you: string, muse: string}} colours */
  #drawMeters(width, height, colours) {
    const { user, muse } = this.#columns.at(-1) ?? { user: 0, muse: 0 };
    this.#bar(0, height / 4 - 4, user * width, 8, colours.you);
    this.#bar(0, (3 * height) / 4 - 4, muse * width, 8, colours.muse);
  }

  /** @param {number} x @param {number} y @param {number} width @param {number} height @param {string} colour */
  #bar(x, y, width, height, colour) {
    if (width >= 0.5 && height >= 0.5) {
      this.#paint.fillStyle = colour;
      this.#paint.beginPath();
      this.#paint.roundRect(x, y, width, height, Math.min(width, height) / 2);
      this.#paint.fill();
    }
  }
}
