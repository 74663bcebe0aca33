import asyncio

import numpy as np

from models.echo import RATE, EchoEngine
from streaming.engine import (
    ChatMessage,
    ConfirmReply,
    EngineCommand,
    EngineEvent,
    ReplyAudio,
    ReplyEnded,
    ReplyText,
    Samples,
    StartReply,
    Transcribe,
    Transcript,
)
from tests.models import virtual_time

SPEECH: Samples = np.random.default_rng(0).uniform(-1, 1, RATE + 100).astype(np.float32)
TURN = Transcribe(item_id="i", revision=2, audio=SPEECH)


def start(*, text: str | None = None, item_id: str | None = "i", **more: bool) -> StartReply:
    messages = (ChatMessage(role="user", text=text, item_id=item_id),)
    speaks, provisional = more.get("speaks", True), more.get("provisional", False)
    return StartReply(
        response_id="r", instructions="", messages=messages, speaks=speaks, voice="", provisional=provisional
    )


def exchange(*commands: EngineCommand) -> list[EngineEvent]:
    async def main() -> list[EngineEvent]:
        engine = EchoEngine(clock=virtual_time.now_ns, max_sessions=1)
        await engine.start()
        session = await engine.open("s")
        events: list[EngineEvent] = []

        async def read() -> None:
            events.extend([event async for event in session.events()])

        reader = asyncio.create_task(read())
        for command in commands:
            session.send(command)
            await asyncio.sleep(1)
        await session.close()
        await reader
        return events

    return virtual_time.run(main())


def audio(events: list[EngineEvent]) -> Samples:
    return np.concatenate([np.zeros(0, np.float32), *(e.audio for e in events if isinstance(e, ReplyAudio))])


def test_the_turn_is_played_back() -> None:
    events = exchange(TURN, start())
    assert events[0] == Transcript(item_id="i", revision=2, text="echo")
    np.testing.assert_array_equal(audio(events), SPEECH)
    assert [event.text_end for event in events if isinstance(event, ReplyAudio)][-1] == len("echo")
    assert isinstance(events[-1], ReplyEnded)


def test_typed_words_come_back_as_words() -> None:
    events = exchange(start(text="hello", item_id=None))
    assert [event.text for event in events if isinstance(event, ReplyText)] == ["hello"]
    assert audio(events).size == 0
    assert isinstance(events[-1], ReplyEnded)


def test_a_reply_that_is_not_spoken_has_no_audio() -> None:
    assert audio(exchange(TURN, start(speaks=False))).size == 0


def test_a_provisional_echo_waits_after_half_a_second() -> None:
    events = exchange(TURN, start(provisional=True))
    assert audio(events).size == RATE // 2
    assert not isinstance(events[-1], ReplyEnded)
    events = exchange(TURN, start(provisional=True), ConfirmReply(response_id="r"))
    np.testing.assert_array_equal(audio(events), SPEECH)
