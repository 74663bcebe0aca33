from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest
import uvloop

from server.driver import MAX_BACKLOG, MAX_VOICE_FRAMES, ConnectionOverError, Driver, Models, SessionCore
from server.metrics import Metrics
from streaming.client_events import AppendAudio, CommitAudio, CreateItem, CreateResponse, UpdateSession
from streaming.config import SessionConfig
from streaming.core import Output, SessionOptions
from streaming.engine import (
    DetectVoice,
    EngineLost,
    PredictTurnEnd,
    ReplyAudio,
    ReplyText,
    StartReply,
    Transcript,
    TurnEndProbability,
    VoiceProbability,
)
from streaming.errors import PeerError
from streaming.items import InputAudio, Message
from streaming.observations import CloseSession, SpeculationEnded, Underrun
from streaming.server_events import ErrorEvent, Notice, ResponseDone
from streaming.session import Input, Session
from tests.server.fakes import (
    INFO,
    SILENCE,
    FakeConnection,
    FakeEngineSession,
    FakeSession,
    FakeTurns,
    FakeVoice,
    error_event,
)
from tests.waiting import PATIENCE, settled, until

APPEND = AppendAudio(audio=b"\0\0")


def real_session() -> Session:
    now = time.monotonic_ns()
    return Session(session_id="sess", config=SessionConfig(), engine=INFO, options=SessionOptions(), now=now)


class Rig:
    """A driver and everything around it."""

    def __init__(
        self,
        *,
        session: FakeSession | None = None,
        core: SessionCore | None = None,
        room: int = 10_000,
        first_event: float = 30,
    ) -> None:
        self.session = session or FakeSession()
        self.connection = FakeConnection(room)
        self.engine = FakeEngineSession()
        self.voice = FakeVoice()
        self.turns = FakeTurns()
        self.metrics = Metrics()
        self.driver = Driver(
            session=core or self.session,
            connection=self.connection,
            models=Models(engine=self.engine, voice=self.voice, turns=self.turns),
            metrics=self.metrics,
            clock=time.monotonic_ns,
            first_event=first_event,
        )
        self.run = asyncio.create_task(self.driver.run())

    async def over(self) -> CloseSession | None:
        async with asyncio.timeout(PATIENCE):
            return await self.run

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    def kinds(self) -> list[str]:
        return [event.type for event in self.connection.heard]


@asynccontextmanager
async def running(rig: Rig) -> AsyncIterator[Rig]:
    before = asyncio.all_tasks() - {rig.run}
    try:
        await until(lambda: bool(rig.connection.heard) or rig.run.done())
        yield rig
    finally:
        rig.connection.say(ConnectionOverError())
        await asyncio.wait([rig.run], timeout=PATIENCE)
        assert rig.run.done()
        assert asyncio.all_tasks() <= before | {asyncio.current_task()}


async def test_these_tests_run_on_the_servers_loop() -> None:
    assert isinstance(asyncio.get_running_loop(), uvloop.Loop)


async def test_the_first_event_is_the_sessions() -> None:
    async with running(Rig()) as rig:
        assert rig.kinds() == ["session.created"]


async def test_a_reply_goes_to_the_engine_and_back() -> None:
    async with running(Rig()) as rig:
        rig.connection.say(CreateResponse())
        await until(lambda: "response.done" in rig.kinds())
        assert [type(command) for command in rig.engine.commands] == [StartReply]
        assert rig.kinds() == ["session.created", "response.created", "response.done"]


async def test_a_gone_client_ends_the_run_without_a_close() -> None:
    async with running(Rig()) as rig:
        rig.connection.say(ConnectionOverError())
        assert await rig.over() is None


async def test_a_violation_names_the_close() -> None:
    async with running(Rig()) as rig:
        rig.connection.say(ConnectionOverError(CloseSession(code=1003, reason="text only")))
        assert await rig.over() == CloseSession(code=1003, reason="text only")


