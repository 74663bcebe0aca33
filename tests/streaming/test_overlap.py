import numpy as np
import pytest

from streaming.client_events import (
    CancelResponse,
    ClearAudio,
    ClientEvent,
    CommitAudio,
    CreateResponse,
    DeleteItem,
    TruncateItem,
    UpdateSession,
)
from streaming.config import (
    AudioConfig,
    AudioInput,
    SemanticVad,
    ServerVad,
    SessionConfig,
)
from streaming.core import MS, SessionOptions
from streaming.engine import (
    CancelReply,
    StartReply,
    Transcribe,
    TranscriptFailed,
)
from streaming.observations import (
    BargeInMeasured,
    Underrun,
)
from streaming.server_events import (
    AudioCommitted,
    AudioDelta,
    BargeInProgress,
    ItemTruncated,
    OutputItemDone,
    ResponseCreated,
    SpeechStarted,
)
from tests.streaming.simulation import (
    PCM,
    Script,
    Simulation,
    reply_level,
    reply_under_way,
    transcript,
    turn,
)

EXTENDED = SessionOptions(extensions=True)
SEMANTIC_OFF = {"type": "semantic_vad", "interrupt_response": False}


def detection(setting: dict[str, object] | None) -> UpdateSession:
    return UpdateSession(session={"audio": {"input": {"turn_detection": setting}}})


def phases(sim: Simulation) -> list[str]:
    return [progress.phase for progress in sim.of(BargeInProgress)]


def outcomes(sim: Simulation) -> list[str]:
    return [measured.outcome for measured in sim.of(BargeInMeasured)]


def level(sim: Simulation) -> float:
    """How loud the newest frame ends, beside the reply at full strength."""
    delta = sim.of(AudioDelta)[-1]
    return float(PCM.decode(delta.delta)[-1]) / reply_level(delta.response_id)


def overlap(options: SessionOptions | None = None, *, seconds: float = 8.0) -> Simulation:
    """Somebody has begun to speak over a reply."""
    sim = reply_under_way(script=Script(seconds=seconds), options=options)
    sim.script.words = "stop that please"
    sim.speak(200)
    return sim


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


def test_an_utterance_that_is_not_judged_yet_is_joined_by_the_next() -> None:
    """The endpointer's silence is shorter than the wait for the words."""
    config = SessionConfig(audio=AudioConfig(input=AudioInput(turn_detection=ServerVad(silence_duration_ms=250))))
    sim = Simulation(config=config, script=Script(words="stop", seconds=9.0, transcribe_ms=900))
    turn(sim, speech=600, silence=3000)
    sim.speak(380)
    sim.silence(400)
    sim.speak(600)
    sim.silence(600)
    assert outcomes(sim) == ["interrupted"]
    assert 3200 < sim.of(SpeechStarted)[-1].audio_start_ms < 3400  # 300 ms before the first of the two
    assert len(sim.of(AudioCommitted)) == 2
    assert len(sim.of(Transcribe)[-1].audio) / 16_000 == pytest.approx(1.7, abs=0.2)


def test_a_turn_that_was_over_before_it_was_judged_is_answered_at_the_judgement() -> None:
    config = SessionConfig(audio=AudioConfig(input=AudioInput(turn_detection=ServerVad(silence_duration_ms=250))))
    sim = Simulation(config=config, script=Script(words="stop", seconds=9.0, transcribe_ms=300))
    turn(sim, speech=600, silence=3000)
    sim.speak(380)
    sim.silence(700)
    (measured,) = sim.of(BargeInMeasured)
    assert measured.outcome == "interrupted"
    assert sim.times(AudioCommitted)[-1] == sim.times(ResponseCreated)[-1] == measured.decided


def test_words_of_before_a_resumption_do_not_dismiss_what_follows() -> None:
    sim = reply_under_way(script=Script(seconds=12.0, transcribe_ms=320))
    sim.script.words = "okay"
    sim.speak(260)
    sim.silence(220)
    sim.speak(300)
    sim.script.words = "stop please"
    sim.speak(1000)
    sim.silence(1000)
    assert outcomes(sim) == ["interrupted"]
    assert sim.of(Transcribe)[-1].item_id == sim.of(AudioCommitted)[-1].item_id


@pytest.mark.parametrize(("ms", "outcome"), [(300, "dismissed"), (640, "interrupted")])
def test_words_that_cannot_be_found_leave_the_judgement_to_the_length(ms: int, outcome: str) -> None:
    sim = reply_under_way()
    sim.script.transcribe_ms = 60_000
    asked = len(sim.of(Transcribe))
    sim.speak(ms)
    sim.silence(300)
    for ask in sim.of(Transcribe)[asked:]:
        sim.inject(TranscriptFailed(item_id=ask.item_id, revision=ask.revision, message="no"))
    assert outcomes(sim) == [outcome]


