import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { Refresher } from "../../../clients/web/refresher.js";

class Page extends EventTarget {
  visibilityState = "visible";

  /** @param {"visible" | "hidden"} state */
  turn(state) {
    this.visibilityState = state;
    this.dispatchEvent(new Event("visibilitychange"));
  }
}

/** Lets what is due happen. */
const settle = async () => {
  for (let turn = 0; turn < 5; turn += 1) {
    await Promise.resolve();
  }
};

/** @param {(signal: AbortSignal) => Promise<unknown>} load */
function started(load) {
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
  const seen = { asked: 0, values: [], retries: [], signals: [] };
  const page = new Page();
  const refresher = new Refresher({
    load: (signal) => {
      seen.asked += 1;
      seen.signals.push(signal);
      return load(signal);
    },
    every: 1000,
    onValue: (value) => seen.values.push(value),
    onError: (_error, retry) => seen.retries.push(retry),
    page,
  });
  refresher.start();
  const pass = async (ms) => {
    mock.timers.tick(ms);
    await settle();
  };
  return { seen, page, refresher, pass };
}

test.afterEach(() => mock.timers.reset());

test("it asks at once, and again after a while", async () => {
  const { seen, pass } = started(async () => "board");
  await pass(0);
  assert.deepEqual(seen.values, ["board"]);
  await pass(999);
  assert.equal(seen.asked, 1);
  await pass(1);
  assert.equal(seen.asked, 2);
});

test("one request runs at a time", async () => {
  const { seen, pass } = started(() => new Promise(() => {}));
  await pass(0);
  await pass(60_000);
  assert.equal(seen.asked, 1);
});

test("a hidden page asks for nothing, and a request under way is given up", async () => {
  const { seen, page, pass } = started(() => new Promise(() => {}));
  await pass(0);
  page.turn("hidden");
  assert.ok(seen.signals[0].aborted);
  await pass(60_000);
  assert.equal(seen.asked, 1);
  page.turn("visible");
  await pass(0);
  assert.equal(seen.asked, 2);
});

test("a page that is seen again asks at once only for what is old", async () => {
  const { seen, page, pass } = started(async () => "board");
  await pass(0);
  page.turn("hidden");
  await pass(400);
  page.turn("visible");
  await pass(0);
  assert.equal(seen.asked, 1);
  await pass(600);
  assert.equal(seen.asked, 2);
});

test("failures make it wait longer, a success makes it forget them", async () => {
  let broken = true;
  const { seen, pass } = started(async () => {
    if (broken) {
      throw new Error("gone");
    }
    return "board";
  });
  await pass(0);
  await pass(2000);
  await pass(4000);
  assert.deepEqual(seen.retries, [2000, 4000, 8000]);
  broken = false;
  await pass(8000);
  assert.deepEqual(seen.values, ["board"]);
  await pass(1000);
  assert.equal(seen.asked, 5);
});

test("it never waits longer than two minutes", async () => {
  const { seen, pass } = started(async () => {
    throw new Error("gone");
  });
  for (let time = 0; time < 12; time += 1) {
    await pass(120_000);
  }
  assert.equal(seen.retries.at(-1), 120_000);
});

test("stopped, it gives up what is under way and tells nothing of it", async () => {
  let answer;
  const { seen, refresher, pass } = started(() => new Promise((resolve) => (answer = resolve)));
  await pass(0);
  refresher.stop();
  answer("late");
  await pass(60_000);
  assert.ok(seen.signals[0].aborted);
  assert.deepEqual([seen.asked, seen.values.length], [1, 0]);
});

test("a value that cannot be shown is a failure, and the next one is asked for", async () => {
  const reported = mock.fn();
  globalThis.reportError = reported;
  let broken = true;
  const page = new Page();
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
  const seen = { shown: 0, retries: [] };
  const refresher = new Refresher({
    load: async () => "board",
    every: 1000,
    onValue: () => {
      if (broken) {
        throw new TypeError("null has no models");
      }
      seen.shown += 1;
    },
    onError: (error, retry) => seen.retries.push([error.message, retry]),
    page,
  });
  refresher.start();
  mock.timers.tick(0);
  await settle();
  assert.deepEqual(seen.retries, [["null has no models", 2000]]);
  assert.equal(reported.mock.callCount(), 1, "it is a defect, and not hidden");
  broken = false;
  mock.timers.tick(2000);
  await settle();
  assert.equal(seen.shown, 1);
  delete globalThis.reportError;
});
