"""What every turn-based engine does alike."""

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np
import pytest

from models.echo import EchoEngine
from models.embedded.engine import EmbeddedEngine
from models.scripted import ScriptedEngine, ScriptedTurn
from models.turn_based import TurnBasedEngine
from streaming.engine import (
    CancelReply,
    ChatMessage,
    ConfirmReply,
    EngineCommand,
    EngineEvent,
    EngineLost,
    HearAudio,
    ReplyAudio,
    ReplyEnded,
    StartReply,
    Transcribe,
    Transcript,
)
from streaming.errors import EngineBusyError
from tests.models import virtual_time
from tests.models.embedded.fakes import FakeChat, FakeEars, FakeVoice


def embedded() -> TurnBasedEngine:
    return EmbeddedEngine(
        ears=FakeEars(), chat=FakeChat(), voice=FakeVoice(), clock=virtual_time.now_ns, max_sessions=2
    )


def echo() -> TurnBasedEngine:
    return EchoEngine(clock=virtual_time.now_ns, max_sessions=2)


def scripted() -> TurnBasedEngine:
    return ScriptedEngine([ScriptedTurn(think=0.1)], clock=virtual_time.now_ns, max_sessions=2)


every_engine = pytest.mark.parametrize("make", [embedded, echo, scripted])
Make = Callable[[], TurnBasedEngine]


def turn(item_id: str = "i") -> Transcribe:
    return Transcribe(item_id=item_id, revision=1, audio=np.full(48_000, 0.1, np.float32))


def start(response_id: str = "r", *, provisional: bool = False) -> StartReply:
    return StartReply(
        response_id=response_id,
        instructions="",
        messages=(ChatMessage(role="user", text=None, item_id="i"),),
        speaks=True,
        voice="",
        provisional=provisional,
    )


def exchange(make: Make, *commands: EngineCommand, wait: float = 20) -> list[EngineEvent]:
    """The events of one conversation in which the commands are sent, each `wait` seconds after the one before."""

    async def main() -> list[EngineEvent]:
        engine = make()
        await engine.start()
        session = await engine.open("s")
        events: list[EngineEvent] = []

        async def read() -> None:
            events.extend([event async for event in session.events()])

        reader = asyncio.create_task(read())
        for command in commands:
            session.send(command)
            await asyncio.sleep(wait)
        await session.close()
        await engine.close()
        await reader
        return events

    return virtual_time.run(main())


def in_time(test: Callable[[TurnBasedEngine], Awaitable[None]], make: Make) -> None:
    async def main() -> None:
        engine = make()
        await engine.start()
        await test(engine)
        await engine.close()

    virtual_time.run(main())


@every_engine
def test_a_turn_is_heard_and_answered_aloud_and_the_answer_ends_once(make: Make) -> None:
    events = exchange(make, turn(), start())
    assert isinstance(events[0], Transcript)
    assert any(isinstance(event, ReplyAudio) for event in events)
    assert [type(event) for event in events].count(ReplyEnded) == 1
    assert isinstance(events[-1], ReplyEnded)


@every_engine
def test_a_provisional_reply_ends_after_its_confirmation_and_not_before(make: Make) -> None:
    events = exchange(make, turn(), start(provisional=True))
    assert any(isinstance(event, ReplyAudio) for event in events)
    assert not any(isinstance(event, ReplyEnded) for event in events)
    events = exchange(make, turn(), start(provisional=True), ConfirmReply(response_id="r"))
    assert isinstance(events[-1], ReplyEnded)


@every_engine
def test_a_provisional_reply_that_is_cancelled_says_no_more(make: Make) -> None:
    before = exchange(make, turn(), start(provisional=True))
    commands = (CancelReply(response_id="r"), ConfirmReply(response_id="r"))
    after = exchange(make, turn(), start(provisional=True), *commands)
    assert list(map(type, after)) == list(map(type, before))


@every_engine
def test_commands_that_mean_nothing_are_harmless(make: Make) -> None:
    strange = (
        CancelReply(response_id="none"),
        ConfirmReply(response_id="none"),
        HearAudio(audio=np.zeros(10, np.float32)),
    )
    assert exchange(make, *strange) == []


@every_engine
def test_a_reply_that_is_asked_for_twice_is_made_once(make: Make) -> None:
    events = exchange(make, turn(), start(provisional=True), start(), ConfirmReply(response_id="r"))
    assert [type(event) for event in events].count(ReplyEnded) == 1


@every_engine
def test_conversations_are_bounded(make: Make) -> None:
    async def fill(engine: TurnBasedEngine) -> None:
        first = await engine.open("a")
        await engine.open("b")
        with pytest.raises(EngineBusyError) as caught:
            await engine.open("c")
        assert caught.value.retry_after > 0
        await first.close()
        await engine.open("c")

    in_time(fill, make)


@every_engine
def test_closing_the_engine_tells_its_conversations_and_admits_no_more(make: Make) -> None:
    async def close(engine: TurnBasedEngine) -> None:
        session = await engine.open("a")
        session.send(start(provisional=True))
        await asyncio.sleep(0.01)
        await engine.close()
        assert isinstance([event async for event in session.events()][-1], EngineLost)
        with pytest.raises(EngineBusyError):
            await engine.open("b")

    in_time(close, make)
