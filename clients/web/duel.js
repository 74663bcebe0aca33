/** The page of the blind duel: one spoken question, two answers, a vote, and who it was. */

import { Refusal, getJson, postJson, problemOf } from "./api.js";
import { ClipPlayer } from "./clip-player.js";
import { AUTO } from "./connection.js";
import { make, setText } from "./dom.js";
import { DuelSide } from "./duel-side.js";
import { SideView, ratingsChart, scalesOf } from "./duel-view.js";
import { LetterKeys } from "./letter-keys.js";
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
/** Phases in which the big button does nothing. @type {import("./duel-words.js").Phase[]} */
const BUSY = ["opening", "voting"];
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
    element("ask").addEventListener("click", ({ detail }) => this.#onAsk({ again: detail > 1 }));
    element("another").addEventListener("click", () => this.#onAgain(() => this.#record()));
    element("same").addEventListener("click", () => this.#onAgain(() => this.#askAgain()));
    element("vote").addEventListener("click", ({ target }) => this.#vote(target.closest("button")?.dataset.winner));
    new LetterKeys(element("letter-keys"));
    addEventListener("pagehide", () => this.#leave());
    this.#enter("intro");
    this.#check();
  }

  /** Whether a duel can be had at all, before anybody speaks. */
  async #check() {
    const problem = await getJson("/v1/models").then(
      ({ data }) => (data.filter(({ id }) => id !== AUTO).length < 2 ? problems.tooFewModels() : null),
      problemOf,
    );
    if (problem && this.#phase === "intro") {
      this.#fail(problem, { focus: false });
    }
  }

  #retry() {
    this.#enter("intro");
    this.#check();
  }

  /**
   * A button that is disabled would lose the focus: it only says that it is, and does nothing.
   *
   * @param {{again: boolean}} press `again`: the second of a double click, which is meant as one
   */
  #onAsk({ again }) {
    if (this.#phase === "recording") {
      this.#recorded();
    } else if (this.#phase === "answering") {
      if (!again) {
        this.#leave();
      }
    } else if (!BUSY.includes(this.#phase)) {
      this.#record();
    }
  }

  /** What was pressed goes away; the big button is next. @param {() => void} ask */
  #onAgain(ask) {
    element("ask").focus();
    ask();
  }

  async #record() {
    this.#drop();
    const recorder = Recorder.open({ onLost: (problem) => this.#fail(problem) });
    const opened = await this.#open(recorder);
    if (!opened) {
      // It may be open, or open later: nobody is to be heard then.
      recorder.then(
        (late) => late.stop(),
        () => {},
      );
      return;
    }
    this.#recorder = await recorder;
    this.#meter.start(this.#recorder.analyser);
    this.#recordingTimer = setTimeout(() => this.#recorded(), LONGEST_MS);
    this.#enter("recording");
  }

  /** A duel, and `others` that it waits for. @param {...Promise<any>} others @returns {Promise<boolean>} */
  async #open(...others) {
    const round = this.#round;
    this.#enter("opening");
    try {
      const duel = postJson("/v1/duels", {}).catch((error) => {
        throw duelProblem(error);
      });
      const [opened] = await Promise.all([duel, this.#player.unlock(), ...others]);
      if (round === this.#round) {
        this.#duel = opened;
      }
    } catch (error) {
      if (round === this.#round) {
        this.#fail(error);
      }
    }
    return round === this.#round;
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
    if (await this.#open()) {
      await this.#ask();
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
    const scales = scalesOf([...this.#answers.values()].map(({ samples }) => samples));
    this.#answers.forEach((answer, label) => this.#views.get(label).ready(answer, scales));
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
        const final = error instanceof Refusal;
        this.#enter(final ? "unjudged" : "judging");
        setText(element("note"), noteOf(error));
        (final ? element("another") : element("vote").querySelector(`[data-winner="${winner}"]`)).focus();
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

  /** As if nothing had been asked; a page that comes back from the browser's cache can be used again. */
  #leave() {
    this.#drop();
    if (this.#phase !== "failed") {
      this.#enter("intro");
    }
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

  /** @param {boolean} listening @returns {string} */
  #hint(listening) {
    const asksAgain = this.#phase === "opening" && this.#question !== null;
    return asksAgain ? "" : HINTS[listening ? "listening" : this.#phase];
  }

  #show() {
    const phase = this.#phase;
    const begun = ["answering", "judging", "voting", "revealed", "unjudged"].includes(phase);
    const listening = phase === "judging" && this.#heard.size < LABELS.length;
    document.body.dataset.phase = phase;
    document.body.dataset.state = STATES[phase];
    setText(element("status"), WORDS[phase]);
    setText(element("hint"), this.#hint(listening));
    setText(element("ask-label"), ACTIONS[phase] ?? "Ask a question");
    setText(element("arena-title"), HEADINGS[phase] ?? "How it goes");
    element("ask").classList.toggle("on", phase === "recording" || phase === "answering");
    element("ask").setAttribute("aria-disabled", `${BUSY.includes(phase)}`);
    if (phase !== "failed") {
      this.#problem.hide();
    }
    element("how").hidden = begun;
    element("sides").hidden = !begun;
    element("vote").hidden = element("keys").hidden = !["answering", "judging", "voting"].includes(phase);
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
