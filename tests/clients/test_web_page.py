"""The page in a real Chromium: its microphone is a recording of a person, its server a scripted one."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from playwright.sync_api import Browser, Request, expect

from tests.clients import microphone
from tests.clients.fake_realtime import LATENCY, RATE, ROUND_TRIP_SECONDS, FakeServer, Script, Turn, running
from tests.clients.microphone import Launch, OnDemand, Recording, Samples, pcm, write_wav
from tests.clients.muse_page import MusePage, Visit
from tests.clients.waiting import until

pytestmark = pytest.mark.browser

QUESTION = "Seven of clubs."


@pytest.fixture(scope="module")
def turn(recording: Recording) -> Turn:
    return Turn(user=QUESTION, reply="Four, queen of clubs.", voice=pcm(recording("sphinx-002", RATE)))


@pytest.fixture(scope="module")
def long_turn(recording: Recording) -> Turn:
    """Longer than it takes to interrupt it on any machine."""
    voice = recording("sphinx-sense_and_sensibility_01_austen_64kb-0930", RATE)
    return Turn(
        user=QUESTION, reply=" ".join(["He might even have been made amiable himself."] * 4), voice=pcm(voice) * 4
    )


@pytest.fixture(scope="module")
def question(recording: Recording) -> Samples:
    return recording("sphinx-003", microphone.RATE)


@pytest.fixture(scope="module")
def fake(turn: Turn) -> Iterator[FakeServer]:
    with running(Script(turns=(turn,))) as server:
        yield server


@pytest.fixture(autouse=True)
def _fresh(fake: FakeServer, turn: Turn) -> None:
    fake.begin_anew(Script(turns=(turn,)))


@pytest.fixture(scope="module")
def talker(launch: Launch, recording: Recording, tmp_path_factory: pytest.TempPathFactory) -> Browser:
    """A browser whose user never stops talking."""
    path = tmp_path_factory.mktemp("microphone") / "talker.wav"
    return launch(write_wav(path, *[recording("sphinx-005", microphone.RATE)] * 30))


@pytest.fixture
def visit(visit_at: Visit, fake: FakeServer) -> Visit:
    """`visit(browser, **options)`: the page of the fake server."""
    return partial(visit_at, url=fake.url)


def leave(muse: MusePage) -> None:
    """Which ends the call."""
    muse.page.evaluate("dispatchEvent(new Event('pagehide'))")


def test_a_spoken_turn_is_heard_captioned_and_timed(
    visit: Visit, deaf: Browser, fake: FakeServer, turn: Turn, question: Samples
) -> None:
    fake.script = Script(turns=(turn,), at_once=True)
    muse = visit(deaf)
    user = OnDemand.at(muse.page, question)
    trips: list[float] = []

    def time_it(request: Request) -> None:
        if "/healthz" in request.url:
            trips.append(request.timing["responseStart"] - request.timing["requestStart"])

    muse.page.on("requestfinished", time_it)
    muse.talk()
    muse.state("listening")
    user.speak(0)
    for state in ("user-speaking", "muse-speaking", "listening"):
        muse.state(state)
    lines = muse.page.locator("#lines > li")
    expect(lines).to_have_text([f"You{QUESTION}", f"Muse{turn.reply}"])
    voice = len(turn.voice) / 2 / RATE
    expect(muse.page.locator("#heard")).to_have_text(f"{voice:.1f} s")
    assert muse.number("#underruns") == 0
    parts = muse.latency()
    local = parts["Capture"] + parts["Network"] + parts["Playout"]
    assert abs(parts["Total"] - sum(LATENCY.values()) - local) <= 2
    assert parts["Capture"] >= 20, "a chunk is 20 ms"
    assert parts["Network"] >= 1000 * ROUND_TRIP_SECONDS
    assert min(abs(parts["Network"] - trip) for trip in trips) < 1
    assert parts["Playout"] > 0


def test_a_model_that_hears_all_and_answers_when_it_will(
    visit: Visit, deaf: Browser, fake: FakeServer, turn: Turn, question: Samples
) -> None:
    fake.script = Script(turns=(turn,), duplex=True)
    muse = visit(deaf)
    user = OnDemand.at(muse.page, question)
    muse.talk()
    muse.state("listening")
    user.speak(0)
    for state in ("user-speaking", "listening"):
        muse.state(state)
    expect(muse.page.locator("#lines > li .remark")).to_have_text(["spoken; this model does not write it down"])
    expect(muse.page.locator("#message")).to_be_disabled()
    expect(muse.page.locator("#message")).to_have_attribute("placeholder", "This model only listens")
    muse.page.get_by_role("button", name="Stop", exact=True).click()
    expect(muse.page.locator("#message")).to_be_enabled()


def test_the_microphone_arrives_as_it_was_recorded(
    visit: Visit, asker: Browser, fake: FakeServer, recording: Recording
) -> None:
    muse = visit(asker)
    muse.talk()
    muse.state("muse-speaking")
    update, *appended = [event for event in fake.events if event["type"] != "response.cancel"]
    assert update["type"] == "session.update"
    assert update["session"]["audio"]["input"]["turn_detection"]["type"] == "semantic_vad"
    assert "transcription" in update["session"]["audio"]["input"]
    assert {event["type"] for event in appended} == {"input_audio_buffer.append"}
    assert "extensions=muse" in fake.queries[-1]
    assert "model=auto" in fake.queries[-1]
    sent = np.concatenate([pcm_of(event) for event in appended])
    spoken, other = recording("sphinx-003", RATE), recording("sphinx-005", RATE)
    assert similarity(sent, spoken) > 3 * similarity(sent, other), "at another rate it would be like neither"


def similarity(one: Samples, other: Samples) -> float:
    """The highest normalised correlation, whatever the delay."""
    size = 2**19
    correlation = np.fft.irfft(np.fft.rfft(one, size) * np.conj(np.fft.rfft(other, size)))
    return float(correlation.max() / (np.linalg.norm(one) * np.linalg.norm(other)))


def pcm_of(event: dict[str, str]) -> Samples:
    pcm = base64.b64decode(event["audio"])
    assert len(pcm) == 0.02 * RATE * 2
    return np.frombuffer(pcm, "<i2").astype(np.float32)


def test_speaking_over_a_reply_ducks_it_then_stops_it(
    visit: Visit, deaf: Browser, fake: FakeServer, long_turn: Turn, recording: Recording
) -> None:
    fake.script = Script(turns=(long_turn,), late_frames=5)
    muse = visit(deaf)
    muse.page.evaluate(WATCH_STATES)
    user = OnDemand.at(muse.page, *(recording(f"sphinx-00{number}", microphone.RATE) for number in (1, 5)))
    muse.talk()
    muse.state("listening")
    user.speak(0)
    muse.state("muse-speaking")
    expect(muse.page.locator("#heard")).to_have_text(A_SECOND)
    user.speak(1)
    muse.state("interrupted")
    expect(muse.page.locator("#frames-dropped")).to_have_text("5")
    until(lambda: fake.of_type("conversation.item.truncate"))
    [cut] = fake.of_type("conversation.item.truncate")
    assert cut["content_index"] == 0
    assert 0 < cut["audio_end_ms"] / 1000 < len(long_turn.voice) / 2 / RATE
    until(lambda: abs(cut["audio_end_ms"] / 1000 - muse.number("#heard")) < 0.1)
    line = muse.page.locator(".line-muse").first
    expect(line).to_contain_text("interrupted")
    words = line.locator(".words").text_content() or ""
    assert 0 < len(words) < len(long_turn.reply)
    assert long_turn.reply.startswith(words)
    seen = muse.page.evaluate("window.seen")
    assert seen.index("ducked") < seen.index("interrupted")
    muse.state("muse-speaking")
    assert fake.of_type("response.cancel") == [], "the server has already stopped"


A_SECOND = re.compile(r"^[1-9]\d*\.")
"""At least, of a reply."""

WATCH_STATES = """
window.seen = [];
new MutationObserver(() => {
  window.seen.push(document.body.dataset.state, ...document.body.classList);
}).observe(document.body, { attributes: true });
"""


def test_a_dismissed_onset_brings_the_reply_back(visit: Visit, deaf: Browser, fake: FakeServer, turn: Turn) -> None:
    fake.script = Script(turns=(replace(turn, voice=turn.voice * 4),))
    muse = visit(deaf)
    muse.say("Hello")
    muse.state("muse-speaking")
    response_id = next(e["response"]["id"] for e in fake.announced if e["type"] == "response.created")
    fake.tell({"type": "muse.barge_in", "phase": "onset", "response_id": response_id})
    expect(muse.page.locator("body")).to_contain_class("ducked")
    fake.tell({"type": "muse.barge_in", "phase": "dismissed", "response_id": response_id})
    expect(muse.page.locator("body")).not_to_contain_class("ducked")
    muse.state("listening")
    expect(muse.page.locator(".line-muse")).to_have_text(f"Muse{turn.reply}")


def test_speech_over_the_end_of_a_reply_stops_it_without_muse_events(
    visit: Visit, deaf: Browser, fake: FakeServer, long_turn: Turn
) -> None:
    fake.script = Script(turns=(long_turn,), at_once=True)
    muse = visit(deaf)
    muse.say("Hello")
    muse.state("muse-speaking")
    fake.tell({"type": "input_audio_buffer.speech_started", "audio_start_ms": 0, "item_id": "item"})
    muse.state("interrupted")
    until(lambda: fake.of_type("conversation.item.truncate"))
    leave(muse)
    fake.hears_all()
    assert len(fake.of_type("conversation.item.truncate")) == 1


def test_typing_gets_a_spoken_answer_without_a_microphone(
    visit: Visit, deaf: Browser, fake: FakeServer, turn: Turn
) -> None:
    muse = visit(deaf)
    muse.say("Good morning")
    muse.state("muse-speaking")
    muse.state("listening")
    expect(muse.page.locator("#lines > li")).to_have_text(["YouGood morning", f"Muse{turn.reply}"])
    [item] = fake.of_type("conversation.item.create")
    assert item["item"]["content"] == [{"type": "input_text", "text": "Good morning"}]
    expect(muse.page.get_by_label("Message to Muse")).to_have_value("")
    expect(muse.page.locator("#latency-table tbody td").first).to_have_text("0")
    leave(muse)
    fake.hears_all()
    assert fake.of_type("input_audio_buffer.append") == [], "nothing was captured"


def test_escape_stops_the_reply(visit: Visit, deaf: Browser, fake: FakeServer, long_turn: Turn) -> None:
    fake.script = Script(turns=(long_turn,))
    muse = visit(deaf)
    muse.say("Tell me everything")
    muse.state("muse-speaking")
    expect(muse.page.locator("#heard")).to_have_text(A_SECOND)
    muse.page.keyboard.press("Escape")
    muse.state("listening")
    expect(muse.page.locator(".line-muse")).to_contain_text("interrupted")
    until(lambda: fake.of_type("conversation.item.truncate"))
    leave(muse)
    fake.hears_all()
    assert len(fake.of_type("response.cancel")) == 1
    [cut] = fake.of_type("conversation.item.truncate")
    assert cut["audio_end_ms"] >= 1000


def silent_for(fake: FakeServer, seconds: float) -> bool:
    """Whether the last that the user sent is silence."""
    count = round(seconds / 0.02)
    newest = fake.of_type("input_audio_buffer.append")[-count:]
    return len(newest) == count and not any(pcm_of(event).any() for event in newest)


def test_the_page_works_by_keyboard_alone(visit: Visit, talker: Browser, fake: FakeServer) -> None:
    muse = visit(talker)
    muse.page.keyboard.press("Tab")
    expect(muse.page.get_by_role("link", name="Skip to content")).to_be_focused()
    muse.page.keyboard.press("Enter")
    muse.page.keyboard.press("Tab")
    expect(muse.page.get_by_role("button", name="Start talking")).to_be_focused()
    muse.page.keyboard.press("Space")
    muse.state("listening")
    muse.page.keyboard.press("m")
    mute = muse.page.get_by_role("button", name="Mute")
    expect(mute).to_have_attribute("aria-pressed", "true")
    expect(muse.page.get_by_role("status").first).to_have_text("Muted")
    until(lambda: silent_for(fake, seconds=1.5))
    muse.page.get_by_role("button", name="Stop", exact=True).focus()
    muse.page.keyboard.press("Enter")
    muse.state("idle")
    muse.page.get_by_label("Message to Muse").focus()
    muse.page.keyboard.type("mmm")
    expect(muse.page.get_by_label("Message to Muse")).to_have_value("mmm")
    expect(mute).to_have_attribute("aria-pressed", "true")


def test_a_blocked_microphone_is_explained_and_typing_remains(visit: Visit, deaf: Browser) -> None:
    muse = visit(deaf)
    muse.page.evaluate(
        """() => {
          navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException("no", "NotAllowedError"));
        }"""
    )
    muse.talk()
    alert = muse.page.get_by_role("alert")
    expect(alert).to_contain_text("The microphone is blocked")
    expect(alert).to_contain_text("You can still type")
    muse.say("Hello")
    muse.state("muse-speaking")
    expect(alert).to_be_hidden()


def test_no_microphone_is_explained(visit: Visit, deaf: Browser) -> None:
    muse = visit(deaf)
    muse.talk()
    expect(muse.page.get_by_role("alert")).to_contain_text(re.compile("No microphone found|The microphone is"))


def test_a_busy_server_is_explained_and_can_be_tried_again(visit: Visit, asker: Browser, fake: FakeServer) -> None:
    fake.script = replace(fake.script, busy=True)
    muse = visit(asker)
    muse.talk()
    expect(muse.page.get_by_role("alert")).to_contain_text("Muse is busy")
    expect(muse.page.get_by_role("alert")).to_contain_text("7 seconds")
    fake.script = replace(fake.script, busy=False)
    muse.page.get_by_role("button", name="Try again").click()
    muse.state("listening")


@pytest.mark.parametrize(
    ("code", "words"),
    [(1013, "Muse is busy"), (1012, "restarting"), (1008, "ended the call"), (1011, "ended the call")],
)
def test_a_call_that_the_server_ends_is_explained(
    visit: Visit, asker: Browser, fake: FakeServer, code: int, words: str
) -> None:
    muse = visit(asker)
    muse.talk()
    muse.state("listening")
    fake.hang_up(code)
    expect(muse.page.get_by_role("alert")).to_contain_text(words)
    expect(muse.page.get_by_role("button", name="Try again")).to_be_focused()


def test_a_server_that_is_gone_is_explained(visit: Visit, deaf: Browser) -> None:
    muse = visit(deaf)
    muse.page.context.set_offline(True)
    muse.say("Hello")
    expect(muse.page.get_by_role("alert")).to_contain_text("Muse cannot be reached")


def test_a_key_is_asked_for_only_when_the_server_wants_one(visit: Visit, asker: Browser, fake: FakeServer) -> None:
    fake.script = replace(fake.script, key="sk-right")
    muse = visit(asker)
    muse.talk()
    expect(muse.page.get_by_label("API key")).to_be_focused()
    muse.page.keyboard.type("sk-wrong")
    muse.page.keyboard.press("Enter")
    expect(muse.page.get_by_role("alert")).to_contain_text("That key is not valid here")
    expect(muse.page.get_by_label("API key")).to_be_focused()
    muse.page.keyboard.type("sk-right")
    muse.page.keyboard.press("Enter")
    muse.state("listening")
    assert muse.page.evaluate("localStorage.length") == 0


def test_an_error_event_is_shown_and_the_call_goes_on(visit: Visit, asker: Browser, fake: FakeServer) -> None:
    muse = visit(asker)
    muse.talk()
    muse.state("listening")
    fake.tell({"type": "error", "error": {"type": "x", "message": "You sent too much.", "event_id": None}})
    expect(muse.page.locator("#notice")).to_have_text("You sent too much.")
    muse.state("muse-speaking")


@pytest.mark.parametrize(
    ("code", "words"),
    [("session_expiring", "almost reached its time limit"), ("server_restarting", "about to restart")],
)
def test_a_notice_is_told_politely_and_the_call_goes_on(
    visit: Visit, asker: Browser, fake: FakeServer, code: str, words: str
) -> None:
    muse = visit(asker)
    muse.talk()
    muse.state("listening")
    fake.tell({"type": "muse.notice", "code": code, "message": "for developers"})
    expect(muse.page.get_by_role("status").filter(has_text=words)).to_be_visible()
    expect(muse.page.get_by_role("alert")).to_be_hidden()
    muse.state("muse-speaking")