async def test_an_unreadable_event_is_answered_and_the_session_goes_on() -> None:
    async with running(Rig()) as rig:
        rig.connection.say(PeerError("No such type.", code="invalid_value", param="type", event_id="mine"))
        rig.connection.say(CreateResponse())
        await until(lambda: "response.done" in rig.kinds())
        error = rig.connection.heard[1]
        assert isinstance(error, ErrorEvent)
        detail = error.error
        assert (detail.type, detail.code, detail.param, detail.event_id) == (
            "invalid_request_error",
            "invalid_value",
            "type",
            "mine",
        )
        assert not any(isinstance(event, PeerError) for event in rig.session.received)
        assert rig.count("muse_bad_client_events_total") == 1


async def test_the_sessions_close_comes_after_what_it_said_before() -> None:
    session = FakeSession()
    session.outputs.extend([error_event("too long"), CloseSession(code=1000, reason="time is up")])
    session.outputs.append(error_event("never sent"))
    async with running(Rig(session=session)) as rig:
        assert await rig.over() == CloseSession(code=1000, reason="time is up")
        assert rig.kinds() == ["session.created", "error"]


async def test_a_client_that_says_nothing_is_closed() -> None:
    async with running(Rig(first_event=0.02)) as rig:
        close = await rig.over()
        assert close is not None
        assert close.code == 1008


async def test_a_client_that_has_spoken_may_be_silent() -> None:
    rig = Rig(first_event=0.02)
    rig.connection.say(UpdateSession(session={}))
    async with running(rig):
        await asyncio.sleep(0.05)
        assert not rig.run.done()


async def test_a_slow_consumer_is_dropped() -> None:
    async with running(Rig(room=2)) as rig:
        rig.connection.say(CreateResponse())
        close = await rig.over()
        assert close is not None
        assert close.code == 1013
        assert rig.count("muse_slow_consumer_drops_total") == 1


async def test_voice_is_answered_in_order() -> None:
    ends = [512 * (n + 1) for n in range(20)]
    session = FakeSession(
        script=lambda event: (
            [DetectVoice(end=end, audio=SILENCE) for end in ends] if isinstance(event, AppendAudio) else []
        )
    )
    async with running(Rig(session=session)) as rig:
        rig.connection.say(APPEND)
        await until(lambda: len(session.received) == 21)
        answers = [event for event in session.received if isinstance(event, VoiceProbability)]
        assert [answer.end for answer in answers] == ends
        assert [answer.probability for answer in answers] == [n / 1000 for n in range(1, 21)]


async def test_the_client_is_not_read_while_voice_detection_lags() -> None:
    frames = [DetectVoice(end=n, audio=SILENCE) for n in range(MAX_VOICE_FRAMES + 20)]
    session = FakeSession(script=lambda event: list(frames) if isinstance(event, AppendAudio) else [])
    async with running(Rig(session=session)) as rig:
        gate = asyncio.Event()
        rig.voice.gate = gate
        rig.connection.say(APPEND)
        rig.connection.say(APPEND)
        await until(lambda: rig.connection.unread < 2)
        await settled()
        assert rig.connection.unread == 1
        gate.set()
        await until(lambda: rig.connection.unread == 0)


async def test_one_turn_prediction_at_a_time_and_the_newest_wins() -> None:
    ends = iter((1, 2, 3))
    session = FakeSession(
        script=lambda event: [PredictTurnEnd(end=next(ends), audio=SILENCE)] if isinstance(event, AppendAudio) else []
    )
    async with running(Rig(session=session)) as rig:
        rig.connection.say(APPEND)
        await until(lambda: rig.turns.open == 1)
        rig.connection.say(APPEND)
        rig.connection.say(APPEND)
        await until(lambda: rig.connection.unread == 0)
        rig.turns.answers.put_nowait(0.1)
        rig.turns.answers.put_nowait(0.9)
        await until(lambda: sum(isinstance(event, TurnEndProbability) for event in session.received) == 2)
        answers = [event for event in session.received if isinstance(event, TurnEndProbability)]
        assert [(answer.end, answer.probability) for answer in answers] == [(1, 0.1), (3, 0.9)]
        assert rig.turns.most_open == 1


