/**
 * The leaderboard as columns and rows: what can be shown, what is, and in which order. Pure.
 *
 * @typedef {{average: number, low: number, high: number, latest: number, samples: number, validators: number,
 *   agreement: number, updated_at: number, trend: [number, number][]}} Standing
 * @typedef {{id: string, title: string, unit: string, better: "higher" | "lower", about: string}} Metric
 * @typedef {any} Model  an entry of `models`, docs/protocols/leaderboard.md
 * @typedef {any} Board  the answer of GET /v1/leaderboard
 *
 * @typedef {"standing" | "trend" | "gap" | "rating" | "feedback" | "share" | "number" | "streak" | "recovery"} Kind
 * @typedef {object} Column
 * @property {string} id
 * @property {string} title
 * @property {string} about
 * @property {"Scores" | "Live" | "People" | "Miner"} group
 * @property {Kind} kind  how it is drawn
 * @property {string} unit
 * @property {"higher" | "lower"} better
 * @property {boolean} leads  whether it is what models are ranked by
 * @property {(model: Model) => any} read  what is drawn; null where there is nothing
 * @property {(model: Model) => number | null} value  what it is sorted by
 */

import { isNumber } from "./format.js";
import { domainOf } from "./scales.js";

const RANKED_BY = "total";
/** Metrics shown at first, beside the total; the others are a click away. */
const METRICS_AT_FIRST = 4;
const HIDDEN_AT_FIRST = new Set(["misses", "errors", "reputation", "recovery"]);

/** @type {Column[]} */
const FACTS = [
  fact(
    "gap",
    "Response gap",
    "Live",
    "gap",
    "Your last word to the first of the answer, in calls here: median and 95th percentile.",
    {
      unit: "ms",
      better: "lower",
      read: ({ live }) =>
        isNumber(live?.gap_p50_ms) ? { p50: live.gap_p50_ms, p95: live.gap_p95_ms, turns: live.turns } : null,
      value: ({ live }) => live?.gap_p50_ms,
    },
  ),
  fact("misses", "Late frames", "Live", "share", "Share of the 80 ms frames that came back late.", {
    better: "lower",
    read: ({ live }) => live?.misses,
  }),
  fact("errors", "Failed calls", "Live", "share", "Share of the calls that the model failed.", {
    better: "lower",
    read: ({ live }) => live?.errors,
  }),
  fact("rating", "Duels", "People", "rating", "Rating from blind duels (Bradley-Terry), with its 95 % interval.", {
    read: ({ rating }) => rating,
    value: ({ rating }) => rating?.value,
  }),
  fact("feedback", "Feedback", "People", "feedback", "Mean of the ratings that people gave to its answers, 1 to 5.", {
    read: ({ feedback }) => (isNumber(feedback?.mean) ? feedback : null),
    value: ({ feedback }) => feedback?.mean,
  }),
  fact("incentive", "Incentive", "Miner", "share", "Its share of what the subnet's miners earn, from the chain.", {
    read: ({ hotkey, incentive }) => (hotkey ? incentive : null),
  }),
  fact("emission", "Emission", "Miner", "number", "Alpha tokens an epoch, from the chain.", {
    read: ({ hotkey, emission }) => (hotkey ? emission : null),
  }),
  fact("streak", "Streak", "Miner", "streak", "Scorings in a row above the baseline; below it where negative.", {
    read: ({ miner }) => miner?.streak,
  }),
  fact("reputation", "Reputation", "Miner", "share", "Earned by scoring above the baseline, again and again.", {
    read: ({ miner }) => miner?.reputation,
  }),
  fact(
    "recovery",
    "Decay",
    "Miner",
    "recovery",
    "What stagnation takes off its weight, and how much has been won back.",
    {
      read: ({ miner }) => (isNumber(miner?.decay) ? { decay: miner.decay, recovery: miner.recovery } : null),
      value: ({ miner }) => miner?.decay,
    },
  ),
];

/** @returns {Column} */
function fact(id, title, group, kind, about, { unit = "", better = "higher", leads = false, read, value = read }) {
  const known = (find) => (model) => find(model) ?? null;
  return { id, title, about, group, kind, unit, better, leads, read: known(read), value: known(value) };
}

/**
 * @param {Board} board
 * @returns {Column[]} those that have something to show for at least one model
 */
