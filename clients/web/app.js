/** The page: wires its elements to a call. */

import { AnsweredBy } from "./answered-by.js";
import { Call } from "./call.js";
import { Captions } from "./captions.js";
import { Devices } from "./devices.js";
import { setText } from "./dom.js";
import { TurnLatencies } from "./latency.js";
import { LatencyView } from "./latency-view.js";
import { LetterKeys } from "./letter-keys.js";
import { ModelPicker } from "./model-picker.js";
import { ProblemPanel } from "./problem-panel.js";
import { Problem, problems } from "./problems.js";
import { Rating } from "./rating.js";
import { HINTS, WORDS, nextState } from "./state.js";
import { Transcript } from "./transcript.js";
import { Waveform } from "./waveform.js";

const NOTICE_MS = 6000;
const FACTS_MS = 500;

/** @param {string} id @returns {any} */
const element = (id) => document.getElementById(id);

class App {
  /** @type {import("./state.js").State} */
  #state = "idle";
  /** @type {Call | null} */
  #call = null;
  #muted = false;
  #noticeTimer = 0;
  #latencies = new TurnLatencies();
  #captions = new Captions({ list: element("lines"), scroller: element("captions"), empty: element("captions-empty") });
  #transcript = this.#newTranscript();
  #latencyView = new LatencyView({
    panel: element("latency"),
    total: element("latency-total"),
    median: element("latency-median"),
    p95: element("latency-p95"),
    bars: element("latency-bars"),
    legend: element("latency-legend"),
    table: element("latency-table"),
    marker: element("latency-marker"),
    scale: element("latency-scale"),
  });
  #problem = ProblemPanel.find(() => this.#start({ microphone: true }));
  #rating = new Rating(element("rating"));
  #models = new ModelPicker({
    menu: element("models"),
    name: element("model-name"),
    list: element("model-list"),
    note: element("model-note"),
  });
  #answeredBy = new AnsweredBy({
    menu: element("answered"),
    name: element("answered-by"),
    version: element("answered-version"),
    why: element("answered-why"),
  });
  #waveform = new Waveform(
    element("waveform"),
    () => this.#call?.analysers ?? {},
    (levels) => this.#showLevels(levels),
  );
  #devices = new Devices(
    {
      menu: element("devices"),
      microphone: element("microphone"),
      speaker: element("speaker"),
      speakerField: element("speaker-field"),
    },
    {
      onMicrophone: (id) => this.#useMicrophone(id),
      onSpeaker: (id) => this.#call?.useSpeaker(id),
    },
  );

  run() {
    element("talk").addEventListener("click", () => this.#onTalk());
    element("mute").addEventListener("click", () => this.#toggleMute());
    element("stop-reply").addEventListener("click", () => this.#call?.stopReply());
    element("composer").addEventListener("submit", (event) => this.#onSubmit(event));
    document.addEventListener("keydown", ({ key }) => key === "Escape" && this.#call?.stopReply());
    new LetterKeys(element("letter-keys"));
    addEventListener("pagehide", () => this.#call && this.#stop());
    setInterval(() => this.#showAudioFacts(), FACTS_MS);
    this.#devices.refresh();
    this.#showState();
    if (!isSecureContext) {
      this.#fail(problems.insecure());
    }
  }

  #newTranscript() {
    return new Transcript((line, id) => this.#captions.show(line, id));
  }

  #onTalk() {
    if (!this.#call) {
      this.#start({ microphone: true });
    } else if (this.#call.hasMicrophone || this.#state === "connecting") {
      this.#stop();
    } else {
      this.#useMicrophone(this.#devices.microphoneId);
    }
  }

  /** @param {{microphone: boolean}} wanted @returns {Promise<Call | null>} */
  async #start({ microphone }) {
    this.#stop();
    this.#captions.clear();
    this.#transcript = this.#newTranscript();
    this.#rating.reset();
    this.#answeredBy.show(null);
    const call = new Call(this.#transcript, this.#latencies, this.#callListener());
    this.#call = call;
    call.mute(this.#muted);
    this.#dispatch("start");
    this.#waveform.start();
    try {
      await call.open({
        model: this.#models.model,
        speakerId: this.#devices.speakerId,
        microphoneId: microphone ? this.#devices.microphoneId : null,
      });
      this.#devices.refresh();
    } catch (error) {
      if (call === this.#call) {
        this.#fail(error);
      }
      return null;
    }
    this.#showState();
    return call;
  }

  #stop() {
    this.#call?.close();
    this.#call = null;
    this.#waveform.stop();
    this.#showDucked(false);
    this.#dispatch("stop");
  }

  /** @param {unknown} error */
  #fail(error) {
    const problem = error instanceof Problem ? error : problems.unknown();
    this.#stop();
    this.#dispatch("fail");
    this.#problem.show(problem, { advice: adviceOf(problem) });
  }

  /** @returns {import("./call.js").CallListener} */
  #callListener() {
    return {
      onState: (event) => this.#dispatch(event),
      onDuck: (softly) => this.#showDucked(softly),
      onTurn: () => this.#latencyView.show(this.#latencies.turns, this.#latencies.summary),
      onModel: (decision) => this.#answeredBy.show(decision),
      onAnswer: (responseId) => this.#rating.offer(responseId),
      onNotice: (text) => this.#notice(text),
      onEnd: (problem) => this.#fail(problem),
    };
  }

  /** @param {string} deviceId */
  async #useMicrophone(deviceId) {
    try {
      await this.#call?.useMicrophone(deviceId);
      this.#showState();
    } catch (error) {
      this.#notice(error instanceof Problem ? `${error.message}. ${adviceOf(error)}` : problems.unknown().message);
    }
  }

  #toggleMute() {
    this.#muted = !this.#muted;
    this.#call?.mute(this.#muted);
    this.#showState();
  }

  /** @param {SubmitEvent} event */
  async #onSubmit(event) {
    event.preventDefault();
    const field = element("message");
    const text = field.value.trim();
    if (!text) {
      return;
    }
    const call = this.#call ?? (await this.#start({ microphone: false }));
    if (call?.isOpen) {
      field.value = "";
      call.say(text);
    }
  }

  /** @param {import("./state.js").Event} event */
  #dispatch(event) {
    this.#state = nextState(this.#state, event);
    this.#showState();
  }

  #showState() {
    const talking = this.#call !== null;
    const hearing = talking && (this.#call.hasMicrophone || this.#state === "connecting");
    document.body.dataset.state = this.#state;
    document.body.classList.toggle("muted", this.#muted);
    setText(element("status"), this.#muted && this.#state === "listening" ? "Muted" : WORDS[this.#state]);
    setText(element("hint"), this.#hint(talking, hearing));
    setText(element("talk-label"), hearing ? "Stop" : "Start talking");
    element("talk").classList.toggle("on", hearing);
    element("mute").setAttribute("aria-pressed", `${this.#muted}`);
    element("stop-reply").disabled = !["thinking", "muse-speaking"].includes(this.#state);
    if (this.#state !== "error") {
      this.#problem.hide();
    }
    const takesText = this.#call?.takesText ?? true;
    element("message").disabled = element("send").disabled = !takesText;
    element("message").placeholder = takesText ? "Or type a message" : "This model only listens";
  }

  /** @param {boolean} talking @param {boolean} hearing @returns {string} */
  #hint(talking, hearing) {
    if (this.#state !== "listening") {
      return HINTS[this.#state];
    }
    if (this.#muted) {
      return "Muse does not hear you until you unmute.";
    }
    return talking && !hearing ? "Type a message, or press the button to talk." : HINTS.listening;
  }

  /** @param {boolean} softly */
  #showDucked(softly) {
    document.body.classList.toggle("ducked", softly);
  }

  /** @param {import("./waveform.js").Levels} levels */
  #showLevels({ user, muse }) {
    const level = this.#state === "muse-speaking" ? muse : user;
    element("orb").style.setProperty("--level", level.toFixed(3));
  }

  #showAudioFacts() {
    if (this.#call) {
      const { heard, underruns, framesDropped, chunksDropped } = this.#call.audioFacts;
      setText(element("heard"), `${heard.toFixed(1)} s`);
      setText(element("underruns"), `${underruns}`);
      setText(element("frames-dropped"), `${framesDropped}`);
      setText(element("chunks-dropped"), `${chunksDropped}`);
    }
  }

  /** @param {string} text */
  #notice(text) {
    setText(element("notice"), text);
    element("notice").hidden = false;
    clearTimeout(this.#noticeTimer);
    this.#noticeTimer = setTimeout(() => {
      element("notice").hidden = true;
    }, NOTICE_MS);
  }
}

/** @param {Problem} problem @returns {string} */
function adviceOf({ advice, hearing }) {
  return hearing ? `${advice} You can still type below and listen.` : advice;
}

new App().run();
