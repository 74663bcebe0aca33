/** One call: the microphone, the connection and the loudspeaker, and what the server's events do to them. */

import { cancelled, isNoNews, truncated, written } from "./client-events.js";
import { Connection } from "./connection.js";
import { decisionOf } from "./decision.js";
import { parseServerParts } from "./latency.js";
import { Microphone } from "./microphone.js";
import { Playout } from "./playout.js";
import { noticeText } from "./problems.js";
import { RoundTrips } from "./round-trips.js";

const ROUND_TRIPS_AT_FIRST = 3;

/**
 * @typedef {object} CallListener
 * @property {(event: import("./state.js").Event) => void} onState
 * @property {(softly: boolean) => void} onDuck  the reply plays softly, or at full level again
 * @property {(turn: import("./latency.js").Turn) => void} onTurn  a turn's latency is known
 * @property {(decision: import("./decision.js").Decision | null) => void} onModel  which model answers, if it is told
 * @property {(responseId: string) => void} onAnswer  something of an answer was heard or read, and it is over
 * @property {(text: string) => void} onNotice  something to know, and the call goes on
 * @property {(problem: Error) => void} onEnd  the call is over, and not because `close` was called
 *
 * @typedef {{id: string, items: Set<string>, done: boolean, typed: boolean, heard: boolean}} Reply
 */

export class Call {
  #transcript;
  #latencies;
  #listener;
  /** @type {Connection | null} */
  #connection = null;
  /** @type {Microphone | null} */
  #microphone = null;
  /** @type {Playout | null} */
  #playout = null;
  #muted = false;
  #closed = false;
  #ready = false;
  /** Whether the model finds the user's words. */
  #transcribes = true;
  /** Whether turns are answered, and may be written. Else the model hears all, and speaks when it will. */
  #takesTurns = true;
  /** @type {Reply | null} */
  #reply = null;
  /** @type {Set<string>} items whose audio has not been played to its end */
  #sounding = new Set();
  #askedByText = false;
  #roundTrips = new RoundTrips();

  /**
   * @param {import("./transcript.js").Transcript} transcript
   * @param {import("./latency.js").TurnLatencies} latencies
   * @param {CallListener} listener
   */
  constructor(transcript, latencies, listener) {
    this.#transcript = transcript;
    this.#latencies = latencies;
    this.#listener = listener;
  }

  /**
   * Call it while handling a click.
   *
   * @param {{speakerId: string, microphoneId: string | null, model: string}} options "" is the default device; null
   *   goes without a microphone
   * @throws {import("./problems.js").Problem} when it cannot be opened; nothing stays open then
   */
  async open({ speakerId, microphoneId, model }) {
    const steps = [
      () => this.#openPlayout(speakerId),
      () => microphoneId === null || this.useMicrophone(microphoneId),
      () => this.#connect(model),
    ];
    try {
      for (const step of steps) {
        await step();
        if (this.#closed) {
          this.close();
          return;
        }
      }
    } catch (error) {
      this.close();
      throw error;
    }
    this.#roundTrips.measure(ROUND_TRIPS_AT_FIRST);
  }

  get isOpen() {
    return this.#connection !== null;
  }

  get takesText() {
    return this.#takesTurns;
  }

  get hasMicrophone() {
    return this.#microphone !== null;
  }

