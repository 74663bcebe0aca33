import assert from "node:assert/strict";
import { test } from "node:test";

import { cancelled, isNoNews, sessionUpdate, truncated, written } from "../../../clients/web/client-events.js";

test("what a user writes is an item that wants an answer", () => {
  const [item, answer] = written("Hello");
  assert.deepEqual(item.item, { type: "message", role: "user", content: [{ type: "input_text", text: "Hello" }] });
  assert.deepEqual(answer, { type: "response.create" });
});

test("what was heard is told in whole milliseconds, never more than it was", () => {
  assert.equal(truncated("item", 24_000).audio_end_ms, 1000);
  assert.equal(truncated("item", 47).audio_end_ms, 1);
});

test("only errors of events that may lose a race are no news", () => {
  for (const event of [cancelled("resp"), truncated("item", 0)]) {
    assert.ok(isNoNews({ event_id: event.event_id }));
  }
  assert.ok(!isNoNews({ event_id: null }));
  assert.ok(!isNoNews({}));
});

test("both ways carry the wire's PCM", () => {
  const { input, output } = sessionUpdate().session.audio;
  for (const { format } of [input, output]) {
    assert.deepEqual(format, { type: "audio/pcm", rate: 24_000 });
  }
});
