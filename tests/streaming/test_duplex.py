"""A session whose engine is duplex."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from models.worker.intake import Intake
from streaming.audio import AudioFormat
from streaming.client_events import (
    AppendAudio,
    CancelResponse,
    ClearOutputAudio,
    ClientEvent,
    CommitAudio,
    CreateItem,
    CreateResponse,
    ResponseParams,
    RetrieveItem,
    TruncateItem,
    UpdateSession,
)
from streaming.config import AudioConfig, AudioInput, SemanticVad, ServerVad, SessionConfig, Transcription
from streaming.core import MS, SECOND, SessionOptions
from streaming.duplex import SETTLING
from streaming.engine import (
    Begin,
    CancelReply,
    ConfirmReply,
    EngineLost,
    HearAudio,
    ReplyEnded,
    Speech,
    StartReply,
    Transcribe,
)
from streaming.items import InputAudio, InputText, Message, OutputAudio
from streaming.observations import CloseSession, TurnMeasured, Underrun
from streaming.server_events import (
    AudioCommitted,
    AudioDelta,
    AudioTranscriptDelta,
    AudioTranscriptDone,
    ErrorEvent,
    IdleTimeout,
    ItemRetrieved,
    ItemTruncated,
    OutputAudioCleared,
    ResponseCreated,
    ResponseDone,
    SessionUpdated,
    SpeechStarted,
    SpeechStopped,
    TextDelta,
    TextDone,
    TranscriptionCompleted,
)
from streaming.utterances import UtteranceRule
from tests.streaming.simulation import DUPLEX, FRAME, FRAME_TIMES, MANUAL, PCM, Simulation, errors, tone, transcript

RULE = UtteranceRule()
WORDS = "It is noon."


def conversation(**changes: object) -> Simulation:
    return Simulation(engine=DUPLEX, **changes)  # type: ignore[arg-type]


def spoken(sim: Simulation, index: int = 0) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """The audio of a response, by the order in which they began."""
    return PCM.decode(sim.audio_of(sim.of(ResponseCreated)[index].response.id))


def replying(ms: int = 4000) -> Simulation:
    """A reply is being spoken, and has been for a second."""
    sim = conversation()
    sim.silence(400)
    sim.model.say(WORDS, ms=ms)
    sim.silence(1200)
    assert sim.of(ResponseCreated)
    assert not sim.done()
    return sim


# --- what the engine is told -----------------------------------------------------------------------------------------


def test_the_engine_is_told_who_it_is_once_and_then_hears_everything() -> None:
    sim = conversation()
    assert sim.of(Begin) == []
    sim.send(UpdateSession(session={"instructions": "You are a pirate.", "audio": {"output": {"voice": "ann"}}}))
    sim.speak(500)
    sim.silence(500)
    assert sim.of(Begin) == [Begin(instructions="You are a pirate.", voice="ann")]
    kinds = [type(output) for _, output in sim.outputs if isinstance(output, Begin | HearAudio)]
    assert kinds[0] is Begin
    heard = np.concatenate([command.audio for command in sim.of(HearAudio)])
    assert len(heard) == 24_000


def test_a_client_s_small_pieces_are_joined() -> None:
    sim = conversation(config=MANUAL)
    said = tone(1000)
    for start in range(0, len(said), 256):  # 5 ms, the quantum of a browser's audio
        sim.wait(5)
        sim.send(AppendAudio(audio=said[start : start + 256]))
    heard = [command.audio for command in sim.of(HearAudio)]
    assert len(heard) == 50
    assert PCM.encode(np.concatenate(heard)) == said


@pytest.mark.parametrize("stalled", [0, 20_000])
@pytest.mark.parametrize("first", [0, 1000, 15_000])
def test_no_more_reaches_the_engine_at_once_than_a_worker_can_hold(stalled: int, first: int) -> None:
    sim = conversation(config=MANUAL)
    sim.silence(1000)
    sim.wait(stalled)
    before = len(sim.of(HearAudio))
    sim.send(AppendAudio(audio=tone(first)))
    for _ in range(300):
        sim.send(AppendAudio(audio=tone(100)))
    given = [command.audio for command in sim.of(HearAudio)[before:]]
    worker = Intake()
    worker.listen()
    for audio in given:
        worker.put(audio, now=0)
    assert sum(map(len, given)) >= 24_000
    assert set(errors(sim)) == {("audio_too_fast", "audio", None)}
    assert "at most 1.5 s faster" in sim.of(ErrorEvent)[-1].error.message
    sim.wait(2000)
    sim.send(AppendAudio(audio=tone(100)))
    assert len(sim.of(HearAudio)) == before + len(given) + 1


@pytest.mark.parametrize(
    ("patch", "code", "param"),
    [
        ({"instructions": "New."}, "cannot_update_instructions", "session.instructions"),
        ({"audio": {"output": {"voice": "ann"}}}, "cannot_update_voice", "session.audio.output.voice"),
    ],
)
def test_the_persona_is_fixed_once_the_engine_listens(patch: dict[str, object], code: str, param: str) -> None:
    sim = conversation(config=SessionConfig(instructions="Old."))
    sim.silence(100)
    sim.send(UpdateSession(session={**patch, "max_output_tokens": 7}))
    assert errors(sim) == [(code, param, None)]
    sim.send(UpdateSession(session={"instructions": "Old.", "audio": {"output": {"voice": "joe"}}}))
    (updated,) = sim.of(SessionUpdated)
    assert (updated.session.instructions, updated.session.max_output_tokens) == ("Old.", "inf")


def test_a_client_that_speaks_at_once_may_still_say_who_the_engine_is() -> None:
    sim = conversation()
    sim.now -= SETTLING
    sim.speak(300)
    sim.send(UpdateSession(session={"instructions": "You are a pirate."}))
    sim.speak(180)
    assert sim.of(Begin) == []
    assert sim.of(HearAudio) == []
    sim.wait(20)
    assert sim.of(Begin) == [Begin(instructions="You are a pirate.", voice="joe")]
    assert sum(len(command.audio) for command in sim.of(HearAudio)) == 24 * 480
    sim.speak(100)
    assert sum(len(command.audio) for command in sim.of(HearAudio)) == 24 * 580
    assert errors(sim) == []


def test_a_turn_based_engine_takes_a_recording_at_once() -> None:
    sim = Simulation(config=MANUAL)
    sim.send(AppendAudio(audio=tone(20_000)))
    assert errors(sim) == []
    assert sim.of(HearAudio) == []


def test_a_turn_based_engine_s_instructions_may_change_at_any_time() -> None:
    sim = Simulation()
    sim.silence(100)
    sim.send(UpdateSession(session={"instructions": "New."}))
    assert errors(sim) == []


def test_nothing_is_asked_of_the_engine_but_to_listen() -> None:
    sim = conversation()
    sim.speak(1000)
    sim.model.say(WORDS)
    sim.silence(3000)
    sim.speak(1000)
    sim.silence(2000)
    commands = (StartReply, ConfirmReply, CancelReply, Transcribe)
    assert [output for _, output in sim.outputs if isinstance(output, commands)] == []


# --- what it says ----------------------------------------------------------------------------------------------------


def test_an_utterance_is_a_whole_response_in_the_order_of_the_protocol() -> None:
    sim = conversation()
    sim.speak(1000)
    sim.silence(200)
    sim.model.say(WORDS)
    sim.silence(4000)
    seen = [name for name in sim.types() if "." in name]
    assert list(dict.fromkeys(seen)) == [
        "session.created",
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "response.created",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_audio_transcript.delta",
        "response.output_audio.delta",
        "response.output_audio.done",
        "response.output_audio_transcript.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.done",
    ]
    (done,) = sim.done()
    assert done.response.status == "completed"
    assert sim.of(AudioTranscriptDone)[0].transcript == WORDS
    assert "".join(delta.delta for delta in sim.of(AudioTranscriptDelta)) == WORDS
    (item,) = done.response.output
    assert isinstance(item, Message)
    assert item.content == (OutputAudio(transcript=WORDS),)
    assert transcript(sim, item.id) == WORDS
    usage = done.response.usage
    assert usage is not None
    assert usage.output_token_details.text_tokens == 3
    assert usage.output_token_details.audio_tokens == round(len(spoken(sim)) / 1920)
    assert usage.input_token_details.audio_tokens == pytest.approx((1200 + 160 + 1600 + 800) / 80, abs=2)
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens


def test_all_audio_of_an_utterance_is_sent_and_none_between() -> None:
    sim = conversation()
    sim.silence(800)
    sim.model.say(ms=800)
    sim.model.say(ms=800, after_ms=640)  # a pause within
    sim.silence(6000)
    sim.model.say(ms=400)
    sim.silence(3000)
    first, second = spoken(sim, 0), spoken(sim, 1)
    assert len(first) == 24 * (RULE.pre_roll + 800 + 640 + 800 + RULE.quiet)
    assert len(second) == 24 * (RULE.pre_roll + 400 + RULE.quiet)
    for index, audio in enumerate((first, second)):
        assert sim.model.said.find(sim.audio_of(sim.of(ResponseCreated)[index].response.id)) > 0
        assert audio[: 24 * RULE.pre_roll].max() < 0.01 < audio[24 * RULE.pre_roll :][:24].min()


def test_a_model_that_is_silent_makes_no_response() -> None:
    sim = conversation()
    sim.silence(30_000)
    assert sim.of(ResponseCreated) == []
    assert not sim.session.busy


def test_the_audio_leaves_when_it_comes_and_does_not_drift() -> None:
    sim = conversation()
    sim.silence(400)
    sim.model.say(ms=20_000)
    sim.silence(23_000)
    position = sim.model.said.find(sim.audio_of(sim.done()[0].response.id))
    began = sim.times(HearAudio)[0] - 20 * MS
    for at, delta in zip(sim.times(AudioDelta), sim.of(AudioDelta), strict=True):
        frame_end = -((position + len(delta.delta)) // -(2 * FRAME))  # the frame that these samples came in
        came = began + frame_end * 80 * MS + sim.model.delay_ms * MS
        assert at == max(came, sim.times(ResponseCreated)[0])
        position += len(delta.delta)
    assert sim.of(Underrun) == []
    assert sim.session.backlog == 0


def test_other_formats_do_not_hold_the_audio_back() -> None:
    sim = conversation()
    sim.send(UpdateSession(session={"audio": {"output": {"format": {"type": "audio/pcmu"}}}}))
    sim.silence(400)
    sim.model.say(ms=2000)
    sim.silence(1500)
    assert sim.session.backlog == 0
    sim.silence(3000)
    law = AudioFormat("pcmu", 8000)
    heard = law.decode(sim.audio_of(sim.done()[0].response.id))
    assert len(heard) == pytest.approx(8 * (RULE.pre_roll + 2000 + RULE.quiet), abs=2)


def test_what_comes_late_and_at_once_is_paced_and_the_next_utterance_waits_for_it() -> None:
    sim = conversation()
    sim.silence(400)
    sim.model.say("one", ms=1600)
    sim.model.say("two", ms=1600, after_ms=1200)
    sim.stall(6000)
    sim.silence(6200)
    assert sim.session.backlog > 3
    sim.silence(9000)
    running = 0
    for _, output in sim.outputs:
        running += isinstance(output, ResponseCreated) - isinstance(output, ResponseDone)
        assert running in (0, 1)
    assert [done.transcript for done in sim.of(AudioTranscriptDone)] == ["one", "two"]
    for index in (0, 1):
        assert sim.audio_of(sim.of(ResponseCreated)[index].response.id) in sim.model.said
    for done in sim.done():
        frames = [(at, d) for at, d in sim.outputs if isinstance(d, AudioDelta) and d.response_id == done.response.id]
        sent = 0
        for at, delta in frames:
            assert sent / 48 - (at - frames[0][0]) / MS <= 400
            sent += len(delta.delta)


def test_a_reply_in_text_is_its_words_only() -> None:
    sim = conversation(config=SessionConfig(output_modalities=("text",)))
    sim.silence(400)
    sim.model.say(WORDS)
    sim.silence(3000)
    assert "".join(delta.delta for delta in sim.of(TextDelta)) == WORDS == sim.of(TextDone)[0].text
    assert sim.of(AudioDelta) == []
    assert sim.done()[0].response.status == "completed"
    assert len(sim.of(TurnMeasured)) == 1


def test_each_response_accounts_for_what_was_heard_since_the_one_before() -> None:
    sim = conversation()
    sim.silence(8000)
    sim.model.say("One.", lead_ms=0)
    sim.silence(4000)
    sim.model.say("Two.", lead_ms=0)
    sim.silence(4000)
    usages = [done.response.usage for done in sim.done()]
    heard = [usage.input_token_details.audio_tokens for usage in usages if usage is not None]
    assert heard == [pytest.approx((8000 + 2400) / 80, abs=2), pytest.approx(4000 / 80, abs=2)]


def test_an_endless_utterance_becomes_several_responses() -> None:
    sim = conversation(options=SessionOptions(longest_turn=10 * SECOND))
    sim.silence(400)
    sim.model.say(ms=24_000)
    sim.silence(27_000)
    done = sim.done()
    assert [d.response.status for d in done] == ["completed"] * 3
    joined = b"".join(sim.audio_of(d.response.id) for d in done)
    assert joined in sim.model.said
    assert len(joined) == 48 * (RULE.pre_roll + 24_000 + RULE.quiet)


@pytest.mark.parametrize("ms", [9760, 9840, 9920, 10_000])
def test_the_silence_after_the_longest_response_is_not_another(ms: int) -> None:
    sim = conversation(options=SessionOptions(longest_turn=10 * SECOND))
    sim.silence(400)
    sim.model.say(ms=ms)
    sim.silence(13_000)
    assert len(sim.of(ResponseCreated)) == 1
    sim.model.say(WORDS)
    sim.silence(4000)
    assert [done.transcript for done in sim.of(AudioTranscriptDone)] == ["", WORDS]


def test_an_utterance_of_which_nothing_more_comes_is_over() -> None:
    sim = replying()
    sim.wait(3000)
    assert [done.response.status for done in sim.done()] == ["completed"]
    assert not sim.session.busy
    sim.silence(6000)  # the model goes on when it hears again, and that is another response
    assert [done.response.status for done in sim.done()] == ["completed"] * 2


# --- the timeline ----------------------------------------------------------------------------------------------------


def latency(sim: Simulation, index: int = 0) -> dict[str, float]:
    metadata = sim.done()[index].response.metadata
    assert metadata is not None
    parts: dict[str, float] = json.loads(metadata["muse.latency"])
    assert parts["total_ms"] == pytest.approx(sum(ms for name, ms in parts.items() if name != "total_ms"), abs=0.5)
    return parts


def test_the_wait_is_from_the_user_s_last_word_to_the_first_sound() -> None:
    sim = conversation()
    sim.speak(960)
    ended = sim.now
    sim.model.say("Hi", ms=800, after_ms=240)
    sim.silence(3000)
    parts = latency(sim)
    first = next(
        at
        for at, delta in zip(sim.times(AudioDelta), sim.of(AudioDelta), strict=True)
        if float(PCM.decode(delta.delta).max()) > 0.01
    )
    assert parts["total_ms"] == pytest.approx((first - ended) / MS + RULE.pre_roll, abs=33)  # a voice frame
    assert {name: parts[f"{name}_ms"] for name in ("queue", "encode", "model", "decode")} == {
        "queue": 4.0,
        "encode": 5.0,
        "model": 15.0,
        "decode": 6.0,
    }
    assert parts["send_ms"] == RULE.pre_roll
    assert parts["endpointing_ms"] == pytest.approx(240 + 160 + 80, abs=33)
    assert parts["transcribe_ms"] == parts["voice_ms"] == 0


def test_the_way_between_gateway_and_engine_counts_as_waiting_for_it() -> None:
    sim = conversation()
    sim.model.delay_ms = 75
    sim.speak(960)
    sim.model.say(ms=800, after_ms=240)
    sim.silence(3000)
    assert latency(sim)["queue_ms"] == 4 + 45


def test_an_engine_that_does_not_say_what_it_had_heard_is_measured_too() -> None:
    sim = conversation()
    sim.speak(960)
    sim.silence(400)
    audio = np.full(1920, 0.1, dtype=np.float32)
    sim.inject(Speech(audio=audio, times=FRAME_TIMES))
    sim.silence(100)
    sim.wait(3000)
    parts = latency(sim)
    assert parts["endpointing_ms"] == pytest.approx(400 - 4 - 26, abs=33)
    assert parts["queue_ms"] == 4


def test_an_engine_that_speaks_before_the_user_has_ended_has_made_nobody_wait() -> None:
    sim = conversation()
    sim.model.delay_ms = 130
    sim.speak(960)
    sim.model.say(ms=800)
    sim.speak(960)
    sim.silence(3000)
    parts = latency(sim)
    assert parts["endpointing_ms"] == 0
    assert parts["total_ms"] == 130 + RULE.pre_roll


def test_a_second_utterance_that_nobody_asked_for_has_made_nobody_wait() -> None:
    sim = conversation()
    sim.speak(960)
    sim.model.say("One.", ms=800)
    sim.model.say("Two.", ms=800, after_ms=4000)
    sim.silence(9000)
    assert latency(sim, 0)["endpointing_ms"] > 100
    assert latency(sim, 1)["endpointing_ms"] == 0
    assert len(sim.of(TurnMeasured)) == 2


def test_an_utterance_of_a_single_frame_has_been_said() -> None:
    sim = conversation()
    sim.speak(960)
    sim.model.say(ms=80)
    sim.model.say(ms=800, after_ms=4000)
    sim.silence(9000)
    assert latency(sim, 0)["endpointing_ms"] > 40
    assert latency(sim, 1)["endpointing_ms"] == 0


def test_words_without_any_sound_are_measured_by_their_first_frame() -> None:
    sim = conversation()
    sim.silence(400)
    sim.model.say("Hm", ms=0, lead_ms=0)
    sim.silence(2000)
    assert latency(sim)["total_ms"] < 100


# --- turns are observed ----------------------------------------------------------------------------------------------


def test_a_turn_over_a_reply_is_told_when_the_reply_is_over() -> None:
    sim = replying(ms=3000)
    sim.speak(600)
    sim.silence(1000)
    assert sim.of(SpeechStarted) == []
    sim.silence(4000)
    names = [name for name in sim.types() if name.startswith(("response.done", "input_audio_buffer"))]
    assert names == [
        "response.done",
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
    ]
    (done,) = sim.done()
    assert done.response.status == "completed"
    started, stopped = sim.of(SpeechStarted)[0], sim.of(SpeechStopped)[0]
    assert stopped.audio_end_ms - started.audio_start_ms == pytest.approx(600 + 300, abs=64)


def test_a_model_that_yields_ends_its_reply_and_the_turn_goes_on() -> None:
    sim = replying(ms=20_000)
    sim.speak(400)
    sim.model.hush()
    sim.speak(2000)
    assert [done.response.status for done in sim.done()] == ["completed"]
    assert len(sim.of(SpeechStarted)) == 1
    assert sim.of(SpeechStopped) == []
    sim.silence(1500)
    assert len(sim.of(AudioCommitted)) == 1


def test_a_turn_that_the_model_answers_in_its_first_pause_ends_there() -> None:
    sim = conversation()
    sim.speak(960)
    sim.model.say("Yes?", ms=800)
    sim.silence(400)
    names = [name for name in sim.types() if name in ("input_audio_buffer.committed", "response.created")]
    assert names == ["input_audio_buffer.committed", "response.created"]


def test_a_turn_that_has_begun_before_the_reply_may_end_while_it_runs() -> None:
    sim = conversation()
    sim.speak(960)
    sim.model.say(ms=5000)
    sim.speak(960)
    sim.silence(1500)
    assert len(sim.of(ResponseCreated)) == 1
    assert sim.done() == []
    assert len(sim.of(SpeechStopped)) == len(sim.of(AudioCommitted)) == 1


def test_a_turn_is_not_held_for_longer_than_one_may_last() -> None:
    sim = conversation(options=SessionOptions(longest_turn=4 * SECOND))
    sim.silence(400)
    sim.model.delay_ms = 2000  # so that one reply always waits behind another
    sim.model.say(ms=30_000)
    sim.silence(3000)
    sim.model.delay_ms = 30
    sim.speak(20_000)
    assert len(sim.of(SpeechStarted)) >= 2


@pytest.mark.parametrize("setting", [SemanticVad(), ServerVad(), SemanticVad(create_response=False)])
@pytest.mark.parametrize("interrupts", [True, False])
def test_what_a_turn_may_do_to_a_reply_has_no_effect(setting: SemanticVad | ServerVad, interrupts: bool) -> None:
    turn_detection = replace(setting, interrupt_response=interrupts)
    sim = conversation(config=SessionConfig(audio=AudioConfig(input=AudioInput(turn_detection=turn_detection))))
    sim.silence(400)
    sim.model.say(ms=4000)
    sim.silence(1000)
    sim.speak(2000)
    sim.silence(6000)
    assert [done.response.status for done in sim.done()] == ["completed"]
    assert len(spoken(sim)) == 24 * (RULE.pre_roll + 4000 + RULE.quiet)
    assert float(spoken(sim)[1000 : 24 * 4000].min()) > 0.04  # nor is it softened
    assert len(sim.of(AudioCommitted)) == 1


def test_turns_are_items_with_their_audio_and_no_words() -> None:
    sim = conversation(
        config=SessionConfig(audio=AudioConfig(input=AudioInput(transcription=Transcription(model="any"))))
    )
    sim.speak(1000)
    sim.silence(1500)
    sim.send(RetrieveItem(item_id=sim.of(AudioCommitted)[0].item_id))
    item = sim.of(ItemRetrieved)[0].item
    assert isinstance(item, Message)
    (part,) = item.content
    assert isinstance(part, InputAudio)
    assert part.transcript is None
    assert len(part.audio or b"") > 48_000
    assert not any("transcription" in name for name in sim.types())


def test_an_engine_that_finds_words_is_asked_for_them() -> None:
    config = SessionConfig(audio=AudioConfig(input=AudioInput(transcription=Transcription(model="any"))))
    sim = Simulation(engine=replace(DUPLEX, transcribes=True), config=config)
    sim.speak(1000)
    sim.silence(1500)
    assert len(sim.of(Transcribe)) == 1
    assert [event.transcript for event in sim.of(TranscriptionCompleted)] == [sim.script.words]


def test_a_manual_commit_makes_an_item_and_nothing_else() -> None:
    sim = conversation(config=MANUAL)
    sim.speak(1000)
    sim.send(CommitAudio())
    sim.silence(1000)
    assert len(sim.of(AudioCommitted)) == 1
    assert sim.of(ResponseCreated) == []
    assert errors(sim) == []
    assert not sim.session.busy


def test_without_turn_detection_the_engine_hears_for_as_long_as_the_client_speaks() -> None:
    sim = conversation(config=MANUAL, options=SessionOptions(longest_turn=2 * SECOND))
    sim.speak(5000)
    assert errors(sim) == []
    assert sum(len(command.audio) for command in sim.of(HearAudio)) == 5 * 24_000
    sim.send(CommitAudio())
    sim.send(RetrieveItem(item_id=sim.of(AudioCommitted)[0].item_id))
    item = sim.of(ItemRetrieved)[0].item
    assert isinstance(item, Message)
    assert isinstance(item.content[0], InputAudio)
    assert len(item.content[0].audio or b"") == pytest.approx(2 * 48_000, abs=2000)


def test_a_commit_of_a_turn_that_is_held_makes_its_item() -> None:
    sim = replying()
    sim.speak(600)
    sim.send(CommitAudio())
    assert len(sim.of(AudioCommitted)) == 1
    sim.silence(6000)
    assert sim.of(SpeechStarted) == []
    assert sim.of(SpeechStopped) == []


# --- what a client may ask -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "param", "told"),
    [
        (CreateResponse(event_id="e"), "type", "speaks by itself"),
        (CreateResponse(response=ResponseParams(conversation="none"), event_id="e"), "type", "speaks by itself"),
        (
            CreateItem(item=Message(role="system", content=(InputText(text="x"),)), event_id="e"),
            "item",
            "session.instructions",
        ),
        (
            CreateItem(item=Message(role="user", content=(InputAudio(audio=tone(500)),)), event_id="e"),
            "item",
            "session.instructions",
        ),
    ],
)
def test_what_the_model_could_not_heed_is_refused_by_name(event: ClientEvent, param: str, told: str) -> None:
    sim = conversation()
    sim.silence(100)
    sim.send(event)
    assert errors(sim) == [("duplex_engine", param, "e")]
    assert told in sim.of(ErrorEvent)[0].error.message
    assert not any(name.startswith("conversation.item") for name in sim.types())


def test_a_language_that_the_model_lacks_is_refused_by_name() -> None:
    sim = conversation()
    sim.send(UpdateSession(session={"audio": {"input": {"transcription": {"language": "fr"}}}}))
    assert errors(sim) == [("invalid_value", "session.audio.input.transcription.language", None)]


def test_tools_are_refused_as_ever() -> None:
    sim = conversation()
    sim.send(UpdateSession(session={"tools": [{"type": "function", "name": "clock"}]}))
    assert errors(sim) == [("invalid_value", "session.tools", None)]


@pytest.mark.parametrize("stop", [CancelResponse(), ClearOutputAudio()])
def test_a_cancelled_utterance_is_not_heard_again_and_the_next_one_is(stop: ClientEvent) -> None:
    sim = replying(ms=4000)
    sim.send(stop)
    (done,) = sim.done()
    assert done.response.status_details is not None
    assert done.response.status_details.reason == "client_cancelled"
    cleared = [event.response_id for event in sim.of(OutputAudioCleared)]
    assert cleared == ([done.response.id] if isinstance(stop, ClearOutputAudio) else [])
    count = len(sim.of(AudioDelta))
    sim.silence(6000)
    assert len(sim.of(AudioDelta)) == count
    sim.model.say("Next.")
    sim.silence(4000)
    assert [d.response.status for d in sim.done()] == ["cancelled", "completed"]
    assert len(spoken(sim, 1)) == 24 * (RULE.pre_roll + 160 + 1600 + RULE.quiet)


def test_a_duplex_engine_is_not_told_of_a_cancelled_response() -> None:
    sim = replying()
    sim.send(CancelResponse())
    sim.silence(1000)
    assert sim.done()[0].response.status == "cancelled"
    assert sim.of(CancelReply) == []


def test_a_cancelled_utterance_stays_so_past_the_longest() -> None:
    sim = conversation(options=SessionOptions(longest_turn=3 * SECOND))
    sim.silence(400)
    sim.model.say(ms=10_000)
    sim.silence(1000)
    sim.send(CancelResponse())
    sim.silence(12_000)
    assert len(sim.of(ResponseCreated)) == 1


def test_cancelling_where_nothing_is_said_is_refused() -> None:
    sim = conversation()
    sim.silence(1000)
    sim.send(CancelResponse())
    assert errors(sim) == [("response_cancel_not_active", "response_id", None)]


def test_a_truncation_keeps_what_was_heard() -> None:
    sim = conversation()
    sim.silence(400)
    sim.model.say("one two three four five", lead_ms=0)
    sim.silence(4000)
    item_id = sim.done()[0].response.output[0].id or ""
    sent = len(spoken(sim)) // 24
    sim.send(TruncateItem(item_id=item_id, content_index=0, audio_end_ms=sent + 1))
    assert errors(sim) == [("invalid_value", "audio_end_ms", None)]
    sim.send(TruncateItem(item_id=item_id, content_index=0, audio_end_ms=RULE.pre_roll + 160))
    assert [cut.audio_end_ms for cut in sim.of(ItemTruncated)] == [RULE.pre_roll + 160]
    assert transcript(sim, item_id) == "one two"


def test_a_truncation_of_the_running_reply_ends_it() -> None:
    sim = replying()
    sim.send(TruncateItem(item_id=sim.of(AudioDelta)[0].item_id, content_index=0, audio_end_ms=500))
    sim.silence(6000)
    assert [done.response.status for done in sim.done()] == ["cancelled"]


# --- the session -----------------------------------------------------------------------------------------------------


def test_a_session_is_busy_while_a_reply_is_spoken() -> None:
    sim = replying(ms=2000)
    assert sim.session.busy
    sim.silence(3000)
    assert not sim.session.busy


def test_a_lost_engine_fails_the_reply_and_closes() -> None:
    sim = replying()
    sim.inject(EngineLost(message="The worker is gone."))
    (done,) = sim.done()
    assert done.response.status == "failed"
    assert [error[0] for error in errors(sim)] == ["engine_lost"]
    assert [(close.code, close.reason) for close in sim.of(CloseSession)] == [(1011, "The worker is gone.")]
    count = len(sim.outputs)
    sim.inject(Speech(audio=np.full(1920, 0.1, dtype=np.float32), text="late"))
    sim.send(AppendAudio(audio=tone(100)))
    assert len(sim.outputs) == count
    assert sim.session.next_timeout() is None


def test_a_lost_engine_leaves_no_reply_that_nobody_was_told_of() -> None:
    sim = conversation()
    sim.silence(400)
    sim.model.say("one", ms=800)
    sim.model.say("two", ms=800, after_ms=1200)
    sim.stall(5000)
    sim.silence(5100)
    sim.inject(EngineLost(message="gone"))
    assert len(sim.of(ResponseCreated)) == len(sim.done()) == 1
    assert not sim.session.busy


def test_the_longest_session_ends_the_reply() -> None:
    sim = conversation(options=SessionOptions(longest=5 * SECOND, warning=SECOND))
    sim.silence(400)
    sim.model.say(ms=9000)
    sim.silence(6000)
    assert [done.response.status for done in sim.done()] == ["failed"]
    assert sim.session.closed


def test_no_silence_is_too_long_for_an_engine_that_cannot_be_asked_to_break_it() -> None:
    setting = ServerVad(idle_timeout_ms=1000)
    sim = conversation(config=SessionConfig(audio=AudioConfig(input=AudioInput(turn_detection=setting))))
    sim.model.say("Hi")
    sim.silence(10_000)
    assert len(sim.done()) == 1
    assert sim.of(IdleTimeout) == []


def test_a_silent_client_is_closed_as_ever() -> None:
    sim = conversation(options=SessionOptions(idle=3 * SECOND))
    sim.silence(100)
    sim.wait(4000)
    assert sim.session.closed


def test_speech_of_an_engine_that_is_not_duplex_is_dropped() -> None:
    sim = Simulation()
    sim.inject(Speech(audio=np.full(1920, 0.1, dtype=np.float32), text="what"))
    assert sim.of(ResponseCreated) == []


def test_a_duplex_engine_cannot_end_a_response_by_its_name() -> None:
    sim = replying()
    response_id = sim.of(ResponseCreated)[0].response.id
    sim.inject(ReplyEnded(response_id=response_id, reason="completed", input_tokens=0, output_tokens=0))
    sim.silence(200)
    assert sim.done() == []


def test_the_session_says_what_holds_and_not_what_stock_clients_ask_for() -> None:
    asked = {"turn_detection": {"type": "server_vad", "create_response": True}, "transcription": {"model": "whisper-1"}}
    sim = conversation()
    sim.send(UpdateSession(session={"audio": {"input": asked}}))
    [updated] = sim.of(SessionUpdated)
    heard = updated.session.audio.input
    assert isinstance(heard.turn_detection, ServerVad)
    assert (heard.turn_detection.create_response, heard.turn_detection.interrupt_response) == (False, False)
    assert heard.transcription is None
