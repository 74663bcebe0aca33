import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import ParamSpec, TypeVar

import numpy as np
import pytest

from models.worker.admission import Admission
from models.worker.batch import FrameOut, SlotOptions, Step
from models.worker.echo import EchoBatch
from models.worker.intake import HeardFrame
from models.worker.metrics import WorkerMetrics
from models.worker.ticks import PERIOD, Grid, Ticks
from streaming.engine import FrameTimes, Samples
from streaming.errors import EngineError, PeerError
from streaming.wire.moshi import FRAME_SAMPLES
from tests.models import virtual_time

MS = 1_000_000
P = ParamSpec("P")
T = TypeVar("T")


# --- the grid ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ends", "missed", "due"),
    [
        (0, 0, 80),
        (80, 0, 80),
        (81, 1, 80),  # late by little: it begins at once, and nobody loses a frame
        (100, 1, 80),
        (101, 1, 160),
        (160, 1, 160),
        (170, 2, 160),  # late by little again
        (181, 2, 240),
        (240, 2, 240),
        (805, 10, 800),
        (830, 10, 880),
    ],
)
def test_the_next_tick_after_one_that_ends_then(ends: int, missed: int, due: int) -> None:
    grid = Grid(0)
    assert grid.advance(ends * MS) == missed
    assert grid.due >= (ends - 20) * MS
    assert grid.due == due * MS


def test_the_grid_does_not_drift() -> None:
    grid = Grid(7)
    for tick in range(10_000):
        assert grid.due == 7 + tick * PERIOD
        grid.advance(grid.due + 3 * MS + tick % 1000)


# --- the loop, in virtual time -------------------------------------------------------------------------------------


class Batch(EchoBatch):
    """An echo that takes time, or breaks, as it is told."""

    def __init__(self, slots: int = 4) -> None:
        super().__init__(slots)
        self.cost: Callable[[int], int] = lambda tick: 10 * MS
        self.piece_cost = 3 * MS
        self.pieces = 1
        self.spend = 0
        self.steps: list[tuple[int, ...]] = []
        self.log: list[tuple[str, int]] = []
        self.failed: dict[int, str] = {}
        self.broken = False

    def join(self, slot: int, options: SlotOptions) -> None:
        super().join(slot, options)
        self.left = self.pieces
        self.log.append(("join", virtual_time.now_ns()))

    def leave(self, slot: int) -> None:
        super().leave(slot)
        self.log.append(("leave", virtual_time.now_ns()))

    def prepare(self) -> bool:
        self.spend = self.piece_cost
        self.log.append(("prepare", virtual_time.now_ns()))
        self.left -= 1
        return self.left > 0 or super().prepare()

    def ready(self, slot: int) -> bool:
        if slot not in self._heard and slot not in self._joining:
            raise KeyError(slot)  # as a model may that knows no such conversation
        return super().ready(slot)

    def step(self, frames: Mapping[int, Samples]) -> Step:
        if self.broken:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        self.spend = self.cost(len(self.steps))
        self.steps.append(tuple(frames))
        self.log.append(("step", virtual_time.now_ns()))
        step = super().step(frames)
        whole = {slot: out for slot, out in step.frames.items() if slot not in self.failed}
        return Step(frames=whole, failed=self.failed, encode=0, model=self.spend, decode=0)


