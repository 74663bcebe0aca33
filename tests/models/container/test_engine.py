import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import numpy as np
import pytest

from models.container.client import RATE, ContainerOptions
from models.container.engine import ContainerEngine
from streaming.engine import (
    CancelReply,
    ChatMessage,
    ConfirmReply,
    EngineCommand,
    EngineEvent,
    EngineSession,
    ReplyAudio,
    ReplyEnded,
    ReplyFailed,
    ReplyStage,
    ReplyText,
    Samples,
    StartReply,
    Transcribe,
    TranscriptFailed,
)
from streaming.errors import EngineBusyError, EngineError
from tests.models.container.fake_container import PATIENCE, FakeContainer, body, http, saying, words

T = TypeVar("T")

SPEECH: Samples = np.random.default_rng(0).uniform(-1, 1, RATE + 100).astype(np.float32)


def turn(item_id: str = "i", audio: Samples = SPEECH, revision: int = 1) -> Transcribe:
    return Transcribe(item_id=item_id, revision=revision, audio=audio)


def said(item_id: str = "i") -> ChatMessage:
    return ChatMessage(role="user", text=None, item_id=item_id)


def start(*messages: ChatMessage, response_id: str = "r", speaks: bool = True, provisional: bool = False) -> StartReply:
    return StartReply(
        response_id=response_id,
        instructions="",
        messages=messages or (said(),),
        speaks=speaks,
        voice="",
        provisional=provisional,
    )


class Talk:
    """One conversation, and what has come of it."""

    def __init__(self, session: EngineSession) -> None:
        self.session = session
        self.events: list[EngineEvent] = []
        self._reader = asyncio.create_task(self._read())

    def send(self, *commands: EngineCommand) -> None:
        for command in commands:
            self.session.send(command)

    async def until(self, *kinds: type[EngineEvent], response_id: str = "r") -> EngineEvent:
        """The first event of these kinds about the reply."""

        def found() -> EngineEvent | None:
            of_it = (event for event in self.events if getattr(event, "response_id", None) == response_id)
            return next((event for event in of_it if isinstance(event, kinds)), None)

        return await self.given(found)

    async def given(self, find: Callable[[], T | None]) -> T:
        """What `find` finds, once it finds something in the events that have come."""
        async with asyncio.timeout(PATIENCE):
            while not (found := find()):  # noqa: ASYNC110 - the events are the test's to see
                await asyncio.sleep(0.002)
        return found

    async def answer(self, *commands: EngineCommand, response_id: str = "r") -> EngineEvent:
        """How the reply ends that the commands ask for."""
        self.send(*commands)
        return await self.until(ReplyEnded, ReplyFailed, response_id=response_id)

    def audio(self, response_id: str = "r") -> Samples:
        chunks = [e.audio for e in self.events if isinstance(e, ReplyAudio) and e.response_id == response_id]
        return np.concatenate([np.zeros(0, np.float32), *chunks])

    def text(self, response_id: str = "r") -> str:
        return "".join(e.text for e in self.events if isinstance(e, ReplyText) and e.response_id == response_id)

    async def close(self) -> None:
        await self.session.close()
        await self._reader

    async def _read(self) -> None:
        async for event in self.session.events():
            self.events.append(event)


@asynccontextmanager
async def engine_of(container: FakeContainer, **options: Any) -> AsyncIterator[ContainerEngine]:
    async with container.serve() as url:
        chosen = ContainerOptions(**({"connect": PATIENCE} | options))
        engine = ContainerEngine(url, clock=time.monotonic_ns, max_sessions=2, model="miner", options=chosen)
        await engine.start()
        try:
            yield engine
        finally:
            await engine.close()


@asynccontextmanager
async def talk_with(container: FakeContainer, **options: Any) -> AsyncIterator[Talk]:
    async with engine_of(container, **options) as engine:
        talk = Talk(await engine.open("s"))
        try:
            yield talk
        finally:
            await talk.close()


async def test_a_spoken_turn_is_answered_aloud() -> None:
    async with talk_with(FakeContainer()) as talk:
        ended = await talk.answer(turn(), start())
    assert ended == ReplyEnded(response_id="r", reason="completed", input_tokens=0, output_tokens=0)
    np.testing.assert_array_equal(talk.audio(), SPEECH * np.float32(0.5))
    assert talk.text() == words(SPEECH)
    reply = [event for event in talk.events if not isinstance(event, TranscriptFailed)]
    stages = [event for event in reply if isinstance(event, ReplyStage)]
    assert [stage.stage for stage in stages] == ["queue", "first_audio"]
    assert stages[0].at < stages[1].at <= time.monotonic_ns()
    kinds = list(dict.fromkeys(type(event) for event in reply))
    assert kinds == [ReplyStage, ReplyText, ReplyAudio, ReplyEnded]


