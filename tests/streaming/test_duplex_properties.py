"""What must hold in any conversation with a duplex engine, whatever the client, the user and the engine do."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streaming.client_events import (
    AppendAudio,
    CancelResponse,
    ClearAudio,
    ClearOutputAudio,
    ClientEvent,
    CommitAudio,
    CreateResponse,
    TruncateItem,
    UpdateSession,
)
from streaming.core import MS, SECOND, SessionOptions
from streaming.engine import Begin, CancelReply, ConfirmReply, HearAudio, StartReply, Transcribe
from streaming.server_events import (
    AudioCommitted,
    AudioDelta,
    AudioTranscriptDelta,
    ItemTruncated,
    ResponseCreated,
    ResponseDone,
    SpeechStarted,
)
from streaming.trace import Recorder, replay
from tests.streaming.simulation import DUPLEX, PCM, Simulation
from tests.streaming.test_session_properties import check_terminal_events

pytestmark = pytest.mark.timeout(900)  # which only a hang reaches

EVENTS: dict[str, ClientEvent] = {
    "commit": CommitAudio(),
    "clear": ClearAudio(),
    "create": CreateResponse(),
    "update": UpdateSession(session={"instructions": "Be brief."}),
    "cancel": CancelResponse(),
    "flush": ClearOutputAudio(),
    "garbage": AppendAudio(audio=b"odd"),
}

ms = st.sampled_from([20, 60, 200, 400, 1000, 2000])
steps = st.one_of(
    st.tuples(st.just("speak"), ms),
    st.tuples(st.just("silence"), ms),
    st.tuples(st.just("wait"), st.sampled_from([20, 400, 2500])),
    st.tuples(
        st.just("say"), st.tuples(st.sampled_from(["", "Yes.", "It is noon."]), st.sampled_from([0, 80, 800, 3000]))
    ),
    st.tuples(st.just("pause"), st.sampled_from([80, 640, 800, 1600])),
    st.tuples(st.just("hush"), st.just(None)),
    st.tuples(st.just("lateness"), st.sampled_from([0, 30, 200, 1500])),
    st.tuples(st.just("stall"), st.sampled_from([500, 3000])),
    st.tuples(st.just("send"), st.sampled_from(sorted(EVENTS))),
    st.tuples(st.just("truncate"), st.integers(0, 3000)),
    st.tuples(st.just("detection"), st.sampled_from(["server_vad", "semantic_vad", None])),
)
plans = st.lists(steps, max_size=25)


def run(sim: Simulation, plan: list[tuple[str, Any]]) -> None:
    pause = 0
    for step, value in plan:
        match step:
            case "speak" | "silence" | "wait" | "stall":
                getattr(sim, step)(value)
            case "say":
                words, length = value
                sim.model.say(words, ms=length, after_ms=pause)
                pause = 0
            case "pause":
                pause = value
            case "hush":
                sim.model.hush()
            case "lateness":
                sim.model.delay_ms = value
            case "send":
                sim.send(EVENTS[value])
            case "truncate":
                item_id = next((delta.item_id for delta in reversed(sim.of(AudioDelta))), "none")
                sim.send(TruncateItem(item_id=item_id, content_index=0, audio_end_ms=value))
            case "detection":
                setting = None if value is None else {"type": value}
                sim.send(UpdateSession(session={"audio": {"input": {"turn_detection": setting}}}))
    sim.model.delay_ms = 30
    sim.silence(4000)
    sim.model.hush()
    sim.silence(4000)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plans, st.sampled_from([3 * SECOND, 120 * SECOND]), st.sampled_from([120, 400]))
def test_any_conversation_keeps_its_promises(plan: list[tuple[str, Any]], longest: int, lead: int) -> None:
    lines: list[str] = []

    def record(**made_from: Any) -> Any:
        return Recorder(lines.append, **made_from)

    options = SessionOptions(longest_turn=longest, lead=lead * MS)
    sim = Simulation(engine=DUPLEX, options=options, make=record)
    run(sim, plan)
    check_terminal_events(sim)
    assert not sim.session.busy
    check_the_engine_heard_everything(sim)
    check_what_was_said(sim)
    check_turns(sim, longest)
    check_latencies(sim)
    assert replay(lines).outputs == len(sim.outputs)


def check_the_engine_heard_everything(sim: Simulation) -> None:
    """It is told who it is first, and once; it hears all audio, and is asked for nothing."""
    told = [type(output) for _, output in sim.outputs if isinstance(output, Begin | HearAudio)]
    assert told[0] is Begin
    assert told.count(Begin) == 1
    asked = StartReply | ConfirmReply | CancelReply | Transcribe
    assert not any(isinstance(output, asked) for _, output in sim.outputs)


def check_what_was_said(sim: Simulation) -> None:
    """A response is one stretch of what the engine said, later than the one before; unless stopped it has all of it."""
    said = bytes(sim.model.said)
    position = 0
    whole = np.zeros(len(said) // 2, dtype=bool)  # what was sent, or may have been left out
    for done in sim.done():
        audio = sim.audio_of(done.response.id)
        begin = said.find(audio, position)
        assert begin >= position
        position = begin + len(audio)
        end = position if done.response.status == "completed" else len(said)
        whole[begin // 2 : end // 2] = True
        item_ids = {delta.item_id for delta in sim.of(AudioDelta) if delta.response_id == done.response.id}
        cuts = [cut.audio_end_ms for cut in sim.of(ItemTruncated) if cut.item_id in item_ids]
        assert all(cut * 48 <= len(audio) for cut in cuts)
    level = np.abs(PCM.decode(said))
    if not any(done.response.status == "cancelled" for done in sim.done()):
        assert not (level[~whole] > 0.02).any()


def check_turns(sim: Simulation, longest: int) -> None:
    """No client is told of a turn's start while a reply runs, which it would flush, but of one as long as may be."""
    running: int | None = None
    held_too_long = False
    for at, output in sim.outputs:
        match output:
            case ResponseCreated():
                assert running is None
                running = at
            case ResponseDone():
                running = None
            case SpeechStarted():
                held_too_long = held_too_long or running is not None
    assert not held_too_long or longest == 3 * SECOND
    commits = [commit.item_id for commit in sim.of(AudioCommitted)]
    assert len(commits) == len(set(commits))


def check_latencies(sim: Simulation) -> None:
    for done in sim.done():
        metadata = done.response.metadata
        assert (metadata is not None) == any(d.response_id == done.response.id for d in sim.of(AudioDelta))
        if metadata is not None:
            parts = json.loads(metadata["muse.latency"])
            total = parts.pop("total_ms")
            assert abs(total - sum(parts.values())) < 0.6
            assert all(part >= 0 for part in parts.values())
    for delta in sim.of(AudioTranscriptDelta):
        assert delta.delta