async def test_a_failed_prediction_is_counted_and_the_next_one_asked() -> None:
    session = FakeSession(
        script=lambda event: [PredictTurnEnd(end=1, audio=SILENCE)] if isinstance(event, AppendAudio) else []
    )
    async with running(Rig(session=session)) as rig:
        rig.turns.answers.put_nowait(RuntimeError("broken"))
        rig.turns.answers.put_nowait(0.5)
        rig.connection.say(APPEND)
        await until(lambda: rig.count("muse_engine_errors_total", code="turn_detector") == 1)
        rig.connection.say(APPEND)
        await until(lambda: any(isinstance(event, TurnEndProbability) for event in session.received))


async def test_the_engine_is_not_read_while_the_backlog_is_long() -> None:
    async with running(Rig()) as rig:
        rig.session.backlog = MAX_BACKLOG + 0.1
        for _ in range(3):
            rig.engine.queue.put_nowait(ReplyText(response_id="r", text="x"))
        await until(lambda: rig.engine.read > 0)
        await settled()
        assert rig.engine.read == 1
        rig.session.backlog = 0.0
        rig.connection.say(UpdateSession(session={}))
        await until(lambda: rig.engine.read == 3)


async def test_a_transcript_passes_while_a_long_reply_is_held() -> None:
    question = Message(id="q", role="user", content=(InputAudio(audio=bytes(48_000)),))
    session = real_session()
    async with running(Rig(core=session)) as rig:
        rig.engine.hold = True
        rig.connection.say(UpdateSession(session={"audio": {"input": {"transcription": {}}}}))
        rig.connection.say(CreateItem(item=question))
        rig.connection.say(CreateResponse())
        await until(lambda: any(isinstance(command, StartReply) for command in rig.engine.commands))
        [start] = [command for command in rig.engine.commands if isinstance(command, StartReply)]
        second = np.zeros(INFO.output_rate, np.float32)
        for number in range(10):
            reply = ReplyAudio(response_id=start.response_id, audio=second, text_end=number)
            rig.engine.queue.put_nowait(reply)
        rig.engine.queue.put_nowait(Transcript(item_id="q", revision=1, text="what is new"))
        transcribed = "conversation.item.input_audio_transcription.completed"
        await until(lambda: transcribed in rig.kinds())
        assert session.backlog > 9


@pytest.mark.parametrize("ending", [None, RuntimeError("gone"), EngineLost(message="gone")])
async def test_a_lost_engine_is_told_to_the_session_once(ending: Exception | EngineLost | None) -> None:
    async with running(Rig()) as rig:
        rig.engine.queue.put_nowait(ending)
        rig.engine.queue.put_nowait(None)
        await until(lambda: any(isinstance(event, EngineLost) for event in rig.session.received))
        await settled()
        assert rig.count("muse_engine_errors_total", code="engine_lost") == 1
        assert sum(isinstance(event, EngineLost) for event in rig.session.received) == 1
        assert not rig.run.done()


async def test_a_defect_met_by_an_engine_event_is_not_the_engines() -> None:
    def script(event: Input) -> list[Output]:
        assert not isinstance(event, ReplyText), "session defect"
        return []

    async with running(Rig(session=FakeSession(script=script))) as rig:
        rig.engine.queue.put_nowait(ReplyText(response_id="r", text="x"))
        with pytest.raises(AssertionError, match="session defect"):
            await rig.over()
        assert rig.count("muse_engine_errors_total", code="engine_lost") == 0


async def test_the_timer_rings_when_it_is_due_and_not_before() -> None:
    async with running(Rig()) as rig:
        due = time.monotonic_ns() + 20_000_000
        rig.session.due = due
        rig.connection.say(UpdateSession(session={}))
        await until(lambda: bool(rig.session.timeouts))
        assert due <= rig.session.timeouts[0]
        assert len(rig.session.timeouts) == 1


