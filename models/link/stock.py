"""A stock Moshi server, or PersonaPlex's, as an engine: `moshi://host:port`.

It speaks Ogg Opus, says nothing of what it is, and holds one conversation: who comes second waits in silence for the
first to go. So the one place is kept here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from urllib.parse import urlencode

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from models.event_queue import EventQueue
from models.line import Line
from models.link.address import host_of, reason
from models.link.alarm import Alarm
from models.link.session import MAX_EVENTS
from models.link.watchdog import Watchdog
from streaming.engine import Begin, EngineCommand, EngineEvent, EngineInfo, EngineLost, HearAudio, Samples, Speech
from streaming.errors import EngineBusyError, EngineError, PeerError
from streaming.opus import OpusDecoder, OpusEncoder
from streaming.wire.moshi import FRAME_SAMPLES, RATE, Handshake, Message, OggOpus, Text, WireError, decode, encode
from streaming.wire.moshi_query import ChatQuery, write_query

_log = logging.getLogger(__name__)

_MOST_MESSAGE = 1024 * 1024
_SEND_BUFFER = 256 * 1024
_PROMPT_SECONDS = 60.0
_PATIENCE = 10.0
"""Frames' time that it may be silent; more than a worker's, since its pages of Opus hold several frames."""

_SCHEMES = {"moshi": "ws", "moshis": "wss"}


class StockEngine:
    """See `streaming.engine.Engine`. Raises EngineError where `url` is not moshi://host:port or moshis://host:port."""

    def __init__(self, url: str, *, clock: Callable[[], int]) -> None:
        scheme, self._name = host_of(url, tuple(_SCHEMES))
        self._address = f"{_SCHEMES[scheme]}://{self._name}/api/chat"
        self._clock = clock
        self._session: StockSession | None = None

    @property
    def info(self) -> EngineInfo:
        """See `Engine.info`."""
        return EngineInfo(model="moshi", input_rate=RATE, output_rate=RATE, duplex=True, transcribes=False)

    async def start(self) -> None:
        """See `Engine.start`: is anybody there? More cannot be asked without taking the one place."""
        host, _, port = self._name.rpartition(":")
        try:
            async with asyncio.timeout(5):
                _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
        except (OSError, TimeoutError) as error:
            raise EngineError("the Moshi server cannot be reached", detail=reason(error)) from None
        writer.close()

    async def open(self, session_id: str) -> StockSession:
        """See `Engine.open`."""
        del session_id
        if self._session is not None:
            raise EngineBusyError("the Moshi server holds one conversation")
        self._session = StockSession(self._address, clock=self._clock, on_closed=self._free)
        return self._session

    async def close(self) -> None:
        """See `Engine.close`."""
        if self._session is not None:
            self._session.lose("the engine is closing")
            await self._session.close()

    def _free(self) -> None:
        self._session = None


class StockSession:
    """See `streaming.engine.EngineSession`. It connects at `Begin`, since the prompts stand in the address."""

    def __init__(self, address: str, *, clock: Callable[[], int], on_closed: Callable[[], None]) -> None:
        self._address = address
        self._clock = clock
        self._on_closed = on_closed
        self._queue = EventQueue(MAX_EVENTS)
        self._watchdog = Watchdog(patience=_PATIENCE)
        self._alarm = Alarm(
            self._watchdog,
            clock=clock,
            paused=lambda: self._queue.is_full,
            ring=lambda: self.lose("the Moshi server has fallen silent"),
        )
        self._encoder, self._decoder = OpusEncoder(), OpusDecoder()
        self._line: Line | None = None  # once it listens
        self._heard = 0  # samples of the user's audio, those before it listened too
        self._text = ""
        self._last_words = ""
        self._over = False
        self._closed = False
        self._task: asyncio.Task[None] | None = None

    def send(self, command: EngineCommand) -> None:
        """See `EngineSession.send`."""
        match command:
            case _ if self._over:
                return
            case Begin() if self._task is None:
                query = ChatQuery(text_prompt=command.instructions, voice_prompt=command.voice)
                self._task = asyncio.create_task(self._converse(f"{self._address}?{urlencode(write_query(query))}"))
            case HearAudio():
                self._hear(command.audio)
            case _:
                pass  # it speaks when it will

    def events(self) -> AsyncIterator[EngineEvent]:
        """See `EngineSession.events`."""
        return self._queue.read()

    def lose(self, message: str) -> None:
        """Nothing more will come: tell the reader why."""
        if self._over:
            return
        self._over = True
        self._alarm.turn_off()
        self._queue.put(EngineLost(message=message))
        self._queue.close()
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    async def close(self) -> None:
        """See `EngineSession.close`."""
        if self._closed:
            return
        self._closed = self._over = True
        self._alarm.turn_off()
        self._queue.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._on_closed()

    # --- to the server -------------------------------------------------------------------------------------------

    def _hear(self, audio: Samples) -> None:
        self._heard += len(audio)
        if self._line is None:
            return  # what is said to a model that does not listen yet is lost
        if data := self._encoder.push(audio):
            self._line.send(encode(OggOpus(data=data)))
        self._watchdog.sent(len(audio), self._clock())
        self._alarm.arm()

    # --- from the server -----------------------------------------------------------------------------------------

    async def _converse(self, address: str) -> None:
        try:
            async with connect(
                address, proxy=None, compression=None, max_size=_MOST_MESSAGE, close_timeout=1
            ) as connection:
                async with asyncio.timeout(_PROMPT_SECONDS):
                    _check_greeting(await connection.recv(decode=False))
                self._line = Line(connection, limit=_SEND_BUFFER, on_full=self._on_full)
                await self._read(connection)
            self.lose(self._last_words or "the Moshi server has gone")
        except PeerError as error:
            self.lose(f"the Moshi server sent what cannot be read: {error.message}")
        except (OSError, TimeoutError, InvalidHandshake, ConnectionClosed) as error:
            _log.info("a Moshi server cannot be reached: %s", reason(error))
            self.lose(self._last_words or "the Moshi server cannot be reached")

    async def _read(self, connection: ClientConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for data in connection:
                if isinstance(data, str):
                    raise PeerError("a text message", code="invalid_message")
                if (speech := self._take(decode(data))) is not None:
                    self._queue.put(speech)
                    await self._queue.wait_for_room()
                    self._alarm.arm()

    def _take(self, message: Message | None) -> Speech | None:
        match message:
            case OggOpus():
                audio = self._decoder.push(message.data)
                if len(audio):
                    # It does not say how much it has heard; that it speaks is all that is known.
                    self._watchdog.listens(self._clock())
                    self._watchdog.answered(self._heard // FRAME_SAMPLES, self._clock())
                    text, self._text = self._text, ""
                    return Speech(audio=np.asarray(audio), text=text, heard=self._heard)
            case Text():
                self._text = (self._text + message.text)[-4096:]
            case WireError():
                self._last_words = message.message
            case _:
                pass  # metadata and signs of life
        return None

    def _on_full(self) -> None:
        self.lose("the Moshi server does not take what it is sent")


def _check_greeting(data: bytes) -> None:
    if not isinstance(decode(data), Handshake):
        raise PeerError("expected a handshake", code="invalid_message")
