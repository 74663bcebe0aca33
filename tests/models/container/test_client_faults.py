"""What becomes of containers that are wrong, late, huge or gone."""

import asyncio
import gzip
import socket
import struct
import tracemalloc
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from models.container.client import RATE, ContainerClient, ContainerOptions, Task
from streaming.errors import EngineError
from tests.models.container.asking import TURN, Clock, ask, client_of
from tests.models.container.fake_container import PATIENCE, FakeContainer, Request, Respond, body, http, npy, saying


async def failure(respond: Respond, task: Task = "v2v", **options: Any) -> EngineError:
    """How it ends where the container responds so."""
    async with client_of(FakeContainer(v2v=respond, v2t=respond), **options) as client:
        with pytest.raises(EngineError) as caught:
            await ask(client, task)
        return caught.value


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


# --- wrong

MOST = 2 * RATE
HUGE = b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n"
ENDLESS = b"HTTP/1.1 200 OK\r\n\r\n"
HEADER_LIES = npy(np.zeros(100, np.float32)).replace(b"(100,)", b"(999,)")


@pytest.mark.parametrize(
    ("respond", "code"),
    [
        (saying(http(b"secret, not JSON")), "container_failed"),
        (saying(http(b'{"text": "secret"}')), "container_failed"),
        (saying(http(b'{"audio_data": "secret!"}')), "container_failed"),
        (saying(http(body(npy(np.array([None, "secret"], object), pickled=True)))), "container_failed"),
        (saying(http(body(npy(TURN)[:-3]))), "container_failed"),
        (saying(http(body(HEADER_LIES))), "container_failed"),
        (saying(http(body(TURN.astype(np.float16)))), "container_failed"),
        (saying(http(body(np.zeros((2, 50), np.float32)))), "container_failed"),
        (saying(http(body(np.full(10, np.nan, np.float32)))), "container_failed"),
        (saying(http(body(np.zeros(MOST + 1, np.float32)))), "container_failed"),
        (saying(HUGE, then_hang=True), "container_failed"),
        (saying(http(gzip.compress(body(TURN)), Content_Encoding="gzip")), "container_failed"),
        (saying(http(b"secret", status=500)), "container_failed"),
        (saying(http(b"secret", status=503)), "container_failed"),
        (saying(http(b"", status=204)), "container_failed"),
        (saying(http(b"", status=307, Location="http://127.0.0.1:9/secret")), "container_failed"),
        (saying(http(b"secret", status=422)), "container_refused"),
        (saying(http(b"secret", status=404)), "container_refused"),
        (saying(http(b"secret", status=429)), "container_busy"),
        (saying(b"secret, not HTTP\r\n\r\n"), "container_unreachable"),
        (saying(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n"), "container_unreachable"),
        (saying(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 300_000), "container_unreachable"),
        (saying(http(body(TURN))[:-500]), "container_unreachable"),
        (saying(), "container_unreachable"),
    ],
)
async def test_a_wrong_answer_is_an_error_of_ours_that_tells_nothing_of_it(respond: Respond, code: str) -> None:
    error = await failure(respond, longest_reply=MOST / RATE)
    assert error.code == code
    assert "secret" not in error.message


@pytest.mark.parametrize(
    "content", [b"{}", b'{"text": null}', b'{"text": ["a"]}', b'{"text": "' + b"a" * 70_000 + b'"}']
)
async def test_an_answer_in_words_has_words_and_not_too_many(content: bytes) -> None:
    assert (await failure(saying(http(content)), "v2t")).code == "container_failed"


@pytest.mark.parametrize("after", [b"", http(body(TURN))[:1000]], ids=["at once", "in its answer"])
async def test_a_connection_that_is_reset(after: bytes) -> None:
    async def reset(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(after)
        await writer.drain()
        # Lingering for no time makes closing a reset.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    assert (await failure(reset)).code == "container_unreachable"


async def test_a_container_that_is_not_there() -> None:
    client = ContainerClient(f"http://127.0.0.1:{free_port()}", clock=Clock(), options=ContainerOptions())
    with pytest.raises(EngineError, match="cannot be reached"):
        await ask(client)
    await client.close()


async def test_a_redirect_is_not_followed() -> None:
    elsewhere = FakeContainer()
    async with elsewhere.serve() as url:
        redirect = saying(http(status=307, Location=f"{url}/api/v1/v2v"))
        assert (await failure(redirect)).code == "container_failed"
    assert elsewhere.requests == []


# --- late


async def test_a_container_that_says_nothing() -> None:
    error = await failure(saying(then_hang=True), first_byte=0.1)
    assert error.code == "container_timeout"


async def test_an_answer_that_drips() -> None:
    pieces = [bytes([byte]) for byte in http(body(TURN))]
    assert (await failure(saying(*pieces, pause=0.02), total=0.3)).code == "container_timeout"


async def test_an_answer_that_hangs_in_the_middle() -> None:
    assert (await failure(saying(http(body(TURN))[:900], then_hang=True), total=0.2)).code == "container_timeout"


async def test_a_container_that_reads_nothing() -> None:
    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(30)
        writer.close()

    server = await asyncio.start_server(never, "127.0.0.1", 0, limit=1024)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    client = ContainerClient(url, clock=Clock(), options=ContainerOptions(first_byte=0.3))
    with pytest.raises(EngineError) as caught:
        await ask(client, audio=np.zeros(100 * RATE, np.float32))
    assert caught.value.code == "container_timeout"
    await client.close()
    server.close()


# --- huge


@pytest.mark.parametrize(
    "beginning", [b"", b'{"text": "', b'{"audio_data": "', b'{"audio_data": "AAAA", "text": "', body(TURN)[:200]]
)
async def test_an_endless_answer_is_cut_off_and_never_held(beginning: bytes) -> None:
    sent = 0

    async def endless(request: Request, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(ENDLESS + beginning)
        while not request.left.is_set():
            writer.write(b"A" * 65_536)
            sent += 65_536
            await writer.drain()
            await asyncio.sleep(0)

    tracemalloc.start()
    try:
        error = await failure(endless, longest_reply=2)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert error.code == "container_failed"
    assert sent < 16 * 2**20
    assert peak < 8 * 2**20


async def test_ten_minutes_of_audio_are_refused_by_their_header() -> None:
    content = body(np.zeros(600 * RATE, np.float32))
    # Without a length, so that it is the audio's own header that tells.
    container = FakeContainer(v2v=saying(ENDLESS + content[:4096], then_hang=True))
    async with client_of(container) as client:
        with pytest.raises(EngineError, match="more than") as caught:
            await ask(client)
        assert caught.value.code == "container_failed"
        async with asyncio.timeout(PATIENCE):
            await container.requests[0].left.wait()


@pytest.mark.parametrize("head", [b"HTTP/1.1 500 x", b"HTTP/1.1 404 x", b"HTTP/1.1 200 OK\r\nContent-Encoding: br"])
async def test_who_answers_what_is_not_read_is_hung_up_on(head: bytes) -> None:
    container = FakeContainer(v2v=saying(head + b"\r\nContent-Length: 100000\r\n\r\n", then_hang=True))
    async with client_of(container) as client:
        with pytest.raises(EngineError):
            await ask(client)
        async with asyncio.timeout(PATIENCE):
            await container.asked("v2v")[0].left.wait()
