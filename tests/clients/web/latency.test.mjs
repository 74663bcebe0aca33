import assert from "node:assert/strict";
import { test } from "node:test";

import {
  PARTS,
  TurnLatencies,
  parseServerParts,
  percentile,
  roundToSum,
  turnOf,
} from "../../../clients/web/latency.js";

const CASCADE = { endpointing: 210.4, queue: 0.3, transcribe: 35.3, think: 80.4, write: 20.2, voice: 55.5, send: 0.9 };
const SERVER = { ...CASCADE, encode: 0, model: 0, decode: 0 };
const LOCAL = { capture: 31.3, network: 1.4, playout: 82.7 };

/** @param {Record<string, number>} parts @param {number} [excess] */
const metadata = (parts, excess = 0) => {
  const total = Object.values(parts).reduce((a, b) => a + b, excess);
  const named = Object.entries(parts).map(([key, ms]) => [`${key}_ms`, ms]);
  return JSON.stringify({ total_ms: total, ...Object.fromEntries(named) });
};

/** @param {import("../../../clients/web/latency.js").Turn} turn */
const sum = (turn) => turn.parts.reduce((total, { ms }) => total + ms, 0);

test("the server's parts are read when they add up", () => {
  assert.deepEqual(parseServerParts(metadata(SERVER)), SERVER);
  assert.deepEqual(parseServerParts(metadata(SERVER, 0.6)), SERVER);
});

for (const [name, text] of [
  ["absent", undefined],
  ["not JSON", "{"],
  ["null", "null"],
  ["a number", "7"],
  ["parts that do not add up", metadata(SERVER, 40)],
  ["a part missing", metadata({ ...SERVER, voice: undefined })],
  ["a negative part", metadata({ ...SERVER, queue: -5 })],
]) {
  test(`no parts are read from metadata that is ${name}`, () => assert.equal(parseServerParts(text), null));
}

test("a turn's whole milliseconds add up to its total exactly", () => {
  const turn = turnOf({ ...SERVER, ...LOCAL });
  assert.equal(turn.total, 518);
  assert.equal(sum(turn), turn.total);
  assert.deepEqual(
    turn.parts.map(({ key }) => key),
    PARTS.map(({ key }) => key),
  );
});

test("rounding keeps the sum and moves no part by a whole unit", () => {
  for (let round = 0; round < 200; round += 1) {
    const values = Array.from({ length: PARTS.length }, (_, index) => ((round * 7919 + index * 104729) % 100000) / 313);
    const rounded = roundToSum(values);
    assert.equal(
      rounded.reduce((a, b) => a + b),
      Math.round(values.reduce((a, b) => a + b)),
    );
    rounded.forEach((ms, index) => assert.ok(Math.abs(ms - values[index]) < 1));
  }
});

test("percentiles are nearest-rank", () => {
  assert.equal(percentile([30], 0.95), 30);
  assert.equal(percentile([4, 1, 3, 2], 0.5), 2);
  assert.equal(
    percentile(
      Array.from({ length: 100 }, (_, index) => index + 1),
      0.95,
    ),
    95,
  );
});

test("a turn is complete when both halves have come, in either order", () => {
  const latencies = new TurnLatencies();
  latencies.begin("a");
  assert.equal(latencies.addLocal("a", LOCAL), null);
  assert.equal(latencies.addServer("a", SERVER).total, 518);
  latencies.begin("b");
  assert.equal(latencies.addServer("b", SERVER), null);
  assert.equal(latencies.addLocal("b", LOCAL).total, 518);
  assert.deepEqual(latencies.summary, { median: 518, p95: 518 });
});

test("a reply without sound, and the halves of another reply, are no turn", () => {
  const latencies = new TurnLatencies();
  latencies.begin("a");
  latencies.addServer("a", SERVER);
  latencies.begin("b");
  assert.equal(latencies.addLocal("a", LOCAL), null);
  assert.equal(latencies.addLocal("b", LOCAL), null);
  assert.equal(latencies.addServer("b", null), null);
  assert.equal(latencies.summary, null);
});

test("the history is bounded", () => {
  const latencies = new TurnLatencies();
  for (let index = 0; index < 130; index += 1) {
    latencies.begin(`${index}`);
    latencies.addServer(`${index}`, SERVER);
    latencies.addLocal(`${index}`, LOCAL);
  }
  assert.equal(latencies.turns.length, 100);
});
