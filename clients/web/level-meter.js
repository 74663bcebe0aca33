/** How loud a voice is, as often as the screen is drawn. With reduced motion, it says nothing. */

/** A voice at this peak is as loud as it gets; quieter ones are raised, as ears do. */
const FULL_SCALE = 0.8;
const LOUDNESS = 0.7;

/** @param {Float32Array} samples in [-1, 1] @returns {number} in [0, 1] */
export function loudness(samples) {
  const peak = samples.reduce((loudest, sample) => Math.max(loudest, Math.abs(sample)), 0);
  return Math.min(1, (peak / FULL_SCALE) ** LOUDNESS);
}

export class LevelMeter {
  #onLevel;
  #frame = 0;

  /** @param {(level: number) => void} onLevel */
  constructor(onLevel) {
    this.#onLevel = onLevel;
  }

  /** @param {AnalyserNode} analyser */
  start(analyser) {
    this.stop();
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) {
      return;
    }
    const samples = new Float32Array(analyser.fftSize);
    const measure = () => {
      analyser.getFloatTimeDomainData(samples);
      this.#onLevel(loudness(samples));
      this.#frame = requestAnimationFrame(measure);
    };
    measure();
  }

  stop() {
    cancelAnimationFrame(this.#frame);
    this.#onLevel(0);
  }
}
