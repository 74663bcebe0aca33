/** What can go wrong, in plain words. */

export class Problem extends Error {
  /**
   * @param {string} title what happened
   * @param {string} advice what to do about it
   * @param {{needsKey?: boolean, hearing?: boolean, model?: string}} [options] `hearing`: only the user's voice is
   *   affected; `model`: that one is not there
   */
  constructor(title, advice, { needsKey = false, hearing = false, model = "" } = {}) {
    super(title);
    this.name = "Problem";
    this.advice = advice;
    this.needsKey = needsKey;
    this.hearing = hearing;
    this.model = model;
  }
}

const HEARING = Object.freeze({ hearing: true });

export const problems = Object.freeze({
  insecure: () =>
    new Problem(
      "This address cannot use a microphone",
      "Browsers allow it only over HTTPS or on localhost. Open the page that way.",
    ),
  unsupported: () =>
    new Problem("This browser cannot play live audio", "It lacks AudioWorklet. Try a current browser."),
  microphoneDenied: () =>
    new Problem("The microphone is blocked", "Allow it in the browser's address bar, then try again.", HEARING),
  microphoneMissing: () => new Problem("No microphone found", "Connect one, then try again.", HEARING),
  microphoneTaken: () =>
    new Problem("The microphone is in use", "Another program may hold it. Close that, then try again.", HEARING),
  microphoneLost: () => new Problem("The microphone was disconnected", "Connect it, then try again.", HEARING),
  /** @param {number | null} seconds */
  busy: (seconds) =>
    new Problem("Muse is busy", `All lines are taken. Try again in ${seconds ? `${seconds} seconds` : "a moment"}.`),
  restarting: () => new Problem("The server is restarting", "Try again in a few seconds."),
  unreachable: () => new Problem("Muse cannot be reached", "Check that the server is running, then try again."),
  lost: () => new Problem("The connection was lost", "Check your network, then try again."),
  refused: () => new Problem("The server ended the call", "It may have reached a limit. Try again."),
  tooFewModels: () =>
    new Problem(
      "A duel needs two models",
      "Only one can answer here now. There can be duels once the leaderboard has a second one on a worker.",
    ),
  /** @param {string} model */
  modelGone: (model) =>
    new Problem(`${model} is not available now`, "Choose another model, or Auto, then try again.", { model }),
  key: () =>
    new Problem("This server asks for a key", "Enter the API key that its owner gave you.", { needsKey: true }),
  keyRefused: () =>
    new Problem("That key is not valid here", "Enter the API key that the server's owner gave you.", { needsKey: true }),
  unknown: () => new Problem("Something unexpected happened", "Try again, or reload the page."),
});

/** @type {Record<string, string>} */
const NOTICES = {
  session_expiring: "This call has almost reached its time limit and will end soon.",
  session_expired: "This call has reached its time limit.",
  session_idle: "The call has ended because nothing was said for a while.",
  server_restarting: "The server is about to restart. Muse finishes this turn, then the call ends.",
};

/**
 * @param {{code: string, message: string}} notice what the server lets the user know, though nothing is wrong
 * @returns {string}
 */
export function noticeText({ code, message }) {
  return NOTICES[code] ?? message;
}

/**
 * @param {unknown} error from getUserMedia
 * @returns {Problem}
 */
export function microphoneProblem(error) {
  const name = error instanceof DOMException ? error.name : "";
  if (name === "NotAllowedError" || name === "SecurityError") {
    return problems.microphoneDenied();
  }
  if (name === "NotReadableError" || name === "AbortError") {
    return problems.microphoneTaken();
  }
  return problems.microphoneMissing();
}

/**
 * @param {number} code why an open WebSocket was closed
 * @returns {Problem}
 */
export function closeProblem(code) {
  if (code === 1013) {
    return problems.busy(null);
  }
  if (code === 1001 || code === 1012) {
    return problems.restarting();
  }
  return code === 1006 ? problems.lost() : problems.refused();
}
