"""Turn-based conversations over WebSockets: commands in, events out, one `Engine` behind all of them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from models.worker.conversation import PROTOCOL
from models.worker.ending import TEXT_MESSAGE, Ending, failed, silent
from models.worker.host import HostStatus
from models.worker.opening import Opening
from models.worker.slots import Slot
from streaming.engine import Engine, EngineInfo, EngineLost, EngineSession
from streaming.errors import EngineError, PeerError
from streaming.schema import to_json
from streaming.wire.moshi import Command, Event, Handshake, Metadata, Ping, decode, encode

_log = logging.getLogger(__name__)

_MOST_MESSAGE = 32 * 2**20  # two minutes of speech to transcribe, in base64


class TurnBasedHost:
    """See `models.worker.host.Host`. `engine` holds as many conversations as the worker has slots.

    `name` stands for the engine's own. A client that has sent no command yet is closed where nothing at all comes for
    `first_message_seconds`.
    """

    def __init__(self, engine: Engine, *, name: str = "", first_message_seconds: float = 30.0) -> None:
        self._engine = engine
        self._name = name
        self._first_message_seconds = first_message_seconds
        self._loaded = False
        self._talks: dict[int, asyncio.Future[Ending | None]] = {}
        self._commands: dict[int, int] = {}

    @property
    def info(self) -> EngineInfo:
        """See `Host.info`."""
        info = self._engine.info
        return replace(info, model=self._name or info.model)

    @property
    def status(self) -> HostStatus:
        """See `Host.status`."""
        return "ok" if self._loaded else "starting"

    @property
    def most_message_bytes(self) -> int:
        """See `Host.most_message_bytes`."""
        return _MOST_MESSAGE

    async def load(self) -> None:
        """See `Host.load`."""
        await self._engine.start()
        self._loaded = True

    async def run(self) -> None:
        """See `Host.run`."""
        await asyncio.get_running_loop().create_future()

    def check(self, opening: Opening) -> None:
        """See `Host.check`."""
        if opening.audio != "pcm":
            raise PeerError(
                "audio: this engine takes turns, which a Moshi client cannot hold; expected audio=pcm and kind 0x20",
                code="invalid_value",
                param="audio",
            )

    async def converse(self, connection: ServerConnection, slot: Slot, _: Opening) -> Ending | None:
        """See `Host.converse`."""
        try:
            session = await self._engine.open(slot.session)
        except EngineError as error:
            return failed(error.message)
        end: asyncio.Future[Ending | None] = asyncio.get_running_loop().create_future()
        self._talks[slot.index], self._commands[slot.index] = end, 0
        tasks = [
            asyncio.create_task(_guard(self._read(connection, slot.index, session), end)),
            asyncio.create_task(_guard(_write(connection, slot.session, self.info, session), end)),
        ]
        try:
            return await end
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            del self._talks[slot.index], self._commands[slot.index]
            await session.close()

    def numbers(self, slot: Slot) -> Mapping[str, Any]:
        """See `Host.numbers`."""
        return {"commands": self._commands[slot.index]} if slot.index in self._commands else {}

    def end_all(self, ending: Ending) -> None:
        """See `Host.end_all`."""
        for end in self._talks.values():
            if not end.done():
                end.set_result(ending)

    async def close(self) -> None:
        """See `Host.close`."""
        await self._engine.close()

    async def _read(self, connection: ServerConnection, index: int, session: EngineSession) -> Ending | None:
        try:
            async with asyncio.timeout(self._first_message_seconds) as patience:
                return await self._take(connection, index, session, patience)
        except TimeoutError:
            return silent(self._first_message_seconds)

    async def _take(
        self, connection: ServerConnection, index: int, session: EngineSession, patience: asyncio.Timeout
    ) -> Ending | None:
        now = asyncio.get_running_loop().time
        async for data in connection:
            patience.reschedule(None if self._commands[index] else now() + self._first_message_seconds)
            if isinstance(data, str):
                return TEXT_MESSAGE
            match message := decode(data):
                case Command():
                    self._commands[index] += 1
                    patience.reschedule(None)
                    session.send(message.command)
                case None | Metadata() | Ping():
                    pass
                case _:
                    kind = type(message).__name__
                    raise PeerError(
                        f"this engine takes turns: expected kind 0x20, got {kind} (kind {data[0]:#04x})",
                        code="unexpected_message",
                    )
            await asyncio.sleep(0)
        return None


async def _write(connection: ServerConnection, name: str, info: EngineInfo, session: EngineSession) -> Ending | None:
    """A client that does not read makes the engine wait, and at last answers no ping."""
    identity = {"type": "session", "protocol": PROTOCOL, "session": name}
    await connection.send(encode(Handshake()))
    await connection.send(encode(Metadata(values=identity | {"engine": to_json(info)})))
    async for event in session.events():
        await connection.send(encode(Event(event=event)))
        if isinstance(event, EngineLost):
            return failed(event.message)
    return failed("the engine has ended the conversation")


async def _guard(work: Any, end: asyncio.Future[Ending | None]) -> None:
    ending: Ending | None = None
    try:
        with contextlib.suppress(ConnectionClosed):
            ending = await work
    except PeerError as error:
        ending = Ending.of(error)
    except Exception as error:  # a defect in one conversation must not stop the others
        _log.error("%s in a conversation", type(error).__name__)
        ending = failed("the conversation cannot be held")
    if not end.done():
        end.set_result(ending)
