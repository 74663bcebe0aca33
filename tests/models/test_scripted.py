import asyncio

import numpy as np
import pytest

from models.scripted import RATE, ScriptedEngine, ScriptedTurn, waveform
from streaming.engine import (
    CancelReply,
    ChatMessage,
    ConfirmReply,
    EngineEvent,
    ReplyAudio,
    ReplyEnded,
    ReplyFailed,
    ReplyStage,
    ReplyText,
    StartReply,
    Transcribe,
    Transcript,
    TranscriptFailed,
)
from tests.models import virtual_time


def start(response_id: str, item_id: str, *, provisional: bool = False, speaks: bool = True) -> StartReply:
    return StartReply(
        response_id=response_id,
        instructions="",
        messages=(ChatMessage(role="user", text=None, item_id=item_id),),
        speaks=speaks,
        voice="",
        provisional=provisional,
    )


def hear(item_id: str) -> Transcribe:
    return Transcribe(item_id=item_id, revision=1, audio=np.zeros(160, np.float32))


def play(script: list[ScriptedTurn], *commands: object, seconds: float = 60) -> list[EngineEvent]:
    """The events after each of `commands` was sent, a number being seconds to wait."""

    async def main() -> list[EngineEvent]:
        engine = ScriptedEngine(script, clock=virtual_time.now_ns, max_sessions=1)
        session = await engine.open("s")
        events: list[EngineEvent] = []

        async def read() -> None:
            events.extend([event async for event in session.events()])

        reader = asyncio.create_task(read())
        for command in commands:
            if isinstance(command, float):
                await asyncio.sleep(command)
            else:
                session.send(command)  # type: ignore[arg-type]
        await asyncio.sleep(seconds)
        await session.close()
        await reader
        return events

    return virtual_time.run(main())


def audio(events: list[EngineEvent]) -> list[np.ndarray]:
    return [event.audio for event in events if isinstance(event, ReplyAudio)]


def test_a_turn_is_answered_as_the_script_says() -> None:
    turn = ScriptedTurn(text="Hi there", seconds=0.6, heard="hello", transcribe=0.1, think=0.2, pace=0.4)
    events = play([turn], hear("i"), start("r", "i"))
    assert events[0] == Transcript(item_id="i", revision=1, text="hello")
    stages = {event.stage: event.at / 1e9 for event in events if isinstance(event, ReplyStage)}
    assert stages == pytest.approx({"transcribe": 0.1, "first_token": 0.3, "first_audio": 0.4})
    np.testing.assert_array_equal(np.concatenate(audio(events)), waveform(turn, 0, round(0.6 * RATE)))
    assert [event.text_end for event in events if isinstance(event, ReplyAudio)] == [3, 6, 8]
    assert events[-1] == ReplyEnded(response_id="r", reason="completed", input_tokens=1, output_tokens=2)


def test_turns_follow_each_other_and_begin_again() -> None:
    script = [ScriptedTurn(text="one"), ScriptedTurn(text="two")]
    commands = [command for n in range(3) for command in (hear(f"i{n}"), start(f"r{n}", f"i{n}"), 10.0)]
    events = play(script, *commands)
    assert [event.text for event in events if isinstance(event, ReplyText)] == ["one", "two", "one"]


def test_a_provisional_reply_waits_and_a_cancelled_one_is_silent() -> None:
    events = play([ScriptedTurn()], start("r", "i", provisional=True))
    assert len(audio(events)) == 1
    assert not [event for event in events if isinstance(event, ReplyEnded)]
    events = play([ScriptedTurn()], start("r", "i", provisional=True), 1.0, ConfirmReply(response_id="r"))
    assert sum(map(len, audio(events))) == round(1.5 * RATE)
    turn = ScriptedTurn(pace=1.0)
    events = play([turn], start("r", "i"), 0.6, CancelReply(response_id="r"))
    assert len(audio(events)) == 2


def test_failures_come_when_the_script_says() -> None:
    events = play([ScriptedTurn(heard=None, fails_after=0.5)], hear("i"), start("r", "i"))
    assert events[0] == TranscriptFailed(item_id="i", revision=1, message="scripted failure")
    assert sum(map(len, audio(events))) == RATE // 2
    assert events[-1] == ReplyFailed(response_id="r", code="engine_error", message="scripted failure")


def test_a_script_without_turns_is_refused() -> None:
    with pytest.raises(ValueError, match="turn"):
        ScriptedEngine([], clock=lambda: 0, max_sessions=1)
