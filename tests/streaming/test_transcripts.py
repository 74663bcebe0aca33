"""Turns whose words an engine does not find: `EngineInfo.transcribes` is false."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streaming.engine import StartReply, Transcribe, Transcript, TranscriptFailed
from streaming.observations import BargeInMeasured
from streaming.server_events import ResponseCreated
from tests.streaming.simulation import CAPTIONS, ENGINE, Script, Simulation, turn

DEAF_TO_WORDS = replace(ENGINE, transcribes=False)
NO_ANSWER = 3_600_000  # ms until the simulated transcript comes


def conversation(**script: float) -> Simulation:
    made = Script(transcribe_ms=NO_ANSWER, **script)  # type: ignore[arg-type]
    return Simulation(engine=DEAF_TO_WORDS, config=CAPTIONS, script=made)


def transcription_events(sim: Simulation) -> list[str]:
    return [name for name in sim.types() if "input_audio_transcription" in name]


def test_the_engine_is_given_the_turn_and_the_reply_waits_for_no_words() -> None:
    sim = conversation()
    turn(sim, silence=3000)
    (ask,) = sim.of(Transcribe)
    (start,) = sim.of(StartReply)
    assert start.messages[-1].item_id == ask.item_id
    assert len(ask.audio) > 16_000
    assert [done.response.status for done in sim.done()] == ["completed"]


@pytest.mark.parametrize("answer", ["failed", "words"])
def test_what_it_answers_is_not_told_and_the_turn_stays_in_the_conversation(answer: str) -> None:
    sim = conversation()
    turn(sim, silence=1000)
    (ask,) = sim.of(Transcribe)
    if answer == "failed":
        sim.inject(TranscriptFailed(item_id=ask.item_id, revision=ask.revision, message="not mine"))
    else:
        sim.inject(Transcript(item_id=ask.item_id, revision=ask.revision, text="words"))
    sim.silence(3000)
    turn(sim, silence=3000)
    assert transcription_events(sim) == []
    context = sim.of(StartReply)[-1].messages
    assert [(message.role, message.text) for message in context] == [
        ("user", None),
        ("assistant", sim.script.reply),
        ("user", None),
    ]


def test_an_engine_that_transcribes_says_what_failed() -> None:
    sim = Simulation(config=CAPTIONS, script=Script(transcribe_ms=NO_ANSWER))
    turn(sim, silence=1000)
    (ask,) = sim.of(Transcribe)
    sim.inject(TranscriptFailed(item_id=ask.item_id, revision=ask.revision, message="too noisy"))
    assert transcription_events(sim) == ["conversation.item.input_audio_transcription.failed"]


@pytest.mark.parametrize(("length", "outcome"), [(100, "dismissed"), (300, "dismissed"), (480, "interrupted")])
def test_speech_over_a_reply_is_judged_by_its_length(length: int, outcome: str) -> None:
    sim = conversation(seconds=8.0)
    turn(sim, silence=1500)
    assert len(sim.of(ResponseCreated)) == 1
    asked = len(sim.of(Transcribe))
    began = sim.now
    sim.speak(length)
    sim.silence(400)
    (measured,) = sim.of(BargeInMeasured)
    assert measured.outcome == outcome
    assert measured.decided - began < 900_000_000  # which no patience for words is in
    statuses = [done.response.status for done in sim.done()]
    assert statuses == (["cancelled"] if outcome == "interrupted" else [])
    if outcome == "dismissed":
        assert len(sim.of(Transcribe)) == asked
