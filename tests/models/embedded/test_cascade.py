import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from models.embedded.engine import EmbeddedEngine
from models.embedded.parts import ToolCall
from models.embedded.reply import NO_ANSWER, NOT_HEARD
from models.turn_based import MAX_REPLIES, TurnBasedSession
from streaming.engine import (
    CancelReply,
    ChatMessage,
    ConfirmReply,
    EngineEvent,
    EngineLost,
    ReplyAudio,
    ReplyEnded,
    ReplyFailed,
    ReplyStage,
    ReplyText,
    ReplyToolCall,
    StartReply,
    Transcribe,
    Transcript,
    TranscriptFailed,
)
from streaming.errors import EngineBusyError, EngineError
from tests.models import virtual_time
from tests.models.embedded.fakes import FakeChat, FakeEars, FakeVoice

AUDIO = np.zeros(16_000, np.float32)
AHEAD = 4.0  # s: ReplyParts.ahead
WORD = FakeVoice.word / FakeVoice.rate  # s
TEXT = "It is new. And so much more, as you know."


@dataclass
class World:
    """An engine of fakes, one open session and a reader of its events."""

    ears: FakeEars = field(default_factory=FakeEars)
    chat: FakeChat = field(default_factory=FakeChat)
    voice: FakeVoice = field(default_factory=FakeVoice)
    events: list[EngineEvent] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    reading: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def talk(self) -> AsyncIterator[TurnBasedSession]:
        self.engine = EmbeddedEngine(
            ears=self.ears,
            chat=self.chat,
            voice=self.voice,
            clock=virtual_time.now_ns,
            max_sessions=2,
        )
        await self.engine.start()
        session = await self.engine.open("one")
        self.reading.set()
        reader = asyncio.create_task(self._read(session))
        yield session
        await self.engine.close()
        await reader

    async def _read(self, session: TurnBasedSession) -> None:
        async for event in session.events():
            self.events.append(event)
            self.times.append(asyncio.get_running_loop().time())
            await self.reading.wait()

    def of(self, kind: type[EngineEvent]) -> list[EngineEvent]:
        return [event for event in self.events if type(event) is kind]

    def unplayed(self, since: float = 0.0) -> list[float]:
        """For each chunk that came after `since`, when playing began, how many seconds were left to play before it."""
        left: list[float] = []
        dry_at = since
        for event, at in zip(self.events, self.times, strict=True):
            if isinstance(event, ReplyAudio):
                if at > since:
                    left.append(dry_at - at)
                dry_at = max(dry_at, at) + event.audio.size / self.voice.rate
        return left

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, ReplyText))

    @property
    def seconds(self) -> float:
        return sum(event.audio.size for event in self.events if isinstance(event, ReplyAudio)) / self.voice.rate


def scenario(test: Callable[[World], Awaitable[None]]) -> Callable[[], None]:
    """Run a test of a fresh world in virtual time."""

    def run() -> None:
        async def main() -> None:
            await test(World())

        virtual_time.run(main())

    run.__name__ = test.__name__
    return run


def reply(
    response_id: str = "r1",
    *,
    text: str | None = "hello",
    provisional: bool = False,
    speaks: bool = True,
    speed: float = 1.0,
) -> StartReply:
    return StartReply(
        response_id=response_id,
        instructions="Be brief.",
        messages=(ChatMessage(role="user", text=text, item_id="item"),),
        speaks=speaks,
        voice="",
        provisional=provisional,
        speed=speed,
    )


def transcribe(revision: int = 1, item_id: str = "item") -> Transcribe:
    return Transcribe(item_id=item_id, revision=revision, audio=AUDIO)


@scenario
async def test_a_spoken_turn_is_answered_in_speech(world: World) -> None:
    async with world.talk() as session:
        session.send(transcribe())
        session.send(reply(text=None))
        await asyncio.sleep(10)
    assert world.of(Transcript) == [Transcript(item_id="item", revision=1, text="what is new")]
    assert world.chat.requests[0].messages[-1].text == "what is new"
    assert world.text == TEXT
    assert world.seconds == pytest.approx(0.3 * len(TEXT.split()))
    assert world.of(ReplyEnded) == [
        ReplyEnded(response_id="r1", reason="completed", input_tokens=7, output_tokens=10, cached_tokens=3)
    ]
    assert isinstance(world.events[-2], ReplyEnded)
    assert isinstance(world.events[-1], EngineLost)


