import assert from "node:assert/strict";
import { test } from "node:test";

import { Answer } from "../../../clients/web/answer.js";

const RATE = 24000;
const sound = (seconds, value = 0.5) => new Float32Array(Math.round(seconds * RATE)).fill(value);
const seconds = (answer) => answer.samples.length / RATE;

test("an answer begins after the wait that it took, and its frames follow each other however early they came", () => {
  const answer = new Answer();
  answer.add("r", 0.5, sound(0.2));
  answer.add("r", 0.52, sound(0.2));
  assert.equal(answer.wait, 0.5);
  assert.ok(Math.abs(seconds(answer) - 0.9) < 1e-3);
  assert.equal(answer.samples[RATE * 0.5 - 1], 0);
  assert.equal(answer.samples[RATE * 0.8], 0.5);
});

test("silence at its beginning is a part of the wait", () => {
  const answer = new Answer();
  answer.add("r", 0.5, sound(0.3, 0));
  answer.add("r", 0.6, sound(0.3));
  assert.ok(Math.abs(answer.wait - 0.8) < 1e-3);
});

test("a frame that comes too late leaves the gap that one would have heard", () => {
  const answer = new Answer();
  answer.add("r", 0.5, sound(0.1));
  answer.add("r", 1.5, sound(0.1));
  assert.ok(Math.abs(seconds(answer) - 1.6) < 1e-3);
});

test("what is said over the question is not heard, and what goes on after it is", () => {
  const answer = new Answer();
  answer.add("r", -2, sound(1));
  assert.equal(answer.sounds, false);
  answer.add("s", -0.25, sound(1));
  assert.equal(answer.wait, 0);
  assert.ok(Math.abs(seconds(answer) - 0.75) < 1e-3);
});

test("an interrupted response is heard until then, and the next one after it", () => {
  const answer = new Answer();
  answer.add("r", 0.2, sound(1));
  answer.cut("r", 0.4);
  answer.add("s", 2, sound(0.5));
  assert.ok(Math.abs(seconds(answer) - 2.5) < 1e-3);
  assert.equal(answer.samples[Math.round(RATE * 0.3)], 0.5);
  assert.equal(answer.samples[Math.round(RATE * 0.6)], 0);
});

test("silence is no answer", () => {
  const answer = new Answer();
  answer.add("r", 0.5, sound(3, 0.001));
  assert.equal(answer.sounds, false);
  assert.equal(answer.wait, null);
});

test("what a network delays a little leaves no gap, what was paused does", () => {
  const answer = new Answer();
  answer.add("r", 0.5, sound(0.2));
  answer.add("r", 0.8, sound(0.2));
  assert.ok(Math.abs(seconds(answer) - 0.9) < 1e-3, "it goes on where it was");
  answer.add("r", 1.5, sound(0.2));
  assert.ok(Math.abs(seconds(answer) - 1.7) < 1e-3);
  answer.add("s", 1.8, sound(0.2));
  assert.ok(Math.abs(seconds(answer) - 2) < 1e-3, "another response begins when it came");
});
