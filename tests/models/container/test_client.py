"""What goes over HTTP, and what becomes of containers that are late, wrong, huge or gone."""

import asyncio
import gzip
import socket
import struct
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import numpy as np
import pytest

from models.container.answer import Answer
from models.container.client import RATE, ContainerClient, ContainerOptions, Task
from streaming.engine import Samples
from streaming.errors import EngineBusyError, EngineError
from tests.models.container.fake_container import FakeContainer, Request, Respond, body, http, npy, saying

TURN: Samples = np.random.default_rng(0).uniform(-1, 1, RATE // 4).astype(np.float32)


class Clock:
    """Monotonic ns, as a test sets it."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


@asynccontextmanager
async def client_of(
    container: FakeContainer, clock: Clock | None = None, **options: Any
) -> AsyncIterator[ContainerClient]:
    async with container.serve() as url:
        client = ContainerClient(url, clock=clock or Clock(), options=ContainerOptions(**options))
        try:
            yield client
        finally:
            await client.close()


async def ask(client: ContainerClient, task: Task = "v2v", audio: Samples = TURN) -> Answer:
    async with asyncio.timeout(10), client.turn():
        return await client.ask(task, audio)


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


# --- as it should be


async def test_a_turn_is_sent_as_miners_expect_it_and_answered() -> None:
    container = FakeContainer()
    async with client_of(container) as client:
        answer = await ask(client)
    np.testing.assert_array_equal(answer.audio, TURN * np.float32(0.5))
    assert answer.text == f"You said {TURN.size} samples."
    (request,) = container.requests
    assert request.line == "POST /api/v1/v2v HTTP/1.1"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["accept-encoding"] == "identity"
    assert request.body.keys() == {"audio_data", "sample_rate"}
    assert request.body["sample_rate"] == RATE
    assert request.audio.shape == (1, TURN.size)
    assert request.audio.dtype == np.float32


async def test_an_answer_in_words_is_asked_for_with_one_dimension() -> None:
    container = FakeContainer()
    async with client_of(container) as client:
        assert await ask(client, "v2t") == Answer(text=f"You said {TURN.size} samples.")
    assert container.requests[0].path == "v2t"
    assert container.requests[0].audio.shape == TURN.shape


@pytest.mark.parametrize("seconds", [0.1, 1.5, 20.0])
async def test_turns_of_any_length_arrive_whole(seconds: float) -> None:
    turn = np.random.default_rng(1).uniform(-1, 1, int(seconds * RATE)).astype(np.float32)
    container = FakeContainer()
    async with client_of(container) as client:
        await ask(client, audio=turn)
    np.testing.assert_array_equal(container.requests[0].audio[0], turn)


async def test_a_url_may_have_a_path_of_its_own() -> None:
    container = FakeContainer()
    async with container.serve() as url:
        client = ContainerClient(f"{url}/miner/7/", clock=Clock(), options=ContainerOptions())
        with pytest.raises(EngineError):
            await ask(client)
        await client.close()
    assert container.requests[0].line == "POST /miner/7/api/v1/v2v HTTP/1.1"


@pytest.mark.parametrize("key", ["", "secret"])
async def test_a_key_is_sent_where_there_is_one(key: str) -> None:
    container = FakeContainer()
    async with container.serve() as url:
        client = ContainerClient(url, clock=Clock(), options=ContainerOptions(), key=key)
        await client.start()
        await ask(client)
        await client.close()
    expected = f"Bearer {key}" if key else None
    assert [request.headers.get("authorization") for request in container.requests] == [expected] * 2


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:9000",
        "ftp://host",
        "http://",
        "http://[::1",
        "http://a..b",
        f"http://{'a' * 64}.com",
        "http://a\0",
        "http://host:99999",
        "http://host:a",
        "http://host/?a=b",
        "http://host/#a",
    ],
)
def test_what_is_not_a_url_is_refused(url: str) -> None:
    with pytest.raises(EngineError, match="http://localhost:9000"):
        ContainerClient(url, clock=Clock(), options=ContainerOptions())


async def test_the_first_containers_path_is_found_and_remembered() -> None:
    missing = saying(http(b"{}", status=404))

    async def old(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(http(body(request.audio)))

    container = FakeContainer(v2v=missing, inference=old)
    async with client_of(container) as client:
        await ask(client)
        await ask(client)
    assert [request.path for request in container.requests] == ["v2v", "inference", "inference"]


async def test_an_answer_without_length_in_chunks_is_read() -> None:
    content = body(TURN)
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (content[:1000], content[1000:]))
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with client_of(FakeContainer(v2v=saying(head, chunks, b"0\r\n\r\n", pause=0.01))) as client:
        np.testing.assert_array_equal((await ask(client)).audio, TURN)


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
        async with asyncio.timeout(5):
            await container.requests[0].left.wait()


# --- stopping, and waiting in line


async def test_cancelling_closes_the_connection() -> None:
    container = FakeContainer(v2v=saying(then_hang=True))
    async with client_of(container) as client:
        asking = asyncio.create_task(ask(client))
        request = await container.until_asked("v2v")
        asking.cancel()
        async with asyncio.timeout(1):
            await request.left.wait()
        container.answers.clear()
        assert (await ask(client)).audio is not None


async def test_requests_wait_in_line_and_the_line_has_an_end() -> None:
    container = FakeContainer(v2v=saying(http(body(TURN)), pause=0.05))
    async with client_of(container, concurrency=2, waiting=3) as client:
        results = await asyncio.gather(*(ask(client) for _ in range(6)), return_exceptions=True)
    errors = [result for result in results if isinstance(result, EngineError)]
    assert [error.code for error in errors] == ["container_busy"]
    assert container.most_at_once == 2
    assert len(container.requests) == 5


async def test_one_who_leaves_the_line_makes_room() -> None:
    container = FakeContainer(v2v=saying(then_hang=True))
    async with client_of(container, waiting=1) as client:
        first = asyncio.create_task(ask(client))
        await container.until_asked("v2v")
        second = asyncio.create_task(ask(client))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        container.answers.clear()
        third = asyncio.create_task(ask(client))
        await asyncio.sleep(0)
        first.cancel()
        assert (await third).audio is not None
        await asyncio.gather(first, return_exceptions=True)


# --- health


async def test_starting_waits_until_the_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.container.client._POLL", 0.01)
    answers = [http(status=503), http(b'{"status": "initializing"}'), http(b'{"status": "healthy"}')]

    async def loading(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(answers.pop(0))

    container = FakeContainer(health=loading)
    async with client_of(container) as client:
        await client.start()
    assert [request.line for request in container.requests] == ["GET /api/v1/health HTTP/1.1"] * 3


@pytest.mark.parametrize("content", [b"", b"ok", b"[1]", b'{"status": "ready"}', b'{"healthy": true}', b"x" * 100_000])
async def test_any_other_200_is_health(content: bytes) -> None:
    async with client_of(FakeContainer(health=saying(http(content))), load=0.5) as client:
        await client.start()


@pytest.mark.parametrize(
    ("respond", "why"),
    [
        (saying(http(status=500)), "HTTP 500"),
        (saying(http(status=302, Location="/")), "HTTP 302"),
        (saying(http(b'{"status": "unhealthy"}')), "loading"),
        (saying(then_hang=True), "too long"),
        (saying(b"nonsense\r\n\r\n"), "cannot be reached"),
    ],
)
async def test_starting_gives_up_and_says_why(respond: Respond, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.container.client._POLL", 0.01)
    async with client_of(FakeContainer(health=respond), load=0.2, connect=0.05) as client:
        with pytest.raises(EngineError, match=f"0.2 s: .*{why}"):
            await client.start()


# --- the circuit breaker


async def test_after_failures_in_a_row_it_is_left_alone_until_it_is_healthy_again() -> None:
    clock = Clock()
    container = FakeContainer(v2v=saying(http(status=500)), health=saying(http(status=500)))
    async with client_of(container, clock, failures=2, cooldown=5) as client:
        for _ in range(2):
            await client.ready()
            with pytest.raises(EngineError, match="HTTP 500"):
                await ask(client)
        for _ in range(3):  # open: neither the model nor, before the cooldown, its health is asked
            with pytest.raises(EngineBusyError) as caught:
                await client.ready()
            assert caught.value.retry_after == 5
            with pytest.raises(EngineBusyError):
                await ask(client)
        assert [request.path for request in container.requests] == ["v2v", "v2v"]

        clock.now += 5_000_000_000
        with pytest.raises(EngineBusyError):  # a probe, which fails
            await client.ready()
        assert len(container.asked("health")) == 1

        container.answers.pop("health")
        with pytest.raises(EngineBusyError):
            await client.ready()
        assert len(container.asked("health")) == 1

        clock.now += 5_000_000_000
        await client.ready()  # half open
        with pytest.raises(EngineError, match="HTTP 500"):
            await ask(client)
        with pytest.raises(EngineBusyError):
            await client.ready()

        clock.now += 5_000_000_000
        container.answers.pop("v2v")
        assert (await ask(client)).audio is not None
        await client.ready()


async def test_many_who_come_at_once_make_one_probe() -> None:
    clock = Clock()
    container = FakeContainer(v2v=saying(http(status=500)))
    async with client_of(container, clock, failures=1, cooldown=1) as client:
        with pytest.raises(EngineError):
            await ask(client)
        clock.now += 1_000_000_000
        await asyncio.gather(*(client.ready() for _ in range(10)))
    assert len(container.asked("health")) == 1


@pytest.mark.parametrize("status", [400, 404, 413, 422, 429])
async def test_turns_that_it_will_not_take_do_not_make_a_container_broken(status: int) -> None:
    refusal = saying(http(status=status))
    async with client_of(FakeContainer(v2v=refusal, inference=refusal), failures=1) as client:
        for _ in range(3):
            with pytest.raises(EngineError):
                await ask(client)
            await client.ready()


async def test_requests_that_were_given_up_do_not_count() -> None:
    container = FakeContainer(v2v=saying(then_hang=True))
    async with client_of(container, failures=1) as client:
        asking = asyncio.create_task(ask(client))
        await container.until_asked("v2v")
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await client.ready()
