import json
from dataclasses import replace

import numpy as np
import pytest

from streaming import conversation
from streaming.audio import AudioFormat
from streaming.client_events import (
    AppendAudio,
    CancelResponse,
    ClearAudio,
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
    SemanticVad,
    ServerVad,
    SessionConfig,
    Transcription,
)
from streaming.core import MS, SECOND, SessionOptions
from streaming.engine import (
    CancelReply,
    EngineLost,
    ReplyAudio,
    ReplyFailed,
    ReplyText,
    ReplyToolCall,
    StartReply,
    Transcribe,
    Transcript,
    TranscriptFailed,
)
from streaming.errors import PeerError
from streaming.items import InputAudio, InputText, Message, OutputAudio
from streaming.observations import (
    BargeInMeasured,
    CloseSession,
    SpeculationEnded,
    TurnMeasured,
    Underrun,
)
from streaming.server_events import (
    AudioCommitted,
    AudioDelta,
    BargeInProgress,
    ErrorEvent,
    IdleTimeout,
    ItemDeleted,
    ItemRetrieved,
    ItemTruncated,
    Notice,
    OutputAudioCleared,
    ResponseCreated,
    SessionUpdated,
    SpeechStarted,
    SpeechStopped,
    TextDelta,
    TextDone,
    TranscriptionCompleted,
    TranscriptionFailed,
)
from tests.streaming.simulation import (
    CAPTIONS,
    MANUAL,
    PCM,
    Script,
    Simulation,
    errors,
    reply_level,
    reply_under_way,
    say,
    transcript,
    turn,
)

NAMED = {"type": "function", "name": "f"}


def tone(ms: int) -> bytes:
    return PCM.encode(np.full(24 * ms, 0.1, dtype=np.float32))


# --- a turn ----------------------------------------------------------------------------------------------------------


