/**
 * The leaderboard's table. Rows are kept from one drawing to the next, so that a refresh takes nobody's focus, and
 * closes nothing that is open.
 */

import { bestAt, domainOfColumn } from "./board.js";
import { cell } from "./cells.js";
import { meter } from "./charts.js";
import { keepingFocus, make, setText, svg } from "./dom.js";
import { NOTHING, nameOf, percent } from "./format.js";

const FIXED_COLUMNS = 3;

/** @type {Record<string, {label: string, about: string}>} */
export const STATUSES = {
  serving: { label: "Serving", about: "gets new calls" },
  candidate: { label: "On its way in", about: "gets a share of new calls" },
  ready: { label: "Ready", about: "on a worker, not chosen now" },
  loading: { label: "Loading", about: "a worker is loading it" },
  waiting: { label: "Waiting", about: "on no worker yet" },
  failed: { label: "Failed", about: "a worker could not serve it" },
  barred: { label: "Barred", about: "rolled back, and waits until it may try again" },
};

export class BoardTable {
  #table;
  #onSort;
  #onOpen;
  /** @type {Map<string, Row>} by version */
  #rows = new Map();

  /**
   * @param {HTMLTableElement} table
   * @param {{onSort: (column: string) => void,
   *   onOpen: (model: import("./board.js").Model, box: HTMLElement) => Detail}} listener `onOpen`: a row is opened for
   *   the first time; what it returns is shown in `box`
   */
  constructor(table, { onSort, onOpen }) {
    this.#table = table;
    this.#onSort = onSort;
    this.#onOpen = onOpen;
  }

