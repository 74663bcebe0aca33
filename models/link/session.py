"""One conversation with a worker: commands to messages, messages to events."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import numpy as np
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from models.event_queue import EventQueue
from models.line import Line
from models.link.alarm import Alarm
from models.link.watchdog import Watchdog
from streaming.engine import Begin, EngineCommand, EngineEvent, EngineInfo, EngineLost, HearAudio, Speech
from streaming.errors import PeerError
from streaming.wire.moshi import (
    FRAME_SAMPLES,
    MOST_SAMPLES,
    Command,
    Event,
    Frame,
    FrameCodes,
    Handshake,
    Message,
    Metadata,
    Pcm,
    Ping,
    Text,
    WireError,
    decode,
    encode,
)

MAX_EVENTS = 64
"""Events that may wait for a conversation's reader (5 s of speech) before the worker is not read."""

_MOST_TEXT = 4096
"""Characters of text that may come before the frame in which they begin."""

_SILENCE = np.zeros(FRAME_SAMPLES, np.float32)


class WorkerSession:
    """See `streaming.engine.EngineSession`.

    Until its first command it sends a ping every `sign_seconds`. `on_silent` is called when the worker has been silent
    for too long by `watchdog`, `on_closed` once when the conversation is over.
    """

    def __init__(
        self,
        connection: ClientConnection,
        info: EngineInfo,
        *,
        clock: Callable[[], int],
        watchdog: Watchdog,
        send_buffer: int,
        sign_seconds: float,
        on_silent: Callable[[], None],
        on_closed: Callable[[WorkerSession], None],
    ) -> None:
        self._connection = connection
        self._duplex = info.duplex
        self._clock = clock
        self._on_silent = on_silent
        self._on_closed = on_closed
        self._queue = EventQueue(MAX_EVENTS)
        self._line = Line(connection, limit=send_buffer, on_full=self._on_full)
        self._watchdog = watchdog
        self._alarm = Alarm(self._watchdog, clock=clock, paused=lambda: self._queue.is_full, ring=self._silent)
        self._text = ""  # that begins in the frame to come
        self._last_words = ""  # of the worker, before it closes
        self._over = False
        self._closed = False
        self._reader = asyncio.create_task(self._read())
        self._signs = asyncio.create_task(self._give_signs(sign_seconds))

    def send(self, command: EngineCommand) -> None:
        """See `EngineSession.send`."""
        if self._over:
            return
        self._signs.cancel()
        if not self._duplex:
            self._line.send(encode(Command(command=command)))
            return
        match command:
            case Begin():
                values = {"type": "begin", "instructions": command.instructions, "voice": command.voice}
                self._line.send(encode(Metadata(values=values)))
                self._watchdog.begins(self._clock())
                self._alarm.arm()
            case HearAudio():
                for start in range(0, len(command.audio), MOST_SAMPLES):
                    self._line.send(encode(Pcm(audio=command.audio[start : start + MOST_SAMPLES])))
                self._watchdog.sent(len(command.audio), self._clock())
                self._alarm.arm()
            case _:
                pass  # a duplex engine speaks when it will

    def events(self) -> AsyncIterator[EngineEvent]:
        """See `EngineSession.events`."""
        return self._queue.read()

    def lose(self, message: str) -> None:
        """Nothing more will come: tell the reader why, and let go of the worker's slot at once."""
        if self._over:
            return
        self._over = True
        self._signs.cancel()
        self._alarm.turn_off()
        self._queue.put(EngineLost(message=message))
        self._queue.close()
        self._connection.transport.abort()

    async def close(self) -> None:
        """See `EngineSession.close`."""
        if self._closed:
            return
        self._closed = self._over = True
        self._alarm.turn_off()
        self._queue.close()
        for task in (self._reader, self._signs):
            task.cancel()
        await asyncio.gather(self._reader, self._signs, return_exceptions=True)
        await self._connection.close()
        self._on_closed(self)

    async def _give_signs(self, every: float) -> None:
        """A client that sends nothing is closed; one that has not begun says that it is there."""
        while True:
            await asyncio.sleep(every)
            self._line.send(encode(Ping()))

    # --- from the worker -----------------------------------------------------------------------------------------

    async def _read(self) -> None:
        try:
            with contextlib.suppress(ConnectionClosed):
                async for data in self._connection:
                    if (event := self._take(_message(data))) is not None:
                        self._queue.put(event)
                        await self._queue.wait_for_room()
                        self._alarm.arm()
        except PeerError as error:
            self.lose(f"the worker sent what cannot be read: {error.message}")
        self.lose(self._last_words or "the worker has gone")

    def _take(self, message: Message | None) -> EngineEvent | None:
        """The event that a message brings. Raises PeerError for one that this worker has no reason to send."""
        match message:
            case Frame() if self._duplex:
                return self._speech(message)
            case Text() if self._duplex:
                self._text += message.text
                if len(self._text) > _MOST_TEXT:
                    raise PeerError("text without end", code="invalid_message")
            case Event() if not self._duplex:
                return message.event
            case Metadata(values={"type": "ready"}):
                self._watchdog.listens(self._clock())
                self._alarm.arm()
            case WireError():
                self._last_words = message.message
            case None | Handshake() | Metadata() | Ping() | FrameCodes():
                pass
            case _:
                raise PeerError(f"unexpected {type(message).__name__}", code="unexpected_message")
        return None

    def _speech(self, frame: Frame) -> Speech:
        self._watchdog.answered(frame.heard, self._clock())
        text, self._text = self._text, ""
        audio = frame.audio if len(frame.audio) else _SILENCE
        return Speech(audio=audio, text=text, heard=frame.heard * FRAME_SAMPLES, times=frame.times)

    def _silent(self) -> None:
        self._on_silent()
        self.lose("the worker has fallen silent")

    def _on_full(self) -> None:
        self.lose("the worker does not take what it is sent")


def _message(data: str | bytes) -> Message | None:
    if isinstance(data, str):
        raise PeerError("a text message", code="invalid_message")
    return decode(data)
