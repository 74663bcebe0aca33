import assert from "node:assert/strict";
import { test } from "node:test";

import { HINTS, TRANSITIONS, WORDS, nextState } from "../../../clients/web/state.js";

/** @param {string} state @param {string[]} events */
const after = (state, ...events) => events.reduce(nextState, state);

test("a spoken turn goes round", () => {
  const states = ["start", "ready", "speech-started", "speech-stopped", "reply-heard", "reply-over"].map(
    (_, index, events) => after("idle", ...events.slice(0, index + 1)),
  );
  assert.deepEqual(states, ["connecting", "listening", "user-speaking", "thinking", "muse-speaking", "listening"]);
});

test("where a model answers when it will, the end of speech is no beginning of an answer", () => {
  assert.equal(after("listening", "speech-started", "speech-over"), "listening");
  assert.equal(after("interrupted", "speech-over"), "listening");
  assert.equal(after("muse-speaking", "speech-over"), "muse-speaking");
});

test("an interruption stays visible until the user has finished", () => {
  assert.equal(after("muse-speaking", "interrupt", "speech-started"), "interrupted");
  assert.equal(after("muse-speaking", "interrupt", "speech-started", "speech-stopped"), "thinking");
});

test("a call can be stopped, and can fail, in every state of a call", () => {
  for (const state of Object.keys(TRANSITIONS).filter((name) => name !== "idle")) {
    assert.equal(nextState(state, "stop"), "idle");
    assert.equal(nextState(state, "fail"), "error");
  }
});

test("every target is a state, and every state has its words", () => {
  for (const [state, row] of Object.entries(TRANSITIONS)) {
    Object.values(row).forEach((target) => assert.ok(target in TRANSITIONS, `${state} leads to ${target}`));
    assert.ok(WORDS[state]);
    assert.equal(typeof HINTS[state], "string");
  }
});

test("an event that does not fit changes nothing", () => {
  assert.equal(nextState("idle", "reply-heard"), "idle");
  assert.equal(nextState("error", "ready"), "error");
});
