"""`python docs/screenshots.py`: take the pictures of the page in docs/screenshots.

A person's recordings are the microphone; the server is the real one with its embedded engine, started here, so the
words and the latencies in the pictures are real ones of the machine that took them. It needs what `make test` sets up.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import soxr
from playwright.sync_api import Page, Playwright, expect, sync_playwright

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.recordings import DIRECTORY, SAMPLE_RATE, recordings  # noqa: E402
from tests.clients import microphone  # noqa: E402
from tests.clients.microphone import chromium_arguments, silence, write_wav  # noqa: E402
from tests.clients.real_server import serving  # noqa: E402

TARGET = ROOT / "docs" / "screenshots"
SPOKEN = ("telephone-hello", "telephone-chicago", "cities-1")
PATIENCE_MS = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One way to look at the page."""

    name: str
    width: int
    height: int
    scheme: Literal["light", "dark"] = "light"
    touch: bool = False
    whole: bool = False


PICTURES = (
    Picture(name="desktop", width=1280, height=860),
    Picture(name="dark", width=1280, height=860, scheme="dark"),
    Picture(name="phone", width=390, height=844, touch=True, whole=True),
)


def main() -> None:
    """Take all pictures."""
    TARGET.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        wav = _microphone(Path(folder) / "microphone.wav")
        with serving(Path(folder) / "log") as url, sync_playwright() as playwright:
            for picture in PICTURES:
                _take(playwright, url, wav, picture)


def _microphone(path: Path) -> Path:
    found = recordings(ROOT / DIRECTORY, names=SPOKEN)
    resampled = {one.name: soxr.resample(one.samples, SAMPLE_RATE, microphone.RATE) for one in found}
    spoken = [np.asarray(resampled[name], np.float32) for name in SPOKEN]
    return write_wav(path, *[part for speech in spoken for part in (silence(1.0), speech, silence(14.0))])


def _take(playwright: Playwright, url: str, wav: Path, picture: Picture) -> None:
    browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=chromium_arguments(wav))
    page = browser.new_page(
        viewport={"width": picture.width, "height": picture.height},
        device_scale_factor=2,
        color_scheme=picture.scheme,
        has_touch=picture.touch,
        is_mobile=picture.touch,
    )
    page.goto(url)
    page.get_by_role("button", name="Start talking").click()
    for count in range(1, len(SPOKEN) + 1):
        _until(page, "user-speaking")
        _until(page, "muse-speaking")
        if count < len(SPOKEN):
            _until(page, "listening")
    expect(page.locator(".line-muse")).to_have_count(len(SPOKEN))
    expect(page.locator(".line-muse .heard").last).to_have_text(re.compile(r"(\S+\s+){4}"), timeout=PATIENCE_MS)
    page.screenshot(path=TARGET / f"{picture.name}.png", full_page=picture.whole)
    browser.close()


def _until(page: Page, state: str) -> None:
    expect(page.locator("body")).to_have_attribute("data-state", state, timeout=PATIENCE_MS)


if __name__ == "__main__":
    main()
