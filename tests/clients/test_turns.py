"""What a client makes of a turn's events."""

from __future__ import annotations

import pytest

from clients.turns import TurnCollector, latency_of
from streaming import server_events as events
from streaming.audio import AudioFormat
from streaming.server_events import Response, ResponseStatus, ServerEvent

STARTED = events.SpeechStarted(audio_start_ms=0, item_id="u", event_id="e")
STOPPED = events.SpeechStopped(audio_end_ms=500, item_id="u", event_id="e")
COMMITTED = events.AudioCommitted(item_id="u", previous_item_id=None, event_id="e")


def created(response: str) -> ServerEvent:
    return events.ResponseCreated(response=Response(id=response, status="in_progress"), event_id="e")


def done(response: str, status: ResponseStatus = "completed") -> ServerEvent:
    return events.ResponseDone(response=Response(id=response, status=status), event_id="e")


def text(delta: str) -> ServerEvent:
    return events.TextDelta(response_id="r", item_id="i", output_index=0, content_index=0, delta=delta, event_id="e")


def heard(item: str, words: str) -> ServerEvent:
    return events.TranscriptionCompleted(
        item_id=item, content_index=0, transcript=words, usage=events.DurationUsage(seconds=1), event_id="e"
    )


def collected(*turn: ServerEvent) -> TurnCollector:
    collector = TurnCollector(AudioFormat("pcm16", 24_000))
    for now, event in enumerate(turn):
        collector.receive(event, now=now)
    return collector


def test_a_turn_is_settled_when_nothing_is_under_way() -> None:
    whole: list[ServerEvent] = [STARTED, STOPPED, COMMITTED, created("r"), text("Hi"), done("r")]
    assert [collected(*whole[:length]).settled for length in range(7)] == [False] * 6 + [True]


def test_the_reply_to_a_pause_is_not_the_turns() -> None:
    first: list[ServerEvent] = [STARTED, STOPPED, COMMITTED, heard("a", "Well"), created("r1"), text("Yes?")]
    second: list[ServerEvent] = [
        STARTED,
        done("r1", "cancelled"),
        STOPPED,
        COMMITTED,
        heard("b", "hello"),
        created("r2"),
        text("Hi"),
    ]
    collector = collected(*first, *second)
    settled = [collector.settled]
    collector.receive(done("r2"), now=99)
    assert [*settled, collector.settled] == [False, True]
    turn = collector.turn(speech_ended=None, now=100)
    assert (turn.user_transcript, turn.reply_transcript, turn.status) == ("Well hello", "Hi", "completed")
    assert (turn.first_audio, turn.ended, turn.wait, len(turn.reply_audio)) == (None, 100, None, 0)


def test_speech_over_a_finished_reply_opens_the_turn_again() -> None:
    assert not collected(created("r"), done("r"), STARTED).settled


@pytest.mark.parametrize(
    "metadata", [None, {}, {"muse.latency": "?"}, {"muse.latency": "[1]"}, {"muse.latency": '{"total_ms":null}'}]
)
def test_latency_that_cannot_be_read_is_none(metadata: dict[str, str] | None) -> None:
    assert latency_of(Response(id="r", status="completed", metadata=metadata)) == {}
