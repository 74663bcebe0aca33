import assert from "node:assert/strict";
import { test } from "node:test";

import { decisionOf, roleWord } from "../../../clients/web/decision.js";

test("a decision is read from the session's metadata", () => {
  const reasons = JSON.stringify([{ code: "incumbent", text: "it leads" }, { code: "odd" }, { text: 3 }]);
  const metadata = { "muse.model": "omega/a@0123", "muse.role": "candidate", "muse.reasons": reasons };
  assert.deepEqual(decisionOf(metadata), { version: "omega/a@0123", role: "candidate", reasons: ["it leads"] });
  assert.equal(roleWord("candidate"), "canary");
  assert.equal(roleWord("incumbent"), "");
});

test("where nothing is told there is none, and nonsense harms nobody", () => {
  assert.equal(decisionOf(undefined), null);
  assert.equal(decisionOf(null), null);
  assert.equal(decisionOf({}), null);
  assert.deepEqual(decisionOf({ "muse.model": "a", "muse.reasons": "{" }).reasons, []);
  assert.deepEqual(decisionOf({ "muse.model": "a", "muse.reasons": "null" }).reasons, []);
});
