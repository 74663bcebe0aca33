"""How a duel begins in a real Chromium, and what may keep it from that: the microphone, the key, the network."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.clients.fake_realtime import FakeServer, Script
from tests.clients.muse_page import Visit, held, timers_fire

pytestmark = pytest.mark.browser


@pytest.fixture(autouse=True)
def _fresh(fake: FakeServer) -> None:
    fake.begin_anew(Script(turns=()))


@pytest.fixture
def page(visit_at: Visit, fake: FakeServer, hearing: Browser) -> Page:
    found = visit_at(hearing, f"{fake.url}/duel.html").page
    found.evaluate(WATCH_STREAMS)
    return found


WATCH_STREAMS = """
window.tracks = [];
window.permitted = Promise.resolve();
window.hesitate = () => {
  window.permitted = new Promise((resolve) => {
    window.permit = resolve;
  });
};
const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
navigator.mediaDevices.getUserMedia = async (wanted) => {
  await window.permitted;
  const stream = await ask(wanted);
  window.tracks.push(...stream.getTracks());
  return stream;
};
null;
"""


def begin(page: Page) -> None:
    page.get_by_role("button", name="Ask a question").click()


def phase(page: Page, name: str) -> None:
    expect(page.locator("body")).to_have_attribute("data-phase", name)


def nobody_is_heard(page: Page, *, tracks: int = 1) -> None:
    page.wait_for_function(
        "count => tracks.length === count && tracks.every((one) => one.readyState === 'ended')", arg=tracks
    )


@pytest.mark.parametrize("late", [False, True])
def test_a_duel_that_is_refused_leaves_no_microphone_on(page: Page, fake: FakeServer, late: bool) -> None:
    fake.routing.duel = (429, "rate_limit_exceeded")
    if late:
        page.evaluate("hesitate()")
    begin(page)
    expect(page.get_by_role("alert")).to_contain_text("Muse is busy")
    if late:
        page.evaluate("permit()")
    nobody_is_heard(page)


def test_a_page_that_is_left_while_it_opens_leaves_no_microphone_on(page: Page) -> None:
    page.evaluate("hesitate()")
    begin(page)
    phase(page, "opening")
    page.evaluate("dispatchEvent(new Event('pagehide'))")
    phase(page, "intro")
    page.evaluate("permit()")
    nobody_is_heard(page)
    phase(page, "intro")


def test_a_microphone_that_cannot_be_read_is_let_go(page: Page) -> None:
    page.evaluate(
        "AudioWorklet.prototype.addModule = () => Promise.reject(new DOMException('gone', 'AbortError')); null"
    )
    begin(page)
    expect(page.get_by_role("alert")).to_contain_text("Muse cannot be reached")
    nobody_is_heard(page)


def test_a_microphone_that_is_unplugged_while_it_records_is_told_of(page: Page, fake: FakeServer) -> None:
    begin(page)
    phase(page, "recording")
    page.evaluate("tracks[0].dispatchEvent(new Event('ended'))")
    expect(page.get_by_role("alert")).to_contain_text("The microphone was disconnected")
    nobody_is_heard(page)
    page.get_by_role("button", name="Try again").click()
    phase(page, "intro")
    begin(page)
    phase(page, "recording")


def test_a_blocked_microphone_is_explained(page: Page) -> None:
    page.evaluate(
        """() => {
          navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException("no", "NotAllowedError"));
        }"""
    )
    begin(page)
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("The microphone is blocked")
    expect(alert).not_to_contain_text("type")
    expect(page.get_by_role("button", name="Try again")).to_be_focused()


def test_news_that_come_late_end_no_duel_that_has_begun(visit_at: Visit, fake: FakeServer, hearing: Browser) -> None:
    page = visit_at(hearing, f"{fake.url}/healthz").page
    with held(page, "**/v1/models") as waiting:
        page.goto(f"{fake.url}/duel.html")
        begin(page)
        phase(page, "recording")
        with page.expect_response("**/v1/models") as news:
            waiting.pop().fulfill(status=500, body="{}")
        news.value.finished()
    timers_fire(page)
    phase(page, "recording")


def test_a_key_that_is_pressed_by_nobody_does_nothing(page: Page) -> None:
    """Browsers that fill in a form announce a key without a name."""
    page.evaluate("document.dispatchEvent(new Event('keydown'))")
    phase(page, "intro")
