/**
 * Streaming sample-rate conversion with a Kaiser-windowed sinc, one filter per output phase.
 * Runs in the audio thread: `process` allocates nothing.
 */

const ZERO_CROSSINGS = 32;
const ROLLOFF = 0.93;
const KAISER_BETA = 8;

export class Resampler {
  #up;
  #down;
  #reach;
  /** @type {Float32Array[]} */
  #filters;
  #history;
  #filled;
  #phase = 0;

  /**
   * @param {number} inputRate Hz, an integer
   * @param {number} outputRate Hz, an integer
   * @param {number} largestBlock the most samples that one call of `process` will bring
   */
  constructor(inputRate, outputRate, largestBlock = 128) {
    const divisor = greatestCommonDivisor(inputRate, outputRate);
    this.#up = outputRate / divisor;
    this.#down = inputRate / divisor;
    const cutoff = ROLLOFF * Math.min(1, outputRate / inputRate);
    this.#reach = Math.ceil(ZERO_CROSSINGS / cutoff);
    this.#filters = Array.from({ length: this.#up }, (_, phase) => filterFor(phase / this.#up, this.#reach, cutoff));
    this.#history = new Float32Array(2 * this.#reach + this.#down + largestBlock);
    this.#filled = this.#reach - 1;
    this.delay = this.#reach / inputRate;
  }

  /**
   * @param {Float32Array} input the next samples at the input rate
   * @param {Float32Array} output receives samples at the output rate; must be long enough for them
   * @returns {number} how many samples were written
   */
  process(input, output) {
    this.#history.set(input, this.#filled);
    this.#filled += input.length;
    const width = 2 * this.#reach;
    let start = 0;
    let written = 0;
    while (start + width <= this.#filled) {
      const filter = this.#filters[this.#phase];
      let sum = 0;
      for (let tap = 0; tap < width; tap += 1) {
        sum += filter[tap] * this.#history[start + tap];
      }
      output[written] = sum;
      written += 1;
      this.#phase += this.#down;
      start += Math.floor(this.#phase / this.#up);
      this.#phase %= this.#up;
    }
    this.#history.copyWithin(0, start, this.#filled);
    this.#filled -= start;
    return written;
  }
}

/** @param {number} a @param {number} b @returns {number} */
function greatestCommonDivisor(a, b) {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}

/**
 * @param {number} fraction where the output sample lies between two input samples, in [0, 1)
 * @param {number} reach input samples used on each side
 * @param {number} cutoff as a fraction of the input's Nyquist frequency
 * @returns {Float32Array} taps with unit gain at 0 Hz
 */
function filterFor(fraction, reach, cutoff) {
  const taps = new Float32Array(2 * reach);
  let gain = 0;
  for (let tap = 0; tap < taps.length; tap += 1) {
    const distance = tap - (reach - 1) - fraction;
    taps[tap] = sinc(cutoff * distance) * kaiser(distance / reach);
    gain += taps[tap];
  }
  return taps.map((tap) => tap / gain);
}

/** @param {number} x @returns {number} */
function sinc(x) {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}

/** @param {number} x position in the window, in [-1, 1] @returns {number} */
function kaiser(x) {
  return Math.abs(x) > 1 ? 0 : bessel(KAISER_BETA * Math.sqrt(1 - x * x)) / bessel(KAISER_BETA);
}

/** Modified Bessel function of the first kind, order 0. @param {number} x @returns {number} */
function bessel(x) {
  let sum = 1;
  let term = 1;
  for (let k = 1; term > 1e-12 * sum; k += 1) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}
