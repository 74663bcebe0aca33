/** The page of the blind duel: one spoken question, two answers, a vote, and who it was. */

import { Refusal, getJson, postJson, problemOf } from "./api.js";
import { ClipPlayer } from "./clip-player.js";
import { AUTO } from "./connection.js";
import { make, setText } from "./dom.js";
import { DuelSide } from "./duel-side.js";
import { SideView, ratingsChart } from "./duel-view.js";
import { LevelMeter } from "./level-meter.js";
import { WIRE_RATE } from "./pcm.js";
import { ProblemPanel } from "./problem-panel.js";
import { Problem, problems } from "./problems.js";
import { Recorder } from "./recorder.js";
import { trimmed } from "./recording.js";
import {
  ACTIONS,
  HINTS,
  HEADINGS,
  OUTCOMES,
  STATES,
  WORDS,
  duelProblem,
  noteOf,
  nothingHeard,
  sideNote,
} from "./duel-words.js";

const LONGEST_MS = 20_000;
const BETWEEN_MS = 500;
/** Phases in which nothing new can be asked. @type {import("./duel-words.js").Phase[]} */
const BUSY = ["opening", "answering", "voting"];
const LABELS = /** @type {const} */ (["A", "B"]);

/** @param {string} id @returns {any} */
const element = (id) => document.getElementById(id);

class DuelPage {
  /** @type {import("./duel-words.js").Phase} */
  #phase = "intro";
  #player = new ClipPlayer();
  #problem = ProblemPanel.find(() => this.#retry());
  #meter = new LevelMeter((level) => element("orb").style.setProperty("--level", level.toFixed(3)));
  /** @type {Recorder | null} */
  #recorder = null;
  #recordingTimer = 0;
  /** @type {Int16Array | null} */
  #question = null;
  /** @type {{id: string, sides: {label: "A" | "B", model: string}[]} | null} */
  #duel = null;
  /** @type {DuelSide[]} */
  #asked = [];
  /** @type {Map<string, {samples: Float32Array, wait: number}>} answers by label */
  #answers = new Map();
  /** @type {Set<string>} labels of the answers that were played to their end, or stopped */
  #heard = new Set();
  /** Counts duels, so that what comes late for an old one is known. */
  #round = 0;
  #views = new Map(LABELS.map((label) => [label, new SideView(label, () => this.#toggle(label))]));

