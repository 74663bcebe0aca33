"""The one thread in which a batch lives."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Caller(Protocol):
    """Makes calls to a batch, one after the other."""

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What the function returns or raises."""


@dataclass(frozen=True, slots=True)
class _Call:
    function: Callable[[], Any]
    answer: asyncio.Future[Any]

    def run(self) -> None:
        settle: Callable[[Any], None] = self.answer.set_result
        try:
            outcome = self.function()
        except Exception as error:
            settle, outcome = self.answer.set_exception, error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            self.answer.get_loop().call_soon_threadsafe(self._settle, settle, outcome)

    def _settle(self, settle: Callable[[Any], None], outcome: Any) -> None:
        if not self.answer.done():
            settle(outcome)


class BatchThread:
    """Calls in one thread, always the same: CUDA graphs and their memory belong to the thread that made them.

    A tick waits for the way there and back; an executor's takes 0.1 ms longer. Calls are few: those that wait are
    bounded by who waits for them.
    """

    def __init__(self) -> None:
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        threading.Thread(target=self._run, name="batch", daemon=True).start()

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """See `Caller.call`."""
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._calls.put(_Call(lambda: function(*args, **kwargs), answer))
        return await answer

    def close(self) -> None:
        """End the thread after the calls that wait; one that hangs is not waited for."""
        self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            call.run()
