import json

import numpy as np
import pytest

from streaming.client_events import (
    AppendAudio,
    CancelResponse,
    ClientEvent,
    CommitAudio,
    CreateItem,
    CreateResponse,
    DeleteItem,
    ResponseParams,
    TruncateItem,
    UpdateSession,
)
from streaming.config import AudioConfig, AudioInput, SemanticVad, ServerVad, SessionConfig, Transcription
from streaming.engine import (
    CancelReply,
    ConfirmReply,
    DetectVoice,
    ReplyFailed,
    StartReply,
    Transcribe,
    VoiceProbability,
)
from streaming.items import InputText, Message
from streaming.observations import SpeculationEnded
from streaming.server_events import (
    AudioCommitted,
    OutputItemDone,
    ResponseCreated,
    ResponseDone,
    SpeechStarted,
    SpeechStopped,
    TranscriptionCompleted,
)
from tests.streaming.simulation import PCM, Script, Simulation, say, turn

PATIENT = ServerVad(silence_duration_ms=500)
"""Leaves time between the guess at a turn's end and the end."""


def detection(setting: dict[str, object] | None) -> UpdateSession:
    return UpdateSession(session={"audio": {"input": {"turn_detection": setting}}})


def config(setting: ServerVad | SemanticVad | None) -> SessionConfig:
    return SessionConfig(audio=AudioConfig(input=AudioInput(turn_detection=setting, transcription=Transcription())))


def guessing(script: Script | None = None) -> Simulation:
    """A user has paused, and the reply has begun on speculation."""
    sim = Simulation(config=config(PATIENT), script=script or Script())
    say(sim, "my name is Ada", "first")
    sim.speak(600)
    sim.silence(200)
    assert [start.provisional for start in sim.of(StartReply)] == [True]
    return sim


# --- a guess at the reply --------------------------------------------------------------------------------------------


def test_a_response_that_the_client_creates_replaces_the_guess() -> None:
    sim = guessing(Script(seconds=1.0))
    sim.send(CreateResponse())
    sim.silence(3000)
    assert sim.of(ConfirmReply) == []
    assert [end.used for end in sim.of(SpeculationEnded)] == [False]
    running: list[str] = []
    for event in (output for _, output in sim.outputs if isinstance(output, ResponseCreated | ResponseDone)):
        if isinstance(event, ResponseCreated):
            assert running == []
            running.append(event.response.id)
        else:
            running.remove(event.response.id)
    assert len(sim.done()) == 2  # the client's, then the turn's own


def test_a_response_that_came_and_went_is_known_to_the_turn_s_own() -> None:
    sim = guessing()
    sim.send(CreateResponse(response=ResponseParams(output_modalities=("text",))))
    sim.silence(600)
    assert [done.response.status for done in sim.done()] == ["completed"]
    reply = sim.of(StartReply)[-1]
    assert [confirm.response_id for confirm in sim.of(ConfirmReply)] == [reply.response_id]
    assert [message.text for message in reply.messages] == ["my name is Ada", sim.script.reply, None]


def test_a_response_beside_the_conversation_leaves_the_guess() -> None:
    sim = guessing()
    sim.send(CreateResponse(response=ResponseParams(conversation="none", output_modalities=("text",))))
    sim.silence(700)
    assert len(sim.of(ConfirmReply)) == 1


@pytest.mark.parametrize(
    ("event", "context"),
    [
        (UpdateSession(session={"instructions": "Be brief."}), ["my name is Ada", None]),
        (CreateItem(item=Message(role="user", content=(InputText(text="one more"),))), [..., "one more", None]),
        (DeleteItem(item_id="first"), [None]),
    ],
)
def test_a_guess_made_from_what_has_changed_is_made_again(event: ClientEvent, context: list[object]) -> None:
    sim = guessing()
    sim.send(event)
    sim.silence(600)
    old, new = sim.of(StartReply)
    assert [cancel.response_id for cancel in sim.of(CancelReply)] == [old.response_id]
    assert [confirm.response_id for confirm in sim.of(ConfirmReply)] == [new.response_id]
    expected = ["my name is Ada" if text is ... else text for text in context]
    assert [message.text for message in new.messages] == expected
    assert len(sim.of(Transcribe)) == 1  # nothing more has been said


def test_a_truncation_makes_the_guess_again() -> None:
    sim = Simulation(config=config(PATIENT))
    turn(sim, silence=3500)
    turn(sim, silence=200)
    item_id = sim.of(OutputItemDone)[0].item.id or ""
    sim.send(TruncateItem(item_id=item_id, content_index=0, audio_end_ms=600))
    sim.silence(600)
    reply = sim.of(StartReply)[-1]
    assert [confirm.response_id for confirm in sim.of(ConfirmReply)][-1] == reply.response_id
    assert reply.messages[1].text == "It is noon."


