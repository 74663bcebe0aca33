"""The audio of a conversation's last turns, for engines that answer the sound of a turn and not its words."""

from __future__ import annotations

from streaming.engine import Samples, Transcribe

KEPT = 4
"""Turns; a reply is to the last of them, and a client may delete that and ask again."""


class TurnAudio:
    """What `Transcribe` brought, by item."""

    def __init__(self) -> None:
        self._audio: dict[str, Samples] = {}

    def keep(self, command: Transcribe) -> None:
        """A later revision of an item replaces an earlier one."""
        self._audio.pop(command.item_id, None)
        self._audio[command.item_id] = command.audio
        if len(self._audio) > KEPT:
            del self._audio[next(iter(self._audio))]

    def of(self, item_id: str | None) -> Samples | None:
        """The item's audio, where it has any and that is still kept."""
        return self._audio.get(item_id) if item_id else None

    def clear(self) -> None:
        """Forget all of it."""
        self._audio.clear()
