/**
 * Keeps something fresh, politely: while the page is hidden it asks for nothing, one request runs at a time, and after
 * failures it waits longer and longer. What `onValue` throws at is a failure too.
 */

const LONGEST_MS = 120_000;

/**
 * @template T
 * @typedef {object} RefresherOptions
 * @property {(signal: AbortSignal) => Promise<T>} load
 * @property {number} every  ms between the end of one request and the next
 * @property {(value: T) => void} onValue
 * @property {(error: unknown, retry: number) => void} onError  `retry`: ms until the next attempt
 * @property {EventTarget & {visibilityState: string}} [page]
 */

/** @template T */
export class Refresher {
  #options;
  #page;
  #timer = 0;
  #failures = 0;
  #running = false;
  /** When the last request ended, on Date's clock in ms. */
  #askedAt = -Infinity;
  /** @type {AbortController | null} */
  #request = null;
  #onVisibility = () => this.#schedule();

  /** @param {RefresherOptions<T>} options */
  constructor(options) {
    this.#options = options;
    this.#page = options.page ?? document;
  }

  /** Ask now, and go on asking. */
  start() {
    this.stop();
    this.#running = true;
    this.#failures = 0;
    this.#askedAt = -Infinity;
    this.#page.addEventListener("visibilitychange", this.#onVisibility);
    this.#schedule();
  }

  stop() {
    this.#running = false;
    this.#page.removeEventListener("visibilitychange", this.#onVisibility);
    clearTimeout(this.#timer);
    this.#request?.abort();
    this.#request = null;
  }

  /** @returns {number} ms between requests, as things are */
  get #interval() {
    return Math.min(LONGEST_MS, this.#options.every * 2 ** this.#failures);
  }

  #schedule() {
    clearTimeout(this.#timer);
    if (this.#page.visibilityState === "hidden") {
      this.#request?.abort();
      this.#request = null;
    } else if (this.#running && !this.#request) {
      const due = this.#askedAt + this.#interval - Date.now();
      this.#timer = setTimeout(() => this.#ask(), Math.max(0, due));
    }
  }

  async #ask() {
    const request = new AbortController();
    this.#request = request;
    const settle = await this.#options.load(request.signal).then(
      (value) => () => this.#take(value),
      (error) => () => this.#fail(error),
    );
    if (this.#request === request) {
      this.#request = null;
      this.#askedAt = Date.now();
      settle();
      this.#schedule();
    }
  }

  /** @param {T} value */
  #take(value) {
    try {
      this.#options.onValue(value);
      this.#failures = 0;
    } catch (error) {
      globalThis.reportError?.(error);
      this.#fail(error);
    }
  }

  /** @param {unknown} error */
  #fail(error) {
    this.#failures += 1;
    this.#options.onError(error, this.#interval);
  }
}