@pytest.mark.parametrize("ms", [120, 300])
def test_a_microphone_that_stops_in_mid_overlap_does_not_leave_the_reply_soft(ms: int) -> None:
    sim = reply_under_way()
    sim.script.words = "mm-hmm"
    sim.speak(ms)
    sim.wait(400)
    assert level(sim) == pytest.approx(0.2, abs=0.01)
    sim.wait(2000)
    assert outcomes(sim) == ["dismissed"]
    assert level(sim) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("event", [CommitAudio(), ClearAudio(), detection(None), detection(SEMANTIC_OFF)])
@pytest.mark.parametrize("options", [SessionOptions(), EXTENDED])
def test_an_overlap_that_is_taken_away_lets_the_reply_play_on(event: ClientEvent, options: SessionOptions) -> None:
    sim = overlap(options)
    sim.send(event)
    sim.silence(200)
    assert phases(sim) == ["onset", "dismissed"] * options.extensions
    assert outcomes(sim) == []
    assert level(sim) == pytest.approx(1.0, abs=0.01)
    assert sim.done() == []


def test_a_client_is_told_that_the_reply_under_the_speech_has_ended() -> None:
    sim = reply_under_way(options=EXTENDED, script=Script(seconds=4.0))
    while sim.session.backlog > 0.5:
        sim.silence(20)
    sim.script.words = ""
    sim.speak(700)
    sim.silence(800)
    assert [done.response.status for done in sim.done()][:1] == ["completed"]
    assert phases(sim)[:2] == ["onset", "dismissed"]


def test_interruptions_that_are_switched_off_in_mid_overlap_leave_an_ordinary_turn() -> None:
    sim = overlap(seconds=6.0)
    sim.send(detection(SEMANTIC_OFF))
    sim.speak(1200)
    sim.silence(900)
    assert sim.done() == []
    assert len(sim.of(AudioCommitted)) == 2
    sim.silence(5000)
    assert [done.response.status for done in sim.done()] == ["completed"]
    assert len(sim.of(ResponseCreated)) == 2


# --- what was heard --------------------------------------------------------------------------------------------------


def nearly_heard() -> tuple[Simulation, str]:
    """The reply has been sent whole; the client still plays its end."""
    sim = Simulation(options=EXTENDED)
    turn(sim, silence=200)
    while not sim.done():
        sim.silence(20)
    return sim, sim.of(OutputItemDone)[0].item.id or ""


def test_a_reply_that_the_client_has_truncated_is_not_cut_again() -> None:
    sim, item_id = nearly_heard()
    sim.send(TruncateItem(item_id=item_id, content_index=0, audio_end_ms=500))
    kept = transcript(sim, item_id)
    sim.speak(200)
    assert len(sim.of(SpeechStarted)) == 2
    assert [cut.audio_end_ms for cut in sim.of(ItemTruncated)] == [500]
    assert transcript(sim, item_id) == kept == "It is"


def test_a_reply_that_was_cancelled_is_not_cut_again() -> None:
    sim = reply_under_way(options=EXTENDED)
    sim.send(CancelResponse())
    item_id = sim.done()[0].response.output[0].id or ""
    kept = transcript(sim, item_id)
    sim.speak(200)
    assert len(sim.of(SpeechStarted)) == 2
    assert sim.of(ItemTruncated) == []
    assert transcript(sim, item_id) == kept


def test_a_reply_that_was_deleted_is_not_cut() -> None:
    sim, item_id = nearly_heard()
    sim.send(DeleteItem(item_id=item_id))
    sim.speak(200)
    assert len(sim.of(SpeechStarted)) == 2
    assert sim.of(ItemTruncated) == []


def test_a_reply_is_cut_once() -> None:
    config = SessionConfig(
        audio=AudioConfig(input=AudioInput(turn_detection=ServerVad(silence_duration_ms=60, create_response=False)))
    )
    sim = Simulation(config=config, options=SessionOptions(extensions=True, lead=1000 * MS))
    sim.send(CreateResponse())
    while not sim.done():
        sim.silence(20)
    for _ in range(2):
        sim.speak(100)
        sim.silence(160)
    assert len(sim.of(SpeechStarted)) == 2
    assert len(sim.of(ItemTruncated)) == 1