async def test_the_words_are_spread_evenly_over_the_audio() -> None:
    async with talk_with(FakeContainer()) as talk:
        await talk.answer(turn(), start())
    ends = [event.text_end for event in talk.events if isinstance(event, ReplyAudio)]
    characters = len(words(SPEECH))
    samples = np.cumsum([event.audio.size for event in talk.events if isinstance(event, ReplyAudio)])
    assert len(ends) == 3
    assert ends == [characters * int(end) // SPEECH.size for end in samples]
    assert ends[-1] == characters


async def test_an_answer_in_words_has_no_audio() -> None:
    container = FakeContainer()
    async with talk_with(container) as talk:
        assert isinstance(await talk.answer(turn(), start(speaks=False)), ReplyEnded)
    assert talk.text() == words(SPEECH)
    assert talk.audio().size == 0
    assert [request.path for request in container.requests] == ["health", "v2t"]
    assert [e.stage for e in talk.events if isinstance(e, ReplyStage)] == ["queue", "first_token"]


async def test_a_turns_words_are_not_to_be_had_and_that_is_told_at_once() -> None:
    container = FakeContainer()
    async with talk_with(container) as talk:
        talk.send(turn(revision=3))
        await asyncio.sleep(0.01)
        (failed,) = talk.events
    assert isinstance(failed, TranscriptFailed)
    assert (failed.item_id, failed.revision) == ("i", 3)
    assert container.asked("v2t") == []


async def test_the_engine_says_what_it_is() -> None:
    async with engine_of(FakeContainer()) as engine:
        assert engine.info.model == "miner"
        assert (engine.info.input_rate, engine.info.output_rate) == (RATE, RATE)
        assert not engine.info.transcribes
        assert not engine.info.instructed
        assert not engine.info.duplex


# --- which turn is answered


async def test_the_latest_revision_of_the_users_last_turn_is_answered() -> None:
    container = FakeContainer()
    first, short, whole = SPEECH[:300], SPEECH[300:500], SPEECH[300:900]
    history = (said("a"), ChatMessage(role="assistant", text="Yes?"), said("b"), ChatMessage(role="system", text="..."))
    async with talk_with(container) as talk:
        talk.send(turn("a", first), turn("b", short), turn("b", whole, revision=2))
        await talk.answer(start(*history))
    np.testing.assert_array_equal(container.asked("v2v")[0].audio[0], whole)


async def test_two_conversations_do_not_mix() -> None:
    async with engine_of(FakeContainer(), concurrency=2) as engine:
        one, other = Talk(await engine.open("1")), Talk(await engine.open("2"))
        one.send(turn("i", SPEECH[:4000]))
        other.send(turn("i", SPEECH[4000:9000]))
        await asyncio.gather(*(talk.answer(start(response_id="r")) for talk in (one, other)))
        np.testing.assert_array_equal(one.audio(), SPEECH[:4000] * np.float32(0.5))
        np.testing.assert_array_equal(other.audio(), SPEECH[4000:9000] * np.float32(0.5))
        assert (one.text(), other.text()) == ("You said 4000 samples.", "You said 5000 samples.")
        await asyncio.gather(one.close(), other.close())


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        ((ChatMessage(role="user", text="Hello", item_id="t"),), "was written"),
        ((said(), ChatMessage(role="user", text="Hello", item_id="t")), "was written"),
        ((said("unknown"),), "no longer kept"),
        ((said("empty"),), "empty"),
        ((ChatMessage(role="system", text="Be brief."),), "nothing has been said"),
    ],
)
@pytest.mark.parametrize("speaks", [True, False])
async def test_a_turn_without_audio_cannot_be_answered(
    messages: tuple[ChatMessage, ...], why: str, speaks: bool
) -> None:
    container = FakeContainer()
    async with talk_with(container) as talk:
        talk.send(turn(), turn("empty", SPEECH[:0]))
        failed = await talk.answer(start(*messages, speaks=speaks))
    assert isinstance(failed, ReplyFailed)
    assert failed.code == "speech_needed"
    assert why in failed.message
    assert [request.path for request in container.requests] == ["health"]


async def test_the_audio_of_the_last_few_turns_is_kept_and_no_more() -> None:
    async with talk_with(FakeContainer()) as talk:
        talk.send(*(turn(str(number), SPEECH[: 100 + number]) for number in range(5)))
        oldest = await talk.answer(start(said("0"), response_id="0"), response_id="0")
        assert isinstance(oldest, ReplyFailed)
        await talk.answer(start(said("1"), response_id="1"), response_id="1")
        assert talk.audio("1").size == 101


async def test_a_turn_that_is_too_long_is_not_sent() -> None:
    container = FakeContainer()
    async with talk_with(container, longest_turn=1) as talk:
        failed = await talk.answer(turn(), start())
    assert isinstance(failed, ReplyFailed)
    assert failed.code == "turn_too_long"
    assert "at most 1 s" in failed.message
    assert container.asked("v2v") == []


# --- on speculation


