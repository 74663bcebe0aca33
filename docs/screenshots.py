"""`python docs/screenshots.py [name ...]`: take the pictures of the pages in docs/screenshots, or those named.

A person's recordings are the microphone. The conversation is with the real server and its embedded engine, started
here, so its words and latencies are real ones of the machine that took the pictures. The leaderboard and the duel are
with the tests' scripted server: their models, figures and answers are made up. It needs what `make test` sets up.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import soxr
from playwright.sync_api import Page, Playwright, expect, sync_playwright

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.recordings import DIRECTORY, SAMPLE_RATE, recordings  # noqa: E402
from benchmarks.server_process import running_server  # noqa: E402
from tests.clients import microphone  # noqa: E402
from tests.clients.fake_realtime import RATE, Script, Turn, running  # noqa: E402
from tests.clients.microphone import Samples, chromium_arguments, pcm, silence, write_wav  # noqa: E402

TARGET = ROOT / "docs" / "screenshots"
SPOKEN = ("telephone-hello", "telephone-chicago", "cities-1")
QUESTION = "sphinx-003"
ANSWERS = ("telephone-chicago", "cities-1")
PATIENCE_MS = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One way to look at a page. `whole`: all of it, and not only what fits; `density`: pixels a px."""

    name: str
    of: Literal["talk", "leaderboard", "duel"]
    width: int
    height: int
    scheme: Literal["light", "dark"] = "light"
    touch: bool = False
    whole: bool = False
    density: float = 2


PICTURES = (
    Picture(name="desktop", of="talk", width=1280, height=860),
    Picture(name="dark", of="talk", width=1280, height=860, scheme="dark"),
    Picture(name="phone", of="talk", width=390, height=844, touch=True, whole=True),
    Picture(name="leaderboard", of="leaderboard", width=1440, height=940, density=1.25),
    Picture(name="leaderboard-dark", of="leaderboard", width=1440, height=940, density=1.25, scheme="dark"),
    Picture(name="leaderboard-phone", of="leaderboard", width=390, height=1300, touch=True),
    Picture(name="duel", of="duel", width=1280, height=860),
    Picture(name="duel-phone", of="duel", width=390, height=844, touch=True, whole=True),
)


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(one.name for one in PICTURES))
    names = parser.parse_args().names or [one.name for one in PICTURES]
    wanted = [picture for picture in PICTURES if picture.name in names]
    if unknown := set(names) - {picture.name for picture in wanted}:
        parser.error(f"no picture is called {', '.join(sorted(unknown))}")
    TARGET.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        for subject in dict.fromkeys(picture.of for picture in wanted):
            with SERVERS[subject](Path(folder)) as (url, wav):
                for picture in wanted:
                    if picture.of == subject:
                        _take(playwright, url, wav, picture)


@contextmanager
def _talking(folder: Path) -> Iterator[tuple[str, Path]]:
    spoken = [_recording(name, microphone.RATE) for name in SPOKEN]
    parts = [part for speech in spoken for part in (silence(1.0), speech, silence(14.0))]
    with running_server("embedded") as server:
        yield server.url, write_wav(folder / "talking.wav", *parts)


@contextmanager
def _scripted(folder: Path) -> Iterator[tuple[str, Path]]:
    voices = [pcm(_recording(name, RATE)) for name in ANSWERS]
    turns = tuple(Turn(user="A question.", reply="An answer.", voice=voice) for voice in voices)
    with running(Script(turns=turns)) as server:
        yield server.url, write_wav(folder / "asking.wav", silence(0.3), _recording(QUESTION, microphone.RATE))


SERVERS: Mapping[str, Callable[[Path], AbstractContextManager[tuple[str, Path]]]] = {
    "talk": _talking,
    "leaderboard": _scripted,
    "duel": _scripted,
}
"""What is pictured -> the address of a server that shows it, and the WAV that is the microphone."""


def _recording(name: str, rate: int) -> Samples:
    [found] = recordings(ROOT / DIRECTORY, names=[name])
    return np.asarray(soxr.resample(found.samples, SAMPLE_RATE, rate), np.float32)


def _take(playwright: Playwright, url: str, wav: Path, picture: Picture) -> None:
    browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=chromium_arguments(wav))
    page = browser.new_page(
        viewport={"width": picture.width, "height": picture.height},
        device_scale_factor=picture.density,
        color_scheme=picture.scheme,
        has_touch=picture.touch,
        is_mobile=picture.touch,
    )
    {"talk": _talk, "leaderboard": _read, "duel": _fight}[picture.of](page, url)
    page.screenshot(path=TARGET / f"{picture.name}.png", full_page=picture.whole, animations="disabled")
    browser.close()


def _talk(page: Page, url: str) -> None:
    page.goto(url)
    page.get_by_role("button", name="Start talking").click()
    for count in range(1, len(SPOKEN) + 1):
        _until(page, "state", "user-speaking")
        _until(page, "state", "muse-speaking")
        if count < len(SPOKEN):
            _until(page, "state", "listening")
    expect(page.locator(".line-muse")).to_have_count(len(SPOKEN))
    expect(page.locator(".line-muse .heard").last).to_have_text(re.compile(r"(\S+\s+){4}"), timeout=PATIENCE_MS)


def _read(page: Page, url: str) -> None:
    page.goto(f"{url}/leaderboard.html")
    expect(page.locator(".line").first).to_be_visible()


def _fight(page: Page, url: str) -> None:
    """To the reveal."""
    page.goto(f"{url}/duel.html")
    page.get_by_role("button", name="Ask a question").click()
    _until(page, "phase", "recording")
    page.wait_for_timeout(3_000)
    page.get_by_role("button", name="Done").click()
    vote = page.get_by_role("button", name="A is better")
    expect(vote).to_be_enabled(timeout=PATIENCE_MS)
    vote.click()
    _until(page, "phase", "revealed")


def _until(page: Page, what: str, value: str) -> None:
    expect(page.locator("body")).to_have_attribute(f"data-{what}", value, timeout=PATIENCE_MS)


if __name__ == "__main__":
    main()
