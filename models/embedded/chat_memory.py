"""What the chat model has read of the newest conversations: reading is most of the wait for a reply's first word."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from models.embedded.llama import Llama, LlamaState, Logits


class Reading:
    """One conversation as far as it has been read: `ids`, and what the model made of them.

    `since` is the item that the conversation was begun with when its start had become too long ago.
    """

    def __init__(self, llama: Llama) -> None:
        self.ids: list[int] = []
        self.since: str | None = None
        self._state = LlamaState(llama)

    def back_to(self, ids: Sequence[int]) -> int:
        """Keep what this has in common with `ids`, short of the last, which must be read anew; how many those are."""
        common = 0
        for mine, wanted in zip(self.ids, ids[:-1], strict=False):
            if mine != wanted:
                break
            common += 1
        self._go_back(common)
        return common

    def read(self, ids: Sequence[int]) -> Logits:
        """Read on; the logits of what comes next."""
        logits = self._state.read(ids)
        self.ids += ids
        return logits

    def begin_as(self, other: Reading) -> None:
        """Start from what another has read."""
        self._state.resume(other._state, len(other.ids))
        self.ids = other.ids.copy()
        self.since = None

    def _go_back(self, length: int) -> None:
        del self.ids[length:]
        self._state.length = length


class ChatMemory:
    """Readings by session: at most `kept` of them stay, the least recently used go. All begin with `system`."""

    def __init__(self, llama: Llama, system: Sequence[int], *, kept: int) -> None:
        self.llama = llama
        self._kept = kept
        self._lock = threading.Lock()
        self._readings: OrderedDict[str, Reading] = OrderedDict()
        self._first = Reading(llama)
        self._first.read(system)

    @contextmanager
    def reading(self, session_id: str) -> Iterator[Reading]:
        """A session's reading, for this caller alone; a second caller meanwhile gets one that begins with `system`."""
        with self._lock:
            reading = self._readings.pop(session_id, None)
        if reading is None:
            reading = Reading(self.llama)
            reading.begin_as(self._first)
        try:
            yield reading
        finally:
            with self._lock:
                self._readings[session_id] = reading
                while len(self._readings) > self._kept:
                    self._readings.popitem(last=False)
