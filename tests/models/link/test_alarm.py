"""The watchdog's timer, in virtual time."""

import asyncio
from collections.abc import Awaitable, Callable

from models.link.alarm import Alarm
from models.link.watchdog import FRAME_NS, Watchdog
from streaming.wire.moshi import FRAME_SAMPLES
from tests.models import virtual_time

FRAME = FRAME_NS / 1e9


class Rig:
    """A worker that listens and owes an answer; the clock may run ahead of the loop's, which was held up then."""

    def __init__(self) -> None:
        self.held_up = 0
        self.paused = False
        self.rang: list[int] = []
        self.dog = Watchdog(patience=3, prepare=100)
        self.alarm = Alarm(
            self.dog, clock=self.now, paused=lambda: self.paused, ring=lambda: self.rang.append(self.now())
        )

    def now(self) -> int:
        return virtual_time.now_ns() + self.held_up

    def owe(self) -> int:
        self.dog.listens(self.now())
        self.dog.sent(FRAME_SAMPLES, self.now())
        self.alarm.arm()
        return self.now()


def run(scenario: Callable[[Rig], Awaitable[None]]) -> None:
    async def main() -> None:
        await scenario(Rig())

    virtual_time.run(main())


def test_it_rings_when_the_time_has_come() -> None:
    async def scenario(rig: Rig) -> None:
        since = rig.owe()
        await asyncio.sleep(10 * FRAME)
        assert rig.rang == [since + 3 * FRAME_NS]

    run(scenario)


def test_each_answer_puts_it_off() -> None:
    async def scenario(rig: Rig) -> None:
        since = rig.owe()
        rig.dog.sent(5 * FRAME_SAMPLES, rig.now())
        for answer in range(5):
            await asyncio.sleep(2 * FRAME)
            rig.dog.answered(1 + answer, rig.now())
            rig.alarm.arm()
        assert rig.rang == []
        await asyncio.sleep(10 * FRAME)
        assert rig.rang == [since + 13 * FRAME_NS]

    run(scenario)


def test_a_time_that_comes_nearer_counts() -> None:
    async def scenario(rig: Rig) -> None:
        rig.dog.begins(rig.now())
        rig.alarm.arm()
        await asyncio.sleep(1)
        since = rig.owe()
        await asyncio.sleep(10 * FRAME)
        assert rig.rang == [since + 3 * FRAME_NS]

    run(scenario)


def test_it_does_not_ring_while_nobody_reads_and_does_afterwards() -> None:
    async def scenario(rig: Rig) -> None:
        rig.owe()
        rig.paused = True
        await asyncio.sleep(10 * FRAME)
        assert rig.rang == []
        rig.paused = False
        rig.alarm.arm()
        await asyncio.sleep(2 * FRAME)
        assert len(rig.rang) == 1

    run(scenario)


def test_a_process_that_was_held_up_itself_reads_first_and_judges_then() -> None:
    async def scenario(rig: Rig) -> None:
        rig.owe()
        await asyncio.sleep(2 * FRAME)
        rig.held_up = 4 * FRAME_NS
        await asyncio.sleep(1.5 * FRAME)
        assert rig.rang == []
        rig.dog.answered(1, rig.now())  # it had been there all the while
        await asyncio.sleep(10 * FRAME)
        assert rig.rang == []

        rig.dog.sent(FRAME_SAMPLES, rig.now())
        rig.alarm.arm()
        rig.held_up = 8 * FRAME_NS
        await asyncio.sleep(10 * FRAME)  # and now it is not
        assert len(rig.rang) == 1

    run(scenario)


def test_one_that_is_turned_off_never_rings() -> None:
    async def scenario(rig: Rig) -> None:
        rig.owe()
        rig.alarm.turn_off()
        rig.alarm.arm()
        await asyncio.sleep(10 * FRAME)
        assert rig.rang == []

    run(scenario)
