import assert from "node:assert/strict";
import { test } from "node:test";

import { Resampler } from "../../../clients/web/resampler.js";

const OUTPUT_RATE = 24000;

/** @param {number} rate @param {number} frequency Hz @param {number} seconds */
const sine = (rate, frequency, seconds) =>
  Float32Array.from({ length: rate * seconds }, (_, index) => Math.sin((2 * Math.PI * frequency * index) / rate));

/** @param {Float32Array} input @param {number} rate @param {number} block */
function resample(input, rate, block = 128) {
  const resampler = new Resampler(rate, OUTPUT_RATE, block);
  const output = new Float32Array(Math.ceil((block * OUTPUT_RATE) / rate) + 1);
  const all = [];
  for (let start = 0; start < input.length; start += block) {
    const count = resampler.process(input.subarray(start, start + block), output);
    all.push(...output.subarray(0, count));
  }
  return Float32Array.from(all);
}

/** Without the edges, where the filter is not full. @param {Float32Array} samples */
const level = (samples) => {
  const inner = samples.subarray(200, -200);
  return Math.sqrt(inner.reduce((sum, sample) => sum + sample * sample, 0) / inner.length) * Math.SQRT2;
};

for (const rate of [16000, 44100, 48000, 96000, 24000]) {
  test(`speech passes unchanged from ${rate} Hz`, () => {
    const frequency = 1000;
    const output = resample(sine(rate, frequency, 0.5), rate);
    const expected = sine(OUTPUT_RATE, frequency, 0.5);
    assert.ok(Math.abs(output.length - expected.length) < 120, `${output.length} samples`);
    for (let index = 200; index < output.length - 200; index += 1) {
      assert.ok(Math.abs(output[index] - expected[index]) < 0.002, `sample ${index}`);
    }
  });
}

for (const rate of [44100, 48000, 96000]) {
  test(`what 24 kHz cannot hold is removed, not folded down, from ${rate} Hz`, () => {
    assert.ok(level(resample(sine(rate, 14000, 0.5), rate)) < 0.001);
    assert.ok(level(resample(sine(rate, 10000, 0.5), rate)) > 0.99);
  });
}

test("blocks of any size give the same samples", () => {
  const input = sine(44100, 700, 0.2);
  const whole = resample(input, 44100, input.length);
  const pieces = resample(input, 44100, 37);
  assert.equal(pieces.length, whole.length);
  pieces.forEach((sample, index) => assert.equal(sample, whole[index]));
});
