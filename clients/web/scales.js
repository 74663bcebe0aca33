/** Geometry of the small charts: from values to places. Pure. */

/** @typedef {[number, number]} Domain  lowest and highest value, not the same */

const NICE = [1, 2, 2.5, 5, 10];

/**
 * @param {number[]} values
 * @param {{pad?: number, zero?: boolean}} [options] `pad`: share of the span that is left free at each end; `zero`: the
 *   domain begins there
 * @returns {Domain} [0, 1] where there is no value
 */
export function domainOf(values, { pad = 0.08, zero = false } = {}) {
  if (values.length === 0) {
    return [0, 1];
  }
  const low = zero ? Math.min(0, ...values) : Math.min(...values);
  const high = Math.max(...values);
  const span = high - low || Math.abs(high) * 0.1 || 1;
  return [zero ? low : low - pad * span, high + pad * span];
}

/**
 * @param {Domain} domain
 * @param {[number, number]} range in px
 * @returns {(value: number) => number} px, within the range, to a tenth; the middle where that is no place
 */
export function scale([low, high], [from, to]) {
  return (value) => {
    const place = (value - low) / (high - low);
    const share = Number.isNaN(place) ? 0.5 : Math.min(1, Math.max(0, place));
    return Math.round(10 * (from + share * (to - from))) / 10;
  };
}

/**
 * @param {Domain} domain
 * @param {number} count about how many
 * @returns {number[]} round values within the domain, equally far apart
 */
export function ticks([low, high], count) {
  const rough = (high - low) / count;
  const magnitude = 10 ** Math.floor(Math.log10(rough));
  const step = magnitude * NICE.find((nice) => nice * magnitude >= rough * 0.999);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, index) =>
    Number(((first + index) * step).toPrecision(12)),
  );
}

/** @param {[number, number][]} points px @returns {string} an SVG path through them, in straight lines */
export function linePath(points) {
  return points.map(([x, y], index) => `${index ? "L" : "M"}${x} ${y}`).join("");
}

/**
 * @param {number} low
 * @param {number} high
 * @param {number} least px
 * @returns {{start: number, length: number}} at least so long, about the same middle
 */
export function stretch(low, high, least) {
  const length = Math.max(least, high - low);
  return { start: Math.round(10 * ((low + high - length) / 2)) / 10, length: Math.round(10 * length) / 10 };
}