class Calls:
    """Makes the calls at once and lets as much virtual time pass as the batch says."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        self._batch.spend = 0
        try:
            return function(*args, **kwargs)
        finally:
            await asyncio.sleep(self._batch.spend / 1e9)


class Client:
    """A seat whose frames come when `has` says so; `has` is asked by tick."""

    def __init__(self, has: Callable[[int], bool] = lambda tick: True) -> None:
        self._has = has
        self.asked = 0
        self.listens_at: int | None = None
        self.heard: list[Samples] = []
        self.times: list[FrameTimes] = []
        self.said_at: list[int] = []
        self.failure: str | None = None
        self.raises = False

    def take(self) -> HeardFrame | None:
        self.asked += 1
        if not self._has(self.asked - 1):
            return None
        return HeardFrame(np.full(FRAME_SAMPLES, self.asked / 1000, np.float32), virtual_time.now_ns() - 5 * MS)

    def listen(self) -> None:
        self.listens_at = virtual_time.now_ns()

    def deliver(self, out: FrameOut, times: FrameTimes) -> None:
        if self.raises:
            raise OSError("the network is gone")
        self.heard.append(out.audio)
        self.times.append(times)
        self.said_at.append(virtual_time.now_ns())

    def fail(self, message: str) -> None:
        self.failure = message


class Rig:
    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.metrics = WorkerMetrics()
        self.admission = Admission(limit=70 * MS)
        self.ticks = Ticks(
            batch, Calls(batch), clock=virtual_time.now_ns, admission=self.admission, metrics=self.metrics
        )
        self.running = asyncio.create_task(self.ticks.run())

    def count(self, name: str) -> float:
        return self.metrics.registry.get_sample_value(f"muse_worker_{name}") or 0.0

    async def join(self, slot: int, client: Client) -> Client:
        await self.ticks.join(slot, SlotOptions(), client)
        return client


def run(scenario: Callable[[Rig], Awaitable[None]], batch: Batch | None = None) -> None:
    async def main() -> None:
        rig = Rig(batch or Batch())
        await scenario(rig)
        rig.running.cancel()
        await asyncio.gather(rig.running, return_exceptions=True)

    virtual_time.run(main())


def test_ticks_lie_on_the_grid_and_answer_each_frame() -> None:
    async def scenario(rig: Rig) -> None:
        client = await rig.join(0, Client())
        await asyncio.sleep(8.05)
        steps = [at for name, at in rig.batch.log if name == "step"]
        assert len(steps) == pytest.approx(100, abs=1)
        assert {at % PERIOD for at in steps} == {0}
        assert len(client.heard) == len(steps)
        np.testing.assert_array_equal(client.heard[5], np.full(FRAME_SAMPLES, 5 / 1000, np.float32))
        assert client.times[0] == FrameTimes(queue=5 * MS, model=10 * MS)
        assert client.said_at[0] == steps[0] + 10 * MS
        assert rig.count("deadlines_missed_total") == 0

    run(scenario)


def test_a_slot_without_a_frame_sits_out_and_the_batch_goes_on() -> None:
    async def scenario(rig: Rig) -> None:
        steady, patchy = await rig.join(0, Client()), await rig.join(1, Client(lambda tick: tick % 3 != 0))
        start = len(rig.batch.steps)
        await asyncio.sleep(60 * 0.08)
        steps = rig.batch.steps[start:]
        assert all(0 in step for step in steps)
        assert sum(1 in step for step in steps) == pytest.approx(40, abs=2)
        assert rig.count("frames_sat_out_total") == pytest.approx(20, abs=2)
        assert len(steady.heard) > len(patchy.heard)

    run(scenario)


def test_without_frames_the_batch_is_not_called() -> None:
    async def scenario(rig: Rig) -> None:
        await rig.join(0, Client(lambda tick: False))
        await asyncio.sleep(4)
        assert rig.batch.steps == []

    run(scenario)


def test_a_tick_that_is_late_by_little_costs_no_frame_and_one_that_is_late_by_much_is_skipped_to_the_grid() -> None:
    batch = Batch()
    batch.cost = lambda tick: {10: 90 * MS, 20: 200 * MS}.get(tick, 10 * MS)

    async def scenario(rig: Rig) -> None:
        await rig.join(0, Client())
        await asyncio.sleep(4)
        steps = [at for name, at in batch.log if name == "step"]
        gaps = np.diff(steps) // MS
        assert gaps[10] == 90
        assert gaps[11] == 70  # back on the grid
        assert gaps[20] == 240
        assert set(gaps) == {80, 90, 70, 240}
        assert rig.count("deadlines_missed_total") == 1 + 2
        assert rig.count("tick_late_seconds_sum") == pytest.approx(0.01)  # of the one that began at once
        assert rig.count("tick_cost_seconds_sum") == pytest.approx(0)  # all else was the model's
        plain = rig.count("tick_seconds_count") - 2
        assert rig.count("tick_seconds_sum") == pytest.approx(0.01 * plain + 0.09 + 0.2 + 0.01)

    run(scenario, batch)


def test_ticks_that_are_always_too_long_do_not_pile_up_and_close_the_door() -> None:
    batch = Batch()
    batch.cost = lambda tick: 85 * MS

    async def scenario(rig: Rig) -> None:
        await rig.join(0, Client())
        await asyncio.sleep(10)
        steps = [at for name, at in batch.log if name == "step"]
        lateness = [at % PERIOD for at in steps]
        assert max(lateness) <= 20 * MS
        assert rig.admission.overloaded

    run(scenario, batch)


def test_prompts_are_taken_in_between_the_steps_and_never_delay_one() -> None:
    batch = Batch()
    batch.cost = lambda tick: 60 * MS

    async def scenario(rig: Rig) -> None:
        talker = await rig.join(0, Client())
        await asyncio.sleep(1)
        batch.pieces = 30
        joiner = await rig.join(1, Client())
        await asyncio.sleep(2)
        assert joiner.listens_at is not None
        steps = [at for name, at in batch.log if name == "step"]
        assert {at % PERIOD for at in steps} == {0}
        # At 3 ms a piece, six of them go into the 20 ms that a step leaves.
        assert joiner.listens_at - batch.log[-1][1] < 0
        assert len(talker.heard) == pytest.approx(3 / 0.08, abs=2)
        assert rig.count("deadlines_missed_total") == 0

    run(scenario, batch)


def test_one_slow_piece_of_a_prompt_does_not_end_all_preparing() -> None:
    batch = Batch()
    batch.piece_cost = 200 * MS

    async def scenario(rig: Rig) -> None:
        await rig.join(0, Client())
        batch.piece_cost = 3 * MS
        joiner = await rig.join(1, Client())
        await asyncio.sleep(1)
        assert joiner.listens_at is not None

    run(scenario, batch)


def test_one_slow_piece_does_not_end_all_preparing_beside_long_steps_either() -> None:
    batch = Batch()
    batch.cost = lambda tick: 60 * MS

    async def scenario(rig: Rig) -> None:
        talker = await rig.join(0, Client())
        await asyncio.sleep(0.4)
        batch.piece_cost = 200 * MS
        await rig.join(1, Client())
        await asyncio.sleep(0.4)
        batch.piece_cost = 3 * MS
        heard = len(talker.heard)
        joiner = await rig.join(2, Client())
        await asyncio.sleep(2)
        assert joiner.listens_at is not None
        assert len(talker.heard) - heard >= 24

    run(scenario, batch)


def test_nobody_is_asked_for_frames_before_the_prompt_is_in() -> None:
    async def scenario(rig: Rig) -> None:
        rig.batch.pieces = 10_000
        joiner = await rig.join(0, Client())
        await asyncio.sleep(4)
        assert (joiner.asked, joiner.listens_at) == (0, None)

    run(scenario)


def test_leaving_frees_the_slot_for_another_even_where_no_time_is_left() -> None:
    batch = Batch()

    async def scenario(rig: Rig) -> None:
        first = await rig.join(0, Client())
        await asyncio.sleep(0.4)
        batch.cost = lambda tick: 200 * MS
        await asyncio.sleep(1)
        heard = len(first.heard)
        await rig.ticks.leave(0)
        await asyncio.sleep(1)
        assert len(first.heard) == heard
        second = await rig.join(0, Client())
        await asyncio.sleep(1)
        assert second.heard[0].size == 0  # nothing of the first is left in it

    run(scenario, batch)


def test_who_leaves_before_the_prompt_is_in_is_not_asked_after() -> None:
    async def scenario(rig: Rig) -> None:
        talker = await rig.join(0, Client())
        rig.batch.pieces = 10_000
        gone = await rig.join(1, Client())
        await rig.join(2, Client())
        await asyncio.sleep(0.2)
        await rig.ticks.leave(1)
        await asyncio.sleep(0.5)
        assert not rig.ticks.broken
        assert talker.failure is None
        assert (gone.listens_at, gone.asked) == (None, 0)

    run(scenario)


def test_leaving_needs_no_time_between_the_steps() -> None:
    batch = Batch()
    batch.cost = lambda tick: 80 * MS  # each ends when the next is due

    async def scenario(rig: Rig) -> None:
        await rig.join(0, Client())
        await rig.join(1, Client())
        await asyncio.sleep(1)
        async with asyncio.timeout(0.5):
            await rig.ticks.leave(1)
        assert ("leave", virtual_time.now_ns()) in batch.log

    run(scenario, batch)


def test_a_caller_who_gives_up_while_joining_leaves_an_empty_slot() -> None:
    batch = Batch()

    async def scenario(rig: Rig) -> None:
        await rig.join(0, Client())
        await asyncio.sleep(0.4 + 0.001)  # within a step: nothing is served before it ends
        gone = asyncio.create_task(rig.join(1, Client()))
        await asyncio.sleep(0)
        gone.cancel()
        await rig.ticks.leave(1)
        assert [name for name, _ in batch.log if name in ("join", "leave")] == ["join", "join", "leave"]
        with pytest.raises(KeyError):
            batch.ready(1)
        next_caller = await rig.join(1, Client())
        await asyncio.sleep(0.4)
        assert next_caller.heard[0].size == 0

    run(scenario, batch)


def test_what_is_late_while_nobody_speaks_is_no_deadline_missed() -> None:
    batch = Batch()
    batch.piece_cost = 200 * MS

    async def scenario(rig: Rig) -> None:
        await rig.join(0, Client(lambda tick: False))
        await asyncio.sleep(1)
        assert rig.count("deadlines_missed_total") == 0

    run(scenario, batch)


def test_a_join_that_the_model_refuses_is_that_callers_only_and_leaves_nothing() -> None:
    async def scenario(rig: Rig) -> None:
        client = await rig.join(0, Client())
        with pytest.raises(PeerError, match="unknown voice"):
            await rig.ticks.join(1, SlotOptions(voice="nobody"), Client())
        await rig.ticks.leave(1)
        assert ("leave", 0) not in rig.batch.log
        assert [name for name, _ in rig.batch.log].count("leave") == 0
        await asyncio.sleep(1)
        assert len(client.heard) > 10

    run(scenario)


def test_a_slot_that_fails_is_told_and_its_neighbour_goes_on() -> None:
    async def scenario(rig: Rig) -> None:
        good, bad = await rig.join(0, Client()), await rig.join(1, Client())
        await asyncio.sleep(0.4)
        rig.batch.failed = {1: "the model's output is not finite"}
        await asyncio.sleep(0.4)
        assert bad.failure == "the model's output is not finite"
        assert good.failure is None
        assert len(good.heard) > len(bad.heard) + 3

    run(scenario)


def test_a_client_that_cannot_be_sent_to_stops_nobody_else() -> None:
    async def scenario(rig: Rig) -> None:
        good, bad = await rig.join(0, Client()), await rig.join(1, Client())
        bad.raises = True
        await asyncio.sleep(0.8)
        assert bad.failure == "the answer could not be sent"
        assert good.failure is None
        assert len(good.heard) >= 9

    run(scenario)


def test_a_step_that_raises_fails_everybody_and_ends_the_loop() -> None:
    async def scenario(rig: Rig) -> None:
        clients = [await rig.join(slot, Client()) for slot in range(3)]
        await asyncio.sleep(0.4)
        rig.batch.broken = True
        with pytest.raises(EngineError, match="the model has failed: RuntimeError"):
            await rig.running
        assert rig.ticks.broken
        assert {client.failure for client in clients} == {"the model has failed"}
        with pytest.raises(EngineError):
            await rig.ticks.leave(0)

    run(scenario)


def test_a_call_that_hangs_is_seen() -> None:
    batch = Batch()
    batch.cost = lambda tick: 3600 * 1000 * MS if tick == 5 else MS

    async def scenario(rig: Rig) -> None:
        await rig.join(0, Client())
        await asyncio.sleep(0.3)
        assert not rig.ticks.stalled
        await asyncio.sleep(2)
        assert rig.ticks.stalled

    run(scenario, batch)
