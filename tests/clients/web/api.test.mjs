import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { Refusal, getJson, postJson } from "../../../clients/web/api.js";

let key = null;
globalThis.sessionStorage = { getItem: () => key };

test.afterEach(() => {
  key = null;
  mock.restoreAll();
});

/** @param {() => Response | Promise<Response>} answer @returns {{path: string, options: any}[]} what was asked */
function serving(answer) {
  const asked = [];
  mock.method(globalThis, "fetch", async (path, options) => {
    asked.push({ path, options });
    return answer(options);
  });
  return asked;
}

const json = (body, status = 200, headers = {}) => new Response(JSON.stringify(body), { status, headers });
const refusal = (status, headers) =>
  json({ error: { code: "some_code", message: "In the server's words." } }, status, headers);
const title = (pattern) => (error) => pattern.test(error.message);

test("an answer is its JSON, and the key goes with the question", async () => {
  const asked = serving(() => json({ data: [] }));
  assert.deepEqual(await getJson("/v1/models"), { data: [] });
  assert.equal(asked[0].options.headers.Authorization, undefined);
  key = "sk-1";
  await postJson("/v1/duels", { some: "body" });
  assert.equal(asked[1].options.headers.Authorization, "Bearer sk-1");
  assert.equal(asked[1].options.headers["Content-Type"], "application/json");
  assert.equal(asked[1].options.body, '{"some":"body"}');
});

test("what is read is asked for again only where it changed, what is sent is never kept", async () => {
  const asked = serving(() => json({}));
  await getJson("/v1/leaderboard");
  await postJson("/v1/duels", {});
  assert.deepEqual(
    asked.map(({ options }) => options.cache),
    ["no-cache", "no-store"],
  );
});

test("a key is asked for where it lacks, and not where it would not help", async () => {
  serving(() => refusal(401));
  await assert.rejects(getJson("/"), ({ needsKey, message }) => needsKey && /asks for a key/.test(message));
  key = "sk-wrong";
  await assert.rejects(getJson("/"), ({ needsKey, message }) => needsKey && /not valid/.test(message));
  mock.restoreAll();
  serving(() => refusal(403));
  await assert.rejects(getJson("/"), new Refusal(403, "some_code", "In the server's words."));
});

test("a server that is busy says for how long", async () => {
  for (const status of [429, 503]) {
    mock.restoreAll();
    serving(() => refusal(status, { "Retry-After": "7" }));
    await assert.rejects(getJson("/"), ({ message, advice }) => message === "Muse is busy" && /7 seconds/.test(advice));
  }
});

test("any other refusal keeps its code and the server's words", async () => {
  serving(() => refusal(409));
  await assert.rejects(postJson("/", {}), new Refusal(409, "some_code", "In the server's words."));
  mock.restoreAll();
  serving(() => new Response("<html>Bad gateway</html>", { status: 502 }));
  await assert.rejects(getJson("/"), { name: "Refusal", status: 502, message: "Something unexpected happened" });
});

test("no answer, half of one, and none in time are all the same", async () => {
  const half = () =>
    new Response(
      new ReadableStream({
        start(controller) {
          controller.enqueue(new TextEncoder().encode('{"half":'));
          controller.error(new TypeError("network error"));
        },
      }),
    );
  mock.method(AbortSignal, "timeout", () => AbortSignal.abort(new DOMException("too long", "TimeoutError")));
  const late = ({ signal }) => Promise.reject(signal.reason);
  for (const answer of [() => Promise.reject(new TypeError("Failed to fetch")), half, late]) {
    const asked = mock.method(globalThis, "fetch", async (_path, options) => answer(options));
    await assert.rejects(getJson("/"), title(/cannot be reached/));
    asked.mock.restore();
  }
});

test("who gives up is told just that", async () => {
  serving(({ signal }) => new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason))));
  const giving = new AbortController();
  const asked = getJson("/", { signal: giving.signal });
  giving.abort();
  await assert.rejects(asked, { name: "AbortError" });
});
