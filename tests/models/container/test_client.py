"""What goes over HTTP, the line before a container, its health and its circuit breaker."""

import asyncio

import numpy as np
import pytest

from models.container.answer import Answer
from models.container.client import RATE, ContainerClient, ContainerOptions
from streaming.errors import EngineBusyError, EngineError
from tests.models.container.asking import TURN, Clock, ask, client_of
from tests.models.container.fake_container import PATIENCE, FakeContainer, Request, Respond, body, http, saying

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


# --- stopping, and waiting in line


async def test_cancelling_closes_the_connection() -> None:
    container = FakeContainer(v2v=saying(then_hang=True))
    async with client_of(container) as client:
        asking = asyncio.create_task(ask(client))
        request = await container.until_asked("v2v")
        asking.cancel()
        async with asyncio.timeout(PATIENCE):
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
    async with client_of(FakeContainer(health=saying(http(content)))) as client:
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
    async with client_of(FakeContainer(health=respond), load=2, connect=1) as client:
        with pytest.raises(EngineError, match=f" 2 s: .*{why}"):
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
