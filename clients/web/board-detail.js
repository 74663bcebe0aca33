/** What opens below a model: its metrics one by one, one of them over time, and all that is known of it. */

import { getJson, problemOf } from "./api.js";
import { serverTime } from "./board.js";
import { badge, STATUSES } from "./board-table.js";
import { make } from "./dom.js";
import { ago, decimal, duration, isNumber, measure, NOTHING, percent, whole } from "./format.js";
import { drawHistory } from "./history-chart.js";

const PERIODS = [7, 30, 90];

export class ModelDetail {
  #model;
  #board;
  #metric = "";
  #days = 30;
  #shown = "";
  /** @type {AbortController | null} */
  #request = null;
  /** @type {{points: import("./history-chart.js").Point[], metric: string} | null} */
  #history = null;
  #chart = make("div", { class: "chart-box" });
  #title = make("h3", {});
  #periods = make("div", { class: "periods", role: "group", "aria-label": "Period" });
  #metrics = make("div", { class: "scroll-x", tabindex: 0, role: "group", "aria-label": "Metrics" });
  #facts = make("dl", { class: "model-facts" });
  #badges = make("ul", { class: "badge-list" });
  #over;

  /** @param {import("./board.js").Model} model @param {HTMLElement} box */
  constructor(model, box) {
    const head = make("div", { class: "detail-head" }, this.#title, this.#periods);
    this.#over = make("div", { class: "over-time" }, head, this.#chart);
    const breakdown = make("div", { class: "breakdown" }, make("h3", {}, "Metrics"), this.#metrics);
    this.#periods.append(...PERIODS.map((days) => this.#periodButton(days)));
    box.append(make("div", { class: "detail-charts" }, this.#over, breakdown), this.#badges, this.#facts);
    this.#model = model;
    new ResizeObserver(() => this.#draw()).observe(this.#chart);
  }

  /** @param {import("./board.js").Model} model @param {import("./board.js").Board} board */
  update(model, board) {
    this.#model = model;
    this.#board = board;
    const scored = board.metrics.filter(({ id }) => model.metrics[id]);
    this.#facts.replaceChildren(...factsOf(model, board));
    this.#badges.replaceChildren(...model.badges.map((one) => make("li", {}, badge(one), make("span", {}, one.about))));
    this.#metrics.parentElement.hidden = this.#over.hidden = scored.length === 0;
    const fingerprint = JSON.stringify(model.metrics);
    if (scored.length === 0 || fingerprint === this.#shown) {
      return;
    }
    this.#shown = fingerprint;
    this.#metric = scored.some(({ id }) => id === this.#metric) ? this.#metric : scored[0].id;
    this.#drawMetrics(scored);
    this.#load();
  }

  /** @param {number} days */
  #periodButton(days) {
    const button = make(
      "button",
      { type: "button", class: "pill small", "aria-pressed": `${days === this.#days}` },
      `${days} days`,
    );
    button.addEventListener("click", () => {
      this.#days = days;
      [...this.#periods.children].forEach((other) => other.setAttribute("aria-pressed", `${other === button}`));
      this.#load();
    });
    return button;
  }

  /** @param {import("./board.js").Metric[]} metrics */
  #drawMetrics(metrics) {
    const head = ["Metric", "Average", "95 % interval", "Latest", "Scorings", "Validators", "Agreement", "Updated"];
    const rows = metrics.map((metric) => this.#metricRow(metric));
    const table = make(
      "table",
      { class: "plain" },
      make("caption", { class: "visually-hidden" }, `Metrics of ${this.#model.id}`),
      make("thead", {}, make("tr", {}, ...head.map((text) => make("th", { scope: "col" }, text)))),
      make("tbody", {}, ...rows),
    );
    const focused = this.#metrics.contains(document.activeElement) ? document.activeElement.dataset.metric : null;
    this.#metrics.replaceChildren(table);
    if (focused) {
      this.#metrics.querySelector(`[data-metric="${CSS.escape(focused)}"]`)?.focus();
    }
  }

  /** @param {import("./board.js").Metric} metric */
  #metricRow(metric) {
    const standing = this.#model.metrics[metric.id];
    const value = (number) => measure(number, metric.unit) + (metric.unit ? ` ${metric.unit}` : "");
    const pressed = `${metric.id === this.#metric}`;
    const button = make(
      "button",
      { type: "button", class: "metric-name", "data-metric": metric.id, "aria-pressed": pressed, title: metric.about },
      metric.title,
    );
    button.addEventListener("click", () => this.#choose(metric.id));
    const cells = [
      value(standing.average),
      `${measure(standing.low, metric.unit)} – ${measure(standing.high, metric.unit)}`,
      value(standing.latest),
      whole(standing.samples),
      whole(standing.validators),
      percent(standing.agreement),
      ago(standing.updated_at, serverTime(this.#board)),
    ];
    return make("tr", {}, make("th", { scope: "row" }, button), ...cells.map((text) => make("td", {}, text)));
  }

  /** @param {string} metric */
  #choose(metric) {
    this.#metric = metric;
    for (const button of this.#metrics.querySelectorAll(".metric-name")) {
      button.setAttribute("aria-pressed", `${button.dataset.metric === metric}`);
    }
    this.#load();
  }

  async #load() {
    this.#request?.abort();
    this.#request = new AbortController();
    const { signal } = this.#request;
    const metric = this.#metric;
    this.#title.textContent = `${this.#metricNow().title} over time`;
    this.#chart.setAttribute("aria-busy", "true");
    const query = new URLSearchParams({ model: this.#model.version, metric, days: `${this.#days}` });
    try {
      const { points } = await getJson(`/v1/leaderboard/history?${query}`, { signal });
      this.#history = { points, metric };
      this.#draw();
    } catch (error) {
      if (signal.aborted) {
        return;
      }
      this.#history = null;
      this.#chart.replaceChildren(
        make("p", { class: "nothing-yet" }, `The history could not be read. ${problemOf(error).message}.`),
      );
    }
    this.#chart.removeAttribute("aria-busy");
  }

  #metricNow() {
    return this.#board.metrics.find(({ id }) => id === this.#metric);
  }

  #draw() {
    if (!this.#history || this.#chart.clientWidth === 0) {
      return;
    }
    const { points, metric: id } = this.#history;
    const metric = this.#board.metrics.find((one) => one.id === id);
    if (points.length === 0) {
      this.#chart.replaceChildren(make("p", { class: "nothing-yet" }, `No scores in the last ${this.#days} days.`));
    } else {
      drawHistory(this.#chart, { points, metric, standing: this.#model.metrics[id] ?? null, model: this.#model.id });
    }
  }
}

/** @param {import("./board.js").Model} model @param {import("./board.js").Board} board @returns {HTMLElement[]} */
function factsOf(model, board) {
  const { live, miner, feedback, rating } = model;
  const status = STATUSES[model.status]?.label ?? model.status;
  const facts = [
    ["Status", [status, model.status_reason].filter(Boolean).join(": ")],
    ["Failing", model.failing ? model.failure || "its newest scorings failed" : null],
    ["Version", model.version],
    ["Hotkey", model.hotkey],
    ["UID", isNumber(model.uid) && model.hotkey ? `${model.uid}` : null],
    ["Committed", committed(model, board)],
    ["Incentive", model.hotkey ? percent(model.incentive) : null],
    ["Emission", model.hotkey ? `${decimal(model.emission, 3)} alpha an epoch` : null],
    ["Reputation", isNumber(miner?.reputation) ? decimal(miner.reputation, 3) : null],
    ["Decay", isNumber(miner?.decay) ? decay(miner) : null],
    ["In calls here", live?.turns ? `${whole(live.turns)} turns in ${whole(live.sessions)} calls` : null],
    ["Late frames", isNumber(live?.misses) ? `${percent(live.misses)} of ${whole(live.frames)}` : null],
    ["Failed calls", isNumber(live?.errors) ? percent(live.errors) : null],
    ["Duels", rating ? `${whole(rating.votes)} votes` : null],
    ["Feedback", feedback?.ratings ? `${decimal(feedback.mean, 1)} of 5, ${whole(feedback.ratings)} ratings` : null],
  ];
  return facts
    .filter(([, text]) => text)
    .map(([name, text]) => make("div", {}, make("dt", {}, name), make("dd", {}, text)));
}

/** @param {import("./board.js").Model} model @param {import("./board.js").Board} board */
function committed({ block, hotkey }, board) {
  if (!isNumber(block) || !hotkey) {
    return null;
  }
  const age = isNumber(board.block) && board.block >= block ? `, ${duration(12 * (board.block - block))} before` : "";
  return `block ${whole(block)}${age}`;
}

/** @param {{decay: number, recovery: number | null}} miner */
function decay({ decay: factor, recovery }) {
  if (factor >= 1) {
    return "none";
  }
  return `${percent(1 - factor)} off its weight, ${isNumber(recovery) ? percent(recovery) : NOTHING} won back`;
}
