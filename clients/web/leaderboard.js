/** The leaderboard's page: keeps it fresh, and shows it as the user wants it. */

import { getJson, problemOf } from "./api.js";
import { excludedTable, rolloutParts, sentence, sourceItems, validatorTable } from "./board-around.js";
import { columnsOf, nextOrder, serverTime, shownOf, sorted } from "./board.js";
import { ModelDetail } from "./board-detail.js";
import { BoardTable } from "./board-table.js";
import { closeWhenLeft, keepingFocus, make, setText } from "./dom.js";
import { duration } from "./format.js";
import { ProblemPanel } from "./problem-panel.js";
import { Refresher } from "./refresher.js";
import { Remembered } from "./remembered.js";

const EVERY_MS = 15_000;
/** @type {import("./board.js").Order} */
const BY_RANK = { column: "rank", descending: false };

/** @param {string} id @returns {any} */
const element = (id) => document.getElementById(id);

class LeaderboardPage {
  /** @type {import("./board.js").Board | null} */
  #board = null;
  #arrivedAt = 0;
  #failing = "";
  #order = BY_RANK;
  #chosen = new Remembered("muse.columns", /** @type {Record<string, boolean>} */ ({}));
  #problem = ProblemPanel.find(() => this.#refresher.start());
  #table = new BoardTable(element("board"), {
    onSort: (column) => this.#sort(column),
    onOpen: (model, box) => new ModelDetail(model, box),
  });
  #refresher = new Refresher({
    load: (signal) => getJson("/v1/leaderboard", { signal }),
    every: EVERY_MS,
    onValue: (board) => this.#onBoard(board),
    onError: (error, retry) => this.#onError(error, retry),
  });

  run() {
    closeWhenLeft(element("columns"));
    element("sort").addEventListener("change", ({ target }) => this.#sort(target.value));
    setInterval(() => this.#board && this.#showSource(), 1000);
    this.#refresher.start();
  }

  /** @param {import("./board.js").Board} board */
  #onBoard(board) {
    this.#board = board;
    this.#arrivedAt = Date.now();
    this.#failing = "";
    this.#problem.hide();
    this.#show();
  }

  /** What was there stays, marked as old. A key is asked for once, and then waited for. */
  #onError(error, retry) {
    const problem = problemOf(error);
    if (problem.needsKey) {
      this.#refresher.stop();
    }
    if (this.#board && !problem.needsKey) {
      const age = duration(this.#passed);
      this.#failing = `${problem.message}. This is from ${age} ago. Trying again in ${duration(retry / 1000)}.`;
      this.#showBanner();
    } else {
      element("loading").hidden = true;
      this.#problem.show(problem, { focus: problem.needsKey });
    }
  }

  #sort(column) {
    this.#order = nextOrder(this.#order, column, columnsOf(this.#board));
    this.#showTable();
  }

  #show() {
    const { models, excluded, validators, rollout } = this.#board;
    const now = serverTime(this.#board, this.#passed);
    document.body.classList.add("loaded");
    element("loading").hidden = true;
    this.#showSource();
    this.#showBanner();
    this.#showTable();
    element("empty").hidden = models.length > 0;
    element("standings").hidden = models.length === 0;
    setText(element("empty-why"), sentence(this.#board.problem ?? "the leaderboard has no models"));
    element("rollout").hidden = !rollout || models.length === 0;
    if (rollout) {
      element("rollout").dataset.stage = rollout.stage;
      element("rollout").replaceChildren(...rolloutParts(rollout, now));
    }
    element("alone").hidden = !isAlone(this.#board);
    element("validators").hidden = validators.length === 0;
    element("validators-table").replaceChildren(validatorTable(this.#board, now));
    element("excluded").hidden = excluded.length === 0;
    setText(element("excluded-count"), `${excluded.length}`);
    element("excluded-table").replaceChildren(excludedTable(excluded));
  }

  /** Seconds since the board arrived. */
  get #passed() {
    return (Date.now() - this.#arrivedAt) / 1000;
  }

  #showSource() {
    const age = this.#board.age_seconds === null ? null : this.#board.age_seconds + this.#passed;
    element("source").replaceChildren(...sourceItems({ ...this.#board, age_seconds: age }));
  }

  #showBanner() {
    const { stale, problem, models, age_seconds: age } = this.#board;
    const told = [];
    if (age === null && models.length > 0) {
      told.push("No leaderboard has been read yet: these models are on workers.");
    } else if (age !== null && stale) {
      told.push(`This leaderboard is ${duration(age)} old. Calls are still answered by it.`);
    }
    if (models.length > 0 && problem) {
      told.push(`It could not be read${age === null ? "" : " anew"}: ${problem}.`);
    }
    const text = this.#failing || told.join(" ");
    setText(element("banner"), text);
    element("banner").hidden = text === "";
  }

  #showTable() {
    const { models } = this.#board;
    const columns = columnsOf(this.#board);
    if (![BY_RANK.column, ...columns.map(({ id }) => id)].includes(this.#order.column)) {
      this.#order = BY_RANK;
    }
    const shown = shownOf(columns, this.#chosen.value);
    this.#table.show(sorted(models, columns, this.#order), shown, this.#order, this.#board);
    setText(element("count"), `${models.length}`);
    element("columns").hidden = columns.length === 0;
    element("sort-field").hidden = models.length < 2;
    keepingFocus(element("column-list"), () => this.#fillColumns(columns, shown));
    this.#showSort(columns);
  }

  /** An open list stays open: its options are left alone where they are the same. */
  #showSort(columns) {
    const options = [{ id: "rank", title: "Rank" }, ...columns].map(({ id, title }) => new Option(title, id));
    const select = element("sort");
    if (options.map(({ value }) => value).join() !== [...select.options].map(({ value }) => value).join()) {
      select.replaceChildren(...options);
    }
    select.value = this.#order.column;
  }

  /** @param {import("./board.js").Column[]} columns @param {import("./board.js").Column[]} shown */
  #fillColumns(columns, shown) {
    const groups = [...new Set(columns.map(({ group }) => group))];
    const box = (column) => {
      const input = make("input", {
        type: "checkbox",
        "data-focus": `column-${column.id}`,
        checked: shown.includes(column),
      });
      input.addEventListener("change", () => {
        this.#chosen.value = { ...this.#chosen.value, [column.id]: input.checked };
        this.#showTable();
      });
      return make("label", { title: column.about }, input, column.title);
    };
    const fieldset = (group) =>
      make("fieldset", {}, make("legend", {}, group), ...columns.filter((column) => column.group === group).map(box));
    element("column-list").replaceChildren(...groups.map(fieldset));
  }
}

/** Whether this is only what comes with Muse. @param {import("./board.js").Board} board */
function isAlone({ source, models }) {
  return source === "file" && models.length === 1 && models[0].hotkey === null;
}

new LeaderboardPage().run();
