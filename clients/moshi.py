"""A conversation over Moshi's wire, from Python: with a stock Moshi server, with a worker, or with Muse itself.

    async with MoshiClient.connect("ws://127.0.0.1:8000/api/chat") as client:
        turn = await client.turn(samples)
        print(turn.text, turn.wait)

One task may iterate over the messages while another sends.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import numpy as np
import websockets
from websockets.asyncio.client import ClientConnection

from clients.connection import disconnected, reach
from clients.errors import ClientError, DisconnectedError, NoReplyError
from clients.pacing import keep_silent, speak
from clients.tasks import first_done
from streaming.audio import NS, resample
from streaming.engine import FrameTimes, Samples
from streaming.errors import PeerError
from streaming.opus import OpusDecoder, OpusEncoder
from streaming.wire.moshi import (
    FRAME_SAMPLES,
    MOST_SAMPLES,
    RATE,
    Frame,
    Handshake,
    Message,
    Metadata,
    OggOpus,
    Pcm,
    Ping,
    Text,
    WireError,
    decode,
    encode,
)
from streaming.wire.moshi_query import ChatQuery, write_query

QUIET = 2.0
"""Seconds of silence after which what was said counts as said out."""

GREETING_SECONDS = 30.0
"""How long a server may take to greet: a stock one does so once whoever spoke with it before has gone."""

PREPARE_SECONDS = 60.0
"""How long a model may take to take its prompts in."""

_SESSION_SECONDS = 5.0
_SOUND = 0.003  # amplitude of what is no silence: -50 dBFS

Watch = Callable[[Message], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class MoshiTurn:
    """What was answered, and when. Times are the client's monotonic ns; None is "it did not happen".

    `audio` is all that came from the turn's beginning on, at RATE; `first_sound` when the first of it that is no
    silence came after the user's last word.
    """

    text: str
    audio: Samples
    speech_ended: int
    first_sound: int | None

    @property
    def wait(self) -> float | None:
        """Seconds from the last of the user's speech being sent to the first sound of the answer arriving."""
        return None if self.first_sound is None else (self.first_sound - self.speech_ended) / NS


@dataclass(slots=True)
class _Hearing:
    """What comes in during a turn."""

    text: str = ""
    audio: list[Samples] = field(default_factory=list)
    errors: list[WireError] = field(default_factory=list)
    sounds: list[int] = field(default_factory=list)
    """When each frame came that is no silence."""
    speech_ended: int | None = None

    @property
    def first_sound(self) -> int | None:
        """When the answer began: it may have before the recording's own silence was over."""
        if self.speech_ended is None:
            return None
        index = bisect_left(self.sounds, self.speech_ended)
        return self.sounds[index] if index < len(self.sounds) else None

    def left(self, quiet: float, now: int) -> float | None:
        """Seconds that are left of the `quiet` ones that end it all; None while there has been no answer."""
        return None if self.first_sound is None else quiet - (now - self.sounds[-1]) / NS

    def receive(self, message: Message, now: int) -> None:
        match message:
            case Text():
                self.text += message.text
            case WireError():
                self.errors.append(message)
            case Frame():
                self.audio.append(message.audio)
                if np.abs(message.audio).max(initial=0) > _SOUND:
                    self.sounds.append(now)


