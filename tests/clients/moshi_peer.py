"""The server of a conversation over Moshi's wire, as a test writes it, and what is to be known of the wait for it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import numpy as np
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from clients.moshi import MoshiTurn
from streaming.audio import NS
from streaming.engine import EngineInfo, FrameTimes, Samples
from streaming.opus import OpusDecoder, OpusEncoder
from streaming.schema import to_json
from streaming.wire.moshi import (
    Frame,
    Handshake,
    Message,
    Metadata,
    OggOpus,
    Pcm,
    Ping,
    Text,
    decode,
    encode,
)
from streaming.wire.moshi_query import ChatQuery

RATE = 24_000
ENGINE = to_json(EngineInfo(model="m", input_rate=RATE, output_rate=RATE, duplex=True))
SESSION = {"type": "session", "protocol": 1, "session": "s", "engine": ENGINE}
PCM = ChatQuery(audio="pcm")


def tone(seconds: float) -> Samples:
    return (0.3 * np.sin(2 * np.pi * 300 * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


WORDS = 0.4
"""Seconds that the user speaks, where the wait for an answer is looked at."""


class Peer:
    """The server's side of one conversation: hears either coding."""

    def __init__(self, connection: ServerConnection) -> None:
        self.path = connection.request.path if connection.request else ""
        self.headers = connection.request.headers if connection.request else {}
        self.heard: list[Samples] = []
        self.words_heard_at: int | None = None
        self.answered_at: int | None = None
        self.received: list[Message] = []
        self.begin: Mapping[str, object] = {}
        self.pcm = "audio=pcm" in self.path
        self._connection = connection
        self._decoder, self._encoder = OpusDecoder(), OpusEncoder()

    async def greet(self) -> None:
        await self.send(Handshake())
        if self.pcm:
            await self.send(Metadata(values=SESSION), Ping())
            data = await self._connection.recv()
            assert isinstance(data, bytes)
            begin = decode(data)
            assert isinstance(begin, Metadata)
            self.begin = begin.values
            await self.send(Metadata(values={"type": "ready"}))

    async def send(self, *messages: Message) -> None:
        for message in messages:
            await self._connection.send(encode(message))

    async def send_raw(self, data: bytes | str) -> None:
        await self._connection.send(data)

    async def say(self, audio: Samples) -> None:
        if self.answered_at is None and audio.any():
            self.answered_at = time.monotonic_ns()
        if self.pcm:
            await self.send(Frame(number=7, heard=3, times=FrameTimes(model=100_000), audio=audio))
        elif data := self._encoder.push(audio):
            await self.send(OggOpus(data=data))

    async def hear(self) -> Samples:
        """The next of the audio."""
        while True:
            data = await self._connection.recv()
            assert isinstance(data, bytes)
            message = decode(data)
            assert message is not None
            self.received.append(message)
            match message:
                case Pcm():
                    self.heard.append(message.audio)
                case OggOpus():
                    self.heard.append(self._decoder.push(message.data))
                case _:
                    continue
            if self.words_heard_at is None and sum(map(len, self.heard)) > WORDS * RATE:
                self.words_heard_at = time.monotonic_ns()
            return self.heard[-1]

    async def close(self, code: int, reason: str = "") -> None:
        await self._connection.close(code, reason)

    async def idle(self) -> None:
        while True:
            await self.hear()


Script = Callable[[Peer], Awaitable[None]]


@asynccontextmanager
async def server(
    script: Script, *, greeting: bool = True, refuse: Callable[[Request], Response | None] = lambda request: None
) -> AsyncIterator[tuple[str, list[Peer]]]:
    """The address of a server that plays `script` to each connection, and its connections so far."""
    peers: list[Peer] = []

    async def handle(connection: ServerConnection) -> None:
        peer = Peer(connection)
        peers.append(peer)
        try:
            if greeting:
                await peer.greet()
            await script(peer)
        except ConnectionClosed:
            pass

    listener = await serve(handle, "127.0.0.1", 0, process_request=lambda _, request: refuse(request))
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        yield f"ws://127.0.0.1:{port}/api/chat", peers


async def answer(peer: Peer) -> None:
    """As a duplex model: a frame for each that is heard; it speaks once there has been half a second."""
    heard = 0
    while True:
        heard += len(await peer.hear())
        if heard == 12_480:
            await peer.send(Text(text=" Hello"), Text(text=" there."))
        await peer.say(tone(0.04) if 12_000 < heard < 24_000 else np.zeros(960, np.float32))


class Ear:
    """Knows when a turn began, and when its answer was first heard."""

    def __init__(self) -> None:
        self.seen: list[Message] = []
        self.began = time.monotonic_ns()
        self.sounded: int | None = None

    def __call__(self, message: Message) -> None:
        self.seen.append(message)
        if self.sounded is None and isinstance(message, Frame) and np.abs(message.audio).max() > 0.01:
            self.sounded = time.monotonic_ns()

    def assert_waited(self, turn: MoshiTurn, peer: Peer) -> None:
        """From the last word to the first sound: both sides' clocks tell between what bounds that is."""
        assert turn.first_sound is not None
        assert peer.answered_at is not None
        assert peer.words_heard_at is not None
        assert self.sounded is not None
        waited = turn.first_sound - turn.speech_ended
        assert peer.answered_at - peer.words_heard_at < waited < self.sounded - self.began - WORDS * NS
