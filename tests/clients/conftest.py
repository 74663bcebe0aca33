"""A real Chromium whose microphone is a recording of a person."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soxr
from playwright.sync_api import Browser, Playwright, expect, sync_playwright

from benchmarks.recordings import SAMPLE_RATE, recordings
from tests.clients import microphone
from tests.clients.fake_realtime import FakeServer, Script, running
from tests.clients.microphone import Launch, Recording, Samples, chromium_arguments, silence, write_wav
from tests.clients.muse_page import MusePage, Visit, open_page
from tests.clients.waiting import PATIENCE
from tests.prerequisites import RECORDINGS, absent, require_recordings


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of the Chromium to test with."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        absent("Chromium is not installed")
    return path


@pytest.fixture(scope="session")
def recording() -> Recording:
    """`recording(name, rate)`: a person speaking, float32 in [-1, 1), at that rate."""

    def load(name: str, rate: int) -> Samples:
        require_recordings()
        [found] = recordings(RECORDINGS, names=[name])
        return np.asarray(soxr.resample(found.samples, SAMPLE_RATE, rate), np.float32)

    return load


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    expect.set_options(timeout=1000 * PATIENCE)
    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="module")
def launch(playwright: Playwright, chromium: str) -> Iterator[Launch]:
    """`launch(wav)`: a browser that hears `wav` from the beginning in every call; silence without one."""
    browsers: dict[Path | None, Browser] = {}

    def start(wav: Path | None) -> Browser:
        if wav not in browsers:
            browsers[wav] = playwright.chromium.launch(executable_path=chromium, args=chromium_arguments(wav))
        return browsers[wav]

    yield start
    for browser in browsers.values():
        browser.close()


@pytest.fixture(scope="module")
def asker(launch: Launch, recording: Recording, tmp_path_factory: pytest.TempPathFactory) -> Browser:
    """A browser whose user asks a question, and again after a while: it may have listened too late."""
    question = recording("sphinx-003", microphone.RATE)
    path = tmp_path_factory.mktemp("microphone") / "asker.wav"
    return launch(write_wav(path, *[silence(0.5), question, silence(5)] * 10))


@pytest.fixture(scope="module")
def hearing(launch: Launch, tmp_path_factory: pytest.TempPathFactory) -> Browser:
    """A browser with a microphone at which nobody speaks."""
    return launch(write_wav(tmp_path_factory.mktemp("microphone") / "nobody.wav", silence(1)))


@pytest.fixture(scope="module")
def deaf(launch: Launch) -> Browser:
    """A browser without a microphone."""
    return launch(None)


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeServer]:
    """A server in whose calls nobody answers; a module may have one of its own."""
    with running(Script(turns=())) as server:
        yield server


@pytest.fixture
def visit_at() -> Iterator[Visit]:
    """`visit_at(browser, url, **options)`: the page, opened; at the end none may have complained."""
    visits: list[MusePage] = []

    def go(browser: Browser, url: str, **options: object) -> MusePage:
        muse = open_page(browser, url, **options)
        visits.append(muse)
        return muse

    yield go
    complaints = [text for muse in visits for text in muse.complaints]
    for muse in visits:
        muse.page.context.close()
    assert complaints == []
