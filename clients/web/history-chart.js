/** A metric of one model over time: a point for each validator's score, and how their moving average went. */

import { make, svg } from "./dom.js";
import { measure, shortAddress } from "./format.js";
import { domainOf, linePath, scale, ticks } from "./scales.js";

const HEIGHT = 220;
const PAD = { top: 12, right: 20, bottom: 26, left: 48 };
const LEAST_WIDTH = 260;
const SHAPES = ["circle", "square", "diamond", "triangle", "cross"];

/**
 * @typedef {{at: number, value: number, validator: string, block: number}} Point
 *
 * @param {HTMLElement} box what it is drawn into, as wide as that
 * @param {{points: Point[], standing: import("./board.js").Standing | null, metric: import("./board.js").Metric,
 *   model: string}} shown
 */
export function drawHistory(box, { points, standing, metric, model }) {
  const width = Math.max(LEAST_WIDTH, box.clientWidth);
  const bounds = standing ? [standing.low, standing.high] : [];
  const domain = domainOf([...points.map(({ value }) => value), ...bounds]);
  const times = domainOf(
    points.map(({ at }) => at),
    { pad: 0.02 },
  );
  const x = scale(times, [PAD.left, width - PAD.right]);
  const y = scale(domain, [HEIGHT - PAD.bottom, PAD.top]);
  const validators = [...new Set(points.map(({ validator }) => validator))];
  const name = `${metric.title} of ${model}: ${points.length} scorings by ${validators.length} validators`;
  const size = { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT };
  const picture = svg(
    "svg",
    { ...size, class: "history", role: "img", "aria-label": name },
    ...valueAxis(domain, y, width, metric.unit),
    ...timeAxis(times, x, width),
    ...points.map((point) => mark(point, x, y, validators, metric.unit)),
    ...(standing ? averageOf(standing, times, x, y) : []),
  );
  box.replaceChildren(picture, legend(validators, standing));
}

/** @returns {SVGElement[]} */
function valueAxis(domain, y, width, unit) {
  return ticks(domain, 4).flatMap((value) => [
    svg("line", { class: "grid", x1: PAD.left, x2: width - PAD.right, y1: y(value), y2: y(value) }),
    svg("text", { class: "tick", x: PAD.left - 8, y: y(value) + 4, "text-anchor": "end" }, label(value, unit)),
  ]);
}

/** @param {number} value @param {string} unit */
function label(value, unit) {
  return unit === "ms" ? measure(value, unit) : `${Number(value.toPrecision(3))}`;
}

/** @returns {SVGElement[]} */
function timeAxis([first, last], x, width) {
  const count = width < 420 ? 2 : 4;
  const hours = last - first < 2 * 86_400;
  const style = hours ? { hour: "2-digit", minute: "2-digit", hour12: false } : { day: "numeric", month: "short" };
  const format = new Intl.DateTimeFormat("en-GB", /** @type {Intl.DateTimeFormatOptions} */ (style));
  return Array.from({ length: count }, (_, index) => {
    const at = first + ((index + 0.5) / count) * (last - first);
    return svg("text", { class: "tick", x: x(at), y: HEIGHT - 7, "text-anchor": "middle" }, format.format(1000 * at));
  });
}

/** The way of the average, and at its end the interval that it is known to. @returns {SVGElement[]} */
function averageOf({ average, low, high, trend }, [first, last], x, y) {
  const shown = trend.filter(([at]) => at >= first && at <= last);
  const end = x(last) + 6;
  const path = linePath([...shown.map(([at, value]) => [x(at), y(value)]), [end, y(average)]]);
  return [
    svg("path", { class: "average-halo", d: path }),
    svg("path", { class: "average", d: path }),
    svg("line", { class: "confidence", x1: end, x2: end, y1: y(low), y2: y(high) }),
    svg("circle", { class: "average-now", cx: end, cy: y(average), r: 3.5 }),
  ];
}

/** @returns {SVGElement} */
function mark({ at, value, validator, block }, x, y, validators, unit) {
  const index = validators.indexOf(validator) % SHAPES.length;
  const time = new Date(1000 * at).toISOString().slice(0, 16).replace("T", " ");
  const what = `${measure(value, unit)}, ${shortAddress(validator)}, block ${block}, ${time} UTC`;
  return svg(
    "g",
    { transform: `translate(${x(at)} ${y(value)})`, class: `mark mark-${index}` },
    shape(index),
    svg("title", {}, what),
  );
}

/** @param {number} index @returns {SVGElement} about the origin */
function shape(index) {
  const paths = {
    square: "M-3-3H3V3H-3Z",
    diamond: "M0-4.2 4.2 0 0 4.2-4.2 0Z",
    triangle: "M0-4 3.8 3H-3.8Z",
    cross: "M-3.2-3.2 3.2 3.2M3.2-3.2-3.2 3.2",
  };
  const kind = SHAPES[index];
  return kind === "circle" ? svg("circle", { r: 3.2 }) : svg("path", { d: paths[kind], class: kind });
}

/** @param {string[]} validators @param {import("./board.js").Standing | null} standing */
function legend(validators, standing) {
  const key = (index) =>
    svg(
      "svg",
      { viewBox: "-6 -6 12 12", width: 12, height: 12, "aria-hidden": "true" },
      svg("g", { class: `mark mark-${index}` }, shape(index)),
    );
  const shown = validators.slice(0, SHAPES.length);
  return make(
    "ul",
    { class: "history-legend" },
    standing &&
      make("li", {}, make("span", { class: "key-average", "aria-hidden": "true" }), "Moving average, 95 % interval"),
    ...shown.map((validator, index) => make("li", { title: validator }, key(index), shortAddress(validator))),
    validators.length > shown.length && make("li", {}, `and ${validators.length - shown.length} more validators`),
  );
}