class MoshiClient:
    """An open conversation. Iterate over it for the server's messages; iteration ends when the server says goodbye.

    However audio travels, it comes as `Frame`: those of an opus stream are numbered here. Pings, and kinds of messages
    that are not known, are passed over. An error is a message too: the conversation may go on.
    """

    def __init__(self, connection: ClientConnection, query: ChatQuery, session: Mapping[str, Any]) -> None:
        self.session = session
        """What the server says of the conversation and its engine; empty where audio travels as opus."""
        self._connection = connection
        self._opus = query.audio == "opus"
        self._encoder = OpusEncoder()
        self._decoder = OpusDecoder()
        self._sent = 0  # samples
        self._frames = 0

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, url: str, *, query: ChatQuery | None = None, api_key: str | None = None, model: str | None = None
    ) -> AsyncIterator[MoshiClient]:
        """A conversation at `url` (ws:// or wss://, up to /api/chat), as `query` asks; a stock server has opus only.

        The model has taken in its prompts, and listens, when this returns.

        Raises UnreachableError, RefusedError, ClientError where something else answers, or DisconnectedError where it
        ends before it began.
        """
        query = query or ChatQuery()
        connection = await reach(_address(url, query, model), api_key=api_key)
        async with connection:
            try:
                async with asyncio.timeout(GREETING_SECONDS):
                    await _greeted(connection)
            except TimeoutError:
                raise ClientError(f"the server at {url} does not greet; it may be taken") from None
            yield cls(connection, query, await _begun(connection, query) if query.audio == "pcm" else {})

    async def send(self, message: Message) -> None:
        """Raises DisconnectedError if the connection is gone."""
        try:
            await self._connection.send(encode(message))
        except websockets.ConnectionClosed as closed:
            raise disconnected(closed) from None

    async def append(self, audio: Samples) -> None:
        """Send samples at RATE, at once. Of opus up to 40 ms wait for more."""
        self._sent += len(audio)
        if self._opus:
            if data := self._encoder.push(audio):
                await self.send(OggOpus(data=data))
            return
        for start in range(0, len(audio), MOST_SAMPLES):
            await self.send(Pcm(audio=audio[start : start + MOST_SAMPLES]))

    def __aiter__(self) -> AsyncIterator[Message]:
        return self

    async def __anext__(self) -> Message:
        while True:
            try:
                message = await _next_message(self._connection)
                heard = self._frame(message) if isinstance(message, OggOpus) else message
            except PeerError as error:
                raise ClientError(f"the server sent what cannot be read: {error.message}") from None
            except DisconnectedError as error:
                if error.code in (1000, 1001):
                    raise StopAsyncIteration from None
                raise
            if heard is not None and not isinstance(heard, Ping):
                return heard

    async def say(self, samples: Samples, *, rate: int = RATE, realtime: bool = True) -> int:
        """Speak a recording, mono at `rate`, as fast as a microphone would or at once.

        Returns the monotonic ns at which the last of its speech was sent.
        """
        return await speak(resample(samples, rate, RATE), self.append, rate=RATE, realtime=realtime)

    async def keep_silent(self) -> None:
        """Send silence in real time until cancelled, as a microphone in a quiet room does."""
        await keep_silent(self.append, rate=RATE)

    async def turn(
        self,
        samples: Samples,
        *,
        rate: int = RATE,
        quiet: float = QUIET,
        patience: float = 60.0,
        watch: Watch | None = None,
    ) -> MoshiTurn:
        """Speak a recording in real time, go silent, and listen until an answer has been followed by `quiet` s of none.

        The wire does not say when an answer is over, and a model may never stop: `patience` seconds after the
        recording's end the turn is over. Raises NoReplyError if nothing was answered by then, with what the server
        complained of, if it did. `watch` sees every message.
        """
        hearing = _Hearing()

        async def talk() -> None:
            hearing.speech_ended = await self.say(samples, rate=rate)
            await self.keep_silent()

        async def listen() -> None:
            while (left := hearing.left(quiet, time.monotonic_ns())) is None or left > 0:
                try:
                    async with asyncio.timeout(quiet if left is None else left):
                        message = await anext(self)
                except TimeoutError:
                    continue  # a gateway sends nothing between replies: the recording may have ended meanwhile
                except StopAsyncIteration:
                    raise DisconnectedError("the server said goodbye before it had answered", code=1000) from None
                hearing.receive(message, time.monotonic_ns())
                if watch is not None:
                    watch(message)

        try:
            await first_done(talk(), listen(), patience=len(samples) / rate + patience)
        except TimeoutError:
            if hearing.first_sound is None:
                complaints = "".join(f"; it said: {error.message}" for error in hearing.errors[-1:])
                raise NoReplyError(f"no answer within {patience:.0f} s{complaints}") from None
        return MoshiTurn(
            text=hearing.text.strip(),
            audio=np.concatenate([np.zeros(0, np.float32), *hearing.audio]),
            speech_ended=hearing.speech_ended or 0,
            first_sound=hearing.first_sound,
        )

    def _frame(self, message: OggOpus) -> Frame | None:
        """Raises PeerError where the stream is none."""
        audio = self._decoder.push(message.data)
        if not len(audio):
            return None
        self._frames += 1
        return Frame(number=self._frames - 1, heard=self._sent // FRAME_SAMPLES, times=FrameTimes(), audio=audio)


async def _greeted(connection: ClientConnection) -> None:
    match await _expect(connection):
        case Handshake():
            return
        case WireError() as error:
            raise ClientError(f"the server will not talk: {error.message}")
        case message:
            raise ClientError(f"the server does not speak Moshi's protocol (first message: {type(message).__name__})")


async def _begun(connection: ClientConnection, query: ChatQuery) -> Mapping[str, Any]:
    session = await _session(connection)
    if not session.get("engine", {}).get("duplex"):
        raise ClientError("that worker's engine takes turns, which only a gateway knows; talk to it through one")
    begin = {"type": "begin", "instructions": query.text_prompt, "voice": query.voice_prompt}
    with contextlib.suppress(websockets.ConnectionClosed):  # what it said before it left is read below
        await connection.send(encode(Metadata(values=begin)))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PREPARE_SECONDS):
            while True:
                match await _expect(connection):
                    case Metadata(values={"type": "ready"}):
                        return session
                    case WireError() as error:
                        raise ClientError(f"the server will not talk: {error.message}")
    raise ClientError("the server's model is not ready")


async def _session(connection: ClientConnection) -> Mapping[str, Any]:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_SESSION_SECONDS):
            match await _expect(connection):
                case Metadata(values={"type": "session"} as values):
                    return values
    raise ClientError("the server does not know audio=pcm; ask for opus")


async def _expect(connection: ClientConnection) -> Message | None:
    try:
        return await _next_message(connection)
    except PeerError as error:
        raise ClientError(f"the server does not speak Moshi's protocol: {error.message}") from None


async def _next_message(connection: ClientConnection) -> Message | None:
    try:
        data = await connection.recv()
    except websockets.ConnectionClosed as closed:
        raise disconnected(closed) from None
    if isinstance(data, str):
        raise PeerError("a text message", code="invalid_message")
    return decode(data)


def _address(url: str, query: ChatQuery, model: str | None) -> str:
    parts = urlsplit(url)
    if query.audio == "pcm":  # the prompts come in `begin`, where they may be longer
        query = replace(query, text_prompt="", voice_prompt="")
    asked = dict(parse_qsl(parts.query)) | write_query(query) | ({"model": model} if model else {})
    return urlunsplit(parts._replace(query=urlencode(asked)))
