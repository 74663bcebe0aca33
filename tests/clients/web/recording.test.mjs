import assert from "node:assert/strict";
import { test } from "node:test";

import { chunkAt, chunkCount, joined, peaks, trimmed } from "../../../clients/web/recording.js";

const RATE = 24000;
const silence = (seconds) => new Int16Array(seconds * RATE);
const voice = (seconds) => Int16Array.from({ length: seconds * RATE }, (_, index) => 8000 * Math.sin(index / 20));
const all = (...parts) => joined(parts.map((part) => part.buffer));

test("the quiet before and after the speech goes, but for a moment", () => {
  const question = trimmed(all(silence(2), voice(1), silence(3)));
  assert.ok(Math.abs(question.length / RATE - 1.4) < 0.05, `${question.length / RATE} s`);
  assert.equal(question[0], 0);
  assert.notEqual(question[Math.round(0.5 * RATE)], 0);
});

test("a pause within the speech stays", () => {
  const question = trimmed(all(voice(0.5), silence(1), voice(0.5)));
  assert.ok(Math.abs(question.length / RATE - 2) < 0.15);
});

test("where nobody speaks there is no question", () => {
  assert.equal(trimmed(silence(3)).length, 0);
  assert.equal(trimmed(new Int16Array(0)).length, 0);
});

test("chunks are 20 ms, the last is filled up, and after it comes silence", () => {
  const samples = Int16Array.from({ length: 500 }, (_, index) => index + 1);
  assert.equal(chunkCount(samples), 2);
  const chunks = [0, 1, 2].map((index) => new Int16Array(chunkAt(samples, index)));
  chunks.forEach((chunk) => assert.equal(chunk.length, 480));
  assert.equal(chunks[1][19], 500);
  assert.equal(chunks[1][20], 0);
  assert.ok(chunks[2].every((sample) => sample === 0));
});

test("levels are of equal pieces, whatever the samples are", () => {
  const [quiet, loud] = peaks(all(silence(1), voice(1)), 2);
  assert.equal(quiet, 0);
  assert.ok(Math.abs(loud - 8000 / 32768 / Math.SQRT2) < 0.01);
  assert.deepEqual(peaks(Float32Array.of(0.5, -0.5), 1), [0.5]);
});