@scenario
async def test_stages_are_marked_in_order_each_once(world: World) -> None:
    async with world.talk() as session:
        await asyncio.sleep(1)
        session.send(transcribe())
        session.send(reply(text=None))
        await asyncio.sleep(10)
    firsts: dict[str, int] = {}
    for event in world.events:
        if isinstance(event, ReplyStage):
            firsts.setdefault(event.stage, event.at)
    milliseconds = {stage: at / 1e6 - 1000 for stage, at in firsts.items()}
    # 100 ms of transcription, 10 ms a word, the fourth word shows that the first clause has ended, 30 ms of voice
    assert milliseconds == pytest.approx(
        {"queue": 0, "transcribe": 100, "first_token": 110, "first_clause": 140, "first_audio": 170}
    )


@scenario
async def test_words_come_before_their_audio_and_text_end_counts_whole_words(world: World) -> None:
    async with world.talk() as session:
        session.send(reply())
        await asyncio.sleep(10)
    written, ends = "", []
    for event in world.events:
        if isinstance(event, ReplyText):
            written += event.text
        if isinstance(event, ReplyAudio):
            assert event.text_end <= len(written)
            ends.append(event.text_end)
    assert ends == sorted(ends)
    assert ends[-1] == len(TEXT)
    assert all(end == len(TEXT) or end == 0 or TEXT[end - 1] == " " for end in ends)


@scenario
async def test_a_provisional_reply_prepares_its_beginning_and_no_more(world: World) -> None:
    async with world.talk() as session:
        session.send(reply(provisional=True))
        await asyncio.sleep(10)
        assert world.voice.spoken == ["It is new. "]
        assert world.seconds == pytest.approx(0.6)
        assert world.chat.words_written == 4
        assert not world.of(ReplyEnded)
        session.send(ConfirmReply(response_id="r1"))
        await asyncio.sleep(10)
    assert world.text == TEXT
    assert len(world.of(ReplyEnded)) == 1


@scenario
async def test_a_short_provisional_reply_does_not_end_before_it_is_confirmed(world: World) -> None:
    world.chat.text = "Yes."
    async with world.talk() as session:
        session.send(reply(provisional=True))
        await asyncio.sleep(10)
        assert world.seconds == pytest.approx(0.3)
        assert not world.of(ReplyEnded)
        session.send(ConfirmReply(response_id="r1"))
        await asyncio.sleep(1)
        assert world.of(ReplyEnded)


@scenario
async def test_nothing_of_a_cancelled_reply_is_emitted_and_its_model_stops(world: World) -> None:
    world.chat.text = " ".join(["word"] * 100)
    async with world.talk() as session:
        session.send(reply())
        await asyncio.sleep(0.1)
        world.reading.clear()
        await asyncio.sleep(0.2)
        session.send(CancelReply(response_id="r1"))
        before, words = len(world.events), world.chat.words_written
        world.reading.set()
        await asyncio.sleep(10)
        assert len(world.events) == before
        assert world.chat.words_written == words
        assert world.chat.closed == 1
        session.send(reply("r2"))
        await asyncio.sleep(100)
    assert {event.response_id for event in world.of(ReplyEnded)} == {"r2"}  # type: ignore[union-attr]


@pytest.mark.parametrize("last", range(1, 22))
def test_a_reply_cancelled_at_any_event_ends_with_it(last: int) -> None:
    async def talk() -> None:
        world = World()
        world.chat.delay = world.voice.delay = 0
        async with world.talk():
            session = await world.engine.open("two")
            session.send(reply())
            seen = 0
            events = session.events()
            while seen < last:
                await anext(events)
                seen += 1
            session.send(CancelReply(response_id="r1"))
            after = asyncio.ensure_future(anext(events))
            await asyncio.sleep(10)
            assert not after.done()
            await session.close()
            with pytest.raises(StopAsyncIteration):
                await after

    virtual_time.run(talk())


@scenario
async def test_a_newer_revision_replaces_the_one_in_work(world: World) -> None:
    async with world.talk() as session:
        session.send(transcribe(1))
        session.send(reply(text=None))
        await asyncio.sleep(0.05)
        session.send(transcribe(2))
        session.send(transcribe(1))
        await asyncio.sleep(10)
    assert world.ears.heard == [("item", 2)]
    assert world.of(Transcript) == [Transcript(item_id="item", revision=2, text="what is new")]
    assert len(world.chat.requests) == 1


@scenario
async def test_silence_is_answered_without_the_chat_model(world: World) -> None:
    world.ears.words = ""
    async with world.talk() as session:
        session.send(transcribe())
        session.send(reply(text=None))
        await asyncio.sleep(10)
    assert world.text == NOT_HEARD
    assert world.seconds > 0
    assert not world.chat.requests


