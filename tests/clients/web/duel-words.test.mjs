import assert from "node:assert/strict";
import { test } from "node:test";

import { Refusal } from "../../../clients/web/api.js";
import { HINTS, STATES, WORDS, duelProblem, noteOf, sideNote } from "../../../clients/web/duel-words.js";
import { problems } from "../../../clients/web/problems.js";
import { TRANSITIONS } from "../../../clients/web/state.js";

test("every phase has its words, and a look that the button knows", () => {
  for (const [phase, look] of Object.entries(STATES)) {
    assert.ok(WORDS[phase], phase);
    assert.equal(typeof HINTS[phase], "string");
    assert.ok(look in TRANSITIONS, look);
  }
});

test("refused votes are told in plain words, unknown refusals in the server's", () => {
  const note = (code) => noteOf(new Refusal(409, code, "said by the server"));
  assert.match(note("duel_not_found"), /30 minutes/);
  assert.match(note("already_voted"), /voted on already/);
  assert.match(note("not_answered"), /did not hear both/);
  assert.equal(note("new_code"), "said by the server");
});

test("too few models are a problem of their own", () => {
  assert.match(duelProblem(new Refusal(409, "not_enough_models", "")).message, /needs two models/);
  assert.match(duelProblem(problems.unreachable()).message, /cannot be reached/);
});

test("a side that is not there is told of without its name", () => {
  const note = sideNote(problems.modelGone("duel:secret"));
  assert.ok(!note.includes("secret"));
  assert.match(sideNote(problems.lost()), /connection was lost/);
});