  run() {
    element("sides").append(...[...this.#views.values()].map((view) => view.element));
    element("ask").addEventListener("click", () => this.#onAsk());
    element("another").addEventListener("click", () => this.#record());
    element("same").addEventListener("click", () => this.#askAgain());
    element("vote").addEventListener("click", ({ target }) => this.#vote(target.closest("button")?.dataset.winner));
    document.addEventListener("keydown", (event) => this.#onKeyDown(event));
    addEventListener("pagehide", () => this.#drop());
    this.#enter("intro");
    this.#check();
  }

  /** Whether a duel can be had at all, before anybody speaks. */
  async #check() {
    try {
      const { data } = await getJson("/v1/models");
      if (data.filter(({ id }) => id !== AUTO).length < 2) {
        this.#fail(problems.tooFewModels(), { focus: false });
      }
    } catch (error) {
      this.#fail(problemOf(error), { focus: false });
    }
  }

  #retry() {
    this.#enter("intro");
    this.#check();
  }

  /** A button that is disabled would lose the focus: it only says that it is, and does nothing. */
  #onAsk() {
    if (this.#phase === "recording") {
      this.#recorded();
    } else if (!BUSY.includes(this.#phase)) {
      this.#record();
    }
  }

  async #record() {
    this.#drop();
    const round = this.#round;
    this.#enter("opening");
    try {
      const [recorder] = await Promise.all([
        Recorder.open({ onLost: (problem) => this.#fail(problem) }),
        this.#player.unlock(),
        this.#openDuel(),
      ]);
      if (round !== this.#round) {
        recorder.stop();
        return;
      }
      this.#recorder = recorder;
      this.#meter.start(recorder.analyser);
      this.#recordingTimer = setTimeout(() => this.#recorded(), LONGEST_MS);
      this.#enter("recording");
    } catch (error) {
      if (round === this.#round) {
        this.#fail(error);
      }
    }
  }

  async #openDuel() {
    try {
      this.#duel = await postJson("/v1/duels", {});
    } catch (error) {
      throw duelProblem(error);
    }
  }

  #recorded() {
    const question = trimmed(this.#stopRecording());
    if (question.length < WIRE_RATE / 4) {
      this.#fail(nothingHeard());
      return;
    }
    this.#question = question;
    this.#ask();
  }

  async #askAgain() {
    const question = this.#question;
    this.#drop();
    this.#question = question;
    try {
      await Promise.all([this.#player.unlock(), this.#openDuel()]);
      await this.#ask();
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Both at once: neither waits for the other. */
  async #ask() {
    const round = this.#round;
    this.#enter("answering");
    this.#views.forEach((view) => view.reset());
    await Promise.all(this.#duel.sides.map((side) => this.#askSide(side)));
    if (round !== this.#round) {
      return;
    }
    if (this.#answers.size < LABELS.length) {
      this.#enter("unjudged");
      return;
    }
    const seconds = Math.max(...[...this.#answers.values()].map(({ samples }) => samples.length)) / WIRE_RATE;
    this.#answers.forEach((answer, label) => this.#views.get(label).ready(answer, seconds));
    this.#enter("judging");
    await this.#playAll(round);
  }

  /** @param {{label: "A" | "B", model: string}} side */
  async #askSide({ label, model }) {
    const round = this.#round;
    const view = this.#views.get(label);
    const onProgress = (share) => view.asking(share);
    const side = new DuelSide({ model, question: this.#question, onProgress });
    this.#asked.push(side);
    view.show("asking", "is called");
    try {
      const { samples, wait } = await side.ask();
      if (round === this.#round) {
        this.#answers.set(label, { samples, wait });
        view.show("answering", "has answered");
      }
    } catch (error) {
      if (round === this.#round) {
        view.show("failed", sideNote(error));
      }
    }
  }

  /** @param {number} round */
  async #playAll(round) {
    for (const label of LABELS) {
      const finished = await this.#play(label);
      if (!finished || round !== this.#round || this.#phase !== "judging") {
        return;
      }
      await new Promise((resolve) => setTimeout(resolve, BETWEEN_MS));
    }
  }

  /** @param {"A" | "B"} label */
  #toggle(label) {
    if (this.#views.get(label).element.classList.contains("playing")) {
      this.#player.stop();
    } else {
      this.#play(label);
    }
  }

  /** @param {"A" | "B"} label @returns {Promise<boolean>} whether to its end */
  async #play(label) {
    const answer = this.#answers.get(label);
    if (!answer) {
      return false;
    }
    const view = this.#views.get(label);
    const played = this.#player.play(answer.samples, (seconds) => view.progress(seconds));
    view.playing(true);
    const finished = await played;
    view.playing(false);
    this.#heard.add(label);
    this.#show();
    return finished;
  }

  /** @param {string | undefined} winner */
  async #vote(winner) {
    if (!winner || this.#phase !== "judging" || this.#heard.size < LABELS.length) {
      return;
    }
    const round = this.#round;
    this.#player.stop();
    this.#enter("voting");
    try {
      const result = await postJson(`/v1/duels/${this.#duel.id}/vote`, { winner });
      if (round === this.#round) {
        this.#reveal(result);
      }
    } catch (error) {
      if (round === this.#round) {
        this.#enter(error instanceof Refusal ? "unjudged" : "judging");
        setText(element("note"), noteOf(error));
      }
    }
  }

  /** @param {{winner: "A" | "B" | "tie" | "neither", sides: any[], ratings: Record<string, any>}} result */
  #reveal({ winner, sides, ratings }) {
    this.#enter("revealed");
    for (const side of sides) {
      this.#views.get(side.label).reveal(side, winner === side.label ? "your choice" : "");
      this.#views.get(side.label).element.classList.toggle("chosen", winner === side.label);
    }
    const chosen = sides.find(({ label }) => label === winner)?.model;
    const title = make("h3", { class: "reveal-title", tabindex: -1 }, OUTCOMES[winner](chosen));
    element("reveal").replaceChildren(
      title,
      ratingsChart(sides, ratings),
      make("a", { href: "leaderboard.html" }, "See the leaderboard"),
    );
    title.focus();
  }

  /** @param {KeyboardEvent} event */
  #onKeyDown({ key, target, ctrlKey, metaKey, altKey, repeat }) {
    const typing = target instanceof HTMLElement && target.matches("input, select, textarea");
    const button = element("vote").querySelector(`[aria-keyshortcuts="${CSS.escape(key.toUpperCase())}"]`);
    if (button && !typing && !ctrlKey && !metaKey && !altKey && !repeat) {
      this.#vote(button.dataset.winner);
    }
  }

  /** @param {unknown} error @param {{focus?: boolean}} [options] */
  #fail(error, { focus = true } = {}) {
    this.#drop();
    this.#enter("failed");
    this.#problem.show(error instanceof Problem ? error : problemOf(error), { focus });
  }

  /** @returns {Int16Array} */
  #stopRecording() {
    clearTimeout(this.#recordingTimer);
    this.#meter.stop();
    const samples = this.#recorder?.stop() ?? new Int16Array(0);
    this.#recorder = null;
    return samples;
  }

  /** Nothing of this duel goes on, and nothing that was said is kept. */
  #drop() {
    this.#round += 1;
    this.#stopRecording();
    this.#player.stop();
    this.#asked.forEach((side) => side.close());
    this.#asked = [];
    this.#question = this.#duel = null;
    this.#answers.clear();
    this.#heard.clear();
    element("reveal").replaceChildren();
    this.#views.forEach((view) => {
      view.reset();
      view.element.classList.remove("chosen");
    });
  }

  /** @param {import("./duel-words.js").Phase} phase */
  #enter(phase) {
    this.#phase = phase;
    setText(element("note"), "");
    this.#show();
  }

  #show() {
    const phase = this.#phase;
    const begun = ["answering", "judging", "voting", "revealed", "unjudged"].includes(phase);
    const listening = phase === "judging" && this.#heard.size < LABELS.length;
    document.body.dataset.phase = phase;
    document.body.dataset.state = STATES[phase];
    setText(element("status"), WORDS[phase]);
    setText(element("hint"), listening ? HINTS.listening : HINTS[phase]);
    setText(element("ask-label"), ACTIONS[phase] ?? "Ask a question");
    setText(element("arena-title"), HEADINGS[phase] ?? "How it goes");
    element("ask").classList.toggle("on", phase === "recording");
    element("ask").setAttribute("aria-disabled", `${BUSY.includes(phase)}`);
    if (phase !== "failed") {
      this.#problem.hide();
    }
    element("how").hidden = begun;
    element("sides").hidden = !begun;
    element("vote").hidden = !["answering", "judging", "voting"].includes(phase);
    element("vote").disabled = phase !== "judging" || listening;
    element("reveal").hidden = phase !== "revealed";
    element("again").hidden = !["revealed", "unjudged"].includes(phase);
    element("same").hidden = this.#question === null;
  }
}

if (isSecureContext) {
  new DuelPage().run();
} else {
  ProblemPanel.find(() => location.reload()).show(problems.insecure());
}