async def test_a_provisional_reply_is_asked_for_and_waits_after_half_a_second() -> None:
    async with talk_with(FakeContainer()) as talk:
        talk.send(turn(), start(provisional=True))
        await talk.until(ReplyAudio)
        await asyncio.sleep(0.05)
        assert talk.audio().size == RATE // 2
        assert not any(isinstance(event, ReplyEnded) for event in talk.events)
        await talk.answer(ConfirmReply(response_id="r"))
        assert talk.audio().size == SPEECH.size


async def test_without_speculation_the_container_is_asked_once_the_turn_is_over() -> None:
    container = FakeContainer()
    async with talk_with(container, speculate=False) as talk:
        talk.send(turn(), start(provisional=True))
        await asyncio.sleep(0.05)
        assert container.asked("v2v") == []
        assert isinstance(await talk.answer(ConfirmReply(response_id="r")), ReplyEnded)


async def test_a_cancelled_reply_hangs_up_and_the_next_is_answered() -> None:
    container = FakeContainer(v2v=saying(then_hang=True))
    async with talk_with(container) as talk:
        talk.send(turn(), start(provisional=True))
        request = await container.until_asked("v2v")
        talk.send(CancelReply(response_id="r"))
        async with asyncio.timeout(PATIENCE):
            await request.left.wait()
        container.answers.clear()
        assert isinstance(await talk.answer(start(response_id="q"), response_id="q"), ReplyEnded)
    assert not any(isinstance(event, ReplyAudio) and event.response_id == "r" for event in talk.events)


async def test_closing_the_conversation_hangs_up() -> None:
    container = FakeContainer(v2v=saying(then_hang=True))
    async with engine_of(container) as engine:
        talk = Talk(await engine.open("s"))
        talk.send(turn(), start())
        request = await container.until_asked("v2v")
        async with asyncio.timeout(PATIENCE):
            await talk.close()
            await request.left.wait()


# --- pace


async def test_a_long_reply_is_given_out_a_few_seconds_ahead_so_that_nothing_waits_behind_it() -> None:
    container = FakeContainer(v2v=saying(http(body(np.zeros(20 * RATE, np.float32)))))
    async with talk_with(container) as talk:
        began = time.monotonic()
        talk.send(turn(), start())
        await talk.given(lambda: talk.audio().size >= 6 * RATE)
        assert time.monotonic() - began >= 1.5, "a listener has 4 s and half a second more before them, at most"
        talk.send(turn("next"))
        await talk.given(
            lambda: any(isinstance(event, TranscriptFailed) and event.item_id == "next" for event in talk.events)
        )
        assert talk.audio().size < 20 * RATE


async def test_an_answer_of_no_samples_is_a_reply_without_audio() -> None:
    silence = body(np.zeros((1, 0), np.float32), text="No comment.")
    async with talk_with(FakeContainer(v2v=saying(http(silence)))) as talk:
        assert isinstance(await talk.answer(turn(), start()), ReplyEnded)
    assert talk.text() == "No comment."
    assert talk.audio().size == 0


# --- when the container fails


async def test_a_failure_is_told_in_our_words_and_the_conversation_goes_on() -> None:
    container = FakeContainer(v2v=saying(http(b"secret", status=500)))
    async with talk_with(container) as talk:
        failed = await talk.answer(turn(), start())
        assert failed == ReplyFailed(
            response_id="r", code="container_failed", message="the model's container failed (HTTP 500)"
        )
        container.answers.clear()
        assert isinstance(await talk.answer(start(response_id="q"), response_id="q"), ReplyEnded)


async def test_one_conversations_failure_does_not_touch_anothers_reply() -> None:
    async with engine_of(FakeContainer(), concurrency=2) as engine:
        one, other = Talk(await engine.open("1")), Talk(await engine.open("2"))
        one.send(turn("i", np.full(500, np.nan, np.float32)))  # the echo of which is not finite
        other.send(turn())
        failed, ended = await asyncio.gather(one.answer(start()), other.answer(start()))
        assert isinstance(failed, ReplyFailed)
        assert isinstance(ended, ReplyEnded)
        np.testing.assert_array_equal(other.audio(), SPEECH * np.float32(0.5))
        await asyncio.gather(one.close(), other.close())


async def test_a_broken_container_admits_nobody_until_it_answers_again() -> None:
    container = FakeContainer(v2v=saying(http(status=500)))
    async with engine_of(container, failures=1, cooldown=0) as engine:
        talk = Talk(await engine.open("s"))
        await talk.answer(turn(), start())
        container.answers["health"] = saying(http(status=503))
        for _ in range(3):  # a refusal keeps no slot
            with pytest.raises(EngineBusyError):
                await engine.open("t")
        container.answers.clear()
        await (await engine.open("t")).close()
        await talk.close()


async def test_an_engine_whose_container_never_comes_up_does_not_start() -> None:
    async with FakeContainer(health=saying(http(status=503))).serve() as url:
        options = ContainerOptions(load=0.1)
        engine = ContainerEngine(url, clock=time.monotonic_ns, max_sessions=1, options=options)
        with pytest.raises(EngineError, match=r"not ready within 0\.1 s"):
            await engine.start()
        await engine.close()
