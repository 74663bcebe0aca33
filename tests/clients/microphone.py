"""What a browser's microphone hears in a test."""

from __future__ import annotations

import base64
import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page

RATE = 48_000
"""Of the WAV files that Chromium plays as its microphone."""

Samples = NDArray[np.float32]
Recording = Callable[[str, int], Samples]
"""Name and rate of a recording of a person -> its samples in [-1, 1)."""
Launch = Callable[[Path | None], Browser]
"""The WAV that is the microphone, or None for none -> the browser."""


def write_wav(path: Path, *parts: Samples) -> Path:
    """Write the parts one after the other: 16-bit mono at RATE."""
    samples = np.concatenate(parts)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((np.clip(samples, -1, 32767 / 32768) * 32768).astype("<i2").tobytes())
    return path


def pcm(samples: Samples) -> bytes:
    """16-bit."""
    return (samples * 32767).astype("<i2").tobytes()


def silence(seconds: float) -> Samples:
    """At RATE."""
    return np.zeros(round(seconds * RATE), np.float32)


def chromium_arguments(wav: Path | None) -> list[str]:
    """What to start Chromium with so that `wav` is its microphone, from the beginning in each call."""
    quiet = ("no-first-run", "disable-background-networking", "disable-component-update", "disable-sync")
    hears = (
        "use-fake-device-for-media-stream",
        "use-fake-ui-for-media-stream",
        f"use-file-for-fake-audio-capture={wav}%noloop",
    )
    return [f"--{name}" for name in ("no-sandbox", "disable-gpu", *quiet, *(hears if wav else ()))]


_ON_DEMAND = """
(recordings) => {
  const decoded = recordings.map((pcm) => {
    const bytes = Uint8Array.from(atob(pcm), (one) => one.charCodeAt(0));
    return Float32Array.from(new Int16Array(bytes.buffer), (sample) => sample / 32768);
  });
  navigator.mediaDevices.getUserMedia = async () => {
    const context = new AudioContext({ sampleRate: 48_000 });
    await context.resume();
    const microphone = context.createMediaStreamDestination();
    window.speak = (number) => {
      const samples = decoded[number];
      const buffer = new AudioBuffer({ length: samples.length, sampleRate: 48_000 });
      buffer.copyToChannel(samples, 0);
      const source = new AudioBufferSourceNode(context, { buffer });
      source.connect(microphone);
      source.start();
    };
    return microphone.stream;
  };
}
"""


@dataclass(frozen=True, slots=True)
class OnDemand:
    """The microphone of a user who waits for the page, however long it takes. Its recordings are at RATE."""

    page: Page

    @classmethod
    def at(cls, page: Page, *recordings: Samples) -> OnDemand:
        """Before the page has asked for a microphone."""
        page.evaluate(_ON_DEMAND, [base64.b64encode(pcm(one)).decode() for one in recordings])
        return cls(page)

    def speak(self, number: int) -> None:
        """Say one of the recordings, once the page listens."""
        self.page.evaluate("number => speak(number)", number)
