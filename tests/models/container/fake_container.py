"""A container on loopback: it answers as the miners' do, unless a test has it do otherwise."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

PATIENCE = 60.0
"""Seconds that only a hang uses up."""


@dataclass(slots=True)
class Request:
    """What was asked. `left` is set when the asker has closed the connection, `answered` when the answer was sent."""

    line: str
    headers: dict[str, str]
    body: Any = None
    left: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def path(self) -> str:
        return self.line.split()[1].removeprefix("/api/v1/")

    @property
    def audio(self) -> npt.NDArray[Any]:
        audio: npt.NDArray[Any] = np.load(io.BytesIO(base64.b64decode(self.body["audio_data"])), allow_pickle=False)
        return audio


Respond = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


def npy(audio: npt.NDArray[Any], *, pickled: bool = False) -> bytes:
    file = io.BytesIO()
    np.save(file, audio, allow_pickle=pickled)
    return file.getvalue()


def body(audio: npt.NDArray[Any] | bytes, **more: Any) -> bytes:
    """An answer's body; `audio` as an array or as the file's bytes."""
    file = audio if isinstance(audio, bytes) else npy(audio)
    return json.dumps({"audio_data": base64.b64encode(file).decode(), **more}).encode()


def http(content: bytes = b"", *, status: int = 200, **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} x", f"Content-Length: {len(content)}", "Content-Type: application/json"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


def saying(*pieces: bytes, pause: float = 0, then_hang: bool = False) -> Respond:
    """Answers with these bytes, `pause` seconds before each."""

    async def respond(request: Request, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            if pause:
                await asyncio.sleep(pause)
            writer.write(piece)
            await writer.drain()
        if then_hang:
            await request.left.wait()

    return respond


async def echo(request: Request, writer: asyncio.StreamWriter) -> None:
    """As a miner's server: the turn's audio at half its strength, or how long it was in words."""
    match request.path:
        case "health":
            writer.write(http(b'{"status": "healthy", "initialization_status": {"model_loaded": true}}'))
        case "v2v":
            writer.write(http(body(request.audio * np.float32(0.5), text=words(request.audio))))
        case "v2t":
            writer.write(http(json.dumps({"text": words(request.audio)}).encode()))
        case _:
            writer.write(http(b'{"detail": "Not Found"}', status=404))


def words(audio: npt.NDArray[Any]) -> str:
    return f"You said {audio.size} samples."


class FakeContainer:
    """`answers` holds what is done about a path, where that is not `echo`'s way."""

    def __init__(self, **answers: Respond) -> None:
        self.answers = answers
        self.requests: list[Request] = []
        self.at_once = self.most_at_once = 0
        self._serving: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def serve(self, port: int = 0) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._connected, "127.0.0.1", port, limit=2**20)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            await self._few_turns()  # a server that closes while it accepts a connection forgets that
            server.close()
            serving = list(self._serving)
            for task in serving:
                task.cancel()
            await asyncio.gather(*serving, return_exceptions=True)
            await self._few_turns()

    def asked(self, path: str) -> list[Request]:
        return [request for request in self.requests if request.path == path]

    async def until_asked(self, path: str, times: int = 1) -> Request:
        async with asyncio.timeout(PATIENCE):
            while len(self.asked(path)) < times:  # noqa: ASYNC110 - the requests are the test's to see
                await asyncio.sleep(0.002)
        return self.asked(path)[times - 1]

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        task.add_done_callback(lambda _: writer.close())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await self._answer(reader, writer)

    async def _few_turns(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        request = Request(head[0], headers)
        content = await reader.readexactly(int(headers.get("content-length", "0")))
        request.body = json.loads(content) if content else None
        self.requests.append(request)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        watching = asyncio.create_task(self._watch(reader, request))
        try:
            await self.answers.get(request.path, echo)(request, writer)
            await writer.drain()
        finally:
            self.at_once -= 1
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _watch(self, reader: asyncio.StreamReader, request: Request) -> None:
        with suppress(ConnectionError):
            await reader.read()
        request.left.set()
