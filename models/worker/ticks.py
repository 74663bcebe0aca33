"""The tick loop: every 80 ms each conversation that has a frame is advanced by it, all in one step of the batch.

The ticks lie on a grid of absolute times, so that they do not drift. A tick that ends within its own period is on time.
One that runs into the next has missed its deadline: the next begins at once where it is late by little, else at a
later point of the grid, so that what is late never piles up. What time is left goes to joining and leaving slots, and
to the prompts of those who have joined.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from models.worker.admission import Admission
from models.worker.batch import DuplexBatch, FrameOut, SlotOptions, Step
from models.worker.intake import HeardFrame
from models.worker.metrics import WorkerMetrics
from models.worker.thread import Caller
from streaming.engine import FrameTimes
from streaming.errors import EngineError, PeerError

_log = logging.getLogger(__name__)

PERIOD = 80_000_000
"""ns between ticks: a frame."""

_LATE = PERIOD // 4
"""A tick that is late by no more still begins, so that a small delay costs nobody a frame."""

_STALLED = 1_000_000_000
"""A loop that has not gone round for so long hangs."""


class Seat(Protocol):
    """A conversation in a slot, as the loop sees it."""

    def take(self) -> HeardFrame | None:
        """The frame of this tick, if it has come. Called once a tick."""

    def listen(self) -> None:
        """The prompt has been taken in: frames are taken from now on."""

    def deliver(self, out: FrameOut, times: FrameTimes) -> None:
        """What the model says. Must not block."""

    def fail(self, message: str) -> None:
        """The conversation cannot go on, by no fault of its client's."""


