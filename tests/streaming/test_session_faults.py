"""What a client, an engine or time can do wrong to a session, and what it makes of it."""

from dataclasses import replace

import numpy as np
import pytest

from streaming import conversation
from streaming.client_events import (
    AppendAudio,
    CancelResponse,
    ClearOutputAudio,
    ClientEvent,
    CommitAudio,
    CreateItem,
    CreateResponse,
    DeleteItem,
    ResponseParams,
    RetrieveItem,
    TruncateItem,
    UpdateSession,
)
from streaming.config import (
    AudioConfig,
    AudioInput,
    FunctionTool,
    NamedTool,
    ServerVad,
    SessionConfig,
)
from streaming.core import MS, SECOND, SessionOptions
from streaming.engine import (
    EngineLost,
    ReplyAudio,
    ReplyFailed,
    ReplyText,
    StartReply,
    Transcribe,
    Transcript,
    TranscriptFailed,
)
from streaming.errors import PeerError
from streaming.items import InputAudio, Message
from streaming.observations import (
    CloseSession,
)
from streaming.server_events import (
    AudioCommitted,
    AudioDelta,
    ErrorEvent,
    IdleTimeout,
    ItemTruncated,
    Notice,
    ResponseCreated,
    SessionUpdated,
    SpeechStarted,
    TranscriptionCompleted,
    TranscriptionFailed,
)
from tests.streaming.simulation import (
    CAPTIONS,
    ENGINE,
    MANUAL,
    Script,
    Simulation,
    errors,
    reply_under_way,
    say,
    tone,
    turn,
)

NAMED = {"type": "function", "name": "f"}


@pytest.mark.parametrize(
    ("event", "code", "param"),
    [
        (AppendAudio(audio=b"abc", event_id="e"), "invalid_audio", "audio"),
        (AppendAudio(audio=bytes(48_000 * 40), event_id="e"), "audio_too_fast", "audio"),
        (CommitAudio(event_id="e"), "input_audio_buffer_commit_empty", None),
        (CancelResponse(event_id="e"), "response_cancel_not_active", "response_id"),
        (CancelResponse(response_id="nope", event_id="e"), "response_cancel_not_active", "response_id"),
        (ClearOutputAudio(event_id="e"), "response_cancel_not_active", "response_id"),
        (RetrieveItem(item_id="nope", event_id="e"), "item_retrieve_invalid_item_id", "item_id"),
        (DeleteItem(item_id="nope", event_id="e"), "item_delete_invalid_item_id", "item_id"),
        (
            TruncateItem(item_id="nope", content_index=0, audio_end_ms=1, event_id="e"),
            "item_truncate_invalid_item_id",
            "item_id",
        ),
        (UpdateSession(session={"output_modalities": []}, event_id="e"), "invalid_value", "session.output_modalities"),
        (
            UpdateSession(session={"audio": {"input": {"format": {"type": "audio/pcm", "rate": 16000}}}}, event_id="e"),
            "invalid_value",
            "session.audio.input.format.rate",
        ),
        (
            UpdateSession(session={"tools": [{"type": "function", "name": "f"}]}, event_id="e"),
            "invalid_value",
            "session.tools",
        ),
        (
            UpdateSession(session={"audio": {"input": {"transcription": {"language": "fi"}}}}, event_id="e"),
            "invalid_value",
            "session.audio.input.transcription.language",
        ),
        (UpdateSession(session={"audio": {"output": {"voice": "zed"}}}, event_id="e"), "invalid_value", None),
        (
            CreateItem(item=Message(role="user", content=()), previous_item_id="nope", event_id="e"),
            "item_not_found",
            "previous_item_id",
        ),
        (
            CreateItem(item=Message(role="user", content=(InputAudio(audio=tone(120_500)),)), event_id="e"),
            "audio_too_long",
            "item.content",
        ),
        (
            CreateItem(item=Message(role="user", content=(InputAudio(audio=tone(20)),) * 2), event_id="e"),
            "invalid_value",
            "item.content",
        ),
        (UpdateSession(session={"tool_choice": NAMED}, event_id="e"), "invalid_value", "session.tool_choice"),
        (
            CreateResponse(response=ResponseParams(tool_choice=NamedTool(name="f")), event_id="e"),
            "invalid_value",
            "response.tool_choice",
        ),
        (
            CreateResponse(response=ResponseParams(tools=(FunctionTool(name="f"),)), event_id="e"),
            "invalid_value",
            "response.tools",
        ),
        (
            CreateResponse(response=ResponseParams(output_modalities=("audio", "text")), event_id="e"),
            "invalid_value",
            "response.output_modalities",
        ),
        (
            CreateResponse(
                response=ResponseParams(input=(Message(role="user", content=(InputAudio(audio=tone(20)),)),)),
                event_id="e",
            ),
            "invalid_value",
            "response.input",
        ),
    ],
)
def test_a_bad_event_gets_its_error_and_the_session_goes_on(event: ClientEvent, code: str, param: str | None) -> None:
    sim = Simulation()
    sim.send(event)
    (error,) = sim.of(ErrorEvent)
    assert (error.error.code, error.error.event_id) == (code, "e")
    assert param is None or error.error.param == param
    turn(sim, silence=3000)
    assert [d.response.status for d in sim.done()] == ["completed"]


