import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { DuelSide } from "../../../clients/web/duel-side.js";

const RATE = 24_000;
const STEP_MS = 20;
const question = Int16Array.from({ length: RATE / 2 }, (_, index) => 1 + (index % 1000));
const sound = (seconds) => Buffer.from(new Int16Array(seconds * RATE).fill(9000).buffer).toString("base64");

/** A server at the other end of the page's WebSocket. */
class Socket {
  static OPEN = 1;
  readyState = 1;
  bufferedAmount = 0;
  sent = [];
  closed = false;

  constructor(url) {
    Socket.newest = this;
    this.url = url;
    queueMicrotask(() => this.onopen?.());
  }

  send(text) {
    this.sent.push(JSON.parse(text));
  }

  close() {
    this.closed = true;
  }

  tell(event) {
    this.onmessage({ data: JSON.stringify(event) });
  }

  get heard() {
    const chunks = this.sent.filter(({ type }) => type === "input_audio_buffer.append");
    return Buffer.concat(chunks.map(({ audio }) => Buffer.from(audio, "base64")));
  }
}

const settle = () => new Promise((resolve) => setImmediate(resolve));
let now = 0;

test.beforeEach(() => {
  now = 1000;
  mock.method(performance, "now", () => now);
  mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  globalThis.WebSocket = Socket;
  globalThis.location = { href: "http://127.0.0.1/duel.html" };
  globalThis.sessionStorage = { getItem: () => null };
});
test.afterEach(() => {
  mock.timers.reset();
  mock.restoreAll();
});

/** @param {number} ms @param {number} [step] ms between the timers' looks at the clock */
function pass(ms, step = STEP_MS) {
  for (let passed = 0; passed < ms; passed += step) {
    now += step;
    mock.timers.tick(step);
  }
}

/** A side that has been called, and how it ended. */
async function called({ begun = true } = {}) {
  const shares = [];
  const side = new DuelSide({ model: "duel:t", question, onProgress: (share) => shares.push(share) });
  const seen = { side, shares, answer: null, problem: null };
  side.ask().then(
    (answer) => (seen.answer = answer),
    (problem) => (seen.problem = problem),
  );
  await settle();
  seen.socket = Socket.newest;
  if (begun) {
    seen.socket.tell({ type: "session.updated", session: {} });
  }
  return seen;
}

const begins = (socket, id) => socket.tell({ type: "response.created", response: { id } });
const says = (socket, id, seconds) =>
  socket.tell({ type: "response.output_audio.delta", response_id: id, delta: sound(seconds) });
const ends = (socket, id, status = "completed", reason = "") =>
  socket.tell({ type: "response.done", response: { id, status, status_details: { reason } } });

test("the whole question is sent at the pace of speech, and then silence", async () => {
  const { socket, shares } = await called();
  pass(200);
  assert.equal(socket.heard.length, 2 * 0.22 * RATE, "200 ms, and the chunk that is due");
  assert.ok(shares.at(-1) > 0.4 && shares.at(-1) < 0.5);
  pass(800);
  const asked = Buffer.from(question.buffer);
  assert.ok(socket.heard.subarray(0, asked.length).equals(asked));
  assert.ok(socket.heard.length > asked.length);
  assert.ok(socket.heard.subarray(asked.length).every((byte) => byte === 0));
  assert.equal(shares.at(-1), 1);
});

test("nothing is sent before the session is as it was asked for", async () => {
  const { socket } = await called({ begun: false });
  pass(500);
  assert.equal(socket.heard.length, 0);
});

test("an answer is over when no other follows, and waits count from the question's end", async () => {
  const seen = await called();
  pass(900);
  begins(seen.socket, "r1");
  says(seen.socket, "r1", 0.5);
  ends(seen.socket, "r1");
  pass(1100);
  await settle();
  assert.equal(seen.answer, null, "another utterance may follow");
  pass(300);
  await settle();
  assert.ok(Math.abs(seen.answer.wait - 0.4) < 0.03, `${seen.answer.wait}`);
  assert.ok(seen.socket.closed);
});

test("while a response is being made, the answer is not over", async () => {
  const seen = await called();
  pass(700);
  begins(seen.socket, "r1");
  says(seen.socket, "r1", 0.5);
  ends(seen.socket, "r1");
  begins(seen.socket, "r2");
  pass(5000);
  await settle();
  assert.equal(seen.answer, null);
  says(seen.socket, "r2", 0.5);
  ends(seen.socket, "r2");
  pass(1500);
  await settle();
  assert.ok(seen.answer.samples.length > 5 * RATE, "the pause between them is kept");
});

test("what was said of an interrupted response before is heard, and no more", async () => {
  const seen = await called();
  pass(600);
  begins(seen.socket, "r1");
  says(seen.socket, "r1", 2);
  pass(500);
  ends(seen.socket, "r1", "cancelled", "turn_detected");
  pass(1500);
  await settle();
  assert.ok(Math.abs(seen.answer.samples.length / RATE - 0.6) < 0.05);
});

test("who says nothing is waited for, and then is silent", async () => {
  const seen = await called();
  pass(500 + 19_900);
  await settle();
  assert.equal(seen.problem, null);
  pass(400);
  await settle();
  assert.match(seen.problem.message, /did not answer/);
  assert.ok(seen.socket.closed);
});

test("who never ends is cut off", async () => {
  const seen = await called();
  pass(700);
  begins(seen.socket, "r1");
  says(seen.socket, "r1", 1);
  pass(44_000);
  await settle();
  assert.equal(seen.answer, null);
  pass(2000);
  await settle();
  assert.ok(seen.answer.sounds);
});

test("a response that fails ends it at once", async () => {
  const seen = await called();
  pass(700);
  begins(seen.socket, "r1");
  ends(seen.socket, "r1", "failed");
  await settle();
  assert.match(seen.problem.message, /could not answer/);
});

test("a server that takes the call and says nothing is given up", async () => {
  const seen = await called({ begun: false });
  pass(14_900);
  await settle();
  assert.equal(seen.problem, null);
  pass(200);
  await settle();
  assert.match(seen.problem.message, /did not answer/);
  assert.ok(seen.socket.closed);
});

test("a question that did not arrive whole is no fair one", async () => {
  const seen = await called();
  seen.socket.bufferedAmount = 1e6;
  pass(300);
  await settle();
  assert.match(seen.problem.message, /too slow/);
});

test("timers that a browser slows down change neither what is sent nor when it is over", async () => {
  const seen = await called();
  pass(3000, 1000);
  assert.equal(seen.socket.heard.length, 2 * 3.02 * RATE);
  begins(seen.socket, "r1");
  says(seen.socket, "r1", 0.5);
  ends(seen.socket, "r1");
  pass(3000, 1000);
  await settle();
  assert.ok(seen.answer);
});

test("closed, it is silent and leaves", async () => {
  const seen = await called();
  pass(300);
  seen.side.close();
  const sent = seen.socket.sent.length;
  pass(1000);
  assert.equal(seen.socket.sent.length, sent);
  assert.ok(seen.socket.closed);
});

test("closed before it is through, it hangs up when it is", async () => {
  const side = new DuelSide({ model: "duel:t", question, onProgress: () => {} });
  const asked = assert.rejects(side.ask());
  side.close();
  await asked;
  assert.ok(Socket.newest.closed);
});