@scenario
async def test_a_model_that_says_nothing_is_spoken_for(world: World) -> None:
    world.chat.text = ""
    async with world.talk() as session:
        session.send(reply())
        await asyncio.sleep(10)
    assert world.text == NO_ANSWER
    assert world.seconds > 0


@scenario
async def test_failed_ears_fail_the_reply_and_not_the_next(world: World) -> None:
    world.ears.fail = True
    async with world.talk() as session:
        session.send(transcribe())
        session.send(reply(text=None))
        await asyncio.sleep(1)
        session.send(reply("r2"))
        await asyncio.sleep(10)
    assert world.of(TranscriptFailed) == [TranscriptFailed(item_id="item", revision=1, message="cannot hear")]
    assert world.of(ReplyFailed) == [ReplyFailed(response_id="r1", code="engine_error", message="cannot hear")]
    assert [event.response_id for event in world.of(ReplyEnded)] == ["r2"]  # type: ignore[union-attr]


@scenario
async def test_a_failing_chat_model_fails_that_reply_only(world: World) -> None:
    world.chat.fail_after = 5
    async with world.talk() as session:
        session.send(reply())
        await asyncio.sleep(10)
        world.chat.fail_after = None
        session.send(reply("r2"))
        await asyncio.sleep(10)
    assert world.of(ReplyFailed) == [ReplyFailed(response_id="r1", code="chat_failed", message="cannot think")]
    assert [event.response_id for event in world.of(ReplyEnded)] == ["r2"]  # type: ignore[union-attr]


def test_a_defect_fails_the_reply_and_its_message_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    @scenario
    async def talk(world: World) -> None:
        world.voice.defect = True
        async with world.talk() as session:
            session.send(reply())
            await asyncio.sleep(10)
        assert world.of(ReplyFailed) == [
            ReplyFailed(response_id="r1", code="engine_error", message="the reply could not be made")
        ]

    with caplog.at_level(logging.ERROR):
        talk()
    assert "ZeroDivisionError" in caplog.text
    assert "SECRET" not in caplog.text


@scenario
async def test_a_reader_who_pauses_slows_the_models_and_loses_nothing(world: World) -> None:
    world.chat.text = " ".join(["word"] * 1000)
    async with world.talk() as session:
        session.send(reply())
        await asyncio.sleep(0.5)
        world.reading.clear()
        await asyncio.sleep(20)
        written, made = world.chat.words_written, world.voice.made
        await asyncio.sleep(100)
        assert (world.chat.words_written, world.voice.made) == (written, made)
        assert written < 700
        assert made < 20
        world.reading.set()
        await asyncio.sleep(1000)
    assert world.text == world.chat.text
    assert world.seconds == pytest.approx(0.3 * 1000)


@scenario
async def test_a_reply_that_is_not_spoken_has_words_only(world: World) -> None:
    world.chat.text = "One **two**\nthree."
    async with world.talk() as session:
        session.send(reply(speaks=False))
        await asyncio.sleep(10)
    assert world.text == "One **two** three."
    assert not world.of(ReplyAudio)
    assert not world.voice.spoken
    assert len(world.of(ReplyEnded)) == 1


@scenario
async def test_calls_of_functions_are_passed_on(world: World) -> None:
    world.chat.text = ""
    world.chat.calls = [ToolCall(call_id="c1", name="weather", arguments="{}")]
    async with world.talk() as session:
        session.send(reply())
        await asyncio.sleep(1)
    assert world.of(ReplyToolCall) == [ReplyToolCall(response_id="r1", call_id="c1", name="weather", arguments="{}")]
    assert world.text == ""
    assert len(world.of(ReplyEnded)) == 1


@scenario
async def test_speed_is_kept_within_what_the_voice_can(world: World) -> None:
    async with world.talk() as session:
        session.send(reply(speed=9))
        await asyncio.sleep(10)
    assert set(world.voice.speeds) == {1.5}


@scenario
async def test_audio_is_asked_for_by_the_moment_the_listener_runs_dry(world: World) -> None:
    async with world.talk() as session:
        await asyncio.sleep(1)
        session.send(reply())
        await asyncio.sleep(10)
    asked, first_audio = 1_000_000_000, 1_070_000_000
    seconds = [(at - first_audio) / 1e9 for at in world.voice.deadlines[1:]]
    assert world.voice.deadlines[0] == asked
    assert seconds == pytest.approx([0.3 * number for number in range(1, 10)])


