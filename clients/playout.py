"""What a listener has heard of a reply: it plays as it arrives, without a gap while there is audio to play."""

from __future__ import annotations

from dataclasses import dataclass

from streaming.audio import NS


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """How far one part of a reply has been heard."""

    item_id: str
    content_index: int
    milliseconds: int


class PlayoutClock:
    """Follows one reply at a time. Times are monotonic ns."""

    def __init__(self) -> None:
        self._part: tuple[str, int] | None = None
        self._received = 0  # ns of audio received of this part
        self.ends = 0
        """When the last of what has arrived will have been played."""

    def add(self, item_id: str, content_index: int, duration: int, *, now: int) -> None:
        """`duration` ns more of this part arrived; a part not seen before ends the one before it."""
        if self._part != (item_id, content_index):
            self._part = (item_id, content_index)
            self._received = 0
        self._received += duration
        self.ends = max(self.ends, now) + duration

    def heard(self, *, now: int) -> Heard | None:
        """How far the reply that is playing has been heard; None if none is playing."""
        waiting = self.ends - now
        if self._part is None or waiting <= 0:
            return None
        item_id, content_index = self._part
        milliseconds = max(0, self._received - waiting) * 1000 // NS
        return Heard(item_id=item_id, content_index=content_index, milliseconds=milliseconds)

    def stop(self) -> None:
        """Playing stopped; what had not been heard never will be."""
        self._part = None
        self.ends = 0
