"""What a browser's microphone hears in a test."""

from __future__ import annotations

import wave
from collections.abc import Callable
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


ON_DEMAND = """
navigator.mediaDevices.getUserMedia = async () => {
  const context = new AudioContext({ sampleRate: 24_000 });
  await context.resume();
  const microphone = context.createMediaStreamDestination();
  window.speak = (samples) => {
    const buffer = new AudioBuffer({ length: samples.length, sampleRate: 24_000 });
    buffer.copyToChannel(new Float32Array(samples), 0);
    const source = new AudioBufferSourceNode(context, { buffer });
    source.connect(microphone);
    source.start();
  };
  return microphone.stream;
};
null;
"""
"""A microphone at which the user says something when `speak` is called, once it is open."""


def speak(page: Page, samples: Samples) -> None:
    """Say it, at 24 kHz, into the microphone ON_DEMAND."""
    page.evaluate("samples => speak(samples)", samples.tolist())
