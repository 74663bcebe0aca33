/**
 * Draws the turns' latencies: the newest as a stacked bar with its legend, the ones before it as thin bars, and all of
 * them as a table.
 */

import { PARTS } from "./latency.js";

const BARS = 6;
const ROWS = 100;
const SCALE_STEP_MS = 500;

export class LatencyView {
  #elements;
  #count = 0;

  /**
   * @param {{panel: HTMLElement, total: HTMLElement, median: HTMLElement, p95: HTMLElement, bars: HTMLElement,
   *   legend: HTMLElement, table: HTMLTableElement, marker: HTMLElement, scale: HTMLElement}} elements
   */
  constructor(elements) {
    this.#elements = elements;
    elements.table.tHead.rows[0].append(...["Turn", ...PARTS.map(({ label }) => label), "Total"].map(headerCell));
    elements.legend.replaceChildren(...PARTS.map(legendEntry));
  }

  /**
   * @param {import("./latency.js").Turn[]} turns at least one, oldest first
   * @param {{median: number, p95: number}} summary of the totals
   */
  show(turns, { median, p95 }) {
    const { panel, total, bars, table, marker, legend } = this.#elements;
    const newest = turns.at(-1);
    panel.classList.remove("empty");
    total.textContent = `${newest.total}`;
    this.#elements.median.textContent = `${median} ms`;
    this.#elements.p95.textContent = `${p95} ms`;
    const shown = turns.slice(-BARS).reverse();
    const longest = Math.max(1, median, ...shown.map((turn) => turn.total));
    const scale = SCALE_STEP_MS * Math.ceil(longest / SCALE_STEP_MS);
    this.#elements.scale.textContent = `${scale} ms`;
    bars.replaceChildren(...shown.map((turn) => bar(turn, scale)));
    marker.style.setProperty("--at", `${median / scale}`);
    newest.parts.forEach(({ ms }, index) => fillLegend(legend.children[index], ms));
    this.#count += 1;
    table.tBodies[0].prepend(row(this.#count, newest));
    table.tBodies[0].rows[ROWS]?.remove();
  }
}

/** @param {import("./latency.js").Turn} turn @param {number} scale ms of the full width @returns {HTMLElement} */
function bar({ total, parts }, scale) {
  const element = document.createElement("div");
  element.className = "bar";
  element.style.inlineSize = `${(100 * total) / scale}%`;
  element.setAttribute("role", "img");
  element.setAttribute("aria-label", `${total} milliseconds from your last word to the first of the reply`);
  for (const { key, ms } of parts.filter((part) => part.ms > 0)) {
    const segment = document.createElement("span");
    segment.className = `segment part-${key}`;
    segment.dataset.ms = `${ms}`;
    segment.title = `${key} ${ms} ms`;
    segment.style.flexGrow = `${ms}`;
    element.append(segment);
  }
  return element;
}

/** @param {typeof PARTS[number]} part @returns {HTMLElement} */
function legendEntry({ key, label, means }) {
  const element = document.createElement("li");
  element.title = means;
  const swatch = document.createElement("span");
  swatch.className = `swatch part-${key}`;
  const name = document.createElement("span");
  name.className = "part-name";
  name.textContent = label;
  const value = document.createElement("span");
  value.className = "part-value";
  element.append(swatch, name, value);
  return element;
}

/** @param {Element} entry @param {number} ms */
function fillLegend(entry, ms) {
  entry.querySelector(".part-value").textContent = `${ms}`;
  entry.classList.toggle("zero", ms === 0);
}

/** @param {number} number @param {import("./latency.js").Turn} turn @returns {HTMLTableRowElement} */
function row(number, { total, parts }) {
  const element = document.createElement("tr");
  const header = headerCell(`${number}`);
  header.scope = "row";
  element.append(header);
  for (const ms of [...parts.map((part) => part.ms), total]) {
    element.insertCell().textContent = `${ms}`;
  }
  return element;
}

/** @param {string} text @returns {HTMLTableCellElement} */
function headerCell(text) {
  const cell = document.createElement("th");
  cell.scope = "col";
  cell.textContent = text;
  return cell;
}
