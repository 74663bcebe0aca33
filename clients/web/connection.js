/** The call's WebSocket: OpenAI Realtime events as JSON, and why it would not open. */

import { commonProblem, fetchWithKey, storedKey } from "./api.js";
import { WIRE_RATE, encodeBase64 } from "./pcm.js";
import { closeProblem, problems } from "./problems.js";

const MAX_UNSENT_BYTES = 256 * 1024;

export const AUTO = "auto";

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
    for (const path of [`/v1/models/${model}`, "/readyz"]) {
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
