"""Duplex conversations over WebSockets: the tick loop, and one task a client that reads what it sends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from models.line import Line
from models.worker.admission import Admission
from models.worker.audio import audio_codec
from models.worker.batch import DuplexBatch
from models.worker.conversation import Conversation
from models.worker.ending import SLOW_READER, TEXT_MESSAGE, Ending, failed, silent
from models.worker.host import HostStatus
from models.worker.metrics import WorkerMetrics
from models.worker.opening import Opening
from models.worker.settings import WorkerSettings
from models.worker.slots import Slot
from models.worker.thread import BatchThread
from models.worker.ticks import Ticks
from streaming.engine import EngineInfo
from streaming.errors import EngineError, PeerError

_log = logging.getLogger(__name__)

_MOST_MESSAGE = 256 * 1024  # a second of PCM is 96,000 bytes, and a long prompt fits


class DuplexHost:
    """See `models.worker.host.Host`. `open_batch` is called in the batch's own thread, as all of its calls are."""

    def __init__(
        self,
        open_batch: Callable[[], DuplexBatch],
        settings: WorkerSettings,
        *,
        clock: Callable[[], int],
        metrics: WorkerMetrics,
    ) -> None:
        self._open_batch = open_batch
        self._batch: DuplexBatch | None = None
        self._settings = settings
        self._clock = clock
        self._metrics = metrics
        self._thread = BatchThread()
        self._admission = Admission(limit=round(settings.late_ms * 1e6))
        self._ticks: Ticks | None = None
        self._talks: dict[int, Conversation] = {}
        self._ends: dict[int, asyncio.Future[Ending | None]] = {}

    @property
    def info(self) -> EngineInfo:
        """See `Host.info`."""
        if self._batch is None:
            raise EngineError("the model is not loaded")
        info = self._batch.info
        return replace(info, model=self._settings.name or info.model)

    @property
    def status(self) -> HostStatus:
        """See `Host.status`."""
        if self._ticks is None:
            return "starting"
        if self._ticks.broken:
            return "failed"
        if self._ticks.stalled:
            return "stalled"
        return "overloaded" if self._admission.overloaded else "ok"

    @property
    def most_message_bytes(self) -> int:
        """See `Host.most_message_bytes`."""
        return _MOST_MESSAGE

    async def load(self) -> None:
        """See `Host.load`."""
        batch = await self._thread.call(self._load)
        self._ticks = Ticks(batch, self._thread, clock=self._clock, admission=self._admission, metrics=self._metrics)
        self._batch = batch

    async def run(self) -> None:
        """See `Host.run`."""
        await self._loop.run()

    def check(self, opening: Opening) -> None:
        """See `Host.check`."""
        try:
            audio_codec(opening.audio)
        except ModuleNotFoundError:
            raise PeerError("this worker has no Opus; ask for audio=pcm", code="invalid_value", param="audio") from None

    async def converse(self, connection: ServerConnection, slot: Slot, opening: Opening) -> Ending | None:
        """See `Host.converse`."""
        end: asyncio.Future[Ending | None] = asyncio.get_running_loop().create_future()

        def over(ending: Ending | None) -> None:
            if not end.done():
                end.set_result(ending)

        line = Line(connection, limit=self._settings.send_buffer_bytes, on_full=lambda: over(SLOW_READER))
        talk = Conversation(
            slot.session,
            opening,
            audio_codec(opening.audio),
            info=self.info,
            send=line.send,
            over=over,
            clock=self._clock,
            metrics=self._metrics,
        )
        self._talks[slot.index], self._ends[slot.index] = talk, end
        begun = asyncio.Event()
        tasks = [
            asyncio.create_task(_guard(self._read(connection, talk, begun), over)),
            asyncio.create_task(_guard(self._join(slot, talk, begun), over)),
            asyncio.create_task(_guard(self._reap(talk), over)),
        ]
        try:
            talk.greet()
            return await end
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            del self._talks[slot.index], self._ends[slot.index]
            slot.become("leaving", self._clock())
            with contextlib.suppress(EngineError):  # of a batch that is broken
                await self._loop.leave(slot.index)

    def numbers(self, slot: Slot) -> Mapping[str, Any]:
        """See `Host.numbers`."""
        talk = self._talks.get(slot.index)
        return talk.numbers if talk else {}

    def end_all(self, ending: Ending) -> None:
        """See `Host.end_all`."""
        for end in self._ends.values():
            if not end.done():
                end.set_result(ending)

    async def close(self) -> None:
        """See `Host.close`."""
        if self._batch is not None and self.status not in ("stalled", "failed"):
            await self._thread.call(self._batch.close)
        self._thread.close()

    def _load(self) -> DuplexBatch:
        batch = self._open_batch()
        batch.load()
        return batch

    # --- a conversation's tasks ----------------------------------------------------------------------------------

    @property
    def _loop(self) -> Ticks:
        if self._ticks is None:
            raise EngineError("the model is not loaded")
        return self._ticks

    async def _read(self, connection: ServerConnection, talk: Conversation, begun: asyncio.Event) -> Ending | None:
        """Returns when the client has gone, or has sent what ends the conversation."""
        with contextlib.suppress(ConnectionClosed):
            async for data in connection:
                if isinstance(data, str):
                    return TEXT_MESSAGE
                talk.receive(data)
                if talk.options is not None:
                    begun.set()
                await asyncio.sleep(0)  # a client that floods takes turns with the others
        return None

    async def _join(self, slot: Slot, talk: Conversation, begun: asyncio.Event) -> Ending:
        """Returns where the prompt is not taken in in time; else waits to be cancelled."""
        while (options := talk.options) is None:
            await begun.wait()
        slot.become("preparing", self._clock())
        await self._loop.join(slot.index, options, talk)
        try:
            async with asyncio.timeout(self._settings.prepare_seconds):
                await talk.listening.wait()
        except TimeoutError:
            return failed(f"the prompt was not taken in within {self._settings.prepare_seconds:g} s")
        slot.become("talking", self._clock())
        never: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        return await never

    async def _reap(self, talk: Conversation) -> Ending:
        """Returns when there has been no sign of the client for too long."""
        settings = self._settings
        while True:
            patience = settings.first_message_seconds if talk.awaited else settings.silent_seconds
            left = patience - talk.silence
            if left <= 0:
                return silent(patience)
            # Which of the two holds may change meanwhile.
            await asyncio.sleep(min(left, settings.first_message_seconds, settings.silent_seconds))


async def _guard(work: Awaitable[Ending | None], over: Callable[[Ending | None], None]) -> None:
    """Run to an ending; whatever goes wrong ends this conversation, and no other."""
    try:
        over(await work)
    except PeerError as error:
        over(Ending.of(error))
    except EngineError as error:
        over(failed(error.message))
    except Exception as error:  # memory, say, that a slot more would need
        _log.error("%s in a conversation", type(error).__name__)
        over(failed("the conversation cannot be held"))