def test_a_race_that_a_cancel_lost_is_told_in_words_that_livekit_knows() -> None:
    sim = Simulation()
    sim.send(CancelResponse())
    (error,) = sim.of(ErrorEvent)
    assert error.error.message.startswith("Cancellation failed")


def test_an_id_that_the_session_has_promised_is_taken() -> None:
    sim = Simulation(script=Script(first_audio_ms=500))
    sim.speak(300)
    say(sim, "mine", sim.of(SpeechStarted)[0].item_id)
    sim.silence(500)
    (start,) = sim.of(StartReply)
    say(sim, "mine too", f"item_t_{int(start.response_id.rpartition('_')[2]) + 2}")
    sim.silence(4000)
    assert [code for code, _, _ in errors(sim)] == ["item_id_taken"] * 2
    assert [done.response.status for done in sim.done()] == ["completed"]


def test_the_session_names_nothing_as_the_client_has_done() -> None:
    sim = Simulation()
    for number in range(3, 9):
        say(sim, "mine", f"item_t_{number}")
    turn(sim, silence=3500)
    turn(sim, silence=3500)
    assert errors(sim) == []
    ids = [event.item_id for event in sim.of(AudioCommitted)] + [d.response.output[0].id for d in sim.done()]
    assert len(set(ids)) == 4
    assert not set(ids) & {f"item_t_{number}" for number in range(3, 9)}


def test_a_client_that_has_filled_the_conversation_is_still_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "MOST_ITEMS", 3)
    sim = Simulation()
    for number in range(4):
        say(sim, "mine", f"mine_{number}")
    turn(sim, silence=3500)
    assert [code for code, _, _ in errors(sim)] == ["conversation_full"]
    assert [done.response.status for done in sim.done()] == ["completed"]
    sim.send(RetrieveItem(item_id="mine_0"))
    assert errors(sim)[-1][0] == "item_retrieve_invalid_item_id"


def test_a_reply_that_finds_no_room_is_told_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "MOST_TEXT", 300)
    sim = Simulation(config=MANUAL)
    sim.send(CreateResponse())
    sim.wait(500)
    say(sim, "x" * 200)
    sim.wait(3000)
    (done,) = sim.done()
    assert done.response.status == "completed"
    sim.send(RetrieveItem(item_id=done.response.output[0].id or ""))
    assert errors(sim) == [("item_retrieve_invalid_item_id", "item_id", None)]


def test_a_refused_update_changes_nothing() -> None:
    sim = Simulation()
    sim.send(UpdateSession(session={"instructions": "new", "audio": {"output": {"voice": "zed"}}}))
    sim.send(UpdateSession(session={}))
    (updated,) = sim.of(SessionUpdated)
    assert updated.session.instructions == ""


def test_a_second_response_is_refused_and_the_first_is_intact() -> None:
    sim = reply_under_way()
    sim.send(CreateResponse(event_id="e"))
    assert errors(sim) == [("conversation_already_has_active_response", "response", "e")]
    sim.silence(8000)
    (done,) = sim.done()
    assert len(sim.audio_of(done.response.id)) == 8 * 48_000