async def test_a_timer_can_be_moved_and_taken_back() -> None:
    class Rung(FakeSession):
        rings = 0

        def handle_timeout(self, *, now: int) -> None:
            self.rings += 1
            super().handle_timeout(now=now)

    session = Rung()

    async def move(due: int | None) -> None:
        session.due = due
        rig.connection.say(UpdateSession(session={}))
        await until(lambda: rig.connection.unread == 0)

    async with running(Rig(session=session)) as rig:
        await move(time.monotonic_ns() + 3600 * 1_000_000_000)
        await move(time.monotonic_ns())
        await until(lambda: session.rings)
        await move(time.monotonic_ns() + 50_000_000)
        await move(None)
        rings = session.rings  # two, where the machine was too slow to take it back in time
        await asyncio.sleep(0.1)
        assert session.rings == rings


async def test_observations_are_counted_and_not_sent() -> None:
    session = FakeSession()
    session.outputs.append(Underrun(response_id="r", gap=40_000_000))
    session.outputs.append(SpeculationEnded(response_id="r", used=False))
    async with running(Rig(session=session)) as rig:
        assert rig.kinds() == ["session.created"]
        assert rig.count("muse_underruns_total") == 1
        assert rig.count("muse_underrun_gap_seconds_total") == pytest.approx(0.04)
        assert rig.count("muse_speculations_total", outcome="wasted") == 1


async def test_a_defect_in_the_session_is_raised() -> None:
    async with running(Rig()) as rig:
        rig.connection.say(UpdateSession(session={"type": "defect"}))
        with pytest.raises(RuntimeError, match="defect"):
            await rig.over()


async def test_a_defect_in_the_timer_is_raised() -> None:
    class Broken(FakeSession):
        def handle_timeout(self, *, now: int) -> None:
            raise RuntimeError("timer defect")

    session = Broken()
    session.due = time.monotonic_ns()
    async with running(Rig(session=session)) as rig:
        with pytest.raises(RuntimeError, match="timer defect"):
            await rig.over()


async def test_cancelling_the_run_leaves_no_task() -> None:
    async with running(Rig()) as rig:
        rig.run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await rig.over()


async def test_winding_down_an_idle_conversation_ends_it_at_once() -> None:
    async with running(Rig()) as rig:
        rig.driver.wind_down("Going.")
        close = await rig.over()
        assert close is not None
        assert close.code == 1012
        notice = rig.connection.heard[-1]
        assert isinstance(notice, Notice)
        assert (notice.code, notice.message) == ("server_restarting", "Going.")


async def test_winding_down_waits_for_the_reply() -> None:
    async with running(Rig()) as rig:
        rig.engine.hold = True
        rig.connection.say(CreateResponse())
        await until(lambda: "response.created" in rig.kinds())
        rig.driver.wind_down("Going.")
        await settled()
        assert not rig.run.done()
        rig.engine.finish("r1")
        close = await rig.over()
        assert close is not None
        assert close.code == 1012
        assert isinstance(rig.connection.heard[-1], ResponseDone)


async def test_winding_down_ends_with_the_turn_or_at_the_deadline() -> None:
    async with running(Rig()) as rig:
        rig.session.busy = True
        rig.driver.wind_down("Going.")
        rig.connection.say(APPEND)
        await until(lambda: rig.connection.unread == 0)
        await settled()
        assert not rig.run.done()
        rig.driver.stop(CloseSession(code=1012, reason="deadline"))
        assert await rig.over() == CloseSession(code=1012, reason="deadline")


async def test_winding_down_does_not_wait_for_a_reply_that_nobody_asked_for() -> None:
    async with running(Rig(core=real_session())) as rig:
        rig.connection.say(UpdateSession(session={"audio": {"input": {"turn_detection": None}}}))
        rig.connection.say(AppendAudio(audio=bytes(48_000)))
        rig.connection.say(CommitAudio())
        await until(lambda: "input_audio_buffer.committed" in rig.kinds())
        rig.driver.wind_down("Going.")
        close = await rig.over()
        assert close is not None
        assert close.code == 1012
