/** The two sides of a duel: what each is doing, its answer as a picture to play, and at last who it is. */

import { make, setText, svg } from "./dom.js";
import { nameOf, whole } from "./format.js";
import { WIRE_RATE } from "./pcm.js";
import { peaks } from "./recording.js";
import { domainOf, scale } from "./scales.js";

const BAR_PX = 3;
const STEP_PX = 5;
const HEIGHT = 60;
const LEVELS_PER_SECOND = 20;

/** @typedef {{seconds: number, loudest: number}} Scales  of the pictures of both sides */

export class SideView {
  #label;
  #status = make("p", { class: "side-status", role: "status" });
  #name = make("p", { class: "side-name" });
  #picture = make("div", { class: "side-picture" });
  #play;
  /** @type {{samples: Float32Array, wait: number, scales: Scales} | null} */
  #clip = null;
  element;

  /** @param {"A" | "B"} label @param {() => void} onPlay play, or stop */
  constructor(label, onPlay) {
    this.#label = label;
    this.#play = make("button", { type: "button", class: "pill play", disabled: true });
    this.#play.addEventListener("click", onPlay);
    const heading = make("h3", { class: "side-label" }, make("span", { class: "visually-hidden" }, "Answer "), label);
    const head = make(
      "div",
      { class: "side-head" },
      make("div", { class: "side-words" }, this.#name, this.#status),
      this.#play,
    );
    this.element = make(
      "article",
      { class: `side side-${label.toLowerCase()}` },
      heading,
      make("div", { class: "side-body" }, head, this.#picture),
    );
    new ResizeObserver(() => this.#draw()).observe(this.#picture);
    this.reset();
  }

  reset() {
    this.#clip = null;
    this.#picture.replaceChildren();
    this.#name.textContent = "";
    this.#picture.style.setProperty("--asked", "0%");
    this.element.dataset.state = "waiting";
    this.#play.disabled = true;
    this.playing(false);
    this.say("");
  }

  /** @param {string} text */
  say(text) {
    setText(this.#status, text);
  }

  /** @param {"asking" | "answering" | "ready" | "failed"} state @param {string} text */
  show(state, text) {
    this.element.dataset.state = state;
    this.say(text);
  }

  /** @param {number} share of the question that has been asked, 0 to 1 */
  asking(share) {
    this.show("asking", share < 1 ? "hears your question" : "is answering");
    this.#picture.style.setProperty("--asked", `${100 * share}%`);
  }

  /**
   * @param {{samples: Float32Array, wait: number}} answer
   * @param {Scales} scales
   */
  ready({ samples, wait }, scales) {
    this.#clip = { samples, wait, scales };
    this.#play.disabled = false;
    this.show("ready", this.#waited);
    this.#draw();
  }

  get #waited() {
    return `answered after ${this.#clip.wait.toFixed(1)}\u00a0s`;
  }

  /** @param {boolean} on */
  playing(on) {
    this.element.classList.toggle("playing", on);
    this.#play.replaceChildren(
      icon(on),
      make("span", { class: "play-word" }, on ? "Stop" : "Play"),
      make("span", { class: "visually-hidden" }, ` answer ${this.#label}`),
    );
    if (!on) {
      this.progress(0);
    }
  }

  /** @param {number} seconds played */
  progress(seconds) {
    const reached = (seconds * WIRE_RATE) / (this.#clip?.samples.length || 1);
    const bars = this.#picture.querySelectorAll(".bar");
    bars.forEach((bar, index) => bar.classList.toggle("heard", seconds > 0 && index < reached * bars.length));
  }

  /** @param {{model: string, version: string}} side @param {string} outcome */
  reveal({ version }, outcome) {
    const { model, commit } = nameOf(version);
    this.#name.replaceChildren(make("b", {}, model), commit && make("span", { class: "commit" }, commit));
    this.show("ready", [this.#waited, outcome].filter(Boolean).join(" · "));
  }

  /** The wait is as long on the picture as it was; both sides' are on one scale. */
  #draw() {
    const width = this.#picture.clientWidth;
    if (!this.#clip || width === 0) {
      return;
    }
    const { samples, wait, scales } = this.#clip;
    const { seconds, loudest } = scales;
    const x = scale([0, seconds], [0, width]);
    const shown = x(samples.length / WIRE_RATE);
    const levels = peaks(samples, Math.max(1, Math.floor(shown / STEP_PX)));
    const quiet = (levels.length * wait * WIRE_RATE) / samples.length;
    const middle = HEIGHT / 2;
    const bars = levels.map((level, index) => {
      const size = Math.max(2, Math.min(1, (level / loudest) ** 0.7) * HEIGHT);
      const place = { x: index * STEP_PX, y: middle - size / 2, width: BAR_PX, height: size, rx: BAR_PX / 2 };
      return svg("rect", { class: index + 1 <= quiet ? "bar wait" : "bar", ...place });
    });
    const attributes = { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, "aria-hidden": "true" };
    this.#picture.replaceChildren(svg("svg", attributes, ...bars));
  }
}

/** @param {Float32Array[]} answers @returns {Scales} on which the longest and the loudest fill the picture */
export function scalesOf(answers) {
  const seconds = answers.map((samples) => samples.length / WIRE_RATE);
  const levels = answers.flatMap((samples, index) => peaks(samples, Math.ceil(LEVELS_PER_SECOND * seconds[index])));
  return { seconds: Math.max(...seconds), loudest: Math.max(...levels) };
}

/**
 * @param {{label: string, version: string}[]} sides
 * @param {Record<string, {value: number, low: number, high: number, votes: number}>} ratings by version
 * @returns {HTMLElement} both ratings with their intervals, on one scale
 */
export function ratingsChart(sides, ratings) {
  const known = sides.map(({ version }) => ratings[version]).filter(Boolean);
  const domain = domainOf(known.flatMap(({ low, high }) => [low, high]));
  const rows = sides.map(({ label, version }) => {
    const rating = ratings[version];
    const name = make("span", { class: "rated-name" }, nameOf(version).model);
    const figures = rating
      ? [
          make("b", {}, whole(rating.value)),
          ` (${whole(rating.low)} to ${whole(rating.high)}, ${whole(rating.votes)} votes)`,
        ]
      : ["rated after more votes"];
    return make(
      "li",
      { class: `rated rated-${label.toLowerCase()}` },
      name,
      rating && estimate(rating, domain),
      make("span", { class: "rated-figures" }, ...figures),
    );
  });
  return make("ul", { class: "ratings", "aria-label": "Ratings with their 95 % intervals" }, ...rows);
}

/** @returns {SVGElement} */
function estimate({ value, low, high }, domain) {
  const x = scale(domain, [1, 99]);
  const box = { viewBox: "0 0 100 14", preserveAspectRatio: "none", class: "estimate", "aria-hidden": "true" };
  return svg(
    "svg",
    box,
    svg("line", { class: "axis", x1: 0, x2: 100, y1: 7, y2: 7 }),
    svg("line", { class: "interval", x1: x(low), x2: x(high), y1: 7, y2: 7 }),
    svg("line", { class: "value", x1: x(value), x2: x(value), y1: 0, y2: 14 }),
  );
}

/** @param {boolean} playing */
function icon(playing) {
  const shape = playing
    ? svg("rect", { x: 7, y: 7, width: 10, height: 10, rx: 2 })
    : svg("path", { d: "M8 5.5v13l11-6.5Z" });
  return svg("svg", { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true" }, shape);
}