def test_truncating_past_what_can_have_been_heard_is_refused() -> None:
    sim = reply_under_way()
    item_id = next(d.item_id for d in sim.of(AudioDelta))
    sim.send(TruncateItem(item_id=item_id, content_index=0, audio_end_ms=7000, event_id="e"))
    assert errors(sim) == [("invalid_value", "audio_end_ms", "e")]
    assert sim.of(ItemTruncated) == []


def test_the_voice_is_fixed_once_heard() -> None:
    sim = Simulation(engine=replace(Simulation().engine, voices=("joe", "amy")))
    sim.send(UpdateSession(session={"audio": {"output": {"voice": "amy"}}}))
    turn(sim, silence=3000)
    assert sim.of(StartReply)[0].voice == "amy"
    sim.send(UpdateSession(session={"audio": {"output": {"voice": "joe"}}}, event_id="e"))
    assert errors(sim) == [("cannot_update_voice", "session.audio.output.voice", "e")]


def test_the_voice_stays_fixed_after_a_reply_in_writing() -> None:
    sim = Simulation(engine=replace(Simulation().engine, voices=("joe", "amy")))
    turn(sim, silence=3000)
    sim.send(CreateResponse(response=ResponseParams(output_modalities=("text",))))
    sim.wait(500)
    sim.send(UpdateSession(session={"audio": {"output": {"voice": "amy"}}}))
    assert errors(sim) == [("cannot_update_voice", "session.audio.output.voice", None)]


def test_usage_is_told_of_a_reply_that_was_stopped() -> None:
    sim = Simulation(script=Script(first_audio_ms=2000))
    turn(sim, silence=1500)
    sim.send(CancelResponse())
    (done,) = sim.done()
    assert done.response.usage is not None
    assert done.response.usage.total_tokens == 0


def test_a_message_that_was_no_event_is_answered() -> None:
    sim = Simulation()
    sim.session.refuse(PeerError("not JSON", code="invalid_json", event_id="e"), now=sim.now)
    sim.wait(0)
    sim.silence(20)
    assert errors(sim) == [("invalid_json", None, "e")]


def test_a_failing_engine_fails_the_response_only() -> None:
    sim = Simulation(config=MANUAL)
    say(sim, "hello")
    sim.send(CreateResponse())
    failed = ReplyFailed(response_id=sim.of(StartReply)[0].response_id, code="oom", message="out of memory")
    sim.inject(failed)
    sim.wait(2000)
    (done,) = sim.done()
    assert done.response.status == "failed"
    assert done.response.status_details is not None
    assert done.response.status_details.error is not None
    assert done.response.status_details.error.code == "oom"
    sim.send(CreateResponse())
    sim.wait(3000)
    assert [d.response.status for d in sim.done()] == ["failed", "completed"]


def test_a_lost_engine_ends_the_session_with_a_reason() -> None:
    sim = reply_under_way()
    sim.inject(EngineLost(message="the worker is gone"))
    sim.wait(100)
    assert [d.response.status for d in sim.done()] == ["failed"]
    assert [(c.code, c.reason) for c in sim.of(CloseSession)] == [(1011, "the worker is gone")]


def test_words_that_could_not_be_found_are_told() -> None:
    sim = Simulation(config=CAPTIONS, script=Script(transcribe_ms=10_000))
    turn(sim)
    ask = sim.of(Transcribe)[-1]
    sim.inject(TranscriptFailed(item_id=ask.item_id, revision=ask.revision, message="no"))
    sim.wait(20)
    assert [f.error.message for f in sim.of(TranscriptionFailed)] == ["no"]


def test_late_events_of_other_responses_and_items_are_dropped() -> None:
    sim = Simulation()
    sim.inject(ReplyText(response_id="resp_x", text="boo"))
    audio = np.ones(960, dtype=np.float32)
    sim.inject(ReplyAudio(response_id="resp_x", audio=audio, text_end=3))
    sim.inject(Transcript(item_id="item_x", revision=1, text="boo"))
    sim.wait(100)
    assert sim.types() == ["session.created"]


