/** The call's WebSocket: OpenAI Realtime events as JSON, and why it would not open. */

import { WIRE_RATE, encodeBase64 } from "./pcm.js";
import { closeProblem, problems } from "./problems.js";

const MAX_UNSENT_BYTES = 256 * 1024;
const KEY_STORED_AS = "muse.key";

/** @typedef {{type: string, [field: string]: unknown}} RealtimeEvent */

const SESSION = {
  type: "realtime",
  output_modalities: ["audio"],
  audio: {
    input: {
      format: { type: "audio/pcm", rate: WIRE_RATE },
      transcription: { model: "auto" },
      turn_detection: { type: "semantic_vad", eagerness: "auto", create_response: true, interrupt_response: true },
    },
    output: { format: { type: "audio/pcm", rate: WIRE_RATE } },
  },
};

/** @param {string} key kept until the tab is closed */
export function rememberKey(key) {
  sessionStorage.setItem(KEY_STORED_AS, key);
}

export class Connection {
  #socket;
  #closing = false;
  /** Chunks of the user's audio that a slow network made us drop. */
  dropped = 0;

  /** @param {WebSocket} socket open */
  constructor(socket) {
    this.#socket = socket;
  }

  /**
   * @param {{onEvent: (event: RealtimeEvent) => void, onClose: (problem: import("./problems.js").Problem) => void}}
   *   listener `onClose` is called once, and not after `close`
   * @returns {Promise<Connection>}
   * @throws {import("./problems.js").Problem} when the server will not take the call
   */
  static async open({ onEvent, onClose }) {
    const socket = await openSocket();
    const connection = new Connection(socket);
    socket.onmessage = ({ data }) => onEvent(JSON.parse(data));
    socket.onclose = ({ code }) => {
      if (!connection.#closing) {
        connection.#closing = true;
        onClose(closeProblem(code));
      }
    };
    connection.send({ type: "session.update", session: SESSION });
    return connection;
  }

  /** @param {RealtimeEvent} event a client event */
  send(event) {
    if (this.#socket.readyState === WebSocket.OPEN) {
      this.#socket.send(JSON.stringify(event));
    }
  }

  /** Late audio is worth nothing: what the network cannot take now is dropped. @param {ArrayBuffer} chunk PCM */
  sendAudio(chunk) {
    if (this.#socket.bufferedAmount > MAX_UNSENT_BYTES) {
      this.dropped += 1;
      return;
    }
    this.send({ type: "input_audio_buffer.append", audio: encodeBase64(chunk) });
  }

  close() {
    this.#closing = true;
    this.#socket.close(1000);
  }
}

/** @returns {Promise<WebSocket>} open */
function openSocket() {
  const url = new URL("/v1/realtime?model=auto&extensions=muse", location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  const key = sessionStorage.getItem(KEY_STORED_AS);
  const protocols = key ? ["realtime", `openai-insecure-api-key.${key}`] : ["realtime"];
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url, protocols);
    socket.onopen = () => resolve(socket);
    socket.onclose = async ({ code }) => reject(code === 1006 ? await whyRefused(key) : closeProblem(code));
  });
}

/**
 * A browser hides why an upgrade failed; plain requests to the same server show it.
 *
 * @param {string | null} key
 * @returns {Promise<import("./problems.js").Problem>}
 */
async function whyRefused(key) {
  const headers = new Headers(key ? { Authorization: `Bearer ${key}` } : {});
  try {
    for (const path of ["/v1/models", "/readyz"]) {
      const { status, headers: answer } = await fetch(path, { headers, cache: "no-store" });
      if (status === 401 || status === 403) {
        return problems.key();
      }
      if (status === 429 || status === 503) {
        return problems.busy(Number(answer.get("Retry-After")) || null);
      }
    }
    return problems.busy(null);
  } catch {
    return problems.unreachable();
  }
}

/**
 * The time from here to the server and back, without the time to connect where the browser tells.
 *
 * @returns {Promise<number | null>} ms, or null when it could not be measured
 */
export async function measureRoundTrip() {
  const sent = performance.now();
  const url = new URL(`/healthz?at=${sent}`, location.href).href;
  try {
    const response = await fetch(url, { cache: "no-store" });
    await response.text();
  } catch {
    return null;
  }
  const whole = performance.now() - sent;
  const [timing] = /** @type {PerformanceResourceTiming[]} */ (performance.getEntriesByName(url, "resource"));
  performance.clearResourceTimings();
  return timing?.requestStart ? timing.responseStart - timing.requestStart : whole;
}
