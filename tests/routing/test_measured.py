from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping

import numpy as np
import pytest

from routing.measured import FrameMeter, MeasuredSession
from streaming.engine import (
    Begin,
    EngineCommand,
    EngineEvent,
    EngineInfo,
    EngineLost,
    HearAudio,
    ReplyFailed,
    ReplyText,
    Speech,
)

RATE = 24_000
FRAME = 1920  # 80 ms
MS = 1_000_000
DUPLEX = EngineInfo(model="m", input_rate=RATE, output_rate=RATE, duplex=True)
TURNS = EngineInfo(model="m", input_rate=16_000, output_rate=RATE)


def played(arrivals: Mapping[int, float], *, sent: Mapping[int, float] | None = None) -> list[int]:
    """The numbers of the frames that count as late, each of which comes at its time (ms) of `arrivals`."""
    meter = FrameMeter(RATE)
    for number in arrivals:
        meter.sent(FRAME, now=round((sent or {}).get(number, number * 80) * MS))
    return [number for number, at in arrivals.items() if meter.came((number + 1) * FRAME, now=round(at * MS))]


def test_frames_that_come_back_in_two_ticks_are_in_time() -> None:
    assert played({number: number * 80 + 150 for number in range(100)}) == []


def test_an_engine_that_took_its_prompt_in_first_is_in_time() -> None:
    assert played({number: 3000 + number * 80 for number in range(100)}) == []


def test_a_stall_counts_once_where_the_frames_go_on_from_it() -> None:
    late = {number: number * 80 + (90 if number < 5 else 590) for number in range(20)}
    assert played(late) == [5]


def test_a_stall_counts_for_all_the_ticks_that_it_took() -> None:
    meter = FrameMeter(RATE)
    for _ in range(3):
        meter.sent(FRAME, now=0)
    at = (0, 80 + 800, 80 + 800 + 80)
    assert [meter.came((number + 1) * FRAME, now=ms * MS) for number, ms in enumerate(at)] == [0, 10, 0]


def test_ticks_that_take_too_long_are_late_again_and_again() -> None:
    late = played({number: 80 + number * 100 for number in range(100)})
    assert 8 <= len(late) <= 14  # 20 ms more with each, and a frame is late at 160


def test_a_client_that_sends_a_second_at_once_makes_no_frame_late() -> None:
    """They are heard one a tick, whenever they were sent."""
    sent = {number: (number // 12) * 960.0 for number in range(48)}
    assert played({number: 80 + number * 80 for number in range(48)}, sent=sent) == []


def test_what_answers_nothing_that_was_sent_is_not_late() -> None:
    meter = FrameMeter(RATE)
    assert not meter.came(0, now=10**12)
    for _ in range(2):
        meter.sent(FRAME, now=0)
    assert not meter.came(FRAME, now=0)
    assert meter.came(2 * FRAME, now=10**12)
    assert not meter.came(2 * FRAME, now=2 * 10**12)
    assert not meter.came(5 * FRAME, now=2 * 10**12)


class Scripted:
    """An engine's session that says what it is told to, then ends, or raises."""

    def __init__(self, *events: EngineEvent | Exception) -> None:
        self.commands: list[EngineCommand] = []
        self.closed = False
        self._events = events

    def send(self, command: EngineCommand) -> None:
        self.commands.append(command)

    async def events(self) -> AsyncIterator[EngineEvent]:
        for event in self._events:
            if isinstance(event, Exception):
                raise event
            yield event

    async def close(self) -> None:
        self.closed = True


async def run(
    *events: EngineEvent | Exception, info: EngineInfo = TURNS
) -> tuple[MeasuredSession, list[tuple[int, int]]]:
    told: list[tuple[int, int]] = []
    session = MeasuredSession(Scripted(*events), info, clock=lambda: 0, on_frames=lambda *frames: told.append(frames))
    with contextlib.suppress(RuntimeError):
        assert [event async for event in session.events()] == list(events)
    return session, told


def failure(code: str) -> ReplyFailed:
    return ReplyFailed(response_id="r", code=code, message="")


@pytest.mark.parametrize(
    ("events", "lost", "failed"),
    [
        ((ReplyText(response_id="r", text=""), EngineLost(message="gone")), True, True),
        ((failure("container_failed"), EngineLost(message="gone")), True, True),
        ((RuntimeError("a defect"),), True, True),
        ((), True, True),
    ],
)
async def test_an_engine_that_goes_away_has_failed_the_session(
    events: tuple[EngineEvent | Exception, ...], lost: bool, failed: bool
) -> None:
    session, _ = await run(*events)
    assert (session.lost, session.failed) == (lost, failed)


@pytest.mark.parametrize(
    ("code", "failed"), [("engine_error", True), ("speech_needed", False), ("turn_too_long", False)]
)
async def test_a_failed_reply_is_the_engine_s_fault_unless_the_client_asked_for_what_cannot_be(
    code: str, failed: bool
) -> None:
    session = MeasuredSession(Scripted(failure(code)), TURNS, clock=lambda: 0, on_frames=lambda *_: None)
    async for _ in session.events():
        assert (session.lost, session.failed) == (False, failed)
        await session.close()
    assert (session.lost, session.failed) == (False, failed)


async def test_a_session_that_is_closed_has_not_failed() -> None:
    inner = Scripted()
    session = MeasuredSession(inner, TURNS, clock=lambda: 0, on_frames=lambda *_: None)
    await session.close()
    assert [event async for event in session.events()] == []
    assert (inner.closed, session.lost, session.failed) == (True, False, False)


async def test_frames_are_told_now_and_then_and_late_ones_at_once() -> None:
    now = 0
    told: list[tuple[int, int]] = []
    speech = [Speech(audio=np.zeros(FRAME, np.float32), heard=(number + 1) * FRAME) for number in range(60)]
    inner = Scripted(*speech)
    session = MeasuredSession(inner, DUPLEX, clock=lambda: now, on_frames=lambda *frames: told.append(frames))
    commands: list[EngineCommand] = [Begin(instructions="", voice="")]
    commands += [HearAudio(audio=np.zeros(FRAME, np.float32)) for _ in speech]
    for command in commands:
        session.send(command)
    assert inner.commands == commands
    number = 0
    async for _ in session.events():
        number += 1
        now = number * 80 * MS + (200 * MS if number == 30 else 0)
    await session.close()
    assert told == [(25, 0), (7, 2), (25, 0), (4, 0)]
