/** The server's HTTP: JSON both ways, with the key where there is one. */

import { Problem, problems } from "./problems.js";

const KEY_STORED_AS = "muse.key";
/** A server that has not answered by then is as good as gone. */
const LONGEST_MS = 20_000;

/** @param {string} key kept until the tab is closed */
export function rememberKey(key) {
  sessionStorage.setItem(KEY_STORED_AS, key);
}

/** @returns {string | null} */
export function storedKey() {
  return sessionStorage.getItem(KEY_STORED_AS);
}

/** What the server refused, as it says it. `message` is the server's. */
export class Refusal extends Error {
  /** @param {number} status @param {string} code @param {string} message */
  constructor(status, code, message) {
    super(message);
    this.name = "Refusal";
    this.status = status;
    this.code = code;
  }
}

/**
 * @param {string} path
 * @param {{signal?: AbortSignal}} [options]
 * @returns {Promise<any>} the answer's JSON
 * @throws {Problem} when there is no answer, none in time, none in time for others, or a key is needed
 * @throws {Refusal} for any other refusal
 * @throws {DOMException} AbortError, when `signal` says so
 */
export function getJson(path, { signal } = {}) {
  return ask(path, { signal, cache: "no-cache" });
}

/**
 * @param {string} path
 * @param {object} body
 * @param {{signal?: AbortSignal}} [options]
 * @returns {Promise<any>} as `getJson`, and it throws the same
 */
export function postJson(path, body, { signal } = {}) {
  const headers = { "Content-Type": "application/json" };
  return ask(path, { method: "POST", body: JSON.stringify(body), headers, signal });
}

/** Plain fetch with the key. @param {string} path @param {RequestInit} [options] @returns {Promise<Response>} */
export function fetchWithKey(path, options = {}) {
  const key = storedKey();
  const headers = { ...options.headers, ...(key && { Authorization: `Bearer ${key}` }) };
  return fetch(path, { cache: "no-store", ...options, headers });
}

/**
 * @param {Response} response that is no success
 * @returns {Problem | null} when any page says the same of it
 */
export function commonProblem({ status, headers }) {
  if (status === 401) {
    return storedKey() ? problems.keyRefused() : problems.key();
  }
  return status === 429 || status === 503 ? problems.busy(Number(headers.get("Retry-After")) || null) : null;
}

/** @param {string} path @param {RequestInit} options */
async function ask(path, options) {
  const signals = [AbortSignal.timeout(LONGEST_MS), options.signal].filter((signal) => signal !== undefined);
  const response = await fetchWithKey(path, { ...options, signal: AbortSignal.any(signals) }).catch(fail);
  const answer = await response.json().catch((error) => (error instanceof SyntaxError ? null : fail(error)));
  if (response.ok && answer !== null) {
    return answer;
  }
  const { code = "", message = "" } = answer?.error ?? {};
  throw commonProblem(response) ?? new Refusal(response.status, code ?? "", message || problems.unknown().message);
}

/** @param {Error} error of the network @returns {never} */
function fail(error) {
  throw error.name === "AbortError" ? error : problems.unreachable();
}

/** @param {unknown} error @returns {Problem} in plain words, whatever it is */
export function problemOf(error) {
  if (error instanceof Refusal) {
    return new Problem("The server refused", error.message);
  }
  return error instanceof Problem ? error : problems.unknown();
}
