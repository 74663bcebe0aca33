"""The words of a conversation's user turns: found once for each revision of a turn, awaited by replies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from models.embedded.parts import Ears
from models.embedded.reply import Heard
from streaming.engine import EngineEvent, Transcribe, Transcript, TranscriptFailed
from streaming.errors import EngineError

_KEPT = 64
_MOST_WAITING = 8  # turns


@dataclass(frozen=True, slots=True)
class _Turn:
    revision: int
    finding: asyncio.Task[Heard | EngineError]


class Transcripts:
    """One conversation's turns, heard one at a time. `put` takes the events; `clock` is monotonic ns."""

    def __init__(
        self, session_id: str, ears: Ears, *, put: Callable[[EngineEvent], None], clock: Callable[[], int]
    ) -> None:
        self._session_id = session_id
        self._ears = ears
        self._put = put
        self._clock = clock
        self._turns: dict[str, _Turn] = {}
        self._listening = asyncio.Lock()

    def start(self, command: Transcribe) -> None:
        """Find the words. An earlier revision of the turn is given up; a later one, once begun, stays."""
        earlier = self._turns.pop(command.item_id, None)
        if earlier is not None:
            if earlier.revision >= command.revision:
                self._turns[command.item_id] = earlier
                return
            earlier.finding.cancel()
        if sum(not turn.finding.done() for turn in self._turns.values()) >= _MOST_WAITING:
            self._fail(command, "too many turns are waiting to be heard")
            return
        self._turns[command.item_id] = _Turn(command.revision, asyncio.create_task(self._find(command)))
        while len(self._turns) > _KEPT:
            self._turns.pop(next(iter(self._turns))).finding.cancel()

    async def hear(self, item_id: str) -> Heard:
        """The words of the turn's newest revision; none for a turn that is not known. Raises EngineError."""
        while turn := self._turns.get(item_id):
            await asyncio.wait({turn.finding})
            if self._turns.get(item_id) is turn:
                found = turn.finding.result()
                if isinstance(found, EngineError):
                    raise found
                return found
        now = self._clock()
        return Heard(text="", begun=now, ended=now)

    async def close(self) -> None:
        """Give up what is being found."""
        tasks = [turn.finding for turn in self._turns.values()]
        self._turns.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _find(self, command: Transcribe) -> Heard | EngineError:
        asked = self._clock()
        begun: list[int] = []
        try:
            # Held until the ears have done with a revision that was given up, so that never two are in work.
            async with self._listening:
                text = await self._ears.transcribe(
                    self._session_id, command, needed_at=lambda: asked, on_begun=lambda: begun.append(self._clock())
                )
        except EngineError as error:
            self._fail(command, error.message)
            return error
        self._put(Transcript(item_id=command.item_id, revision=command.revision, text=text))
        return Heard(text=text, begun=begun[0] if begun else asked, ended=self._clock())

    def _fail(self, command: Transcribe, message: str) -> None:
        self._put(TranscriptFailed(item_id=command.item_id, revision=command.revision, message=message))
