import json
from dataclasses import replace

import numpy as np
import pytest

from streaming.audio import AudioFormat
from streaming.client_events import (
    AppendAudio,
    CancelResponse,
    ClearAudio,
    ClearOutputAudio,
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
    SemanticVad,
    ServerVad,
    SessionConfig,
    Transcription,
)
from streaming.core import MS
from streaming.engine import (
    EngineLost,
    ReplyToolCall,
    StartReply,
    Transcribe,
)
from streaming.items import InputAudio, InputText, Message, OutputAudio
from streaming.observations import (
    SpeculationEnded,
    TurnMeasured,
    Underrun,
)
from streaming.server_events import (
    AudioCommitted,
    AudioDelta,
    ItemDeleted,
    ItemRetrieved,
    ItemTruncated,
    OutputAudioCleared,
    ResponseCreated,
    SessionUpdated,
    SpeechStarted,
    SpeechStopped,
    TextDelta,
    TextDone,
    TranscriptionCompleted,
)
from tests.streaming.simulation import (
    CAPTIONS,
    MANUAL,
    Script,
    Simulation,
    errors,
    reply_level,
    reply_under_way,
    say,
    tone,
    transcript,
    turn,
)

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