  /**
   * @param {import("./board.js").Model[]} models in order
   * @param {import("./board.js").Column[]} columns
   * @param {import("./board.js").Order} order
   * @param {import("./board.js").Board} board
   */
  show(models, columns, order, board) {
    const [body] = this.#table.tBodies;
    keepingFocus(this.#table.tHead, () => this.#table.tHead.replaceChildren(this.#header(columns, order)));
    const places = new Map(
      columns.map((column) => [column, { domain: domainOfColumn(column, models), best: bestAt(column, models) }]),
    );
    for (const [version, row] of this.#rows) {
      if (!models.some((model) => model.version === version)) {
        row.elements.forEach((element) => element.remove());
        this.#rows.delete(version);
      }
    }
    for (const model of models) {
      if (!this.#rows.has(model.version)) {
        this.#rows.set(model.version, new Row(model.version, this.#onOpen));
      }
      this.#rows.get(model.version).show(model, columns, places, board);
    }
    arrange(
      body,
      models.flatMap(({ version }) => this.#rows.get(version).elements),
    );
  }

  /** @param {import("./board.js").Column[]} columns @param {import("./board.js").Order} order */
  #header(columns, order) {
    const heading = (id, title, about, className) => {
      const sort = order.column === id ? (order.descending ? "descending" : "ascending") : null;
      const button = make("button", { type: "button", title: about, "data-focus": `sort-${id}` }, title, arrow());
      button.addEventListener("click", () => this.#onSort(id));
      return make("th", { scope: "col", role: "columnheader", class: className, "aria-sort": sort }, button);
    };
    return make(
      "tr",
      { role: "row" },
      heading("rank", "#", "The router's own order", "cell-rank"),
      make("th", { scope: "col", role: "columnheader", class: "cell-model" }, "Model"),
      make("th", { scope: "col", role: "columnheader", class: "cell-status" }, "Status"),
      ...columns.map(({ id, title, about, kind }) => heading(id, title, about, `cell-${kind}`)),
    );
  }
}

/** @typedef {{update: (model: import("./board.js").Model, board: import("./board.js").Board) => void}} Detail */

/** One model: its line, and below it what opens. */
class Row {
  #onOpen;
  /** @type {Detail | null} */
  #detail = null;
  #model;
  #board;
  #box = make("div", { class: "detail" });
  #cell = make("td", { role: "cell" }, this.#box);
  #rank = make("td", { class: "cell cell-rank", role: "cell" });
  #name = make("b", {});
  #meta = make("span", { class: "meta" });
  #badges = make("span", { class: "badges" });
  #button;
  #line;
  #below;
  /** What the line shows, as text: most refreshes change few lines, and drawing all of many takes long. */
  #drawn = "";

  /** @param {string} version @param {(model: import("./board.js").Model, box: HTMLElement) => Detail} onOpen */
  constructor(version, onOpen) {
    this.#onOpen = onOpen;
    const id = `detail-${encodeURIComponent(version)}`;
    const attributes = { type: "button", class: "opener", "aria-expanded": "false", "aria-controls": id };
    this.#button = make("button", attributes, chevron(), this.#name);
    this.#button.addEventListener("click", () => this.#toggle());
    const model = make(
      "th",
      { class: "cell cell-model", role: "rowheader", scope: "row" },
      this.#button,
      this.#meta,
      this.#badges,
    );
    this.#line = make("tr", { class: "line", role: "row", "data-version": version }, this.#rank, model);
    this.#below = make("tr", { class: "below", role: "row", id, hidden: true }, this.#cell);
  }

  get elements() {
    return [this.#line, this.#below];
  }

  /** The line's first cells stay, for one may have the focus. */
  show(model, columns, places, board) {
    this.#model = model;
    this.#board = board;
    this.#detail?.update(model, board);
    const marks = columns.map((column) => [column.id, places.get(column).domain, places.get(column).best === model]);
    const drawn = JSON.stringify([model, marks]);
    if (drawn !== this.#drawn) {
      this.#drawn = drawn;
      this.#draw(model, columns, places);
    }
  }

  #draw(model, columns, places) {
    setText(this.#rank, `${model.rank ?? NOTHING}`);
    setText(this.#name, model.id);
    setText(this.#meta, metaOf(model));
    this.#badges.replaceChildren(...model.badges.map(badge));
    this.#line.dataset.status = model.status;
    while (this.#line.cells.length > 2) {
      this.#line.lastElementChild.remove();
    }
    const cells = columns.map((column) => {
      const { domain, best } = places.get(column);
      return cell(column, model, { domain, best: best === model });
    });
    this.#line.append(statusCell(model), ...cells);
    this.#cell.colSpan = FIXED_COLUMNS + columns.length;
  }

  #toggle() {
    const open = this.#below.hidden;
    this.#below.hidden = !open;
    this.#button.setAttribute("aria-expanded", `${open}`);
    this.#line.classList.toggle("open", open);
    if (open) {
      this.#detail ??= this.#onOpen(this.#model, this.#box);
      this.#detail.update(this.#model, this.#board);
    }
  }
}

/** @param {import("./board.js").Model} model @returns {string} */
function metaOf({ version, mode, languages }) {
  const modes = { duplex: "duplex", turn_based: "turn-based" };
  const { commit } = nameOf(version);
  return [commit, modes[mode] ?? mode, (languages ?? []).join(", ")].filter(Boolean).join(" · ");
}

/** @param {{id: string, title: string, about: string}} badge */
export function badge({ id, title, about }) {
  return make("span", { class: "badge", "data-badge": id, title: about }, title);
}

/** @param {import("./board.js").Model} model */
function statusCell({ status, share, status_reason: reason, failing, failure }) {
  const { label, about } = STATUSES[status] ?? { label: status, about: "" };
  const sharing = share > 0;
  return make(
    "td",
    { class: "cell cell-status", role: "cell", title: reason || about },
    make("span", { class: `chip chip-${status}` }, label),
    failing && make("span", { class: "chip chip-failing", title: failure }, "Failing"),
    sharing && make("span", { class: "share" }, meter(share), `${percent(share)} of new calls`),
  );
}

/** Put these in the body in this order, moving nothing that is in its place. */
function arrange(body, elements) {
  elements.forEach((element, index) => {
    if (body.children[index] !== element) {
      body.insertBefore(element, body.children[index] ?? null);
    }
  });
}

function chevron() {
  return svg(
    "svg",
    { viewBox: "0 0 12 12", class: "chevron", "aria-hidden": "true" },
    svg("path", { d: "M4 2.5 7.5 6 4 9.5" }),
  );
}

function arrow() {
  return svg(
    "svg",
    { viewBox: "0 0 8 8", class: "arrow", "aria-hidden": "true" },
    svg("path", { d: "M4 1.5V6.5M1.8 4.4 4 6.6 6.2 4.4" }),
  );
}
