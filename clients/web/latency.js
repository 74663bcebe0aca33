/**
 * The wait between a person's last word and Muse's first, as parts that add up. Pure.
 *
 * The server measures its own parts; the page adds what only it can see: the microphone, the network and the
 * loudspeaker. All values are milliseconds.
 *
 * @typedef {{key: string, ms: number}} PartOfWait
 * @typedef {{total: number, parts: PartOfWait[]}} Turn
 */

/** In causal order. `local` parts are measured by the page. */
export const PARTS = Object.freeze([
  { key: "capture", label: "Capture", local: true, means: "microphone, until a chunk is sent" },
  { key: "network", label: "Network", local: true, means: "to the server and back" },
  { key: "endpointing", label: "Endpointing", local: false, means: "deciding that you have finished" },
  { key: "queue", label: "Queue", local: false, means: "waiting for the model" },
  { key: "transcribe", label: "Transcribe", local: false, means: "understanding your words" },
  { key: "think", label: "Think", local: false, means: "until the first word of the reply" },
  { key: "write", label: "Write", local: false, means: "until the first clause of the reply" },
  { key: "voice", label: "Voice", local: false, means: "until the clause sounds" },
  { key: "encode", label: "Encode", local: false, means: "a speech model hears your last frame" },
  { key: "model", label: "Model", local: false, means: "and finds what to say" },
  { key: "decode", label: "Decode", local: false, means: "until it sounds" },
  { key: "send", label: "Send", local: false, means: "handing over the first frame" },
  { key: "playout", label: "Playout", local: true, means: "buffer and loudspeaker" },
]);

const ROUNDING_MS = 1;
const HISTORY = 100;

/**
 * @param {string | undefined} text the response's metadata `muse.latency`
 * @returns {Record<string, number> | null} ms of each server part, or null when it is absent or does not add up
 */
export function parseServerParts(text) {
  let measured;
  try {
    measured = JSON.parse(text ?? "null");
  } catch {
    return null;
  }
  if (measured === null || typeof measured !== "object") {
    return null;
  }
  const parts = PARTS.filter(({ local }) => !local).map(({ key }) => [key, measured[`${key}_ms`]]);
  const valid = parts.every(([, ms]) => Number.isFinite(ms) && ms >= 0);
  const sum = parts.reduce((total, [, ms]) => total + ms, 0);
  return valid && Math.abs(sum - measured.total_ms) <= ROUNDING_MS ? Object.fromEntries(parts) : null;
}

/**
 * @param {Record<string, number>} measured ms by part, the server's and the page's
 * @returns {Turn} whole milliseconds; the parts add up to the total exactly
 */
export function turnOf(measured) {
  const exact = PARTS.map(({ key }) => measured[key] ?? 0);
  const rounded = roundToSum(exact);
  return {
    total: rounded.reduce((sum, ms) => sum + ms, 0),
    parts: PARTS.map(({ key }, index) => ({ key, ms: rounded[index] })),
  };
}

/**
 * Largest-remainder rounding.
 *
 * @param {number[]} values
 * @returns {number[]} integers whose sum is the rounded sum of `values`
 */
export function roundToSum(values) {
  const floors = values.map(Math.floor);
  let left = Math.round(values.reduce((a, b) => a + b, 0)) - floors.reduce((a, b) => a + b, 0);
  const byRemainder = values.map((value, index) => [value - floors[index], index]).sort((a, b) => b[0] - a[0]);
  for (const [, index] of byRemainder) {
    floors[index] += left > 0 ? 1 : 0;
    left -= 1;
  }
  return floors;
}

/**
 * @param {number[]} values at least one
 * @param {number} fraction in (0, 1]
 * @returns {number} the nearest-rank percentile
 */
export function percentile(values, fraction) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(fraction * sorted.length) - 1)];
}

/** Brings the two halves of each turn together, and keeps the last hundred turns. */
export class TurnLatencies {
  /** @type {Turn[]} */
  turns = [];
  /** @type {{id: string, server: Record<string, number> | null, local: Record<string, number> | null}} */
  #open = { id: "", server: null, local: null };

  /** A response begins; one that never sounded is forgotten. @param {string} responseId */
  begin(responseId) {
    this.#open = { id: responseId, server: null, local: null };
  }

  /**
   * @param {string} responseId
   * @param {Record<string, number>} parts capture, network and playout
   * @returns {Turn | null} the turn, when it is complete
   */
  addLocal(responseId, parts) {
    return this.#add(responseId, "local", parts);
  }

  /**
   * @param {string} responseId
   * @param {Record<string, number> | null} parts of the server
   * @returns {Turn | null} the turn, when it is complete
   */
  addServer(responseId, parts) {
    return this.#add(responseId, "server", parts);
  }

  /** @returns {{median: number, p95: number} | null} of the totals */
  get summary() {
    const totals = this.turns.map(({ total }) => total);
    return totals.length === 0 ? null : { median: percentile(totals, 0.5), p95: percentile(totals, 0.95) };
  }

  /** @param {string} responseId @param {"server" | "local"} half @param {Record<string, number> | null} parts */
  #add(responseId, half, parts) {
    if (responseId !== this.#open.id || this.#open[half]) {
      return null;
    }
    this.#open[half] = parts;
    const { server, local } = this.#open;
    if (!server || !local) {
      return null;
    }
    const turn = turnOf({ ...server, ...local });
    this.turns = [...this.turns, turn].slice(-HISTORY);
    return turn;
  }
}