def long_text(clauses: int) -> str:
    return " ".join(f"One two three four number {number}." for number in range(clauses))


@pytest.mark.parametrize("provisional", [False, True])
def test_a_long_reply_stays_a_few_seconds_ahead_and_never_runs_dry(provisional: bool) -> None:
    @scenario
    async def talk(world: World) -> None:
        world.chat.text = long_text(20)
        world.voice.delay = 0.25  # a little faster than the 0.3 s that a word lasts
        async with world.talk() as session:
            session.send(reply(provisional=provisional))
            await asyncio.sleep(3)
            session.send(ConfirmReply(response_id="r1"))
            await asyncio.sleep(100)
        left = world.unplayed(since=3.0) if provisional else world.unplayed()[1:]
        assert world.seconds == pytest.approx(120 * WORD)
        assert min(left) > 0
        assert AHEAD - WORD < max(left) <= AHEAD + 1e-6

    talk()


@scenario
async def test_a_reply_cancelled_while_it_waits_for_the_listener_ends_at_once(world: World) -> None:
    world.chat.text = long_text(20)
    async with world.talk() as session:
        session.send(reply())
        await asyncio.sleep(10)
        made = world.voice.made
        await asyncio.sleep(WORD / 3)
        assert (world.voice.made, world.voice.open) == (made, 1)
        session.send(CancelReply(response_id="r1"))
        cancelled = asyncio.get_running_loop().time()
        for _ in range(10):
            await asyncio.sleep(0)
        assert world.voice.open == 0
        assert asyncio.get_running_loop().time() == cancelled
        await asyncio.sleep(100)
        assert world.voice.made == made


@scenario
async def test_an_engine_that_cannot_start_releases_what_it_had_loaded(world: World) -> None:
    world.voice.missing = True
    with pytest.raises(EngineError, match="no voice"):
        async with world.talk():
            pass
    assert world.chat.released


@scenario
async def test_sessions_are_bounded_and_a_closed_one_makes_room(world: World) -> None:
    async with world.talk() as session:
        await world.engine.open("two")
        with pytest.raises(EngineBusyError):
            await world.engine.open("three")
        await session.close()
        await session.close()
        await world.engine.open("three")


@scenario
async def test_replies_at_once_are_bounded(world: World) -> None:
    async with world.talk() as session:
        for number in range(MAX_REPLIES + 1):
            session.send(reply(f"r{number}"))
        await asyncio.sleep(10)
    assert [event.response_id for event in world.of(ReplyFailed)] == [f"r{MAX_REPLIES}"]  # type: ignore[union-attr]
    assert len(world.of(ReplyEnded)) == MAX_REPLIES


@scenario
async def test_a_function_that_gives_nothing_back_has_answered(world: World) -> None:
    asked = ChatMessage(role="assistant", text=None, tool_call_id="c1", tool_call=("lights_on", "{}"))
    answered = ChatMessage(role="tool", text="", tool_call_id="c1")
    async with world.talk() as session:
        session.send(replace(reply(), messages=(*reply().messages, asked, answered)))
        await asyncio.sleep(10)
    assert [message.role for message in world.chat.requests[0].messages] == ["user", "assistant", "tool"]


@scenario
async def test_closing_a_session_stops_its_work_and_ends_its_events(world: World) -> None:
    async with world.talk() as session:
        session.send(transcribe())
        session.send(reply())
        await asyncio.sleep(0.05)
        await session.close()
        session.send(reply("r2"))
        count = len(world.events)
        await asyncio.sleep(10)
        assert len(world.events) == count
        assert world.chat.closed == 1
    assert not world.of(EngineLost)


@scenario
async def test_a_cough_after_a_turn_that_has_no_answer_yet_leaves_that_to_be_answered(world: World) -> None:
    world.ears.words = ""
    async with world.talk() as session:
        session.send(transcribe(item_id="cough"))
        cough = ChatMessage(role="user", text=None, item_id="cough")
        command = reply(text="what is new")
        session.send(replace(command, messages=(*command.messages, cough)))
        await asyncio.sleep(10)
    assert world.text != NOT_HEARD
    (request,) = world.chat.requests
    assert [message.text for message in request.messages] == ["what is new"]


@scenario
async def test_a_turn_that_was_never_sent_counts_as_not_heard(world: World) -> None:
    async with world.talk() as session:
        session.send(reply(text=None))
        await asyncio.sleep(10)
    assert world.text == NOT_HEARD