class Grid:
    """The times at which ticks are due."""

    def __init__(self, start: int) -> None:
        self.due = start

    def advance(self, now: int) -> int:
        """Go on to the next tick that can still begin; returns how many deadlines had passed by `now`."""
        missed = max(0, -((self.due + PERIOD - now) // PERIOD))
        self.due += PERIOD
        self.due += max(0, -((self.due + _LATE - now) // PERIOD)) * PERIOD
        return missed


@dataclass(frozen=True, slots=True)
class _Request:
    """A call that waits for time between two steps. Where a `vital` one raises, the batch is broken."""

    call: Callable[[], None]
    done: asyncio.Future[None]
    vital: bool


class Ticks:
    """Drives a batch. `clock` gives monotonic ns; `calls` makes every call to the batch."""

    def __init__(
        self,
        batch: DuplexBatch,
        calls: Caller,
        *,
        clock: Callable[[], int],
        admission: Admission,
        metrics: WorkerMetrics,
    ) -> None:
        self._batch = batch
        self._calls = calls
        self._clock = clock
        self._admission = admission
        self._metrics = metrics
        self._seats: dict[int, Seat] = {}
        self._preparing: dict[int, Seat] = {}
        self._requests: deque[_Request] = deque()
        self._joined: set[int] = set()  # of the batch's thread: what it must be told to leave
        self._wake = asyncio.Event()
        self._piece = 0  # ns that a piece of the prompts takes
        self._alive = clock()
        self._stopped = False
        self.broken = False
        """Whether a step has raised; the batch is not called again."""

    @property
    def stalled(self) -> bool:
        """Whether the batch has hung in a call."""
        return self._clock() - self._alive > _STALLED

    async def join(self, slot: int, options: SlotOptions, seat: Seat) -> None:
        """Begin a conversation in a free slot; `seat.listen` is called when it can hear. Raises what the batch does."""
        await self._request(lambda: self._join(slot, options), vital=False)
        self._preparing[slot] = seat
        self._wake.set()

    async def leave(self, slot: int) -> None:
        """End the slot's conversation; when this returns the slot can be joined again, whatever became of `join`."""
        self._seats.pop(slot, None)
        self._preparing.pop(slot, None)
        await self._request(lambda: self._leave(slot), vital=True)

    async def run(self) -> None:
        """Tick until cancelled. Raises EngineError when a step has raised; every conversation has been failed then."""
        grid = Grid(self._clock())
        try:
            while True:
                await self._until(grid.due)
                began = self._clock()
                frames = await self._tick(grid.due, began)
                self._alive = now = self._clock()
                length = now - grid.due
                missed = grid.advance(now)
                self._admission.record(length)
                self._metrics.missed.inc(missed if frames else 0)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self.broken = True
            _log.exception("the batch has failed")
            for seat in [*self._seats.values(), *self._preparing.values()]:
                seat.fail("the model has failed")
            raise EngineError(f"the model has failed: {type(error).__name__}") from error
        finally:
            self._stopped = True
            for request in self._requests:
                request.done.set_exception(EngineError("the model has stopped"))
            self._requests.clear()

    # --- a tick --------------------------------------------------------------------------------------------------

    async def _tick(self, due: int, began: int) -> int:
        """Returns how many frames the batch was given."""
        seats = dict(self._seats)
        heard = {slot: frame for slot, seat in seats.items() if (frame := seat.take()) is not None}
        self._metrics.sat_out.inc(len(seats) - len(heard))
        if not heard:
            return 0
        step = await self._calls.call(self._batch.step, {slot: frame.audio for slot, frame in heard.items()})
        for slot, frame in heard.items():
            if self._seats.get(slot) is (seat := seats[slot]):
                self._hand_on(slot, seat, step, began - frame.at)
        self._metrics.observe_step(step, whole=self._clock() - due, late=began - due, frames=len(heard))
        return len(heard)

    def _hand_on(self, slot: int, seat: Seat, step: Step, waited: int) -> None:
        if slot in step.failed or slot not in step.frames:
            seat.fail(step.failed.get(slot, "the model gave no answer"))
            return
        times = FrameTimes(queue=waited, encode=step.encode, model=step.model, decode=step.decode)
        try:
            seat.deliver(step.frames[slot], times)
        except Exception as error:  # a defect in one conversation must not stop the others
            _log.error("%s while a frame was handed on", type(error).__name__)
            seat.fail("the answer could not be sent")

    # --- between ticks -------------------------------------------------------------------------------------------

    async def _until(self, due: int) -> None:
        """Use the time until `due`. A request is served even where there is none, or nobody could ever leave."""
        more_prompts = True
        # Nothing would ever be prepared again if one slow piece were taken for the rule.
        self._piece = self._piece * 9 // 10
        if self._requests:
            await self._serve(self._requests.popleft())
        while (left := due - self._clock()) > 0:
            if self._requests:
                await self._serve(self._requests.popleft())
            elif self._preparing and more_prompts and left > self._piece:
                more_prompts = await self._prepare()
            else:
                await self._sleep(left)
                more_prompts = True

    async def _sleep(self, length: int) -> None:
        self._wake.clear()
        timer = asyncio.get_running_loop().call_later(length / 1e9, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()

    async def _prepare(self) -> bool:
        """One piece of the prompts; are there more?"""
        began = self._clock()
        more, ready = await self._calls.call(self._prepare_piece, tuple(self._preparing))
        self._piece = min(max(self._clock() - began, self._piece), PERIOD // 2)
        for slot in ready:
            if (seat := self._preparing.pop(slot, None)) is not None:
                self._seats[slot] = seat
                seat.listen()
        return more

    def _prepare_piece(self, slots: tuple[int, ...]) -> tuple[bool, list[int]]:
        more = self._batch.prepare()
        return more, [slot for slot in slots if self._batch.ready(slot)]

    def _join(self, slot: int, options: SlotOptions) -> None:
        self._joined.add(slot)
        try:
            self._batch.join(slot, options)
        except PeerError:
            self._joined.discard(slot)
            raise

    def _leave(self, slot: int) -> None:
        if slot in self._joined:
            self._batch.leave(slot)
            self._joined.discard(slot)

    async def _request(self, call: Callable[[], None], *, vital: bool) -> None:
        if self._stopped:
            raise EngineError("the model has stopped")
        request = _Request(call, asyncio.get_running_loop().create_future(), vital)
        self._requests.append(request)
        self._wake.set()
        # A caller that is cancelled must not take the call back: a slot that was not cleared cannot be used again.
        await asyncio.shield(request.done)

    async def _serve(self, request: _Request) -> None:
        try:
            await self._calls.call(request.call)
        except Exception as error:
            request.done.set_exception(EngineError("the model has failed") if request.vital else error)
            if request.vital:
                raise
        else:
            request.done.set_result(None)
