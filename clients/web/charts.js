/** Small drawings for the cells of a table: as SVG, hidden from readers, for whom the numbers are beside them. */

import { make, svg } from "./dom.js";
import { isNumber } from "./format.js";
import { domainOf, linePath, scale, stretch } from "./scales.js";

const WIDTH = 80;
const HEIGHT = 12;
const EDGE = 4;
const PIPS = 6;

/**
 * @param {number} width px
 * @param {number} height px
 * @param {string} className
 * @param {...Node} parts
 * @returns {SVGElement}
 */
function drawing(width, height, className, ...parts) {
  const box = { viewBox: `0 0 ${width} ${height}`, width, height, class: `chart-${className}`, "aria-hidden": "true" };
  return svg("svg", { ...box, focusable: "false" }, ...parts);
}

/**
 * A value with its interval, on a scale that the column shares.
 *
 * @param {{value: number, low: number, high: number}} estimate
 * @param {import("./scales.js").Domain} domain
 * @param {number} [width] px
 */
export function interval({ value, low, high }, domain, width = WIDTH) {
  const x = scale(domain, [EDGE, width - EDGE]);
  const band = stretch(x(low), x(high), 5);
  const middle = HEIGHT / 2;
  return drawing(
    width,
    HEIGHT,
    "interval",
    svg("line", { class: "track", x1: 0, x2: width, y1: middle, y2: middle }),
    svg("rect", { class: "band", x: band.start, width: band.length, y: middle - 4, height: 8, rx: 2 }),
    svg("rect", { class: "dot", x: x(value) - 1, width: 2, y: 0, height: HEIGHT, rx: 1 }),
  );
}

/**
 * From the median to the 95th percentile.
 *
 * @param {{p50: number, p95: number | null}} gap
 * @param {import("./scales.js").Domain} domain
 */
export function range({ p50, p95 }, domain) {
  const x = scale(domain, [EDGE, WIDTH - EDGE]);
  const middle = HEIGHT / 2;
  const end = x(p95 ?? p50);
  return drawing(
    WIDTH,
    HEIGHT,
    "range",
    svg("line", { class: "track", x1: 0, x2: WIDTH, y1: middle, y2: middle }),
    svg("line", { class: "reach", x1: x(p50), x2: end, y1: middle, y2: middle }),
    svg("line", { class: "end", x1: end, x2: end, y1: middle - 4, y2: middle + 4 }),
    svg("circle", { class: "dot", cx: x(p50), cy: middle, r: 3 }),
  );
}

/** @param {[number, number][]} trend Unix seconds and value, oldest first */
export function sparkline(trend) {
  const height = 26;
  const times = trend.map(([at]) => at);
  const x = scale([times[0], times.at(-1)], [2, WIDTH - EDGE]);
  const y = scale(domainOf(trend.map(([, value]) => value)), [height - 3, 3]);
  const points = trend.map(([at, value]) => /** @type {[number, number]} */ ([x(at), y(value)]));
  const [endX, endY] = points.at(-1);
  return drawing(
    WIDTH,
    height,
    "spark",
    svg("path", { class: "area", d: `${linePath(points)}L${endX} ${height}L${points[0][0]} ${height}Z` }),
    svg("path", { class: "curve", d: linePath(points) }),
    svg("circle", { class: "dot", cx: endX, cy: endY, r: 2.5 }),
  );
}

/** @param {number} share 0 to 1, of the full width @returns {HTMLElement} */
export function meter(share) {
  const filled = make("span", { class: "meter-filled" });
  filled.style.inlineSize = `${100 * Math.min(1, Math.max(0, share))}%`;
  return make("span", { class: "meter", "aria-hidden": "true" }, filled);
}

/** @param {number} streak negative counts down */
export function pips(streak) {
  const count = Math.min(PIPS, Math.abs(streak));
  const all = Array.from({ length: PIPS }, (_, index) => {
    const state = index < count ? (streak < 0 ? "pip down" : "pip up") : "pip";
    return svg("rect", { class: state, x: 9 * index, y: 0, width: 7, height: 7, rx: 2 });
  });
  return drawing(9 * PIPS - 2, 7, "pips", ...all);
}

/** @param {number | null} mean 1 to 5 @returns {SVGElement} */
export function stars(mean) {
  const path = "M6 .8 7.6 4.2 11.3 4.6 8.6 7.1 9.3 10.8 6 8.9 2.7 10.8 3.4 7.1.7 4.6 4.4 4.2Z";
  const all = Array.from({ length: 5 }, (_, index) => {
    const lit = isNumber(mean) && mean >= index + 0.5;
    return svg("path", { class: lit ? "star lit" : "star", d: path, transform: `translate(${13 * index} 0)` });
  });
  return drawing(64, 12, "stars", ...all);
}
