"""How the page of the call looks and moves, in a real Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
from playwright.sync_api import Browser

from tests.clients.checks import assert_readable
from tests.clients.fake_realtime import RATE, FakeServer, Script, Turn, running
from tests.clients.microphone import Recording, pcm
from tests.clients.muse_page import Visit

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def fake(recording: Recording) -> Iterator[FakeServer]:
    voice = pcm(recording("sphinx-002", RATE))
    with running(Script(turns=(Turn(user="Seven of clubs.", reply="Four, queen of clubs.", voice=voice),))) as server:
        yield server


@pytest.fixture
def visit(visit_at: Visit, fake: FakeServer) -> Visit:
    return partial(visit_at, url=fake.url)


def test_every_control_shows_its_focus(visit: Visit, deaf: Browser) -> None:
    page = visit(deaf).page
    shown = []
    for _ in range(12):
        page.keyboard.press("Tab")
        shown.append(page.evaluate(OUTLINED))
    assert all(shown)


OUTLINED = """
[document.activeElement, document.activeElement.closest(".composer")]
  .some((one) => one && one !== document.body && getComputedStyle(one).outlineStyle === "solid")
"""


def test_nothing_overflows_on_a_phone(visit: Visit, asker: Browser) -> None:
    muse = visit(asker, viewport={"width": 390, "height": 844}, has_touch=True)
    muse.talk()
    muse.state("muse-speaking")
    muse.state("listening")
    for median in (0, 0.5, 1):
        muse.page.locator("#latency-marker").evaluate("(one, at) => one.style.setProperty('--at', at)", f"{median}")
        assert muse.page.evaluate("document.documentElement.scrollWidth") <= 390
    small = muse.page.locator("button:visible, summary.pill").evaluate_all(
        "all => all.filter(one => one.getBoundingClientRect().height < 40).map(one => one.id)"
    )
    assert small == [], "a finger needs room"


def test_with_reduced_motion_nothing_moves(visit: Visit, asker: Browser) -> None:
    muse = visit(asker, reduced_motion="reduce")
    muse.talk()
    muse.state("user-speaking")
    assert muse.page.evaluate("document.getAnimations().length") == 0
    muse.page.wait_for_function(f"() => ({METER_WIDTH})(document.getElementById('waveform')) > 0")


METER_WIDTH = """canvas => {
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  const row = Math.round(canvas.height * 3 / 4);
  const pixels = copy.getImageData(0, row, canvas.width, 1).data;
  return pixels.filter((value, index) => index % 4 === 3 && value > 0).length;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("state", ["idle", "listening", "user-speaking", "thinking", "muse-speaking", "error"])
def test_text_has_contrast(visit: Visit, deaf: Browser, scheme: str, state: str) -> None:
    page = visit(deaf, color_scheme=scheme).page
    page.evaluate("state => { document.body.dataset.state = state; }", state)
    assert_readable(page)
