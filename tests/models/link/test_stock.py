"""A stock Moshi server as an engine: it greets with one byte, speaks Opus and holds one conversation."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import pytest
from websockets.asyncio.server import ServerConnection, serve

from models.link import stock
from models.link.stock import StockEngine, StockSession
from streaming.engine import Begin, EngineLost, HearAudio, Samples, Speech
from streaming.errors import EngineBusyError, EngineError
from streaming.opus import OpusDecoder, OpusEncoder
from streaming.wire.moshi import FRAME_SAMPLES, OggOpus, Text, decode, encode
from tests.models.worker.loopback import FRAME_SECONDS, PATIENCE, worker

Handler = Callable[[ServerConnection], Awaitable[None]]


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a machine that may be busy."""
    monkeypatch.setattr(stock, "_PATIENCE", PATIENCE / FRAME_SECONDS)


def tone(start: int, samples: int) -> Samples:
    at = np.arange(start, start + samples) / 24_000
    return (0.3 * np.sin(2 * np.pi * 440 * at)).astype(np.float32)


@contextlib.asynccontextmanager
async def linked(handler: Handler) -> AsyncIterator[StockEngine]:
    async with serve(handler, "127.0.0.1", 0, close_timeout=0.2) as server:
        engine = StockEngine(
            f"moshi://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}", clock=time.monotonic_ns
        )
        await engine.start()
        try:
            yield engine
        finally:
            await engine.close()


async def echo(connection: ServerConnection) -> None:
    decoder, encoder = OpusDecoder(), OpusEncoder()
    await connection.send(b"\x00")
    await connection.send(encode(Text(text=" hi")))
    async for data in connection:
        assert isinstance(data, bytes)
        message = decode(data)
        assert isinstance(message, OggOpus)
        await connection.send(encode(OggOpus(data=encoder.push(decoder.push(message.data)))))


@contextlib.asynccontextmanager
async def talking(session: StockSession) -> AsyncIterator[None]:
    """Speaks meanwhile, on and on: what is said before the server listens is lost."""

    async def say() -> None:
        for start in itertools.count(0, FRAME_SAMPLES // 2):
            session.send(HearAudio(audio=tone(start, FRAME_SAMPLES // 2)))
            await asyncio.sleep(FRAME_SECONDS / 2)

    saying = asyncio.create_task(say())
    try:
        yield
    finally:
        saying.cancel()
        await asyncio.gather(saying, return_exceptions=True)


async def lost(session: StockSession) -> str:
    async with asyncio.timeout(PATIENCE):
        async for event in session.events():
            if isinstance(event, EngineLost):
                return event.message
    raise AssertionError("the events ended without EngineLost")


async def test_it_is_spoken_to_in_opus_and_told_who_it_is_in_the_address() -> None:
    queries = []

    async def handler(connection: ServerConnection) -> None:
        assert connection.request is not None
        queries.append(dict(parse_qsl(urlsplit(connection.request.path).query)))
        await echo(connection)

    async with linked(handler) as engine:
        session = await engine.open("s")
        session.send(Begin(instructions="Be kind & brief.", voice="NATF2.pt"))
        said: list[Speech] = []
        async with asyncio.timeout(PATIENCE), talking(session):
            async for event in session.events():
                assert isinstance(event, Speech), event
                said.append(event)
                if sum(len(one.audio) for one in said) >= 20_000:
                    break
        assert queries == [{"text_prompt": "Be kind & brief.", "voice_prompt": "NATF2.pt"}]
        assert said[0].text == " hi"
        assert said[-1].heard >= sum(len(one.audio) for one in said)
        heard = np.concatenate([event.audio for event in said])[4_800:]
        spectrum = np.abs(np.fft.rfft(heard))
        assert spectrum.argmax() * 24_000 / len(heard) == pytest.approx(440, abs=5)
        await session.close()


async def test_the_worker_is_a_stock_server_to_whoever_asks_for_no_more() -> None:
    async with worker() as host:
        engine = StockEngine(host.url.replace("ws", "moshi", 1), clock=time.monotonic_ns)
        session = await engine.open("s")
        session.send(Begin(instructions="", voice="echo"))
        heard, words = 0.0, ""
        async with asyncio.timeout(PATIENCE), talking(session):
            async for event in session.events():
                assert isinstance(event, Speech), event
                words += event.text
                heard += float(np.abs(event.audio).sum())
                if heard > 1000:
                    break
        assert words == " echo"
        await engine.close()
        await host.until(lambda slots: all(slot["state"] == "free" for slot in slots))


async def test_it_holds_one_conversation() -> None:
    async with linked(echo) as engine:
        session = await engine.open("one")
        with pytest.raises(EngineBusyError, match="holds one conversation"):
            await engine.open("two")
        await session.close()
        await session.close()
        await (await engine.open("three")).close()


async def test_one_that_says_something_else_first_is_lost() -> None:
    async def handler(connection: ServerConnection) -> None:
        await connection.send(encode(Text(text="hello")))
        await connection.wait_closed()

    async with linked(handler) as engine:
        session = await engine.open("s")
        session.send(Begin(instructions="", voice=""))
        assert "expected a handshake" in await lost(session)
        await session.close()


@pytest.mark.parametrize("garbage", [b"", b"\x01OggS" + b"\xff" * 100, b"\x11", "text"])
async def test_garbage_ends_the_conversation(garbage: bytes | str) -> None:
    async def handler(connection: ServerConnection) -> None:
        await connection.send(b"\x00")
        await connection.send(garbage)
        await connection.wait_closed()

    async with linked(handler) as engine:
        session = await engine.open("s")
        session.send(Begin(instructions="", voice=""))
        assert "cannot be read" in await lost(session)
        await session.close()


async def test_one_that_goes_is_told_at_once() -> None:
    async def handler(connection: ServerConnection) -> None:
        await connection.send(b"\x00")
        await asyncio.sleep(0.1)
        connection.transport.abort()

    async with linked(handler) as engine:
        session = await engine.open("s")
        session.send(Begin(instructions="", voice=""))
        assert await lost(session) == "the Moshi server has gone"
        await session.close()


async def test_one_that_falls_silent_in_mid_speech_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stock, "_PATIENCE", 10)

    async def handler(connection: ServerConnection) -> None:
        decoder, encoder = OpusDecoder(), OpusEncoder()
        await connection.send(b"\x00")
        said = 0
        async for data in connection:
            assert isinstance(data, bytes)
            message = decode(data)
            assert isinstance(message, OggOpus)
            said += 1
            if said < 10:
                await connection.send(encode(OggOpus(data=encoder.push(decoder.push(message.data)))))

    async with linked(handler) as engine:
        session = await engine.open("s")
        session.send(Begin(instructions="", voice=""))
        async with talking(session):
            assert await lost(session) == "the Moshi server has fallen silent"
        await session.close()


async def test_nobody_there() -> None:
    with pytest.raises(EngineError, match="the Moshi server cannot be reached: ") as gone:
        await StockEngine("moshi://127.0.0.1:1", clock=time.monotonic_ns).start()
    assert gone.value.message == "the Moshi server cannot be reached"
    with pytest.raises(EngineError, match="moshi://host:port"):
        StockEngine("moshi://host", clock=time.monotonic_ns)
