/** What the page of the duel says in each of its phases, and when something goes wrong. */

import { Refusal, problemOf } from "./api.js";
import { Problem, problems } from "./problems.js";

/**
 * @typedef {"intro" | "opening" | "recording" | "answering" | "judging" | "voting" | "revealed" | "unjudged" |
 *   "failed"} Phase  "unjudged": a side did not answer, or the vote was refused
 */

/** How the big button looks. @type {Record<Phase, import("./state.js").State>} */
export const STATES = {
  intro: "idle",
  opening: "connecting",
  recording: "user-speaking",
  answering: "thinking",
  judging: "idle",
  voting: "thinking",
  revealed: "idle",
  unjudged: "idle",
  failed: "error",
};

/** What the big button does. @type {Partial<Record<Phase, string>>} */
export const ACTIONS = {
  recording: "Done",
  answering: "Give up",
  judging: "Ask another",
  revealed: "Ask another",
  unjudged: "Ask another",
};

/** @type {Record<Phase, string>} */
export const WORDS = {
  intro: "One question, two answers",
  opening: "One moment…",
  recording: "Ask your question",
  answering: "Both hear your question",
  judging: "Which is better?",
  voting: "Your vote is counted…",
  revealed: "That is who they were",
  unjudged: "This duel has no result",
  failed: "Something went wrong",
};

/** @type {Record<Phase | "listening", string>} */
export const HINTS = {
  intro: "Press the button and speak.",
  opening: "Your browser may ask for the microphone.",
  recording: "Press again when you are done.",
  answering: "At the pace you spoke, at the same time.",
  listening: "Listen to both, then vote.",
  judging: "Play them again as often as you like.",
  voting: "",
  revealed: "Ask again, and two others may meet.",
  unjudged: "It changes no rating.",
  failed: "",
};

/** @type {Partial<Record<Phase, string>>} */
export const HEADINGS = {
  answering: "Answers",
  judging: "Answers",
  voting: "Answers",
  revealed: "Answers",
  unjudged: "Answers",
};

/** @type {Record<"A" | "B" | "tie" | "neither", (model: string) => string>} */
export const OUTCOMES = {
  A: (model) => `You preferred ${model}`,
  B: (model) => `You preferred ${model}`,
  tie: () => "You found them equally good",
  neither: () => "You liked neither",
};

/** @type {Record<string, string>} */
const REFUSALS = {
  duel_not_found: "This duel is older than 30 minutes, or the server has restarted: the vote did not count.",
  already_voted: "This duel has been voted on already.",
  not_answered: "The server did not hear both answer, so the vote did not count.",
};

/** @param {unknown} error of POST /v1/duels @returns {Error} */
export function duelProblem(error) {
  return error instanceof Refusal && error.code === "not_enough_models" ? problems.tooFewModels() : problemOf(error);
}

/** @returns {Problem} */
export function nothingHeard() {
  return new Problem("No question was heard", "Check that the right microphone is on, then ask again.");
}

/** @param {unknown} error that a side ended with @returns {string} in one line, naming nobody */
export function sideNote(error) {
  return error instanceof Problem && error.model ? "This side cannot be reached." : noteOf(error);
}

/** @param {unknown} error @returns {string} in one line */
export function noteOf(error) {
  if (error instanceof Refusal) {
    return REFUSALS[error.code] ?? error.message;
  }
  const { message, advice } = problemOf(error);
  return `${message}. ${advice}`;
}
