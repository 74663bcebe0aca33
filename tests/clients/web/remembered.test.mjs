import assert from "node:assert/strict";
import { test } from "node:test";

import { Remembered } from "../../../clients/web/remembered.js";

/** @param {Record<string, string>} stored @returns {Map<string, string>} what the browser keeps */
function browser(stored) {
  const kept = new Map(Object.entries(stored));
  globalThis.localStorage = {
    getItem: (name) => kept.get(name) ?? null,
    setItem: (name, value) => kept.set(name, value),
  };
  return kept;
}

test("what was chosen is there the next time", () => {
  const kept = browser({});
  const first = new Remembered("muse.model", "auto");
  assert.equal(first.value, "auto");
  first.value = "omega/moshi-a";
  assert.equal(new Remembered("muse.model", "auto").value, "omega/moshi-a");
  assert.deepEqual([...kept.keys()], ["muse.model"]);
});

test("what is stored and cannot be meant is not taken", () => {
  for (const stored of ["{", "null", "7", '{"a": true}', "[]"]) {
    browser({ "muse.model": stored });
    assert.equal(new Remembered("muse.model", "auto").value, "auto", stored);
  }
});

test("where nothing may be stored, it is known until the page is left", () => {
  const refuse = () => {
    throw new DOMException("no", "SecurityError");
  };
  globalThis.localStorage = { getItem: refuse, setItem: refuse };
  const remembered = new Remembered("muse.model", "auto");
  remembered.value = "omega/moshi-a";
  assert.equal(remembered.value, "omega/moshi-a");
});
