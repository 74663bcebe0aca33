/**
 * One side of a duel: asks a model the recorded question as if it were spoken now, and keeps what it answers.
 *
 * The recording goes at the pace of speech, followed by silence, for a duplex model hears everything in real time.
 */

import { Answer } from "./answer.js";
import { Connection } from "./connection.js";
import { decodePcm16 } from "./pcm.js";
import { Problem } from "./problems.js";
import { CHUNK_MS, chunkAt, chunkCount } from "./recording.js";

/** After an answer's end: how long another utterance may take to begin. */
const SETTLE_MS = 1200;
/** For the server to say that the session is as it was asked for. */
const BEGIN_MS = 15_000;
const FIRST_SOUND_MS = 20_000;
const LONGEST_MS = 45_000;
const WATCH_MS = 100;

const PROBLEMS = {
  silent: () => new Problem("It did not answer", "It heard the question, and said nothing for 20 seconds."),
  failed: () => new Problem("It could not answer", "It tried, and failed."),
  slow: () => new Problem("Your network is too slow for a duel", "Not all of your question could be sent in time."),
  stuck: () => new Problem("It did not answer", "The call did not come about."),
};

export class DuelSide {
  #model;
  #question;
  #onProgress;
  #answer = new Answer();
  /** @type {Connection | null} */
  #connection = null;
  #timer = 0;
  #closed = false;
  #sent = 0;
  /** On performance's clock, ms. */
  #startedAt = NaN;
  #overAt = Infinity;
  #watchedAt = -Infinity;
  #begunBy = 0;
  /** @type {Set<string>} responses that have begun and are not done */
  #open = new Set();
  /** @type {{resolve: (answer: Answer) => void, reject: (problem: Error) => void}} */
  #outcome;

  /**
   * @param {{model: string, question: Int16Array, onProgress: (share: number) => void}} options `onProgress`: how much
   *   of the question has been asked, 0 to 1
   */
  constructor({ model, question, onProgress }) {
    this.#model = model;
    this.#question = question;
    this.#onProgress = onProgress;
  }

  /** @returns {Promise<Answer>} @throws {Problem} when it cannot be asked, or does not answer */
  async ask() {
    const answered = new Promise((resolve, reject) => {
      this.#outcome = { resolve, reject };
    });
    // It may fail before anybody waits for it.
    answered.catch(() => {});
    try {
      this.#connection = await Connection.open({
        model: this.#model,
        onEvent: (event) => this.#receive(event),
        onClose: (problem) => this.#finish(problem),
      });
      if (this.#closed) {
        this.#finish(new Problem("The duel was given up", "Ask again."));
      }
      this.#begunBy = setTimeout(() => this.#finish(PROBLEMS.stuck()), BEGIN_MS);
      return await answered;
    } finally {
      this.close();
    }
  }

  close() {
    this.#closed = true;
    clearInterval(this.#timer);
    clearTimeout(this.#begunBy);
    this.#connection?.close();
    this.#connection = null;
  }

  /** @returns {number} ms since the question's end; negative before it */
  get #now() {
    return performance.now() - this.#startedAt - chunkCount(this.#question) * CHUNK_MS;
  }

  /** @param {import("./connection.js").RealtimeEvent} event */
  #receive(event) {
    DuelSide.#handlers[event.type]?.(this, event);
  }

  /** @type {Record<string, (side: DuelSide, event: any) => void>} */
  static #handlers = {
    "session.updated": (side) => side.#begin(),
    "response.created": (side, { response }) => side.#open.add(response.id),
    "response.output_audio.delta": (side, { response_id: id, delta }) =>
      side.#answer.add(id, side.#now / 1000, decodePcm16(delta)),
    "response.done": (side, { response }) => side.#onDone(response),
  };

  #begin() {
    if (!this.#closed && Number.isNaN(this.#startedAt)) {
      clearTimeout(this.#begunBy);
      this.#startedAt = performance.now();
      this.#timer = setInterval(() => this.#tick(), CHUNK_MS);
    }
  }

  /** Timers are late at times: all that is due by now is sent. */
  #tick() {
    const due = Math.floor((performance.now() - this.#startedAt) / CHUNK_MS) + 1;
    for (; this.#sent < due; this.#sent += 1) {
      this.#connection?.sendAudio(chunkAt(this.#question, this.#sent));
    }
    this.#onProgress(Math.min(1, this.#sent / chunkCount(this.#question)));
    if (performance.now() - this.#watchedAt >= WATCH_MS) {
      this.#watchedAt = performance.now();
      this.#watch();
    }
  }

  /** @param {{id: string, status: string, status_details?: {reason?: string}}} response */
  #onDone({ id, status, status_details: details }) {
    this.#open.delete(id);
    if (status === "cancelled" && details?.reason === "turn_detected") {
      this.#answer.cut(id, this.#now / 1000);
    }
    this.#overAt = this.#now + SETTLE_MS;
    if (status === "failed" && !this.#answer.sounds) {
      this.#finish(PROBLEMS.failed());
    }
  }

  #watch() {
    const now = this.#now;
    if (this.#connection?.dropped) {
      this.#finish(PROBLEMS.slow());
      return;
    }
    const over = this.#open.size === 0 && now > this.#overAt && this.#answer.sounds;
    if (over || now > LONGEST_MS) {
      this.#finish(this.#answer.sounds ? null : PROBLEMS.silent());
    } else if (now > FIRST_SOUND_MS && !this.#answer.sounds) {
      this.#finish(PROBLEMS.silent());
    }
  }

  /** @param {Error | null} problem */
  #finish(problem) {
    clearInterval(this.#timer);
    if (problem) {
      this.#outcome.reject(problem);
    } else {
      this.#outcome.resolve(this.#answer);
    }
  }
}
