/** One cell of the leaderboard for each kind of column: a figure, a drawing, and the same in words for readers. */

import { interval, meter, pips, range, sparkline, stars } from "./charts.js";
import { make } from "./dom.js";
import { decimal, isNumber, measure, NOTHING, percent, whole } from "./format.js";

/** Widths of intervals, px. */
const WIDE = 96;
const NARROW = 60;
const ARROWS = Object.freeze({ 1: "↗ ", 0: "→ ", [-1]: "↘ " });

/**
 * @param {import("./board.js").Column} column
 * @param {import("./board.js").Model} model
 * @param {{domain: import("./scales.js").Domain, best: boolean}} place the column's scale; whether it is best there
 * @returns {HTMLTableCellElement}
 */
export function cell(column, model, { domain, best }) {
  const value = column.read(model);
  const classes = `cell cell-${column.kind}${best ? " best" : ""}${column.leads ? " leads" : ""}`;
  const attributes = { class: classes, role: "cell", "data-label": column.title, "data-column": column.id };
  if (value === null) {
    return make("td", { ...attributes, class: `${classes} nothing` }, figure(NOTHING), hidden("not known"));
  }
  return make("td", attributes, ...DRAW[column.kind](value, column, domain), best && hidden("best of all"));
}

/**
 * @typedef {(value: any, column: import("./board.js").Column, domain: import("./scales.js").Domain) => Node[]} Draw
 * @type {Record<import("./board.js").Kind, Draw>}
 */
const DRAW = {
  standing: ({ average, low, high, samples }, { unit, leads }, domain) => [
    figure(measure(average, unit), leads ? `± ${measure((high - low) / 2, unit)}` : unit),
    interval({ value: average, low, high }, domain, leads ? WIDE : NARROW),
    hidden(`95 % interval ${measure(low, unit)} to ${measure(high, unit)}, ${samples} scorings`),
  ],
  trend: ({ points, noise }, { better }) => {
    const change = points.at(-1)[1] - points[0][1];
    const good = better === "higher" ? change >= 0 : change <= 0;
    const sort = Math.abs(change) <= noise ? "flat" : good ? "good" : "bad";
    return [
      sparkline(points),
      make("span", { class: `change ${sort}` }, ARROWS[Math.sign(sort === "flat" ? 0 : change)], signed(change)),
    ];
  },
  gap: ({ p50, p95, turns }, _column, domain) => [
    figure(whole(p50), `/ ${whole(p95)} ms`),
    range({ p50, p95 }, domain),
    hidden(`median ${whole(p50)}, 95th percentile ${whole(p95)} milliseconds, of ${turns} turns`),
  ],
  rating: ({ value, low, high, votes }, _column, domain) => [
    figure(whole(value), `± ${whole((high - low) / 2)}`),
    interval({ value, low, high }, domain),
    hidden(`95 % interval ${whole(low)} to ${whole(high)}, ${votes} votes`),
  ],
  feedback: ({ mean, ratings }) => [
    figure(decimal(mean, 1), `(${whole(ratings)})`),
    stars(mean),
    hidden(`out of 5, from ${ratings} ratings`),
  ],
  share: (share, _column, [, most]) => [figure(percent(share)), meter(share / most)],
  number: (value) => [figure(decimal(value, 2))],
  streak: (streak) => [
    figure(streak === 0 ? "0" : signedWhole(streak)),
    pips(streak),
    hidden(streak < 0 ? "below the baseline" : "above the baseline"),
  ],
  recovery: ({ decay, recovery }) => {
    if (decay >= 1) {
      return [make("span", { class: "quiet" }, "none")];
    }
    const back = isNumber(recovery) ? recovery : 0;
    return [figure(`−${percent(1 - decay)}`), meter(back), make("span", { class: "quiet" }, `${percent(back)} back`)];
  },
};

/** @param {string} text @param {string} [beside] @returns {HTMLElement} */
function figure(text, beside) {
  return make("span", { class: "figure" }, make("b", {}, text), beside && make("span", { class: "beside" }, beside));
}

/** @param {string} text for readers only @returns {HTMLElement} */
function hidden(text) {
  return make("span", { class: "visually-hidden" }, ` ${text}`);
}

/** @param {number} change @returns {string} */
function signed(change) {
  return `${change > 0 ? "+" : ""}${decimal(change, Math.abs(change) >= 10 ? 0 : 3)}`;
}

/** @param {number} value @returns {string} */
function signedWhole(value) {
  return `${value > 0 ? "+" : ""}${whole(value)}`;
}
