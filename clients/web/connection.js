/** The call's WebSocket: OpenAI Realtime events as JSON, and why it would not open. */

import { commonProblem, fetchWithKey, storedKey } from "./api.js";
import { audioAppended, sessionUpdate } from "./client-events.js";
import { closeProblem, problems } from "./problems.js";

const MAX_UNSENT_BYTES = 256 * 1024;

export const AUTO = "auto";

/** @typedef {{type: string, [field: string]: unknown}} RealtimeEvent  from the server */

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
   * @param {{model?: string, onEvent: (event: RealtimeEvent) => void,
   *   onClose: (problem: import("./problems.js").Problem) => void}} options `model`: a name of GET /v1/models, or a
   *   duel's; `onClose` is called once, and not after `close`
   * @returns {Promise<Connection>}
   * @throws {import("./problems.js").Problem} when the server will not take the call
   */
  static async open({ model = AUTO, onEvent, onClose }) {
    const socket = await openSocket(model);
    const connection = new Connection(socket);
    socket.onmessage = ({ data }) => onEvent(JSON.parse(data));
    socket.onclose = ({ code }) => {
      if (!connection.#closing) {
        connection.#closing = true;
        onClose(closeProblem(code));
      }
    };
    connection.send(sessionUpdate());
    return connection;
  }

  /** @param {import("./client-events.js").ClientEvent} event */
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
    this.send(audioAppended(chunk));
  }

  close() {
    this.#closing = true;
    this.#socket.close(1000);
  }
}

/** @param {string} model @returns {Promise<WebSocket>} open */
function openSocket(model) {
  const url = new URL(`/v1/realtime?${new URLSearchParams({ model, extensions: "muse" })}`, location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  const key = storedKey();
  const protocols = key ? ["realtime", `openai-insecure-api-key.${key}`] : ["realtime"];
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url, protocols);
    socket.onopen = () => resolve(socket);
    socket.onclose = async ({ code }) => reject(code === 1006 ? await whyRefused(model) : closeProblem(code));
  });
}

/**
 * A browser hides why an upgrade failed; plain requests to the same server show it.
 *
 * @param {string} model
 * @returns {Promise<import("./problems.js").Problem>}
 */
async function whyRefused(model) {
  try {
    for (const path of [`/v1/models/${model.split("/").map(encodeURIComponent).join("/")}`, "/readyz"]) {
      const response = await fetchWithKey(path);
      const problem = commonProblem(response);
      if (problem) {
        return problem;
      }
      if (response.status === 404 && model !== AUTO) {
        return problems.modelGone(model);
      }
    }
    return problems.busy(null);
  } catch {
    return problems.unreachable();
  }
}