def test_a_guess_is_not_confirmed_once_turns_are_not_answered() -> None:
    sim = guessing()
    sim.send(detection({"type": "server_vad", "create_response": False}))
    sim.silence(700)
    assert len(sim.of(AudioCommitted)) == 1
    assert sim.of(ResponseCreated) == []


def test_a_guess_that_failed_is_made_afresh_at_the_turn_s_end() -> None:
    sim = guessing()
    sim.inject(ReplyFailed(response_id=sim.of(StartReply)[0].response_id, code="engine_overloaded", message="x"))
    sim.silence(200)
    assert len(sim.of(StartReply)) == 1  # an engine that has too much to do is not asked again and again
    sim.silence(3500)
    assert [start.provisional for start in sim.of(StartReply)] == [True, False]
    assert [done.response.status for done in sim.done()] == ["completed"]


def test_the_latency_of_a_guess_that_was_made_again_counts_from_the_last_word() -> None:
    sim = guessing()
    sim.send(UpdateSession(session={"instructions": "Be brief."}))
    sim.silence(3000)
    metadata = sim.done()[0].response.metadata
    assert metadata is not None
    assert json.loads(metadata["muse.latency"])["endpointing_ms"] == pytest.approx(530, abs=60)


# --- manual commits --------------------------------------------------------------------------------------------------


def test_a_manual_commit_after_a_guess_asks_for_the_words_as_a_later_revision() -> None:
    sim = guessing()
    sim.speak(600)
    sim.send(CommitAudio())
    sim.silence(400)
    item_id = sim.of(AudioCommitted)[0].item_id
    assert [(ask.item_id, ask.revision) for ask in sim.of(Transcribe)] == [(item_id, 1), (item_id, 2)]
    assert len(sim.of(TranscriptionCompleted)) == 1


def test_a_manual_commit_in_mid_speech_ends_the_speech_and_leaves_no_turn_behind() -> None:
    sim = Simulation(config=config(ServerVad()))
    sim.speak(500)
    rng = np.random.default_rng(1)
    tail = PCM.encode(rng.normal(0, 0.1, 24 * 300).astype(np.float32))
    late: list[VoiceProbability] = []
    real, sim._answer = sim._answer, lambda output: None  # type: ignore[method-assign]
    sim.send(AppendAudio(audio=tail))
    late = [VoiceProbability(end=frame.end, probability=0.95) for frame in sim.of(DetectVoice)[-9:]]
    sim.send(CommitAudio())
    sim._answer = real  # type: ignore[method-assign]
    for answer in late:  # a detector that is a few frames behind
        sim.inject(answer)
    sim.silence(2000)
    (stopped,) = sim.of(SpeechStopped)
    (committed,) = sim.of(AudioCommitted)
    assert stopped.item_id == committed.item_id
    assert sim.types().index("input_audio_buffer.speech_stopped") < sim.types().index("input_audio_buffer.committed")
    assert len(sim.of(SpeechStarted)) == 1


def test_a_manual_commit_between_turns_stops_no_speech() -> None:
    sim = Simulation(config=config(ServerVad()))
    sim.silence(400)
    sim.send(CommitAudio())
    assert len(sim.of(AudioCommitted)) == 1
    assert sim.of(SpeechStopped) == []


# --- an answer that is owed ------------------------------------------------------------------------------------------


def owing() -> Simulation:
    """A turn was committed under a reply that may not be interrupted."""
    sim = Simulation(config=config(ServerVad(interrupt_response=False)), script=Script(seconds=4.0))
    turn(sim, speech=600, silence=900)
    turn(sim, speech=600, silence=700)
    assert len(sim.of(AudioCommitted)) == 2
    assert len(sim.of(ResponseCreated)) == 1
    return sim


def test_cancelling_the_reply_cancels_what_is_owed() -> None:
    sim = owing()
    sim.send(CancelResponse())
    sim.wait(1000)
    assert len(sim.of(ResponseCreated)) == 1
    assert not sim.session.busy


def test_an_owed_answer_that_the_client_creates_comes_once() -> None:
    sim = owing()
    sim.send(CancelResponse())
    sim.send(CreateResponse())
    sim.wait(9000)
    assert len(sim.of(ResponseCreated)) == 2


@pytest.mark.parametrize("setting", [None, {"type": "server_vad", "create_response": False}])
def test_a_change_of_turn_detection_drops_what_is_owed(setting: dict[str, object] | None) -> None:
    sim = owing()
    sim.send(detection(setting))
    sim.wait(6000)
    assert len(sim.of(ResponseCreated)) == 1


def test_an_interruption_drops_what_is_owed() -> None:
    sim = Simulation(script=Script(seconds=6.0))
    sim.speak(400)
    say(sim, "hello")
    sim.send(CreateResponse())
    sim.speak(400)
    sim.silence(1000)
    sim.script.words = "no, wait a moment"
    sim.speak(1400)
    assert [done.response.status for done in sim.done()] == ["cancelled"]
    assert len(sim.of(ResponseCreated)) == 1
