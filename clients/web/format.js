/** Numbers, times and names as people read them. Pure. */

export const NOTHING = "–";

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** From here on digits tell nothing. */
const HUGE = 1e9;

const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** @param {number | null | undefined} value @param {number} [digits] @returns {string} */
export function decimal(value, digits = 3) {
  return isNumber(value) ? withMinus(isHuge(value) ? value.toExponential(1) : value.toFixed(digits)) : NOTHING;
}

/** @param {number | null | undefined} value @returns {string} a whole number, its thousands apart */
export function whole(value) {
  return isNumber(value) ? withMinus(isHuge(value) ? value.toExponential(1) : grouped.format(value)) : NOTHING;
}

/** @param {number | null | undefined} share 0 to 1 @returns {string} with as many digits as it takes to be no 0 */
export function percent(share) {
  if (!isNumber(share)) {
    return NOTHING;
  }
  const value = 100 * share;
  if (value > 0 && value < 0.01) {
    return "< 0.01 %";
  }
  const digits = value === 0 || value >= 10 || Number.isInteger(value) ? 0 : value >= 1 ? 1 : 2;
  return `${decimal(value, digits)} %`;
}

/** @param {number | null | undefined} value @param {string} unit @returns {string} a metric's value without its unit */
export function measure(value, unit) {
  if (!isNumber(value)) {
    return NOTHING;
  }
  return unit === "ms" || Math.abs(value) >= 100 ? whole(value) : decimal(value, Math.abs(value) >= 10 ? 1 : 3);
}

/** @param {number | null | undefined} seconds @returns {string} how long, in its largest unit */
export function duration(seconds) {
  if (!isNumber(seconds)) {
    return NOTHING;
  }
  const passed = Math.max(0, seconds);
  if (Math.round(passed) < MINUTE) {
    return `${Math.round(passed)} s`;
  }
  if (Math.round(passed / MINUTE) < HOUR / MINUTE) {
    return `${Math.round(passed / MINUTE)} min`;
  }
  return passed < 2 * DAY ? `${Math.round(passed / HOUR)} h` : `${whole(passed / DAY)} days`;
}

/** @param {number | null | undefined} at Unix seconds @param {number} now Unix seconds @returns {string} */
export function ago(at, now) {
  return isNumber(at) ? `${duration(now - at)} ago` : "never";
}

/** @param {string | null | undefined} address @returns {string} enough of an ss58 address to tell it from others */
export function shortAddress(address) {
  return address && address.length > 12 ? `${address.slice(0, 5)}…${address.slice(-4)}` : (address ?? NOTHING);
}

/** @param {string} version @returns {{model: string, commit: string}} the commit in 7 digits, "" where there is none */
export function nameOf(version) {
  const [model, commit = ""] = version.split("@");
  return { model, commit: commit.slice(0, 7) };
}

/** @param {number} value */
function isHuge(value) {
  return Math.abs(value) >= HUGE;
}

/** @param {string} number @returns {string} with a minus for its hyphens */
function withMinus(number) {
  return number.replaceAll("-", "−").replace("e+", "e");
}

/** @param {unknown} value @returns {value is number} */
export function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}
