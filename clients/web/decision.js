/**
 * The router's decision for a call, as `session.created` tells it. Pure.
 *
 * @typedef {{version: string, role: string, reasons: string[]}} Decision  why, the most telling first
 */

/** @type {Record<string, string>} */
const ROLES = { candidate: "canary", requested: "your choice", pinned: "pinned", fallback: "stand-in" };

/**
 * @param {Record<string, string> | null | undefined} metadata of the session
 * @returns {Decision | null} null where nothing is told, as in a blind duel
 */
export function decisionOf(metadata) {
  const version = metadata?.["muse.model"];
  return version ? { version, role: metadata["muse.role"] ?? "", reasons: reasonsOf(metadata["muse.reasons"]) } : null;
}

/** @param {string} role @returns {string} in a word, "" where it goes without saying */
export function roleWord(role) {
  return ROLES[role] ?? "";
}

/** @param {string | undefined} text JSON @returns {string[]} */
function reasonsOf(text) {
  try {
    const reasons = JSON.parse(text ?? "[]");
    return reasons.map((reason) => reason.text).filter((words) => typeof words === "string" && words);
  } catch {
    return [];
  }
}
