/** A recorded question as samples: where the speech is in it, how it looks, and in which pieces it is sent. Pure. */

import { WIRE_RATE } from "./pcm.js";

const WINDOW_SECONDS = 0.02;
const CHUNK_SAMPLES = WINDOW_SECONDS * WIRE_RATE;
/** Speech is what is louder than this share of the loudest, and than the least. */
const SHARE_OF_LOUDEST = 0.06;
const LEAST = 0.004;
const LEAD_SECONDS = 0.3;
const TAIL_SECONDS = 0.1;

/** @param {ArrayBuffer[]} chunks 16-bit PCM @returns {Int16Array} one after the other */
export function joined(chunks) {
  const samples = new Int16Array(chunks.reduce((length, chunk) => length + chunk.byteLength / 2, 0));
  let at = 0;
  for (const chunk of chunks) {
    samples.set(new Int16Array(chunk), at);
    at += chunk.byteLength / 2;
  }
  return samples;
}

/**
 * Without what is quiet before and after the speech, so that the wait for an answer counts from the last word.
 *
 * @param {Int16Array} samples
 * @returns {Int16Array} empty where there is no speech
 */
export function trimmed(samples) {
  const window = WINDOW_SECONDS * WIRE_RATE;
  const levels = peaks(samples, Math.ceil(samples.length / window));
  const floor = Math.max(LEAST, SHARE_OF_LOUDEST * Math.max(0, ...levels));
  const first = levels.findIndex((level) => level > floor);
  const last = levels.findLastIndex((level) => level > floor);
  if (first < 0) {
    return new Int16Array(0);
  }
  return samples.slice(
    Math.max(0, first * window - LEAD_SECONDS * WIRE_RATE),
    (last + 1) * window + TAIL_SECONDS * WIRE_RATE,
  );
}

/**
 * @param {Int16Array | Float32Array} samples
 * @param {number} count of equal pieces
 * @returns {number[]} the root mean square of each, in [0, 1]
 */
export function peaks(samples, count) {
  const full = samples instanceof Int16Array ? 32768 : 1;
  return Array.from({ length: count }, (_, index) => {
    const from = Math.floor((index * samples.length) / count);
    const to = Math.max(from + 1, Math.floor(((index + 1) * samples.length) / count));
    let sum = 0;
    for (let at = from; at < to && at < samples.length; at += 1) {
      sum += (samples[at] / full) ** 2;
    }
    return Math.sqrt(sum / (to - from));
  });
}

/** @param {Int16Array} samples @param {number} index @returns {ArrayBuffer} 20 ms; silence after the end */
export function chunkAt(samples, index) {
  const chunk = new Int16Array(CHUNK_SAMPLES);
  chunk.set(samples.subarray(index * CHUNK_SAMPLES, (index + 1) * CHUNK_SAMPLES));
  return chunk.buffer;
}

/** @param {Int16Array} samples @returns {number} of chunks that hold any of them */
export function chunkCount(samples) {
  return Math.ceil(samples.length / CHUNK_SAMPLES);
}

/** Milliseconds that a chunk lasts. */
export const CHUNK_MS = 1000 * WINDOW_SECONDS;