  /** @returns {{user: AnalyserNode | undefined, muse: AnalyserNode | undefined}} what can be heard of each side now */
  get analysers() {
    return { user: this.#microphone?.analyser, muse: this.#playout?.analyser };
  }

  /** @returns {{heard: number, underruns: number, framesDropped: number, chunksDropped: number}} seconds, and counts */
  get audioFacts() {
    return {
      heard: this.#playout?.heard ?? 0,
      underruns: this.#playout?.underruns ?? 0,
      framesDropped: this.#playout?.dropped ?? 0,
      chunksDropped: this.#connection?.dropped ?? 0,
    };
  }

  /**
   * Listen to this microphone from now on.
   *
   * @param {string} deviceId
   * @throws {import("./problems.js").Problem}
   */
  async useMicrophone(deviceId) {
    const opened = await Microphone.open({
      deviceId,
      onChunk: (chunk) => this.#ready && this.#connection?.sendAudio(chunk),
      onLost: (problem) => this.#end(problem),
    });
    this.#microphone?.close();
    this.#microphone = opened;
    opened.mute(this.#muted);
    if (this.#closed) {
      this.close();
    }
  }

  /** @param {string} deviceId */
  async useSpeaker(deviceId) {
    await this.#playout?.useSink(deviceId);
  }

  /** @param {boolean} muted */
  mute(muted) {
    this.#muted = muted;
    this.#microphone?.mute(muted);
  }

  /** Say something in writing. @param {string} text */
  say(text) {
    this.stopReply();
    this.#askedByText = true;
    written(text).forEach((event) => this.#connection.send(event));
    this.#listener.onState("asked");
  }

  /** Stop the reply that is being made or heard, if there is one. */
  stopReply() {
    if (this.#reply && !this.#reply.done) {
      this.#connection.send(cancelled(this.#reply.id));
    }
    this.#cutReply("reply-over");
  }

  close() {
    this.#closed = true;
    this.#connection?.close();
    this.#microphone?.close();
    this.#playout?.close();
    this.#connection = this.#microphone = this.#playout = null;
  }

  /** @param {string} speakerId */
  async #openPlayout(speakerId) {
    this.#playout = await Playout.open({ sinkId: speakerId, listener: this.#playoutListener() });
  }

  /** @param {string} model */
  async #connect(model) {
    this.#connection = await Connection.open({
      model,
      onEvent: (event) => this.#receive(event),
      onClose: (problem) => this.#end(problem),
    });
  }

  /** @param {Error} problem */
  #end(problem) {
    if (!this.#closed) {
      this.close();
      this.#listener.onEnd(problem);
    }
  }

  /** @param {import("./connection.js").RealtimeEvent} event from the server */
  #receive(event) {
    if (!this.#closed) {
      Call.#handlers[event.type]?.(this, event);
    }
  }

  /** @type {Record<string, (call: Call, event: any) => void>} */
  static #handlers = {
    "session.created": (call, { session }) => call.#listener.onModel(decisionOf(session.metadata)),
    "session.updated": (call, { session }) => call.#begin(session),
    "input_audio_buffer.speech_started": (call) => call.#onSpeech(),
    "input_audio_buffer.speech_stopped": (call) =>
      call.#listener.onState(call.#takesTurns ? "speech-stopped" : "speech-over"),
    "conversation.item.added": (call, { item }) => call.#onItem(item),
    "conversation.item.input_audio_transcription.delta": (call, { item_id: id, delta }) =>
      call.#transcript.append(id, "user", delta),
    "conversation.item.input_audio_transcription.completed": (call, { item_id: id, transcript }) =>
      call.#transcript.complete(id, "user", transcript),
    "conversation.item.input_audio_transcription.failed": (call, { item_id: id }) => call.#transcript.fail(id),
    "response.created": (call, { response }) => call.#onReply(response),
    "response.output_audio.delta": (call, event) => call.#onSound(event),
    "response.output_audio.done": (call, { item_id: id }) => call.#playout.end(id),
    "response.output_audio_transcript.delta": (call, event) => call.#onWords(event),
    "response.output_audio_transcript.done": (call, { item_id: id, transcript }) =>
      call.#transcript.complete(id, "muse", transcript),
    "response.output_text.delta": (call, event) => call.#onWords(event),
    "response.done": (call, { response }) => call.#onReplyDone(response),
    "muse.barge_in": (call, event) => call.#onBargeIn(event),
    "muse.notice": (call, event) => call.#listener.onNotice(noticeText(event)),
    error: (call, { error }) => call.#onError(error),
  };

  /**
   * @param {{audio?: {input?: {transcription?: object | null, turn_detection?: {create_response?: boolean}}}}} session
   */
  #begin({ audio }) {
    this.#transcribes = audio?.input?.transcription !== null;
    this.#takesTurns = audio?.input?.turn_detection?.create_response !== false;
    if (!this.#ready) {
      this.#ready = true;
      this.#listener.onState("ready");
    }
  }

  /** Servers announce speech over a reply only once it is an interruption. */
  #onSpeech() {
    this.#cutReply("interrupt");
    this.#listener.onState("speech-started");
  }

  /** @param {{id: string, role: string, content: {text?: string, transcript?: string}[]}} item */
  #onItem({ id, role, content = [] }) {
    if (role === "user") {
      this.#transcript.add(id, "user", content.map((part) => part.text ?? part.transcript ?? "").join(" "));
      if (!this.#transcribes) {
        this.#transcript.leave(id);
      }
    }
  }

  /** @param {{id: string}} response */
  #onReply({ id }) {
    this.#reply = { id, items: new Set(), done: false, typed: this.#askedByText, heard: false };
    this.#askedByText = false;
    this.#playout.accept(id);
    this.#latencies.begin(id);
    this.#listener.onDuck(false);
  }

  /** @param {{response_id: string, item_id: string, delta: string}} event */
  #onSound({ response_id: responseId, item_id: id, delta }) {
    const samples = this.#playout.push(responseId, id, delta);
    if (samples > 0) {
      this.#sounding.add(id);
      this.#transcript.sound(id, samples);
    }
  }

  /** @param {{response_id: string, item_id: string, delta: string}} event */
  #onWords({ response_id: responseId, item_id: id, delta }) {
    if (this.#reply?.id === responseId) {
      this.#reply.items.add(id);
      this.#transcript.append(id, "muse", delta);
    }
  }

  /**
   * @param {{id: string, status: string, status_details?: {reason?: string}, metadata?: Record<string, string>}}
   *   response
   */
  #onReplyDone({ id, status, status_details: details, metadata }) {
    if (this.#reply?.id === id) {
      this.#reply.done = true;
    }
    if (status === "failed") {
      this.#listener.onNotice("Muse could not answer that. Please try again.");
    }
    if (status === "cancelled" && details?.reason === "turn_detected") {
      this.#cutReply("interrupt");
    }
    this.#show(this.#latencies.addServer(id, parseServerParts(metadata?.["muse.latency"])));
    this.#settle();
    this.#roundTrips.measure(1);
  }

  /** @param {{phase: "onset" | "dismissed" | "decided", response_id: string}} event */
  #onBargeIn({ phase, response_id: id }) {
    if (id !== this.#reply?.id) {
      return;
    }
    if (phase === "decided") {
      this.#cutReply("interrupt");
    } else {
      this.#playout.duck(phase === "onset");
      this.#listener.onDuck(phase === "onset");
    }
  }

  /** @param {{message: string, event_id?: string | null}} error */
  #onError(error) {
    if (!isNoNews(error)) {
      this.#listener.onNotice(error.message);
    }
  }

  /** Play no more of the reply; `onFlushed` says what was heard of it. @param {import("./state.js").Event} event */
  #cutReply(event) {
    if (!this.#reply || (this.#reply.done && this.#sounding.size === 0)) {
      return;
    }
    const silent = [...this.#reply.items].filter((id) => !this.#sounding.has(id));
    this.#playout.flush();
    silent.forEach((id) => this.#transcript.interrupt(id, 0));
    this.#endReply(this.#reply.heard);
    this.#listener.onDuck(false);
    this.#listener.onState(event);
  }

  /** @returns {import("./playout.js").PlayoutListener} */
  #playoutListener() {
    return {
      onStarted: (_id, waited) => {
        this.#listener.onState("reply-heard");
        if (this.#reply) {
          this.#reply.heard = true;
        }
        this.#addLocalParts(waited);
      },
      onHeard: (id, samples) => this.#transcript.hear(id, samples),
      onFinished: (id) => {
        this.#sounding.delete(id);
        this.#transcript.finish(id);
        this.#settle();
      },
      onFlushed: (items) => items.forEach((item) => this.#onCut(item)),
    };
  }

  /** @param {import("./jitter-buffer.js").Heard} item of which no more will be heard */
  #onCut({ id, played }) {
    this.#sounding.delete(id);
    this.#transcript.interrupt(id, played);
    this.#connection?.send(truncated(id, played));
  }

  /** The reply is over when the server is done and everything has been heard. */
  #settle() {
    if (this.#reply?.done && this.#sounding.size === 0) {
      this.#reply.items.forEach((id) => this.#transcript.finish(id));
      this.#endReply(this.#reply.heard || this.#reply.items.size > 0);
      this.#listener.onState("reply-over");
    }
  }

  /** @param {boolean} answered whether any of it reached the user */
  #endReply(answered) {
    const { id } = this.#reply;
    this.#reply = null;
    if (answered) {
      this.#listener.onAnswer(id);
    }
  }

  /** @param {number} playout ms from the arrival of the reply's first frame to its sound */
  #addLocalParts(playout) {
    if (this.#reply) {
      const capture = this.#reply.typed ? 0 : (this.#microphone?.latency ?? 0);
      const parts = { capture, network: this.#roundTrips.shortest, playout };
      this.#show(this.#latencies.addLocal(this.#reply.id, parts));
    }
  }

  /** @param {import("./latency.js").Turn | null} turn */
  #show(turn) {
    if (turn) {
      this.#listener.onTurn(turn);
    }
  }
}
