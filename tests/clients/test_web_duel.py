"""The blind duel in a real Chromium: a person's question to a scripted server, two answers, a vote."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.clients import microphone
from tests.clients.checks import assert_fits, assert_readable, assert_readable_by_day_and_night
from tests.clients.demo_board import demo_models
from tests.clients.duel_page import ENDLESS, ask, phase, record, side, voice_of, votable, vote_button
from tests.clients.fake_realtime import LOUD, RATE, FakeServer, Script, Turn, running
from tests.clients.fake_routing import SIDES
from tests.clients.microphone import Launch, Recording, pcm, silence, write_wav
from tests.clients.muse_page import MusePage, Visit
from tests.clients.waiting import until

pytestmark = pytest.mark.browser

BOTH = {"A": "sphinx-002", "B": "sphinx-005"}
"""What each side says."""
SAID_SECONDS = 0.3


@pytest.fixture(scope="module")
def asker(launch: Launch, recording: Recording, tmp_path_factory: pytest.TempPathFactory) -> Browser:
    """A browser whose user asks something short, again and again: one of them is heard, however late it listens."""
    question = recording("sphinx-003", microphone.RATE)
    spoken = question[np.flatnonzero(np.abs(question) > LOUD)[0] :][: int(0.5 * microphone.RATE)]
    path = tmp_path_factory.mktemp("microphone") / "asker.wav"
    return launch(write_wav(path, *[silence(0.3), spoken] * 60))


@pytest.fixture(scope="module")
def script(recording: Recording) -> Script:
    voices = [pcm(recording(name, RATE))[: int(SAID_SECONDS * RATE) * 2] for name in BOTH.values()]
    return Script(turns=tuple(Turn(user="A question.", reply="An answer.", voice=voice) for voice in voices))


@pytest.fixture(scope="module")
def fake(script: Script) -> Iterator[FakeServer]:
    with running(script) as server:
        yield server


@pytest.fixture(autouse=True)
def _fresh(fake: FakeServer, script: Script) -> None:
    fake.begin_anew(script)


@pytest.fixture
def visit(visit_at: Visit, fake: FakeServer) -> Visit:
    return partial(visit_at, url=f"{fake.url}/duel.html")


def test_both_sides_hear_the_same_question_and_the_vote_tells_who_they_were(
    visit: Visit, asker: Browser, fake: FakeServer, script: Script
) -> None:
    page = visit(asker).page
    page.evaluate(WATCH_CLIPS)
    page.evaluate(WATCH_SIDES)
    began = time.monotonic()
    ask(page)
    phase(page, "judging")
    took = time.monotonic() - began
    for text in ("omega", "moshi", "kestrel"):
        expect(page.locator("body")).not_to_contain_text(text)
    expect(vote_button(page, "Tie")).to_be_enabled()
    seen = page.evaluate("seen")
    for label in "AB":
        assert f"{label} hears your question" in seen
    assert seen.index("answering: closed") < seen.index("judging: closed") < seen.index("judging: open")
    assert "answering: open" not in seen
    first, second = (voice_of(one) for one in fake.conversations[-2:])
    assert len(first) > RATE / 2
    assert np.array_equal(first, second)
    assert sorted(fake.queries) == ["model=duel%3A1A&extensions=muse", "model=duel%3A1B&extensions=muse"]
    assert_played_after_their_waits(page, script, took)
    vote_button(page, "B is better").click()
    phase(page, "revealed")
    assert fake.asked.votes == [{"id": "duel_1", "winner": "B"}]
    expect(page.get_by_role("heading", name=f"You preferred {SIDES[1]}")).to_be_focused()
    expect(side(page, "A")).to_contain_text(SIDES[0])
    expect(side(page, "A")).to_contain_text("answered after")
    expect(side(page, "B")).to_contain_text("your choice")
    ratings = page.get_by_role("list", name="Ratings with their 95 % intervals").get_by_role("listitem")
    expect(ratings.nth(0)).to_contain_text("1,563 (1,540 to 1,586, 212 votes)")
    assert_readable(page)


def assert_played_after_their_waits(page: Page, script: Script, took: float) -> None:
    """Both answers have been played once, as they were heard; each can be played again. `took`: seconds for it all."""
    clips = page.evaluate("window.clips")
    assert len(clips) == 2
    for clip, turn, label in zip(clips, script.turns, "AB", strict=True):
        wait = clip["length"] / RATE - len(turn.voice) / 2 / RATE
        assert 0.3 < wait < took, "the fake server waits for half a second of silence"
        shown = float((side(page, label).locator(".side-status").text_content() or "").split()[-2])
        assert abs(shown - clip["first"] / RATE) <= 0.051
        assert shown >= wait - 0.05
    page.evaluate(ENDLESS)
    for label, other, count in (("A", "B", 3), ("B", "A", 4)):
        page.get_by_role("button", name=f"Play answer {label}").click()
        page.wait_for_function("count => clips.length === count", arg=count)
        expect(side(page, label)).to_contain_class("playing")
        expect(side(page, other)).not_to_contain_class("playing")
    page.get_by_role("button", name="Stop answer B").click()
    expect(side(page, "B")).not_to_contain_class("playing")


WATCH_CLIPS = """
window.clips = [];
const copy = AudioBuffer.prototype.copyToChannel;
AudioBuffer.prototype.copyToChannel = function (samples, channel) {
  window.clips.push({ length: samples.length, first: samples.findIndex((one) => Math.abs(one) > 0.01) });
  return copy.call(this, samples, channel);
};
null;
"""


WATCH_SIDES = """
window.seen = [];
new MutationObserver(() => {
  const { phase } = document.body.dataset;
  window.seen.push(`${phase}: ${document.getElementById("vote").disabled ? "closed" : "open"}`);
  document.querySelectorAll(".side").forEach((side) => {
    const [label] = side.querySelector(".side-label").lastChild.textContent;
    window.seen.push(`${label} ${side.querySelector(".side-status").textContent}`);
  });
}).observe(document.body, { attributes: true, childList: true, subtree: true });
null;
"""
"""Writes down whether there can be a vote, and what each side is said to do."""


def test_a_duel_is_fought_by_keyboard_alone(visit: Visit, asker: Browser, fake: FakeServer) -> None:
    page = visit(asker).page
    page.evaluate(ENDLESS)
    page.get_by_role("button", name="Ask a question").focus()
    record(page, lambda: page.keyboard.press("Enter"))
    page.keyboard.press("a")
    page.keyboard.press("Enter")
    phase(page, "judging")
    page.keyboard.press("t")
    phase(page, "judging")
    assert fake.asked.votes == [], "not before both were heard"
    votable(page)
    switch = page.get_by_label("One-letter keys")
    switch.uncheck()
    page.keyboard.press("t")
    phase(page, "judging")
    switch.check()
    page.keyboard.press("t")
    expect(page.get_by_role("heading", name="You found them equally good")).to_be_visible()
    assert fake.asked.votes == [{"id": "duel_1", "winner": "tie"}]


@pytest.mark.parametrize("refused", ["on arrival", "when it begins"])
def test_too_few_models_are_explained(visit: Visit, asker: Browser, fake: FakeServer, refused: str) -> None:
    if refused == "on arrival":
        fake.routing.models = demo_models()[:2]
    else:
        fake.routing.duel = (409, "not_enough_models")
    page = visit(asker).page
    if refused == "when it begins":
        page.get_by_role("button", name="Ask a question").click()
    expect(page.get_by_role("alert")).to_contain_text("A duel needs two models")
    assert_readable(page)
    fake.routing.models, fake.routing.duel = demo_models(), (201, "")
    page.get_by_role("button", name="Try again").click()
    phase(page, "intro")
    ask(page)


def test_a_side_that_fails_ends_the_duel_and_the_same_question_can_meet_another_pair(
    visit: Visit, asker: Browser, fake: FakeServer
) -> None:
    fake.routing.failing_side = "B"
    page = visit(asker).page
    page.evaluate(ENDLESS)
    ask(page)
    phase(page, "unjudged")
    expect(page.get_by_role("status").first).to_have_text("This duel has no result")
    expect(side(page, "A")).to_contain_text("has answered")
    expect(side(page, "B")).to_contain_text("This side cannot be reached")
    expect(page.locator("#vote")).to_be_hidden()
    asked = voice_of(fake.conversations[-1])
    fake.routing.failing_side = None
    page.get_by_role("button", name="Same question, new pair").click()
    expect(page.locator("#ask")).to_be_focused()
    votable(page)
    assert all(np.array_equal(voice_of(one), asked) for one in fake.conversations[-2:])
    assert fake.asked.duels == 2
    vote_button(page, "Neither").click()
    expect(page.get_by_role("heading", name="You liked neither")).to_be_visible()
    page.get_by_role("button", name="Ask another question").click()
    phase(page, "recording")
    expect(page.locator("#ask")).to_be_focused()
    expect(page.locator("#how")).to_be_visible()
    expect(page.locator("body")).not_to_contain_text(SIDES[0])


def test_a_vote_that_cannot_be_sent_can_be_given_again_and_one_that_is_refused_says_why(
    visit: Visit, asker: Browser, fake: FakeServer
) -> None:
    page = visit(asker).page
    page.evaluate(ENDLESS)
    ask(page)
    votable(page)
    page.context.set_offline(True)
    vote_button(page, "Tie").click()
    expect(page.locator("#note")).to_contain_text("Muse cannot be reached")
    expect(vote_button(page, "Tie")).to_be_focused()
    page.context.set_offline(False)
    fake.routing.vote = (404, "duel_not_found")
    vote_button(page, "Tie").click()
    expect(page.locator("#note")).to_contain_text("older than 30 minutes")
    expect(page.get_by_role("button", name="Ask another question")).to_be_focused()


def test_a_side_that_is_cut_off_is_told(visit: Visit, asker: Browser, fake: FakeServer) -> None:
    fake.routing.silent_side = "A"
    page = visit(asker).page
    ask(page)
    expect(side(page, "B")).to_contain_text("has answered")
    until(lambda: [one for one in fake.conversations if one.silent and one.heard])
    [side_a] = [one for one in fake.conversations if one.silent]
    fake.hang_up(1011, side_a)
    phase(page, "unjudged")
    expect(side(page, "A")).to_contain_text("The server ended the call")


def test_silence_is_no_question(visit: Visit, asker: Browser, fake: FakeServer) -> None:
    page = visit(asker).page
    page.evaluate(
        """() => {
          const silence = new AudioContext().createMediaStreamDestination().stream;
          navigator.mediaDevices.getUserMedia = () => Promise.resolve(silence);
        }"""
    )
    record(page, page.get_by_role("button", name="Ask a question").click)
    page.get_by_role("button", name="Done").click()
    expect(page.get_by_role("alert")).to_contain_text("No question was heard")
    assert fake.queries == []


def test_a_key_is_asked_for(visit: Visit, asker: Browser, fake: FakeServer) -> None:
    fake.script = replace(fake.script, key="sk-right")
    page = visit(asker).page
    page.get_by_label("API key").fill("sk-right")
    page.keyboard.press("Enter")
    phase(page, "intro")
    ask(page)


def test_what_was_said_is_gone_with_the_duel(visit: Visit, asker: Browser) -> None:
    page = visit(asker).page
    page.evaluate(WATCH_AUDIO)
    page.evaluate(ENDLESS)
    ask(page)
    votable(page)
    assert still_kept(page) >= 3, "the question and both answers"
    page.evaluate("dispatchEvent(new Event('pagehide'))")
    phase(page, "intro")
    expect(page.locator("#how")).to_be_visible()
    until(lambda: still_kept(page) == 0)
    assert page.evaluate("localStorage.length + sessionStorage.length") == 0


WATCH_AUDIO = """
window.audio = [];
const keep = (owner, name, pick) => {
  const plain = owner[name];
  owner[name] = function (...given) {
    const made = plain.apply(this, given);
    window.audio.push(new WeakRef(pick(made, given)));
    return made;
  };
};
keep(Int16Array.prototype, "slice", (made) => made);
keep(AudioBuffer.prototype, "copyToChannel", (_, [samples]) => samples);
null;
"""
"""Has an eye on the trimmed question and the played answers."""


def still_kept(page: Page) -> int:
    """How much of what WATCH_AUDIO has seen the page still holds."""
    page.context.new_cdp_session(page).send("HeapProfiler.collectGarbage")
    return int(page.evaluate("window.audio.filter((one) => one.deref()).length"))


def test_it_can_be_given_up_and_leaving_is_the_same(visit: Visit, asker: Browser, fake: FakeServer) -> None:
    fake.routing.silent_side = "A"
    page = visit(asker).page
    page.evaluate(WATCH_SOCKETS)
    for give_up in (page.get_by_role("button", name="Give up").click, lambda: page.evaluate(LEAVE)):
        fake.conversations.clear()
        record(page, page.get_by_role("button", name="Ask a question").click)
        page.get_by_role("button", name="Done").dblclick()
        phase(page, "answering")
        until(lambda: len([one for one in fake.conversations if one.heard]) == 2)
        give_up()
        phase(page, "intro")
        assert page.evaluate("sockets.every(({ readyState }) => readyState > WebSocket.OPEN)")
    assert page.evaluate("sockets.length") == 4


LEAVE = "dispatchEvent(new Event('pagehide'))"

WATCH_SOCKETS = """
window.sockets = [];
window.WebSocket = class extends WebSocket {
  constructor(...given) {
    super(...given);
    window.sockets.push(this);
  }
};
null;
"""


def test_it_can_be_read_in_every_phase_on_a_phone(visit: Visit, asker: Browser) -> None:
    page = visit(asker, viewport={"width": 360, "height": 780}, has_touch=True).page
    page.evaluate(ENDLESS)
    assert_readable_by_day_and_night(page)
    ask(page)
    assert_readable_by_day_and_night(page)
    votable(page)
    assert_readable_by_day_and_night(page)
    assert_fits(page)
    vote_button(page, "A is better").click()
    phase(page, "revealed")
    assert_readable_by_day_and_night(page)
    assert_fits(page)


def test_with_reduced_motion_nothing_moves(visit: Visit, asker: Browser) -> None:
    muse: MusePage = visit(asker, reduced_motion="reduce")
    record(muse.page, muse.page.get_by_role("button", name="Ask a question").click)
    assert muse.page.evaluate("document.getAnimations().length") == 0
    assert muse.page.locator("#orb").evaluate("orb => getComputedStyle(orb).getPropertyValue('--level')") == "0.000"
