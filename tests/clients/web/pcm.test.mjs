import assert from "node:assert/strict";
import { test } from "node:test";

import { decodePcm16, encodeBase64, toInt16 } from "../../../clients/web/pcm.js";

test("PCM survives the wire's encoding", () => {
  const sent = Int16Array.from({ length: 20000 }, (_, index) => ((index * 7919) % 65536) - 32768);
  const received = decodePcm16(encodeBase64(sent.buffer));
  assert.equal(received.length, sent.length);
  received.forEach((sample, index) => assert.equal(toInt16(sample), sent[index]));
});

test("too loud is clipped", () => {
  assert.equal(toInt16(1.5), 32767);
  assert.equal(toInt16(-1.5), -32768);
});
