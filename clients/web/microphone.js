/** The user's voice: the microphone, cleaned by the browser, as chunks of PCM at the wire's rate. */

import { WIRE_RATE } from "./pcm.js";
import { microphoneProblem, problems } from "./problems.js";

const CHUNK_SECONDS = 0.02;

export class Microphone {
  #stream;
  #context;
  #node;
  /** Seconds. */
  #resamplerDelay = 0;

  /** @param {MediaStream} stream @param {AudioContext} context @param {AudioWorkletNode} node */
  constructor(stream, context, node) {
    this.#stream = stream;
    this.#context = context;
    this.#node = node;
    this.analyser = new AnalyserNode(context, { fftSize: 1024 });
  }

  /**
   * @param {{deviceId: string, onChunk: (chunk: ArrayBuffer) => void, onLost: (problem: Error) => void}} options
   *   `deviceId` "" is the default device; a chunk is 20 ms of 16-bit PCM
   * @returns {Promise<Microphone>}
   * @throws {import("./problems.js").Problem}
   */
  static async open({ deviceId, onChunk, onLost }) {
    if (!isSecureContext || !navigator.mediaDevices) {
      throw problems.insecure();
    }
    const context = new AudioContext({ latencyHint: "interactive" });
    const stream = await askForStream(deviceId).catch((error) => {
      context.close();
      throw microphoneProblem(error);
    });
    await context.audioWorklet.addModule(new URL("capture-worklet.js", import.meta.url)).catch(() => {
      stream.getTracks().forEach((track) => track.stop());
      context.close();
      throw problems.unreachable();
    });
    const processorOptions = { chunkSamples: CHUNK_SECONDS * WIRE_RATE };
    const node = new AudioWorkletNode(context, "capture", {
      numberOfOutputs: 0,
      channelCount: 1,
      channelCountMode: "explicit",
      processorOptions,
    });
    const microphone = new Microphone(stream, context, node);
    const source = new MediaStreamAudioSourceNode(context, { mediaStream: stream });
    source.connect(node);
    source.connect(microphone.analyser);
    node.port.onmessage = ({ data }) => microphone.#receive(data, onChunk);
    microphone.#track.onended = () => onLost(problems.microphoneLost());
    await context.resume();
    return microphone;
  }

  get #track() {
    return this.#stream.getAudioTracks()[0];
  }

  /** Milliseconds from the sound to the chunk that carries it: the device, the resampler and the chunk itself. */
  get latency() {
    const settings = /** @type {MediaTrackSettings & {latency?: number}} */ (this.#track.getSettings());
    const device = settings.latency ?? this.#context.baseLatency;
    return 1000 * (device + this.#resamplerDelay + CHUNK_SECONDS);
  }

  /** A muted microphone sends silence, so that a turn in progress still ends. @param {boolean} muted */
  mute(muted) {
    this.#track.enabled = !muted;
  }

  close() {
    this.#node.port.onmessage = null;
    this.#track.onended = null;
    this.#node.port.postMessage("stop");
    this.#stream.getTracks().forEach((track) => track.stop());
    this.#context.close();
  }

  /** @param {{chunk?: ArrayBuffer, delay?: number}} message @param {(chunk: ArrayBuffer) => void} onChunk */
  #receive({ chunk, delay = 0 }, onChunk) {
    if (chunk) {
      onChunk(chunk);
    } else {
      this.#resamplerDelay = delay;
    }
  }
}

/** @param {string} deviceId @returns {Promise<MediaStream>} */
function askForStream(deviceId) {
  const audio = {
    channelCount: 1,
    echoCancellation: true,
    noiseSuppression: true,
    autoGainControl: true,
    ...(deviceId && { deviceId: { exact: deviceId } }),
  };
  return navigator.mediaDevices.getUserMedia({ audio });
}