export function columnsOf({ metrics, models }) {
  const standings = metrics.map((metric) =>
    fact(`metric:${metric.id}`, metric.title, "Scores", "standing", metric.about, {
      unit: metric.unit,
      better: metric.better,
      leads: metric.id === RANKED_BY,
      read: (model) => model.metrics[metric.id],
      value: (model) => model.metrics[metric.id]?.average,
    }),
  );
  const columns = [...standings, ...FACTS].filter(({ read }) => models.some((model) => read(model) !== null));
  const leading = columns.find(({ leads }) => leads);
  if (!leading) {
    return columns;
  }
  const others = columns.filter((column) => column !== leading);
  return hasTrend(models, leading) ? [leading, trendOf(leading), ...others] : [leading, ...others];
}

/** @param {Model[]} models @param {Column} column */
function hasTrend(models, { read }) {
  return models.some((model) => (read(model)?.trend.length ?? 0) > 1);
}

/** @param {Column} column @returns {Column} how it went */
function trendOf({ title, read, better }) {
  return fact(
    "trend",
    "Trend",
    "Scores",
    "trend",
    `${title} over time; the number is the change since the first point.`,
    {
      better,
      read: (model) => {
        const { trend = [], low, high } = read(model) ?? {};
        return trend.length > 1 ? { points: trend, noise: (high - low) / 2 } : null;
      },
      value: (model) => {
        const trend = read(model)?.trend ?? [];
        return trend.length > 1 ? trend.at(-1)[1] - trend[0][1] : null;
      },
    },
  );
}

/**
 * @param {Column[]} columns
 * @param {Record<string, boolean>} chosen by the user, by id
 * @returns {Column[]} what is shown
 */
export function shownOf(columns, chosen) {
  const standings = columns.filter(({ kind }) => kind === "standing").slice(0, METRICS_AT_FIRST + 1);
  const atFirst = ({ id, kind }) =>
    kind === "standing" ? standings.some((one) => one.id === id) : !HIDDEN_AT_FIRST.has(id);
  return columns.filter((column) => chosen[column.id] ?? atFirst(column));
}

/**
 * @typedef {{column: string, descending: boolean}} Order  `column` "rank" is the router's own
 *
 * @param {Model[]} models
 * @param {Column[]} columns
 * @param {Order} order
 * @returns {Model[]} what has no value is last, either way; ties are by rank
 */
export function sorted(models, columns, { column: id, descending }) {
  const column = columns.find((candidate) => candidate.id === id);
  const value = column ? column.value : ({ rank }) => rank;
  const sign = descending ? -1 : 1;
  return [...models].sort((one, other) => {
    const [a, b] = [value(one), value(other)];
    if (a === null || b === null) {
      return Number(a === null) - Number(b === null) || byRank(one, other);
    }
    return sign * (a - b) || byRank(one, other);
  });
}

/** @param {Model} one @param {Model} other */
function byRank(one, other) {
  return (one.rank ?? Infinity) - (other.rank ?? Infinity) || (one.version < other.version ? -1 : 1);
}

/** @param {Order} order @param {string} id @param {Column[]} columns @returns {Order} after its header was pressed */
export function nextOrder(order, id, columns) {
  if (order.column === id) {
    return { column: id, descending: !order.descending };
  }
  return { column: id, descending: columns.find((column) => column.id === id)?.better === "higher" };
}

/**
 * @param {Board} board
 * @param {number} passed seconds since it arrived
 * @returns {number} Unix seconds by the server's clock, for the one here may be wrong
 */
export function serverTime({ taken_at: takenAt, age_seconds: age }, passed = 0) {
  return isNumber(takenAt) && isNumber(age) ? takenAt + age + passed : Date.now() / 1000;
}

/** @param {Column} column @param {Model[]} models @returns {Model | null} the one that is best at it, of two or more */
export function bestAt({ value, better }, models) {
  const known = models.filter((model) => value(model) !== null);
  const sign = better === "higher" ? 1 : -1;
  const [best, second] = known.sort((one, other) => sign * (value(other) - value(one)));
  return second && value(best) !== value(second) ? best : null;
}

/** @param {Column} column @param {Model[]} models @returns {import("./scales.js").Domain} of all that it draws */
export function domainOfColumn({ kind, read }, models) {
  const drawn = models.map(read).filter((value) => value !== null);
  if (kind === "standing") {
    return domainOf(drawn.flatMap(({ low, high, average }) => [low, high, average]));
  }
  if (kind === "rating") {
    return domainOf(drawn.flatMap(({ low, high, value }) => [low, high, value]));
  }
  if (kind === "gap") {
    return domainOf(
      drawn.flatMap(({ p50, p95 }) => [p50, p95 ?? p50]),
      { zero: true },
    );
  }
  return kind === "share" ? [0, Math.max(...drawn, 0.001)] : [0, 1];
}