def test_the_events_of_a_turn_come_in_the_order_of_the_protocol() -> None:
    sim = Simulation(config=CAPTIONS)
    turn(sim, silence=3000)
    seen = [name for name in sim.types() if "." in name]
    order = list(dict.fromkeys(seen))
    assert order == [
        "session.created",
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "conversation.item.input_audio_transcription.delta",
        "conversation.item.input_audio_transcription.completed",
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
    assert done.response.usage is not None
    assert done.response.usage.output_token_details.audio_tokens == 25
    assert len(sim.audio_of(done.response.id)) == 2 * 24_000 * 2


def test_event_ids_are_unique_and_items_are_linked() -> None:
    sim = Simulation(config=CAPTIONS)
    turn(sim, silence=3000)
    turn(sim, silence=3000)
    ids = [event_id for _, o in sim.outputs if (event_id := getattr(o, "event_id", None))]
    assert len(ids) == len(set(ids))
    commits = sim.of(AudioCommitted)
    assert commits[0].previous_item_id is None
    assert commits[1].previous_item_id == sim.done()[0].response.output[0].id


def test_the_latency_is_in_the_response_and_adds_up() -> None:
    sim = Simulation()
    turn(sim, silence=3000)
    (measured,) = sim.of(TurnMeasured)
    metadata = sim.done()[0].response.metadata
    assert metadata is not None
    parts = json.loads(metadata["muse.latency"])
    assert parts.pop("total_ms") == pytest.approx(sum(parts.values()), abs=0.5)
    assert measured.latency.total == sum(length for _, length in measured.latency.parts)
    assert 100 * MS < measured.latency.total < 400 * MS


def test_the_reply_starts_on_speculation_and_is_used() -> None:
    sim = Simulation()
    turn(sim)
    (start,) = sim.of(StartReply)
    assert start.provisional
    assert start.messages[-1].text is None
    assert sim.times(StartReply)[0] < sim.times(SpeechStopped)[0]
    assert [end.used for end in sim.of(SpeculationEnded)] == [True]


def test_a_pause_in_mid_turn_throws_the_speculation_away() -> None:
    sim = Simulation(script=Script(turn_end=0.02))
    sim.speak(600)
    sim.silence(300)
    sim.speak(600)
    assert [end.used for end in sim.of(SpeculationEnded)] == [False]
    assert sim.of(ResponseCreated) == []
    sim.script.turn_end = 0.99
    sim.silence(700)
    assert len(sim.of(ResponseCreated)) == 1
    assert len(sim.of(SpeechStarted)) == 1
    revisions = [ask.revision for ask in sim.of(Transcribe)]
    assert revisions == [1, 2]


def test_without_speculation_a_turn_is_answered_too() -> None:
    config = SessionConfig(audio=AudioConfig(input=AudioInput(turn_detection=ServerVad(silence_duration_ms=100))))
    sim = Simulation(config=config)
    turn(sim)
    assert len(sim.of(ResponseCreated)) == 1


def test_no_response_is_created_where_the_client_wants_none() -> None:
    config = SessionConfig(audio=AudioConfig(input=AudioInput(turn_detection=SemanticVad(create_response=False))))
    sim = Simulation(config=config)
    turn(sim)
    assert len(sim.of(AudioCommitted)) == 1
    assert sim.of(StartReply) == []


def test_the_reply_is_paced_to_the_lead() -> None:
    sim = Simulation()
    turn(sim, silence=3000)
    times = sim.times(AudioDelta)
    sent = 0.0
    for at, delta in zip(times, sim.of(AudioDelta), strict=True):
        played = (at - times[0]) / 1e9
        assert sent - played <= 0.4 + 1e-6
        sent += len(delta.delta) / 48_000
    assert sim.of(Underrun) == []


def test_the_conversation_so_far_is_the_next_reply_s_context() -> None:
    sim = Simulation()
    turn(sim, silence=3000)
    turn(sim, silence=3000)
    context = sim.of(StartReply)[-1].messages
    assert [(m.role, m.text) for m in context] == [
        ("user", "what time is it"),
        ("assistant", "It is noon. Time for lunch and a walk."),
        ("user", None),
    ]


# --- barge-in --------------------------------------------------------------------------------------------------------


def test_an_interruption_ducks_then_stops_within_a_frame() -> None:
    sim = reply_under_way()
    sim.script.words = "stop that please"
    onset = sim.now
    sim.speak(1200)
    (measured,) = sim.of(BargeInMeasured)
    assert measured.outcome == "interrupted"
    assert measured.ducked is not None
    assert measured.last_frame is not None
    assert measured.onset - onset <= 64 * MS
    assert measured.ducked - measured.onset <= 100 * MS
    assert measured.last_frame - measured.decided <= 40 * MS
    assert max(sim.times(AudioDelta)) <= measured.decided
    (done,) = sim.done()
    assert done.response.status == "cancelled"
    assert done.response.status_details is not None
    assert done.response.status_details.reason == "turn_detected"
    assert [c.response_id for c in sim.of(CancelReply)] == [done.response.id]


def test_after_an_interruption_the_conversation_holds_what_was_heard() -> None:
    sim = reply_under_way()
    sim.script.words = "stop that please"
    sim.speak(1200)
    sim.silence(700)
    heard = sim.of(StartReply)[-1].messages[1].text
    full = sim.script.reply
    assert heard
    assert full.startswith(heard)
    assert len(heard) < len(full) / 2


@pytest.mark.parametrize(("ms", "words"), [(120, ""), (400, "Mm-hmm."), (300, "Yeah, right.")])
def test_a_cough_or_an_mm_hmm_does_not_stop_the_reply(ms: int, words: str) -> None:
    sim = reply_under_way()
    sim.script.words = words
    commits = len(sim.of(AudioCommitted))
    sim.speak(ms)
    sim.silence(8000)
    assert [m.outcome for m in sim.of(BargeInMeasured)] == ["dismissed"]
    assert [d.response.status for d in sim.done()] == ["completed"]
    assert len(sim.of(AudioCommitted)) == commits
    assert len(sim.of(SpeechStarted)) == 1
    assert sim.of(Underrun) == []
    levels = {round(float(PCM.decode(d.delta)[-1]), 3) for d in sim.of(AudioDelta)}
    full = round(reply_level("resp_t_1"), 3)
    assert full in levels
    assert min(levels) == pytest.approx(full * 0.2, abs=0.002)
    assert round(float(PCM.decode(sim.of(AudioDelta)[-1].delta)[-1]), 3) == full


def test_one_word_that_means_something_stops_the_reply_and_is_answered() -> None:
    sim = reply_under_way()
    sim.script.words = "Stop."
    sim.speak(300)
    sim.silence(1000)
    assert [m.outcome for m in sim.of(BargeInMeasured)] == ["interrupted"]
    assert [d.response.status for d in sim.done()][:1] == ["cancelled"]
    assert len(sim.of(ResponseCreated)) == 2


def test_speech_is_told_only_once_it_is_an_interruption() -> None:
    sim = reply_under_way()
    before = len(sim.of(SpeechStarted))
    sim.script.words = "Stop."
    sim.speak(200)
    assert len(sim.of(SpeechStarted)) == before
    sim.silence(800)
    assert len(sim.of(SpeechStarted)) == before + 1
    names = sim.types()
    assert names.index("CancelReply") > names.index("input_audio_buffer.speech_started")


def test_a_client_that_ducks_by_itself_is_told_each_moment() -> None:
    sim = reply_under_way(options=SessionOptions(extensions=True))
    sim.script.words = "mm-hmm"
    sim.speak(400)
    sim.silence(600)
    sim.script.words = "wait a second"
    sim.speak(1200)
    assert [p.phase for p in sim.of(BargeInProgress)] == ["onset", "dismissed", "onset", "decided"]
    frames = np.concatenate([PCM.decode(delta.delta) for delta in sim.of(AudioDelta)])
    assert float(frames.min()) > 0.09


def test_a_user_who_goes_on_before_the_reply_is_heard_takes_the_turn_back() -> None:
    sim = Simulation(script=Script(first_audio_ms=900))
    sim.speak(800)
    sim.silence(440)
    assert len(sim.of(ResponseCreated)) == 1
    assert sim.of(AudioDelta) == []
    sim.speak(400)
    assert [d.response.status for d in sim.done()] == ["cancelled"]
    assert sim.of(BargeInMeasured) == []


@pytest.mark.parametrize("extensions", [False, True])
def test_speech_over_the_last_of_a_reply_cuts_what_was_not_heard(extensions: bool) -> None:
    sim = Simulation(options=SessionOptions(extensions=extensions))
    turn(sim, silence=200)
    while not sim.done():
        sim.silence(20)
    sim.speak(200)
    kept = transcript(sim, sim.done()[0].response.output[0].id)
    assert "It is noon." in kept
    assert not kept.endswith("walk.")
    cuts = [cut.audio_end_ms for cut in sim.of(ItemTruncated)]
    assert len(cuts) == extensions  # a stock client expects it only as an answer
    assert all(1600 <= cut < 2000 for cut in cuts)


def test_where_a_reply_may_not_be_interrupted_the_turn_is_answered_after_it() -> None:
    config = SessionConfig(audio=AudioConfig(input=AudioInput(turn_detection=SemanticVad(interrupt_response=False))))
    sim = Simulation(config=config, script=Script(seconds=4.0))
    turn(sim, silence=600)
    turn(sim, speech=800, silence=1200)
    assert len(sim.of(AudioCommitted)) == 2
    assert len(sim.of(ResponseCreated)) == 1
    sim.silence(3000)
    assert [d.response.status for d in sim.done()] == ["completed"]
    assert len(sim.of(ResponseCreated)) == 2


def test_a_reply_that_ends_under_the_user_s_speech_leaves_an_ordinary_turn() -> None:
    sim = Simulation(script=Script(seconds=2.0))
    turn(sim, silence=1700)
    assert sim.session.backlog < 0.4
    sim.script.words = ""
    sim.speak(600)
    sim.silence(800)
    assert next(d.response.status for d in sim.done()) == "completed"
    assert len(sim.of(AudioCommitted)) == 2


# --- the client's own events -----------------------------------------------------------------------------------------


def test_manual_turns() -> None:
    sim = Simulation(config=MANUAL)
    sim.speak(500)
    sim.send(CommitAudio())
    sim.send(CreateResponse())
    sim.wait(3000)
    assert sim.of(SpeechStarted) == []
    assert [d.response.status for d in sim.done()] == ["completed"]
    assert len(sim.of(Transcribe)[0].audio) == pytest.approx(8000, abs=200)


def test_a_written_turn_gets_a_written_reply() -> None:
    sim = Simulation()
    say(sim, "hello")
    sim.send(CreateResponse(response=ResponseParams(output_modalities=("text",))))
    sim.wait(500)
    assert not sim.of(StartReply)[0].speaks
    assert "".join(d.delta for d in sim.of(TextDelta)) == sim.script.reply == sim.of(TextDone)[0].text
    assert sim.of(AudioDelta) == []
    assert sim.done()[0].response.status == "completed"


def test_cancel_stops_at_once() -> None:
    sim = reply_under_way()
    sim.send(CancelResponse())
    (done,) = sim.done()
    assert done.response.status_details is not None
    assert done.response.status_details.reason == "client_cancelled"
    count = len(sim.of(AudioDelta))
    sim.silence(1000)
    assert len(sim.of(AudioDelta)) == count


def test_output_audio_clear_stops_and_says_so() -> None:
    sim = reply_under_way()
    sim.send(ClearOutputAudio())
    assert [c.response_id for c in sim.of(OutputAudioCleared)] == [sim.done()[0].response.id]


def test_a_truncation_keeps_the_words_that_were_heard() -> None:
    sim = reply_under_way()
    sim.send(CancelResponse())
    item_id = sim.done()[0].response.output[0].id or ""
    sim.send(TruncateItem(item_id=item_id, content_index=0, audio_end_ms=700))
    (cut,) = sim.of(ItemTruncated)
    assert cut.audio_end_ms == 700
    sim.send(RetrieveItem(item_id=item_id))
    item = sim.of(ItemRetrieved)[0].item
    assert isinstance(item, Message)
    (part,) = item.content
    assert isinstance(part, OutputAudio)
    assert part.audio is not None
    assert len(part.audio) == 700 * 48
    assert part.transcript is not None
    assert sim.script.reply.startswith(part.transcript)
    assert len(part.transcript) < 6


def test_what_the_client_has_not_heard_stays_unheard() -> None:
    sim = Simulation()
    turn(sim, silence=4000)
    item_id = sim.done()[0].response.output[0].id or ""
    for milliseconds in (500, 1900):
        sim.send(TruncateItem(item_id=item_id, content_index=0, audio_end_ms=milliseconds))
    assert [cut.audio_end_ms for cut in sim.of(ItemTruncated)] == [500, 500]
    assert transcript(sim, item_id) == "It is"


def test_a_truncation_of_the_running_reply_is_what_its_end_says() -> None:
    sim = reply_under_way(Script(seconds=4.0))
    item_id = next(delta.item_id for delta in sim.of(AudioDelta))
    sim.send(TruncateItem(item_id=item_id, content_index=0, audio_end_ms=400))
    (done,) = sim.done()
    (item,) = done.response.output
    assert isinstance(item, Message)
    assert item.content == (OutputAudio(transcript="It"),)
    assert transcript(sim, item_id) == "It"
    shown = sim.of(ItemRetrieved)[-1].item
    assert isinstance(shown, Message)
    assert isinstance(shown.content[0], OutputAudio)
    assert len(shown.content[0].audio or b"") == 400 * 48


def test_a_deleted_reply_leaves_no_audio_and_a_deleted_turn_no_words() -> None:
    sim = Simulation(config=CAPTIONS, script=Script(seconds=3.0, transcribe_ms=900))
    turn(sim, silence=900)
    sim.send(DeleteItem(item_id=sim.of(AudioCommitted)[0].item_id))
    reply_id = next(delta.item_id for delta in sim.of(AudioDelta))
    sim.send(DeleteItem(item_id=reply_id))
    sim.silence(4000)
    assert [done.response.status for done in sim.done()] == ["completed"]
    assert sim.of(TranscriptionCompleted) == []
    sim.send(CreateItem(item=Message(role="assistant", content=(OutputAudio(transcript="x"),), id=reply_id)))
    sim.send(RetrieveItem(item_id=reply_id))
    (shown,) = sim.of(ItemRetrieved)
    assert isinstance(shown.item, Message)
    assert shown.item.content == (OutputAudio(transcript="x"),)


def test_items_are_created_retrieved_and_deleted() -> None:
    sim = Simulation()
    say(sim, "second", "b")
    sim.send(
        CreateItem(item=Message(role="system", content=(InputText(text="first"),), id="a"), previous_item_id="root")
    )
    sim.send(CreateItem(item=Message(role="user", content=(InputAudio(audio=tone(500)),), id="c")))
    sim.wait(300)
    sim.send(RetrieveItem(item_id="c"))
    item = sim.of(ItemRetrieved)[0].item
    assert isinstance(item, Message)
    assert item.content == (InputAudio(audio=tone(500), transcript="what time is it"),)
    sim.send(DeleteItem(item_id="b"))
    assert [d.item_id for d in sim.of(ItemDeleted)] == ["b"]
    sim.send(CreateResponse())
    assert [(m.role, m.text) for m in sim.of(StartReply)[0].messages] == [
        ("system", "first"),
        ("user", "what time is it"),
    ]


def test_a_response_beside_the_conversation_leaves_no_trace_in_it() -> None:
    sim = reply_under_way()
    own = (Message(role="user", content=(InputText(text="sum up"),)),)
    params = ResponseParams(conversation="none", input=own, output_modalities=("text",), metadata={"topic": "summary"})
    sim.send(CreateResponse(response=params))
    sim.wait(400)
    beside = sim.done()[0].response
    assert beside.metadata is not None
    assert beside.metadata["topic"] == "summary"
    assert sim.session.backlog > 0  # the conversation's reply goes on
    item_id = beside.output[0].id or ""
    sim.send(RetrieveItem(item_id=item_id))
    assert errors(sim) == [("item_retrieve_invalid_item_id", "item_id", None)]


def test_clear_forgets_the_audio() -> None:
    sim = Simulation(config=MANUAL)
    sim.speak(500)
    sim.send(ClearAudio())
    sim.send(CommitAudio(event_id="e"))
    assert errors(sim) == [("input_audio_buffer_commit_empty", None, "e")]


def test_settings_merge_and_are_shown() -> None:
    sim = Simulation()
    patch = {"type": "realtime", "instructions": "Be brief.", "audio": {"input": {"transcription": {"model": "x"}}}}
    sim.send(UpdateSession(session=patch))
    (updated,) = sim.of(SessionUpdated)
    assert updated.session.instructions == "Be brief."
    assert updated.session.audio.input.transcription == Transcription(model="x")
    assert updated.session.audio.input.turn_detection == SemanticVad()


def test_g711_in_and_out() -> None:
    sim = Simulation()
    form = {"type": "audio/pcmu"}
    sim.send(UpdateSession(session={"audio": {"input": {"format": form}, "output": {"format": form}}}))
    law = AudioFormat("pcmu", 8000)
    rng = np.random.default_rng(1)
    for index in range(150):
        level = 0.1 if 20 <= index < 70 else 0.0
        sim.wait(20)
        sim.send(AppendAudio(audio=law.encode(rng.normal(0, level, 160).astype(np.float32))))
    sim.wait(3000)
    (done,) = sim.done()
    spoken = law.decode(sim.audio_of(done.response.id))
    assert len(spoken) == pytest.approx(16_000, abs=2)
    assert float(np.median(spoken)) == pytest.approx(reply_level(done.response.id), rel=0.05)


def test_function_calls_travel() -> None:
    engine = replace(Simulation().engine, tools=True)
    sim = Simulation(engine=engine, config=MANUAL)
    tool = {"type": "function", "name": "clock", "parameters": {"type": "object", "properties": {}}}
    sim.send(UpdateSession(session={"tools": [tool]}))
    say(sim, "what time is it")
    sim.send(CreateResponse())
    response_id = sim.of(StartReply)[0].response_id
    sim.inject(ReplyToolCall(response_id=response_id, call_id="call_1", name="clock", arguments="{}"))
    sim.wait(3000)
    assert [tool.name for tool in sim.of(StartReply)[0].tools] == ["clock"]
    (done,) = sim.done()
    assert [item.type for item in done.response.output] == ["message", "function_call"]
    assert "response.function_call_arguments.done" in sim.types()


# --- what can go wrong -----------------------------------------------------------------------------------------------


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


# --- whether a turn is open ------------------------------------------------------------------------------------------


def test_a_session_is_busy_from_the_first_voice_to_the_end_of_the_reply() -> None:
    sim = Simulation()
    busy = []
    for speech, silence in ((0, 500), (1000, 0), (0, 700), (0, 3000)):
        turn(sim, speech=speech, silence=silence)
        busy.append((sim.session.busy, len(sim.of(ResponseCreated)), len(sim.done())))
    assert busy == [(False, 0, 0), (True, 0, 0), (True, 1, 0), (False, 1, 1)]


def test_a_turn_that_gets_no_reply_is_over_when_it_is_committed() -> None:
    listens = SessionConfig(audio=AudioConfig(input=AudioInput(turn_detection=SemanticVad(create_response=False))))
    sim = Simulation(config=listens)
    turn(sim, silence=2000)
    assert sim.of(AudioCommitted)
    assert not sim.session.busy


def test_a_manual_turn_is_open_until_it_is_committed_and_again_with_a_response() -> None:
    sim = Simulation(config=MANUAL)
    busy = {}
    for event in (AppendAudio(audio=tone(500)), CommitAudio(), CreateResponse()):
        sim.send(event)
        busy[type(event)] = sim.session.busy
    assert busy == {AppendAudio: True, CommitAudio: False, CreateResponse: True}
    sim.wait(3000)
    assert not sim.session.busy


def test_a_closed_session_is_not_busy() -> None:
    sim = Simulation()
    sim.speak(1000)
    sim.inject(EngineLost(message="gone"))
    assert not sim.session.busy
