/** The wire's audio: little-endian signed 16-bit mono PCM, in base64. */

/** Sample rate of the wire, both ways, in Hz. */
export const WIRE_RATE = 24000;

const SLICE = 8192;

/**
 * @param {ArrayBuffer} buffer
 * @returns {string} base64
 */
export function encodeBase64(buffer) {
  const bytes = new Uint8Array(buffer);
  let binary = "";
  for (let start = 0; start < bytes.length; start += SLICE) {
    binary += String.fromCharCode(...bytes.subarray(start, start + SLICE));
  }
  return btoa(binary);
}

/**
 * @param {string} text base64 of 16-bit PCM
 * @returns {Float32Array} samples in [-1, 1)
 */
export function decodePcm16(text) {
  const binary = atob(text);
  const samples = new Float32Array(binary.length >> 1);
  for (let index = 0; index < samples.length; index += 1) {
    const word = binary.charCodeAt(2 * index) | (binary.charCodeAt(2 * index + 1) << 8);
    samples[index] = ((word << 16) >> 16) / 32768;
  }
  return samples;
}

/**
 * @param {number} sample nominally in [-1, 1]; louder is clipped
 * @returns {number} a signed 16-bit integer
 */
export function toInt16(sample) {
  return Math.max(-32768, Math.min(32767, Math.round(sample * 32768)));
}
