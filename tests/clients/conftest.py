"""A real Chromium whose microphone is a recording of a person."""

from __future__ import annotations

import os
import shutil
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soxr
from playwright.sync_api import Browser, Playwright, sync_playwright

from tests.clients.microphone import Launch, Recording, Samples

RECORDINGS = Path(__file__).parents[2] / ".testdata" / "pocketsphinx"


def absent(what: str) -> None:
    """Skip, or fail where everything must be there."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} (CI)")
    pytest.skip(what)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of the Chromium to test with."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        absent("Chromium is not installed")
    assert path is not None
    return path


@pytest.fixture(scope="session")
def recording() -> Recording:
    """`recording(name, rate)`: a person speaking, float32 in [-1, 1), at that rate."""

    def load(name: str, rate: int) -> Samples:
        path = RECORDINGS / name
        if not path.exists():
            absent(f"the recording {name} has not been fetched")
        with wave.open(str(path)) as file:
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768
            return np.asarray(soxr.resample(samples, file.getframerate(), rate), np.float32)

    return load


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="module")
def launch(playwright: Playwright, chromium: str) -> Iterator[Launch]:
    """`launch(wav)`: a browser that hears `wav` from the beginning in every call; silence without one."""
    browsers: dict[Path | None, Browser] = {}

    def start(wav: Path | None) -> Browser:
        if wav not in browsers:
            browsers[wav] = playwright.chromium.launch(executable_path=chromium, args=_arguments(wav))
        return browsers[wav]

    yield start
    for browser in browsers.values():
        browser.close()


def _arguments(wav: Path | None) -> list[str]:
    arguments = [
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ]
    if wav is not None:
        arguments += [
            "--use-fake-device-for-media-stream",
            "--use-fake-ui-for-media-stream",
            f"--use-file-for-fake-audio-capture={wav}%noloop",
        ]
    return arguments
