import assert from "node:assert/strict";
import { test } from "node:test";

import { JitterBuffer } from "../../../clients/web/jitter-buffer.js";

const RATE = 24000;
const MS = RATE / 1000;

class Player {
  events = [];
  buffer = new JitterBuffer({ rate: RATE, emit: (event) => this.events.push(event) });

  /** @param {string} id @param {number} ms @param {number} [value] */
  push(id, ms, value = 0.5) {
    this.buffer.push(id, new Float32Array(ms * MS).fill(value));
  }

  /** @param {number} ms @returns {Float32Array} */
  play(ms) {
    const output = new Float32Array(ms * MS);
    this.buffer.render(output);
    return output;
  }

  /** @param {string} type */
  named(type) {
    return this.events.filter((event) => event.type === type);
  }
}

test("it waits for a few frames, then plays to the end", () => {
  const player = new Player();
  player.push("a", 40);
  assert.ok(player.play(20).every((sample) => sample === 0));
  player.push("a", 40);
  player.buffer.end("a");
  const output = player.play(100);
  assert.equal(output[40 * MS], 0.5);
  assert.deepEqual(player.events, [
    { type: "started", id: "a", offset: 0 },
    { type: "finished", id: "a", played: 80 * MS },
  ]);
});

test("a short item that is complete does not wait", () => {
  const player = new Player();
  player.push("a", 10);
  player.buffer.end("a");
  player.play(20);
  assert.deepEqual(player.named("finished"), [{ type: "finished", id: "a", played: 10 * MS }]);
});

test("running dry counts one underrun, makes no click, and fills deeper before going on", () => {
  const player = new Player();
  player.push("a", 60);
  const output = player.play(100);
  assert.equal(player.named("underrun").length, 1);
  const steps = output.subarray(1).map((sample, index) => Math.abs(sample - output[index]));
  assert.ok(Math.max(...steps) < 0.02);
  player.push("a", 70);
  assert.ok(player.play(5).every((sample) => Math.abs(sample) < 0.001));
  player.push("a", 10);
  assert.ok(player.play(40).at(-1) > 0.4);
});

test("an onset ducks to a fifth within 20 ms, a dismissal brings the level back", () => {
  const player = new Player();
  player.push("a", 500);
  player.play(100);
  player.buffer.duck(true);
  const soft = player.play(20);
  assert.ok(Math.abs(soft.at(-1) - 0.1) < 1e-6);
  player.buffer.duck(false);
  assert.ok(Math.abs(player.play(20).at(-1) - 0.5) < 1e-6);
  assert.deepEqual(player.named("underrun"), []);
});

test("a flush fades within 10 ms and says what was heard", () => {
  const player = new Player();
  player.push("a", 300);
  player.play(100);
  player.buffer.flush();
  const output = player.play(30);
  assert.ok(output[MS] > 0.3);
  assert.ok(output.subarray(10 * MS).every((sample) => Math.abs(sample) < 0.001));
  const [{ items }] = player.named("flushed");
  assert.equal(items.length, 1);
  assert.ok(items[0].played >= 100 * MS && items[0].played <= 110 * MS);
});

test("a flush before the first sound reports that nothing was heard", () => {
  const player = new Player();
  player.push("a", 20);
  player.buffer.flush();
  assert.deepEqual(player.named("flushed"), [{ type: "flushed", items: [{ id: "a", played: 0 }] }]);
  assert.ok(player.play(20).every((sample) => sample === 0));
});

test("the reply after a flush plays at full level", () => {
  const player = new Player();
  player.push("a", 300);
  player.play(100);
  player.buffer.duck(true);
  player.buffer.flush();
  player.push("b", 200);
  assert.equal(player.play(60).at(-1), 0.5);
  assert.deepEqual(
    player.named("started").map(({ id }) => id),
    ["a", "b"],
  );
});

test("items play one after the other without a gap", () => {
  const player = new Player();
  player.push("a", 80, 0.5);
  player.push("b", 80, 0.5);
  player.play(20);
  assert.ok(player.play(120).every((sample) => Math.abs(sample - 0.5) < 1e-6));
  assert.deepEqual(
    player.named("finished").map(({ id }) => id),
    ["a"],
  );
  assert.deepEqual(player.named("underrun"), []);
});

test("it refuses what does not fit", () => {
  const player = new Player();
  player.buffer = new JitterBuffer({ rate: RATE, capacity: 1, emit: (event) => player.events.push(event) });
  player.push("a", 900);
  player.push("a", 200);
  assert.equal(player.named("overflow").length, 1);
  assert.equal(player.buffer.waiting, 900 * MS);
});

test("heard never exceeds what was pushed, whatever happens", () => {
  let seed = 7;
  const random = (below) => {
    seed = (seed * 1103515245 + 12345) % 2147483648;
    return seed % below;
  };
  for (let run = 0; run < 50; run += 1) {
    const player = new Player();
    const pushed = new Map();
    for (let step = 0; step < 60; step += 1) {
      const id = `${Math.floor(step / 15)}`;
      const action = random(8);
      if (action < 4) {
        player.push(id, 20);
        pushed.set(id, (pushed.get(id) ?? 0) + 20 * MS);
      } else if (action === 4) {
        player.buffer.end(id);
      } else if (action === 5 && random(4) === 0) {
        player.buffer.flush();
      } else {
        player.play(random(30));
      }
    }
    const heard = new Map();
    const settled = player.events.flatMap((event) =>
      event.type === "flushed" ? event.items : event.type === "finished" ? [event] : [],
    );
    settled.forEach(({ id, played }) => heard.set(id, (heard.get(id) ?? 0) + played));
    heard.forEach((samples, id) => assert.ok(samples <= pushed.get(id)));
  }
});
