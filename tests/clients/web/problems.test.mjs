import assert from "node:assert/strict";
import { test } from "node:test";

import { noticeText } from "../../../clients/web/problems.js";

test("notices that the page knows are told in its own words, others in the server's", () => {
  const message = "the session ends in 60 s";
  const known = ["session_expiring", "session_expired", "session_idle", "server_restarting"];
  const texts = known.map((code) => noticeText({ code, message }));
  assert.ok(!texts.includes(message));
  assert.equal(new Set(texts).size, known.length);
  assert.match(texts[0], /time limit/);
  assert.match(texts[3], /restart/);
  assert.equal(noticeText({ code: "new", message }), message);
});
