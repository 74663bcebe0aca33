"""Who holds which of the batch's slots. One thread (the event loop's) asks, so that no two are given the same one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SlotState = Literal["free", "opening", "preparing", "talking", "leaving"]
"""Reserved before the upgrade; taking in its prompt; exchanging frames; being cleared for the next."""


@dataclass(slots=True)
class Slot:
    """One place in the batch. `since` is when its state began (monotonic ns)."""

    index: int
    state: SlotState = "free"
    session: str = ""
    since: int = 0

    def become(self, state: SlotState, now: int) -> None:
        """Enter a state."""
        self.state, self.since = state, now


class Slots:
    """All of them."""

    def __init__(self, count: int) -> None:
        self._all = tuple(Slot(index) for index in range(count))
        # The slot that was freed last is given last: a fault in clearing one shows later, not at the next caller.
        self._free = list(reversed(self._all))

    def __len__(self) -> int:
        return len(self._all)

    @property
    def free(self) -> int:
        """How many can be reserved now."""
        return len(self._free)

    @property
    def all(self) -> tuple[Slot, ...]:
        """Every slot, by index."""
        return self._all

    def reserve(self, session: str, now: int) -> Slot | None:
        """A free slot for the session, which is its own from now on; None where there is none."""
        if not self._free:
            return None
        slot = self._free.pop()
        slot.session = session
        slot.become("opening", now)
        return slot

    def release(self, slot: Slot, now: int) -> None:
        """Give the slot back, cleared. Raises ValueError for one that is free."""
        if slot.state == "free":
            raise ValueError(f"slot {slot.index} is free already")
        slot.session = ""
        slot.become("free", now)
        self._free.insert(0, slot)
