import assert from "node:assert/strict";
import { test } from "node:test";

import { Transcript } from "../../../clients/web/transcript.js";

const SECOND = 24000;

function start() {
  const lines = new Map();
  const transcript = new Transcript((line, id) => (line ? lines.set(id, line) : lines.delete(id)));
  return { transcript, lines };
}

test("the user's words grow, and the final ones replace them", () => {
  const { transcript, lines } = start();
  transcript.add("u", "user");
  assert.equal(lines.get("u").state, "pending");
  transcript.append("u", "user", "turn of");
  transcript.complete("u", "user", "Turn off the light.");
  assert.deepEqual(lines.get("u"), {
    id: "u",
    speaker: "user",
    text: "Turn off the light.",
    heard: 19,
    state: "spoken",
  });
});

test("lines keep the order in which items were added", () => {
  const { transcript, lines } = start();
  transcript.add("u", "user");
  transcript.append("m", "muse", "Hello.");
  transcript.complete("u", "user", "Hi.");
  assert.deepEqual([...lines.keys()], ["u", "m"]);
});

test("Muse's words are marked as heard while their audio plays", () => {
  const { transcript, lines } = start();
  transcript.append("m", "muse", "First clause,");
  transcript.sound("m", SECOND);
  transcript.append("m", "muse", " second clause.");
  transcript.sound("m", SECOND);
  transcript.hear("m", SECOND / 4);
  assert.equal(lines.get("m").heard, "First".length, "the word that is being spoken is whole");
  transcript.hear("m", SECOND);
  assert.equal(lines.get("m").heard, "First clause,".length);
  transcript.finish("m");
  assert.equal(lines.get("m").heard, "First clause, second clause.".length);
  assert.equal(lines.get("m").state, "spoken");
});

test("after an interruption only what was heard remains, in whole words", () => {
  const { transcript, lines } = start();
  transcript.append("m", "muse", "one two three four");
  transcript.sound("m", 4 * SECOND);
  transcript.interrupt("m", 1.5 * SECOND);
  assert.equal(lines.get("m").text, "one two");
  assert.equal(lines.get("m").state, "interrupted");
});

test("the server's word on what was heard replaces the page's, and late words are ignored", () => {
  const { transcript, lines } = start();
  transcript.append("m", "muse", "one two three four");
  transcript.sound("m", 4 * SECOND);
  transcript.interrupt("m", 1.5 * SECOND);
  transcript.append("m", "muse", " five");
  transcript.complete("m", "muse", "one two three");
  assert.equal(lines.get("m").text, "one two three");
  assert.equal(lines.get("m").state, "interrupted");
});

test("a reply of which nothing was heard leaves no line", () => {
  const { transcript, lines } = start();
  transcript.append("m", "muse", "never heard");
  transcript.interrupt("m", 0);
  assert.equal(lines.size, 0);
});

test("the server's last word on such a reply brings no line back", () => {
  const { transcript, lines } = start();
  transcript.append("m", "muse", "never heard");
  transcript.interrupt("m", 0);
  transcript.complete("m", "muse", "");
  assert.equal(lines.size, 0);
});

test("the oldest lines are dropped at two hundred", () => {
  const { transcript, lines } = start();
  for (let index = 0; index < 210; index += 1) {
    transcript.add(`${index}`, "user", "words");
  }
  assert.equal(lines.size, 200);
  assert.ok(!lines.has("0"));
});

test("words that nobody will find out are no longer waited for, and those that are there stay", () => {
  const { transcript, lines } = start();
  transcript.add("u", "user");
  transcript.leave("u");
  assert.equal(lines.get("u").state, "unwritten");
  transcript.add("t", "user", "typed");
  transcript.leave("t");
  assert.equal(lines.get("t").state, "spoken");
});
