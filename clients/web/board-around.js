/** What stands around the table: where it comes from, the change that is under way, who scores, and who is left out. */

import { meter } from "./charts.js";
import { make } from "./dom.js";
import { ago, duration, nameOf, percent, shortAddress, whole } from "./format.js";

/** Of the way in, in order. */
const STEPS = [
  { stage: "watching", label: "Watched" },
  { stage: "loading", label: "Loaded" },
  { stage: "shadow", label: "Shadow" },
  { stage: "canary", label: "Canary" },
  { stage: "settled", label: "Serves" },
];

/** @type {Record<string, (rollout: any) => string>} */
const HEADLINES = {
  settled: ({ incumbent }) => (incumbent ? `${short(incumbent)} answers every call` : "No model answers yet"),
  watching: ({ candidate }) => `${short(candidate)} leads, and is being watched`,
  gated: ({ candidate }) => `${short(candidate)} leads, but its scores do not let it in`,
  loading: ({ candidate }) => `${short(candidate)} is being loaded`,
  shadow: ({ candidate }) => `${short(candidate)} hears some calls, and nobody hears it`,
  canary: ({ candidate, share }) => `Canary ${percent(share)}: ${short(candidate)} is on its way in`,
  rolled_back: ({ candidate }) => `${candidate ? short(candidate) : "A candidate"} was rolled back`,
};

/** @param {string} version @returns {string} */
function short(version) {
  return nameOf(version).model;
}

/** @param {import("./board.js").Board} board @returns {HTMLElement[]} where the data comes from, as items of a list */
export function sourceItems({ source, network, netuid, competition, block, age_seconds: age, stale }) {
  const chain = source === "chain";
  const items = [
    source && make("b", {}, chain ? `Chain ${network}` : "Snapshot file"),
    chain && `netuid ${netuid}`,
    competition && `competition ${competition}`,
    chain && block > 0 && `block ${whole(block)}`,
    age !== null && make("span", { class: stale ? "old" : "" }, `read ${duration(age)} ago`),
  ];
  return items.filter(Boolean).map((item) => make("li", {}, item));
}

/** @param {import("./board.js").Board["rollout"]} rollout @param {number} now Unix seconds @returns {Node[]} */
export function rolloutParts(rollout, now) {
  const { stage, incumbent, candidate, share, since, reason } = rollout;
  const headline = HEADLINES[stage]?.(rollout) ?? stage;
  const taken = stage === "canary" ? share : 0;
  return [
    make("h2", { class: "rollout-title", id: "rollout-title" }, headline),
    make(
      "p",
      { class: "rollout-why" },
      [reason?.text, since > 0 && `Began ${ago(since, now)}.`].filter(Boolean).map(sentence).join(" "),
    ),
    ...(incumbent ? [traffic(incumbent, candidate, taken)] : []),
    ...(candidate ? [steps(stage)] : []),
  ];
}

/** @param {string} text @returns {string} with a full stop, and a capital unless it begins with a name */
export function sentence(text) {
  const first = /^[a-z]+(\s|$)/.test(text) ? text[0].toUpperCase() + text.slice(1) : text;
  return /[.!?]$/.test(first) ? first : `${first}.`;
}

/** The share of new calls that each gets. */
function traffic(incumbent, candidate, share) {
  const part = (className, size) => {
    const element = make("span", { class: className });
    element.style.flexGrow = `${size}`;
    return element;
  };
  const entry = (className, version, size) =>
    make(
      "li",
      { class: className },
      make("span", { class: "key", "aria-hidden": "true" }),
      `${percent(size)} ${short(version)}`,
    );
  return make(
    "div",
    { class: "traffic" },
    make(
      "div",
      { class: "traffic-bar", "aria-hidden": "true" },
      part("of-incumbent", 1 - share),
      share > 0 && part("of-candidate", share),
    ),
    make(
      "ul",
      { "aria-label": "Share of new calls" },
      entry("of-incumbent", incumbent, 1 - share),
      candidate && share > 0 && entry("of-candidate", candidate, share),
    ),
  );
}

/** @param {string} stage */
function steps(stage) {
  const stopped = stage === "gated" || stage === "rolled_back";
  const at = STEPS.findIndex((step) => step.stage === (stopped ? "watching" : stage));
  const items = STEPS.map(({ label }, index) => {
    const state = index === at ? (stopped ? "stopped" : "now") : index < at ? "done" : "ahead";
    return make("li", { class: state, "aria-current": index === at ? "step" : null }, label);
  });
  return make("ol", { class: "steps", "aria-label": "The way in" }, ...items);
}

/** @param {import("./board.js").Board} board @param {number} now Unix seconds @returns {HTMLElement} a table */
export function validatorTable({ validators, block }, now) {
  const head = [
    "Validator",
    "UID",
    "Stake",
    "Weights set",
    "Last run",
    "Version",
    "Profile",
    "Submissions",
    "Agreement",
  ];
  const rows = validators.map((one) => [
    make("span", { title: one.hotkey }, shortAddress(one.hotkey)),
    whole(one.uid),
    whole(one.stake),
    one.last_update === null || block === null ? "–" : `${whole(Math.max(0, block - one.last_update))} blocks ago`,
    ago(one.last_run_at, now),
    one.version ?? "–",
    one.profile ?? "–",
    whole(one.submissions),
    one.agreement === null ? "–" : make("span", { class: "agreement" }, meter(one.agreement), percent(one.agreement)),
  ]);
  return plainTable("Validators and how consistent they are", head, rows);
}

/** @param {import("./board.js").Board["excluded"]} excluded @returns {HTMLElement} a table */
export function excludedTable(excluded) {
  const rows = excluded.map(({ uid, hotkey, model, code, reason }) => [
    model === null ? "–" : make("span", { title: model }, short(model)),
    uid ?? "–",
    make("span", { title: hotkey }, shortAddress(hotkey)),
    make("span", { class: "chip chip-code" }, code.replaceAll("_", " ")),
    reason,
  ]);
  return plainTable("Entries that are not served, and why", ["Model", "UID", "Hotkey", "Because", "Reason"], rows);
}

/** @param {string} caption @param {string[]} head @param {(Node | string | number)[][]} rows */
function plainTable(caption, head, rows) {
  return make(
    "table",
    { class: "plain" },
    make("caption", { class: "visually-hidden" }, caption),
    make("thead", {}, make("tr", {}, ...head.map((text) => make("th", { scope: "col" }, text)))),
    make(
      "tbody",
      {},
      ...rows.map(([first, ...others]) =>
        make("tr", {}, make("th", { scope: "row" }, first), ...others.map((content) => make("td", {}, content))),
      ),
    ),
  );
}
