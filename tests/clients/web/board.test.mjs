import assert from "node:assert/strict";
import { test } from "node:test";

import {
  bestAt,
  columnsOf,
  domainOfColumn,
  nextOrder,
  serverTime,
  shownOf,
  sorted,
} from "../../../clients/web/board.js";

const METRICS = ["mimi", "total", "wer", "pesq", "spoof", "utmos"].map((id) => ({
  id,
  title: id,
  unit: "",
  better: id === "wer" ? "lower" : "higher",
  about: "",
}));

const standing = (average, half = 0.01) => ({
  average,
  low: average - half,
  high: average + half,
  trend: [
    [0, average - 0.1],
    [1, average],
  ],
});

/** @param {string} version @param {number | null} rank @param {object} rest */
const model = (version, rank, rest = {}) => ({ version, rank, hotkey: "5F", metrics: {}, miner: {}, ...rest });

const MODELS = [
  model("a", 1, { metrics: { total: standing(0.5), wer: standing(0.2) }, incentive: 0.1, emission: 1 }),
  model("b", 2, { metrics: { total: standing(0.7), wer: standing(0.1) }, incentive: 0.4, emission: 4 }),
  model("c", 3, { incentive: 0, emission: 0 }),
];

const board = (models = MODELS) => ({ metrics: METRICS, models });
const ids = (columns) => columns.map(({ id }) => id);
const versions = (models) => models.map(({ version }) => version);

test("only what has data is a column, and what models are ranked by is first, with its trend", () => {
  assert.deepEqual(ids(columnsOf(board())), ["metric:total", "trend", "metric:wer", "incentive", "emission"]);
});

test("of a model that nobody mined, there is neither incentive nor emission", () => {
  const embedded = { ...MODELS[2], hotkey: null };
  assert.deepEqual(columnsOf(board([embedded])), []);
});

test("at first some columns are shown; the user's choice counts before that", () => {
  const all = Object.fromEntries(METRICS.map(({ id }) => [id, standing(0.5)]));
  const columns = columnsOf(board([model("a", 1, { metrics: all, miner: { reputation: 0.5, streak: 2 } })]));
  const shown = ids(shownOf(columns, {}));
  assert.ok(!shown.includes("metric:utmos"), "too many");
  assert.ok(!shown.includes("reputation"));
  assert.ok(shown.includes("streak"));
  const chosen = ids(shownOf(columns, { "metric:utmos": true, streak: false }));
  assert.ok(chosen.includes("metric:utmos"));
  assert.ok(!chosen.includes("streak"));
});

test("sorting puts what is unknown last, either way", () => {
  const columns = columnsOf(board());
  const by = (column, descending) => versions(sorted(MODELS, columns, { column, descending }));
  assert.deepEqual(by("rank", false), ["a", "b", "c"]);
  assert.deepEqual(by("metric:total", true), ["b", "a", "c"]);
  assert.deepEqual(by("metric:total", false), ["a", "b", "c"]);
  assert.deepEqual(by("incentive", false), ["c", "a", "b"]);
});

test("a header sorts by the best first, and turns round when it is pressed again", () => {
  const columns = columnsOf(board());
  const first = nextOrder({ column: "rank", descending: false }, "metric:total", columns);
  assert.deepEqual(first, { column: "metric:total", descending: true });
  assert.equal(nextOrder(first, "metric:total", columns).descending, false);
  assert.equal(nextOrder(first, "metric:wer", columns).descending, false, "lower is better");
  assert.equal(nextOrder(first, "rank", columns).descending, false);
});

test("the best is marked among two or more, and nobody where they are the same", () => {
  const columns = columnsOf(board());
  const [total, , wer] = columns;
  assert.equal(bestAt(total, MODELS).version, "b");
  assert.equal(bestAt(wer, MODELS).version, "b");
  assert.equal(bestAt(total, MODELS.slice(0, 1)), null);
  assert.equal(bestAt(total, [MODELS[0], { ...MODELS[0] }]), null);
});

test("a column's scale holds every interval in it", () => {
  const [total] = columnsOf(board());
  const [low, high] = domainOfColumn(total, MODELS);
  assert.ok(low < 0.49 && high > 0.71);
  const gap = columnsOf(board([model("a", 1, { live: { gap_p50_ms: 300, gap_p95_ms: 420, turns: 9 } })])).find(
    ({ id }) => id === "gap",
  );
  assert.equal(domainOfColumn(gap, [model("a", 1, { live: { gap_p50_ms: 300, gap_p95_ms: null } })])[0], 0);
});

test("time is the server's, wherever this clock stands", () => {
  assert.equal(serverTime({ taken_at: 1000, age_seconds: 40 }, 2), 1042);
  for (const unknown of [{ taken_at: null, age_seconds: 40 }, { taken_at: 1000, age_seconds: null }]) {
    assert.ok(Math.abs(serverTime(unknown) - Date.now() / 1000) < 5);
  }
});
