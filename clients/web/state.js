/**
 * What the page is doing, as a table. An event that a state does not list leaves it as it is.
 *
 * @typedef {"idle"|"connecting"|"listening"|"user-speaking"|"thinking"|"muse-speaking"|"interrupted"|"error"} State
 * @typedef {"start"|"ready"|"speech-started"|"speech-stopped"|"speech-over"|"asked"|"reply-heard"|"reply-over"|
 *   "interrupt"|"stop"|"fail"} Event  after "speech-stopped" an answer is made, after "speech-over" there may be none
 */

/** @type {Partial<Record<Event, State>>} */
const ANY_TIME = { stop: "idle", fail: "error" };

/** @type {Record<State, Partial<Record<Event, State>>>} */
export const TRANSITIONS = {
  idle: { start: "connecting", fail: "error" },
  connecting: { ...ANY_TIME, ready: "listening", asked: "thinking" },
  listening: {
    ...ANY_TIME,
    "speech-started": "user-speaking",
    "speech-stopped": "thinking",
    asked: "thinking",
    "reply-heard": "muse-speaking",
  },
  "user-speaking": {
    ...ANY_TIME,
    "speech-stopped": "thinking",
    "speech-over": "listening",
    asked: "thinking",
    "reply-heard": "muse-speaking",
  },
  thinking: {
    ...ANY_TIME,
    "speech-started": "user-speaking",
    "reply-heard": "muse-speaking",
    "reply-over": "listening",
    interrupt: "listening",
  },
  "muse-speaking": { ...ANY_TIME, "reply-over": "listening", interrupt: "interrupted", asked: "thinking" },
  interrupted: {
    ...ANY_TIME,
    "speech-stopped": "thinking",
    "speech-over": "listening",
    asked: "thinking",
    "reply-heard": "muse-speaking",
  },
  error: { start: "connecting", stop: "idle", fail: "error" },
};

/** @type {Record<State, string>} */
export const WORDS = {
  idle: "Ready when you are",
  connecting: "Connecting…",
  listening: "Listening",
  "user-speaking": "You are speaking",
  thinking: "Thinking…",
  "muse-speaking": "Muse is speaking",
  interrupted: "Interrupted. Go on",
  error: "Something went wrong",
};

/** @type {Record<State, string>} */
export const HINTS = {
  idle: "Press the button and say something.",
  connecting: "Your browser may ask for the microphone.",
  listening: "Just talk. Pause when you are done.",
  "user-speaking": "Muse waits until you have finished.",
  thinking: "The answer starts in a moment.",
  "muse-speaking": "To interrupt, just speak.",
  interrupted: "Muse has stopped and hears you.",
  error: "",
};

/**
 * @param {State} state
 * @param {Event} event
 * @returns {State} the state after the event
 */
export function nextState(state, event) {
  return TRANSITIONS[state][event] ?? state;
}