def test_an_idle_session_ends_the_reply_that_it_is_closed_under() -> None:
    sim = Simulation(config=MANUAL, options=SessionOptions(idle=2 * SECOND), script=Script(seconds=5.0))
    say(sim, "hello")
    sim.send(CreateResponse())
    sim.wait(6000)
    (done,) = sim.done()
    assert done.response.status == "failed"
    assert sim.types().index("response.done") < sim.types().index("CloseSession")


def test_an_idle_session_is_closed() -> None:
    sim = Simulation(options=SessionOptions(idle=30 * SECOND))
    sim.wait(29_000)
    assert sim.of(CloseSession) == []
    sim.wait(2000)
    assert [c.code for c in sim.of(CloseSession)] == [1000]
    sim.send(CommitAudio())
    assert sim.types()[-1] == "CloseSession"


@pytest.mark.parametrize("extensions", [False, True])
def test_a_long_session_is_warned_then_closed(extensions: bool) -> None:
    options = SessionOptions(idle=None, longest=120 * SECOND, warning=20 * SECOND, extensions=extensions)
    sim = Simulation(options=options)
    sim.wait(101_000)
    assert [notice.code for notice in sim.of(Notice)] == ["session_expiring"] * extensions
    sim.wait(20_000)
    assert [notice.code for notice in sim.of(Notice)] == ["session_expiring", "session_expired"] * extensions
    (close,) = sim.of(CloseSession)
    assert (close.code, close.reason) == (1000, "the session has reached its longest duration")
    assert sim.of(ErrorEvent) == []  # stock clients take any error for the end


def test_a_silent_user_is_asked_after() -> None:
    config = SessionConfig(audio=AudioConfig(input=AudioInput(turn_detection=ServerVad(idle_timeout_ms=3000))))
    sim = Simulation(config=config, options=SessionOptions(idle=None))
    turn(sim, silence=13_000)
    assert len(sim.of(IdleTimeout)) == 2
    assert "still there" in sim.of(StartReply)[1].instructions
    assert len(sim.of(ResponseCreated)) == 3


def test_an_engine_that_heeds_no_instructions_is_not_asked_to_break_a_silence() -> None:
    config = SessionConfig(audio=AudioConfig(input=AudioInput(turn_detection=ServerVad(idle_timeout_ms=3000))))
    sim = Simulation(config=config, engine=replace(ENGINE, instructed=False))
    turn(sim, silence=13_000)
    assert sim.of(IdleTimeout) == []
    assert len(sim.of(StartReply)) == len(sim.of(ResponseCreated)) == 1


def test_the_prompt_to_a_silent_user_is_not_an_answer_to_the_silence() -> None:
    config = SessionConfig(audio=AudioConfig(input=AudioInput(turn_detection=ServerVad(idle_timeout_ms=3000))))
    sim = Simulation(config=config)
    turn(sim, silence=7000)
    assert [(m.role, m.text) for m in sim.of(StartReply)[-1].messages] == [
        ("user", "what time is it"),
        ("assistant", sim.script.reply),
    ]


def test_silence_is_counted_from_the_user_s_own_turn_as_well() -> None:
    setting = ServerVad(idle_timeout_ms=3000, create_response=False)
    sim = Simulation(config=SessionConfig(audio=AudioConfig(input=AudioInput(turn_detection=setting))))
    sim.send(CreateResponse())
    sim.silence(4000)
    sim.speak(2000)
    spoken = sim.now
    sim.silence(2800)
    assert sim.of(IdleTimeout) == []
    sim.silence(400)
    (at,) = sim.times(IdleTimeout)
    assert at - spoken == pytest.approx(3 * SECOND, abs=60 * MS)


def test_transcripts_are_told_only_where_they_are_wanted() -> None:
    for config, count in ((CAPTIONS, 1), (SessionConfig(), 0)):
        sim = Simulation(config=config)
        turn(sim)
        assert len(sim.of(TranscriptionCompleted)) == count


def test_the_manual_buffer_is_bounded() -> None:
    sim = Simulation(config=MANUAL, options=SessionOptions(longest_turn=5 * SECOND))
    sim.speak(5200)
    assert {code for code, _, _ in errors(sim)} == {"input_audio_buffer_full"}
    sim.send(CommitAudio())
    assert len(sim.of(AudioCommitted)) == 1
