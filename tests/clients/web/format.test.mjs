import assert from "node:assert/strict";
import { test } from "node:test";

import { ago, decimal, duration, measure, nameOf, percent, shortAddress, whole } from "../../../clients/web/format.js";

test("what is not known is a dash, everywhere", () => {
  for (const format of [decimal, whole, percent, duration, (value) => measure(value, "")]) {
    for (const value of [null, undefined, NaN]) {
      assert.equal(format(value), "–");
    }
  }
});

test("a small share is not shown as none", () => {
  assert.deepEqual([0, 0.0006, 0.004, 0.05, 0.054, 0.41, 1].map(percent), [
    "0 %",
    "0.06 %",
    "0.40 %",
    "5 %",
    "5.4 %",
    "41 %",
    "100 %",
  ]);
  assert.equal(percent(1e-9), "< 0.01 %");
  assert.equal(percent(-0.25), "−25 %");
});

test("absurd numbers stay short", () => {
  for (const format of [decimal, whole, percent, duration, (value) => measure(value, "ms"), (value) => ago(value, 0)]) {
    for (const value of [1e300, -1e300, 1e15, -123456789012]) {
      assert.ok(format(value).length <= 20, format(value));
    }
  }
  assert.equal(whole(-1.5e12), "−1.5e12");
  assert.equal(whole(123_456_789), "123,456,789");
});

test("metrics have the digits that tell something", () => {
  assert.equal(measure(0.6484, ""), "0.648");
  assert.equal(measure(297.4, "ms"), "297");
  assert.equal(measure(-12.3, "ms"), "−12");
  assert.equal(measure(12.345, "MOS"), "12.3");
});

test("times are told in their largest unit", () => {
  assert.deepEqual([0, 41, 60, 3599, 7300, 86_400 * 3].map(duration), ["0 s", "41 s", "1 min", "1 h", "2 h", "3 days"]);
  assert.equal(duration(-5), "0 s", "a clock that is behind");
  assert.equal(ago(null, 100), "never");
  assert.equal(ago(40, 100), "1 min ago");
});

test("names are short, and tell versions apart", () => {
  assert.deepEqual(nameOf("omega/moshi-a@0123456789"), { model: "omega/moshi-a", commit: "0123456" });
  assert.deepEqual(nameOf("muse-embedded"), { model: "muse-embedded", commit: "" });
  assert.equal(shortAddress("5FHneW46xGXgs5mUiveU4sbTyGBzmstUspZC92UhjJM694ty"), "5FHne…94ty");
  assert.equal(shortAddress(null), "–");
});
