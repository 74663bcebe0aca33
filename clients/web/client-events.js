/** What the page tells the server, as events of OpenAI's Realtime protocol. Pure. */

import { WIRE_RATE, encodeBase64 } from "./pcm.js";

/** Marks events that lose a race with the end of the reply that they speak of: the server's error is no news then. */
const MAY_FAIL = "may-fail";

const FORMAT = { type: "audio/pcm", rate: WIRE_RATE };
const SESSION = {
  type: "realtime",
  output_modalities: ["audio"],
  audio: {
    input: {
      format: FORMAT,
      transcription: { model: "auto" },
      turn_detection: { type: "semantic_vad", eagerness: "auto", create_response: true, interrupt_response: true },
    },
    output: { format: FORMAT },
  },
};

/** @typedef {{type: string, [field: string]: unknown}} ClientEvent */

/** How the page wants to talk. @returns {ClientEvent} */
export function sessionUpdate() {
  return { type: "session.update", session: SESSION };
}

/** @param {ArrayBuffer} chunk of the user's voice, 16-bit PCM @returns {ClientEvent} */
export function audioAppended(chunk) {
  return { type: "input_audio_buffer.append", audio: encodeBase64(chunk) };
}

/** @param {string} text @returns {ClientEvent[]} the user says it in writing, and wants an answer */
export function written(text) {
  const item = { type: "message", role: "user", content: [{ type: "input_text", text }] };
  return [{ type: "conversation.item.create", item }, { type: "response.create" }];
}

/** @param {string} responseId that is to stop @returns {ClientEvent} */
export function cancelled(responseId) {
  return { type: "response.cancel", response_id: responseId, event_id: MAY_FAIL };
}

/** @param {string} itemId @param {number} played samples that were heard of it @returns {ClientEvent} */
export function truncated(itemId, played) {
  const heard = Math.floor((1000 * played) / WIRE_RATE);
  return {
    type: "conversation.item.truncate",
    item_id: itemId,
    content_index: 0,
    audio_end_ms: heard,
    event_id: MAY_FAIL,
  };
}

/** @param {{event_id?: string | null}} error from the server @returns {boolean} whether nobody need know of it */
export function isNoNews({ event_id: cause }) {
  return cause === MAY_FAIL;
}
