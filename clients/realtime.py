"""A conversation over the OpenAI Realtime protocol, from Python.

    async with RealtimeClient.connect("ws://127.0.0.1:8000/v1/realtime") as client:
        turn = await client.turn(samples)
        print(turn.user_transcript, turn.reply_transcript, turn.latency)

One task may iterate over the events while another sends.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import websockets
from websockets.asyncio.client import ClientConnection

from clients.connection import disconnected, reach
from clients.errors import ClientError, DisconnectedError, NoReplyError
from clients.pacing import keep_silent, sleep_until, speak
from clients.playout import PlayoutClock
from clients.tasks import first_done
from clients.turns import Turn, TurnCollector
from streaming import server_events as events
from streaming.audio import AudioFormat, resample
from streaming.client_events import AppendAudio, ClientEvent, CreateItem, CreateResponse, TruncateItem, UpdateSession
from streaming.config import SessionConfig
from streaming.engine import Samples
from streaming.errors import PeerError
from streaming.items import InputText, Message
from streaming.server_events import ServerEvent
from streaming.wire.openai_realtime import UnknownEvent, decode_server, encode_client

Event = ServerEvent | UnknownEvent
Watch = Callable[[Event], None]


class RealtimeClient:
    """An open session. Iterate over it for the server's events; iteration ends when the server says goodbye.

    Replies are taken to be played as they arrive. When the user interrupts one, the client tells the server how much
    of it was heard.
    """

    def __init__(self, connection: ClientConnection, session: SessionConfig, *, extensions: bool) -> None:
        self.session = session
        self.playout = PlayoutClock()
        self._connection = connection
        self._extensions = extensions
        self._arriving: str | None = None  # the response whose audio came last, until it is done

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, url: str, *, api_key: str | None = None, model: str = "auto", extensions: bool = True
    ) -> AsyncIterator[RealtimeClient]:
        """A session at `url` (ws:// or wss://); `extensions` asks for Muse's own events.

        Raises UnreachableError, RefusedError, or DisconnectedError if it ends before it began.
        """
        connection = await reach(_address(url, model, extensions=extensions), api_key=api_key)
        async with connection:
            first = await _next_event(connection)
            if not isinstance(first, events.SessionCreated):
                raise ClientError(
                    f"the server at {url} does not speak the Realtime protocol (first event: {first.type})"
                )
            yield cls(connection, first.session, extensions=extensions)

    @property
    def input_format(self) -> AudioFormat:
        """What `append` sends."""
        return AudioFormat.of(self.session.audio.input.format)

    @property
    def output_format(self) -> AudioFormat:
        """What replies arrive in."""
        return AudioFormat.of(self.session.audio.output.format)

    async def send(self, event: ClientEvent) -> None:
        """Raises DisconnectedError if the connection is gone."""
        try:
            await self._connection.send(encode_client(event))
        except websockets.ConnectionClosed as closed:
            raise disconnected(closed) from None

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        try:
            event = await _next_event(self._connection)
        except DisconnectedError as error:
            if error.code in (1000, 1001):
                raise StopAsyncIteration from None
            raise
        await self._follow(event)
        return event

    async def update(self, **settings: object) -> None:
        """Change settings, and wait until they are in force.

        Raises ClientError if the server will not have them, DisconnectedError if it closes the connection first.
        """
        event_id = f"update_{time.monotonic_ns()}"
        await self.send(UpdateSession(session={"type": "realtime", **settings}, event_id=event_id))
        async for event in self:
            if isinstance(event, events.SessionUpdated):
                return
            if isinstance(event, events.ErrorEvent) and event.error.event_id == event_id:
                raise ClientError(event.error.message)
        raise DisconnectedError("the server closed the connection before the settings were in force", code=1000)

    async def append(self, audio: bytes | Samples) -> None:
        """Send audio at once: bytes in the input format, or mono samples at its rate."""
        data = audio if isinstance(audio, bytes) else self.input_format.encode(audio)
        await self.send(AppendAudio(audio=data))

    async def say(self, samples: Samples, *, rate: int = 24_000, realtime: bool = True) -> int:
        """Speak a recording, mono at `rate`, as fast as a microphone would or at once.

        Returns the monotonic ns at which the last of its speech was sent.
        """
        target = self.input_format.rate
        audio = resample(samples, rate, target)
        return await speak(audio, self.append, rate=target, realtime=realtime)

    async def keep_silent(self) -> None:
        """Send silence in real time until cancelled, as a microphone in a quiet room does."""
        await keep_silent(self.append, rate=self.input_format.rate)

    async def turn(
        self, samples: Samples, *, rate: int = 24_000, patience: float = 60.0, watch: Watch | None = None
    ) -> Turn:
        """Speak a recording in real time, go silent, and wait until the reply has been heard; `watch` sees every event.

        Raises NoReplyError if the server is not done `patience` seconds after the recording's end.
        """
        collector = TurnCollector(self.output_format)
        speech_ended: int | None = None

        def over() -> bool:
            return speech_ended is not None and collector.settled

        async def speak() -> None:
            nonlocal speech_ended
            speech_ended = await self.say(samples, rate=rate)
            if not over():  # the recording's own silence may have been enough
                await self.keep_silent()

        await self._until_over(speak(), self._listen(collector, over, watch), patience=len(samples) / rate + patience)
        return await self._heard_out(collector, speech_ended)

    async def write(self, text: str, *, patience: float = 60.0, watch: Watch | None = None) -> Turn:
        """Send a written message and wait until the reply has been heard. Raises NoReplyError as `turn` does."""
        collector = TurnCollector(self.output_format)
        await self.send(CreateItem(item=Message(role="user", content=(InputText(text=text),))))
        await self.send(CreateResponse())
        await self._until_over(self._listen(collector, lambda: collector.settled, watch), patience=patience)
        return await self._heard_out(collector, None)

    async def truncate(self) -> None:
        """Stop the reply that is playing, and tell the server how much of it was heard."""
        heard = self.playout.heard(now=time.monotonic_ns())
        self.playout.stop()
        if heard is not None:
            await self.send(
                TruncateItem(item_id=heard.item_id, content_index=heard.content_index, audio_end_ms=heard.milliseconds)
            )

    async def _listen(self, collector: TurnCollector, over: Callable[[], bool], watch: Watch | None) -> None:
        async for event in self:
            collector.receive(event, now=time.monotonic_ns())
            if watch is not None:
                watch(event)
            if over():
                return
        raise DisconnectedError("the server closed the connection before the reply was over", code=1000)

    async def _until_over(self, *work: Coroutine[None, None, None], patience: float) -> None:
        try:
            await first_done(*work, patience=patience)
        except TimeoutError:
            raise NoReplyError(f"no reply within {patience:.0f} s; was anything said?") from None

    async def _heard_out(self, collector: TurnCollector, speech_ended: int | None) -> Turn:
        turn = collector.turn(speech_ended=speech_ended, now=time.monotonic_ns())
        await sleep_until(self.playout.ends)
        return turn

    async def _follow(self, event: Event) -> None:
        match event:
            case events.SessionUpdated():
                self.session = event.session
            case events.AudioDelta():
                duration = self.output_format.duration_ns(event.delta)
                self.playout.add(event.item_id, event.content_index, duration, now=time.monotonic_ns())
                self._arriving = event.response_id
            case events.ResponseDone() if event.response.id == self._arriving:
                self._arriving = None
            case events.BargeInProgress(phase="decided"):
                await self.truncate()
            case events.SpeechStarted() if self._speech_interrupts():
                await self.truncate()

    def _speech_interrupts(self) -> bool:
        """Whether speech that has begun ends what is playing. Over a reply that is not whole yet, barge-in decides."""
        detection = self.session.audio.input.turn_detection
        return bool(detection and detection.interrupt_response) and not (self._extensions and self._arriving)


def _address(url: str, model: str, *, extensions: bool) -> str:
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query)) | {"model": model} | ({"extensions": "muse"} if extensions else {})
    return urlunsplit(parts._replace(query=urlencode(query)))


async def _next_event(connection: ClientConnection) -> Event:
    try:
        return decode_server(await connection.recv())
    except websockets.ConnectionClosed as closed:
        raise disconnected(closed) from None
    except PeerError as error:
        raise ClientError(f"the server sent something that is no event: {error.message}") from None
