/** The choice of microphone and loudspeaker. */

import { closeWhenLeft } from "./dom.js";

const KINDS = { audioinput: "Microphone", audiooutput: "Loudspeaker" };

export class Devices {
  #microphone;
  #speaker;

  /**
   * @param {{menu: HTMLDetailsElement, microphone: HTMLSelectElement, speaker: HTMLSelectElement,
   *   speakerField: HTMLElement}} elements
   * @param {{onMicrophone: (deviceId: string) => void, onSpeaker: (deviceId: string) => void}} listener
   */
  constructor({ menu, microphone, speaker, speakerField }, { onMicrophone, onSpeaker }) {
    this.#microphone = microphone;
    this.#speaker = speaker;
    speakerField.hidden = !("AudioContext" in window && "setSinkId" in AudioContext.prototype);
    microphone.addEventListener("change", () => onMicrophone(microphone.value));
    speaker.addEventListener("change", () => onSpeaker(speaker.value));
    closeWhenLeft(menu);
    navigator.mediaDevices?.addEventListener("devicechange", () => this.refresh());
  }

  /** @returns {string} "" is the default */
  get microphoneId() {
    return this.#microphone.value;
  }

  /** @returns {string} "" is the default */
  get speakerId() {
    return this.#speaker.value;
  }

  /** Browsers name the devices only once the microphone has been allowed: call it again then. */
  async refresh() {
    const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
    fill(this.#microphone, devices, "audioinput");
    fill(this.#speaker, devices, "audiooutput");
  }
}

/** @param {HTMLSelectElement} select @param {MediaDeviceInfo[]} devices @param {keyof typeof KINDS} kind */
function fill(select, devices, kind) {
  const chosen = select.value;
  const named = devices.filter((device) => device.kind === kind && device.deviceId && device.deviceId !== "default");
  const options = named.map(
    ({ deviceId, label }, index) => new Option(label || `${KINDS[kind]} ${index + 1}`, deviceId),
  );
  select.replaceChildren(new Option("System default", ""), ...options);
  select.value = named.some(({ deviceId }) => deviceId === chosen) ? chosen : "";
}
