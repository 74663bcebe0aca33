import assert from "node:assert/strict";
import { test } from "node:test";

import { domainOf, linePath, scale, stretch, ticks } from "../../../clients/web/scales.js";

test("a domain is never empty", () => {
  for (const values of [[], [0], [5, 5], [-1, 1]]) {
    const [low, high] = domainOf(values);
    assert.ok(low < high, `${values}`);
    values.forEach((value) => assert.ok(low <= value && value <= high));
  }
  assert.equal(domainOf([300, 400], { zero: true })[0], 0);
});

test("a scale keeps what lies outside at its ends", () => {
  const x = scale([0, 10], [0, 100]);
  assert.deepEqual([-5, 0, 2.5, 10, 99].map(x), [0, 0, 25, 100, 100]);
  assert.equal(scale([0, 10], [100, 0])(2.5), 75, "upside down, as SVG is");
});

test("ticks are round and within the domain", () => {
  assert.deepEqual(ticks([0.53, 0.71], 4), [0.55, 0.6, 0.65, 0.7]);
  assert.deepEqual(ticks([0, 803], 4), [0, 250, 500, 750]);
  for (const [low, high] of [
    [-1, 1],
    [1490, 1580],
    [0, 1e-4],
  ]) {
    const found = ticks([low, high], 4);
    assert.ok(found.length >= 2 && found.length <= 6, `${found}`);
    assert.ok(found.every((value) => value >= low - 1e-12 && value <= high + 1e-12));
  }
});

test("a path goes through its points", () => {
  assert.equal(
    linePath([
      [0, 1],
      [2, 3],
    ]),
    "M0 1L2 3",
  );
});

test("a stretch keeps its middle when it has to grow", () => {
  assert.deepEqual(stretch(10, 30, 5), { start: 10, length: 20 });
  assert.deepEqual(stretch(10, 11, 5), { start: 8, length: 5 });
});

test("whatever the numbers, a place is a place", () => {
  for (const [low, high, value] of [
    [5, 5, 5],
    [5, 5, 9],
    [-1e308, 1e308, 1e308],
    [-Infinity, Infinity, 0],
    [0, 1, NaN],
    [0, 1, null],
  ]) {
    const place = scale([low, high], [10, 20])(value);
    assert.ok(place >= 10 && place <= 20, `${value} in ${low} to ${high}: ${place}`);
  }
});
