"""The HTTP that containers speak, with bounds on what one can cost: time, memory and the patience of those who wait."""

from __future__ import annotations

import asyncio
import binascii
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

import httpx

from models.container.answer import MOST_JSON, Answer, AnswerReader, MalformedAnswerError
from models.container.breaker import Breaker
from models.container.npy import MOST_HEADER, write_npy
from streaming.engine import Samples
from streaming.errors import EngineBusyError, EngineError

_log = logging.getLogger(__name__)

RATE = 16_000
"""Sample rate, in Hz, of what containers are given and give."""

Task = Literal["v2v", "v2t"]
"""Voice to voice, voice to text: what the model says, or writes, in answer."""

_WIDEST_SAMPLE = 8  # bytes: float64
_PIECE = 48 * 1024  # bytes encoded at once; a multiple of three, so that the pieces join
_POLL = 1.0  # seconds between looks at a container that is loading
_MOST_HEALTH = 4096
_NOT_READY = ("initializing", "loading", "starting", "unhealthy", "error")
_SPEECH_PATHS = ("v2v", "inference")  # the second is that of the first containers

_BROKEN = ("container_failed", "container_timeout", "container_unreachable")
"""The errors after which a container is taken to be broken, if they repeat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerOptions:
    """How a container is treated. Times in seconds.

    `load` is what it may take to become healthy at first, `connect`, `first_byte` and `total` what one request may
    take to be connected, to be answered at all, and altogether. At most `concurrency` requests are with it at once
    (miners' servers work on one), and `waiting` wait in line. After `failures` in a row it is left alone, and asked for
    its health every `cooldown`. `longest_turn` bounds the audio that it is sent, `longest_reply` what it may answer.
    With `speculate` a reply is asked for before the turn is surely over: sooner, at the price of answers that nobody
    wants, for which a container that does not notice a closed connection goes on working.
    """

    load: float = 300.0
    connect: float = 3.0
    first_byte: float = 60.0
    total: float = 90.0
    concurrency: int = 1
    waiting: int = 8
    failures: int = 3
    cooldown: float = 5.0
    longest_turn: float = 120.0
    longest_reply: float = 120.0
    speculate: bool = True


class ContainerClient:
    """One container.

    `url` is its base, such as `http://localhost:9000`; `key` is sent as a bearer token, to what may stand before it;
    `clock` is monotonic ns.

    A connection serves one request: closing it is how a container is told to stop, and one that lies idle may be
    closed just when it is used. Redirects and proxies of the environment are not followed. Raises EngineError where
    `url` is not one.
    """

    def __init__(self, url: str, *, clock: Callable[[], int], options: ContainerOptions, key: str = "") -> None:
        self._options = options
        self._clock = clock
        self._breaker = Breaker(failures=options.failures, cooldown=options.cooldown)
        self._probing = asyncio.Lock()
        self._slots = asyncio.Semaphore(options.concurrency)
        self._waiting = 0
        self._speech_paths: tuple[str, ...] = _SPEECH_PATHS
        self._most_samples = int(options.longest_reply * RATE)
        self._most_body = MOST_JSON + _base64_size(MOST_HEADER + self._most_samples * _WIDEST_SAMPLE)
        self._client = httpx.AsyncClient(
            base_url=_base(url),
            headers={"Accept-Encoding": "identity", "Connection": "close"}
            | ({"Authorization": f"Bearer {key}"} if key else {}),
            timeout=httpx.Timeout(None, connect=options.connect),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
            follow_redirects=False,
            trust_env=False,
        )

    async def start(self) -> None:
        """Wait until the container is healthy. Raises EngineError where it is not so in time."""
        health, told = "it was not asked", ""
        try:
            async with asyncio.timeout(self._options.load):
                while health := await self._health():
                    if health != told:
                        _log.info("waiting for the container: %s", health)
                    told = health
                    await asyncio.sleep(_POLL)
        except TimeoutError:
            message = f"the container was not ready within {self._options.load:g} s: {health}"
            raise EngineError(message, code="container_unreachable") from None

    async def ready(self) -> None:
        """Raises EngineBusyError while the container has failed too often and is not seen to be well again."""
        if not self._breaker.open:
            return
        async with self._probing:
            if self._breaker.probe_due(now=self._clock()):
                if await self._health():
                    self._breaker.failed(now=self._clock())
                else:
                    self._breaker.probed()
        if self._breaker.open:
            message = "the model's container does not answer; try again"
            raise EngineBusyError(message, retry_after=self._options.cooldown)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """One's turn to `ask`, once it has come. Raises EngineError where the line is too long."""
        if self._slots.locked() and self._waiting >= self._options.waiting:
            raise EngineError("too many requests wait for the model", code="container_busy")
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._slots.release()

    async def ask(self, task: Task, audio: Samples) -> Answer:
        """The answer to a turn's audio, float32, shape (T,), at RATE; it has the field that the task is for.

        Cancelled, it closes the connection. Raises EngineError; inside `turn`.
        """
        await self.ready()
        try:
            answer = await self._in_time(task, audio)
        except EngineError as error:
            if error.code in _BROKEN:
                self._breaker.failed(now=self._clock())
                _log.warning("container: %s", error.message)
            raise
        self._breaker.succeeded()
        return answer

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    # --- one request

    async def _in_time(self, task: Task, audio: Samples) -> Answer:
        try:
            async with asyncio.timeout(self._options.total):
                return await self._ask(task, audio)
        except (TimeoutError, httpx.TimeoutException):
            raise EngineError("the model's container took too long", code="container_timeout") from None
        except httpx.HTTPError:
            raise EngineError("the model's container cannot be reached", code="container_unreachable") from None

    async def _ask(self, task: Task, audio: Samples) -> Answer:
        if task == "v2t":
            answer = await self._post("v2t", write_npy(audio))
            if answer is None or answer.text is None:
                raise _lacks("text", answered=answer is not None)
            return answer
        file = write_npy(audio[None])
        for path in self._speech_paths:
            answer = await self._post(path, file)
            if answer is not None:
                self._speech_paths = (path, *(other for other in _SPEECH_PATHS if other != path))
                break
        if answer is None or answer.audio is None:
            raise _lacks("audio", answered=answer is not None)
        return answer

    async def _post(self, path: str, file: bytes) -> Answer | None:
        """The answer; None where there is no such path."""
        before, after = b'{"audio_data":"', b'","sample_rate":%d}' % RATE
        size = len(before) + _base64_size(len(file)) + len(after)
        headers = {"Content-Type": "application/json", "Content-Length": str(size)}
        content = _pieces(before, file, after)
        request = self._client.build_request("POST", path, content=content, headers=headers)
        async with asyncio.timeout(self._options.first_byte):
            response = await self._client.send(request, stream=True)
        try:
            if response.status_code in (httpx.codes.NOT_FOUND, httpx.codes.METHOD_NOT_ALLOWED):
                return None
            self._check(response)
            reader = AnswerReader(self._most_samples)
            async for data in response.aiter_raw():
                reader.feed(data)
            return reader.finish()
        finally:
            await response.aclose()

    def _check(self, response: httpx.Response) -> None:
        """Raises EngineError unless the answer is one to read."""
        status = response.status_code
        if status == httpx.codes.TOO_MANY_REQUESTS:
            raise EngineError("the model's container is busy", code="container_busy")
        if response.is_client_error:
            raise EngineError(f"the model's container refused the turn (HTTP {status})", code="container_refused")
        if status != httpx.codes.OK:
            raise EngineError(f"the model's container failed (HTTP {status})", code="container_failed")
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise MalformedAnswerError("the model's container compressed its answer, which was not asked for")
        if int(response.headers.get("Content-Length", 0)) > self._most_body:
            raise MalformedAnswerError("the model's container answered too much")

    async def _health(self) -> str:
        """What is wrong with the container; nothing when it is ready."""
        try:
            async with (
                asyncio.timeout(self._options.connect),
                self._client.stream("GET", "health") as response,
            ):
                if response.status_code != httpx.codes.OK:
                    return f"its health is HTTP {response.status_code}"
                body = b""
                async for data in response.aiter_raw():
                    body += data
                    if len(body) > _MOST_HEALTH:
                        break
                return "" if _is_ready(body) else "it is still loading its model"
        except (TimeoutError, httpx.TimeoutException):
            return "it took too long to tell its health"
        except httpx.HTTPError:
            return "it cannot be reached"


def _base(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
        url.host.encode("idna")  # as a connection will: names that are too long fail here
        valid = url.scheme in ("http", "https") and url.host and (url.port or 80) < 2**16
    except (httpx.InvalidURL, ValueError):
        valid = False
    if not valid or url.query or url.fragment:
        raise EngineError("a container's address is a URL such as http://localhost:9000", code="container_unreachable")
    return url.copy_with(path=url.path.rstrip("/") + "/api/v1/")


def _is_ready(body: bytes) -> bool:
    """Whether a container that answers is ready, as far as it says: some answer before their model is loaded."""
    try:
        health = json.loads(body)
    except (ValueError, RecursionError):
        return True
    return not (isinstance(health, dict) and health.get("status") in _NOT_READY)


def _lacks(what: str, *, answered: bool) -> EngineError:
    if answered:
        return MalformedAnswerError(f"the model's container answered without {what}")
    return EngineError(f"the model does not answer with {what}", code="container_refused")


def _base64_size(size: int) -> int:
    return (size + 2) // 3 * 4


async def _pieces(before: bytes, file: bytes, after: bytes) -> AsyncIterator[bytes]:
    """A request's body, encoded a little at a time: a long turn must not hold up the loop."""
    yield before
    for start in range(0, len(file), _PIECE):
        yield binascii.b2a_base64(file[start : start + _PIECE], newline=False)
    yield after
