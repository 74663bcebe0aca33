import assert from "node:assert/strict";
import { test } from "node:test";

import { ClipPlayer } from "../../../clients/web/clip-player.js";

const sources = [];
const sounding = () => sources.filter(({ state }) => state === "started");

class Source {
  state = "made";

  constructor() {
    sources.push(this);
  }

  connect() {}

  start() {
    this.state = "started";
  }

  stop() {
    this.state = "stopped";
  }

  end() {
    this.state = "ended";
    this.onended();
  }
}

test.beforeEach(() => {
  sources.length = 0;
  globalThis.AudioContext = class {
    currentTime = 0;
    async resume() {}
  };
  globalThis.AudioBuffer = class {
    copyToChannel() {}
  };
  globalThis.AudioBufferSourceNode = Source;
  globalThis.requestAnimationFrame = () => 0;
});

const clip = new Float32Array(24_000);
const settle = () => new Promise((resolve) => setImmediate(resolve));

test("a clip tells whether it was played to its end", async () => {
  const player = new ClipPlayer();
  const first = player.play(clip, () => {});
  await settle();
  sources[0].end();
  assert.equal(await first, true);
  const second = player.play(clip, () => {});
  await settle();
  player.stop();
  assert.equal(await second, false);
  assert.equal(sounding().length, 0);
});

test("of two that are asked for at once, one sounds", async () => {
  const player = new ClipPlayer();
  const first = player.play(clip, () => {});
  player.play(clip, () => {});
  assert.equal(await first, false);
  await settle();
  assert.equal(sounding().length, 1);
});

test("what is stopped before it begins does not begin", async () => {
  const player = new ClipPlayer();
  const asked = player.play(clip, () => {});
  player.stop();
  assert.equal(await asked, false);
  assert.equal(sources.length, 0);
});
