/** How far away the server is. */

const KEPT = 5;

export class RoundTrips {
  /** @type {number[]} ms, the newest last */
  #latest = [];

  /** @returns {number} ms, the shortest of the latest; 0 when none could be measured */
  get shortest() {
    return this.#latest.length > 0 ? Math.min(...this.#latest) : 0;
  }

  /** @param {number} times */
  async measure(times) {
    for (let time = 0; time < times; time += 1) {
      const roundTrip = await measureRoundTrip();
      if (roundTrip !== null) {
        this.#latest = [...this.#latest, roundTrip].slice(-KEPT);
      }
    }
  }
}

/**
 * The time from here to the server and back, without the time to connect where the browser tells.
 *
 * @returns {Promise<number | null>} ms, or null when it could not be measured
 */
async function measureRoundTrip() {
  const sent = performance.now();
  const url = new URL(`/healthz?at=${sent}`, location.href).href;
  try {
    const response = await fetch(url, { cache: "no-store" });
    await response.text();
  } catch {
    return null;
  }
  const whole = performance.now() - sent;
  const [timing] = /** @type {PerformanceResourceTiming[]} */ (performance.getEntriesByName(url, "resource"));
  performance.clearResourceTimings();
  return timing?.requestStart ? timing.responseStart - timing.requestStart : whole;
}
