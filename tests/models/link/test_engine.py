"""A worker as an engine, over loopback: real workers in this process, and peers that are none."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import numpy as np
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from models.echo import EchoEngine
from models.link.engine import LinkOptions, WorkerEngine
from models.link.session import WorkerSession
from models.worker.turn_based import TurnBasedHost
from streaming.engine import (
    Begin,
    ChatMessage,
    EngineEvent,
    EngineInfo,
    EngineLost,
    FrameTimes,
    HearAudio,
    ReplyAudio,
    ReplyEnded,
    Samples,
    Speech,
    StartReply,
    Transcribe,
    Transcript,
)
from streaming.errors import EngineBusyError, EngineChangedError, EngineError
from streaming.schema import to_json
from streaming.wire.moshi import FRAME_SAMPLES, Frame, Handshake, Metadata, Ping, Text, decode, encode
from tests.models.worker.loopback import FRAME_SECONDS, PATIENCE, Worker, speech, worker

BUSY = LinkOptions(patience=PATIENCE / FRAME_SECONDS, open=PATIENCE, ping=PATIENCE)
"""Of a machine that may be busy."""


@contextlib.asynccontextmanager
async def linked(url: str, options: LinkOptions = BUSY, key: str = "") -> AsyncIterator[WorkerEngine]:
    engine = WorkerEngine(url, clock=time.monotonic_ns, key=key, options=options)
    try:
        await engine.start()
        yield engine
    finally:
        await engine.close()


async def lost(session: WorkerSession) -> str:
    async with asyncio.timeout(PATIENCE):
        async for event in session.events():
            if isinstance(event, EngineLost):
                return event.message
    raise AssertionError("the events ended without EngineLost")


async def hear(session: WorkerSession, count: int) -> list[Speech]:
    said: list[Speech] = []
    async with asyncio.timeout(PATIENCE):
        async for event in session.events():
            assert isinstance(event, Speech), event
            said.append(event)
            if len(said) == count:
                break
    return said


async def talk(session: WorkerSession, audio: Samples, piece: int = FRAME_SAMPLES) -> None:
    for start in range(0, len(audio), piece):
        session.send(HearAudio(audio=audio[start : start + piece]))
        await asyncio.sleep(piece / FRAME_SAMPLES * FRAME_SECONDS)


async def listens(host: Worker) -> None:
    await host.until(lambda slots: any(slot["state"] == "talking" for slot in slots))


# --- a duplex worker ---------------------------------------------------------------------------------------------


async def test_what_is_heard_comes_back_as_speech_of_the_same_length() -> None:
    audio = speech(8)
    async with worker() as host, linked(host.url) as engine:
        assert engine.info.duplex
        session = await engine.open("s")
        session.send(Begin(instructions="Be kind.", voice="echo"))
        await listens(host)  # what is said to a model that does not is lost
        talking = asyncio.create_task(talk(session, audio, 960))
        said = await hear(session, 8)
        await talking
        assert [event.heard for event in said] == [FRAME_SAMPLES * (index + 1) for index in range(8)]
        assert {len(event.audio) for event in said} == {FRAME_SAMPLES}
        np.testing.assert_array_equal(said[0].audio, np.zeros(FRAME_SAMPLES))
        heard = np.concatenate([event.audio for event in said[1:]])
        np.testing.assert_array_equal(heard, audio[: 7 * FRAME_SAMPLES])
        assert [event.text for event in said] == ["", " echo", *[""] * 6]
        await session.close()
        await session.close()
        await host.until(lambda slots: all(slot["state"] == "free" for slot in slots))


async def test_what_is_too_loud_is_clipped_before_the_model_hears_it() -> None:
    async with worker() as host, linked(host.url) as engine:
        session = await engine.open("s")
        session.send(Begin(instructions="", voice=""))
        await listens(host)
        session.send(HearAudio(audio=np.full(2 * FRAME_SAMPLES, 1e30, np.float32)))
        np.testing.assert_array_equal((await hear(session, 2))[1].audio, np.ones(FRAME_SAMPLES))
        await session.close()


async def test_more_than_a_second_at_once_is_sent_in_pieces() -> None:
    audio = speech(20)
    async with worker() as host, linked(host.url) as engine:
        session = await engine.open("s")
        session.send(Begin(instructions="", voice=""))
        await listens(host)
        session.send(HearAudio(audio=audio))
        said = await hear(session, 5)
        np.testing.assert_array_equal(said[4].audio, audio[3 * FRAME_SAMPLES : 4 * FRAME_SAMPLES])
        await session.close()


async def test_a_full_and_a_draining_worker_are_busy_and_say_when_to_come_back() -> None:
    async with worker(slots=1) as host, linked(host.url) as engine:
        session = await engine.open("one")
        with pytest.raises(EngineBusyError, match="all slots are taken") as full:
            await engine.open("two")
        assert full.value.retry_after == 5
        await session.close()
        await host.until(lambda slots: slots[0]["state"] == "free")
        again = await engine.open("three")
        draining = asyncio.create_task(host.server.drain(0))
        assert await lost(again) == "the worker is stopping"
        with pytest.raises(EngineBusyError, match="draining"):
            await engine.open("four")
        await draining


async def test_what_the_model_refuses_is_told_in_its_words() -> None:
    async with worker() as host, linked(host.url) as engine:
        session = await engine.open("s")
        session.send(Begin(instructions="", voice="alto"))
        assert await lost(session) == "unknown voice; expected: echo"
        await session.close()


async def test_closing_the_engine_tells_every_session_and_lets_go_of_the_slots() -> None:
    async with worker() as host, linked(host.url) as engine:
        sessions = [await engine.open(name) for name in "ab"]
        await engine.close()
        for session in sessions:
            assert await lost(session) == "the engine is closing"
        await host.until(lambda slots: all(slot["state"] == "free" for slot in slots))
        with pytest.raises(EngineBusyError):
            await engine.open("c")


async def test_a_session_that_is_lost_lets_go_of_its_slot_before_anybody_closes_it() -> None:
    async with worker() as host, linked(host.url) as engine:
        session = await engine.open("s")
        session.send(Begin(instructions="", voice=""))
        await listens(host)
        session.lose("the worker has fallen silent")
        await host.until(lambda slots: all(slot["state"] == "free" for slot in slots))
        await session.close()


async def test_a_worker_with_a_key() -> None:
    key = "0123456789abcdef"
    async with worker(key=key) as host:
        async with linked(host.url, key=key) as engine:
            await (await engine.open("s")).close()
        async with linked(host.url, key="wrong") as engine:
            with pytest.raises(EngineError, match="status 401"):
                await engine.open("s")


# --- a turn-based worker -----------------------------------------------------------------------------------------


async def test_a_turn_based_engine_is_the_same_through_the_wire() -> None:
    audio = speech(20)[:30_001]
    host_engine = EchoEngine(clock=time.monotonic_ns, max_sessions=4)
    async with worker(host=TurnBasedHost(host_engine), engine="echo") as host, linked(host.url) as engine:
        assert engine.info == host_engine.info
        session = await engine.open("s")
        session.send(Transcribe(item_id="i", revision=1, audio=audio))
        message = ChatMessage(role="user", text=None, item_id="i")
        session.send(StartReply(response_id="r", instructions="", messages=(message,), speaks=True, voice="echo"))
        events: list[EngineEvent] = []
        async with asyncio.timeout(PATIENCE):
            async for event in session.events():
                events.append(event)
                if isinstance(event, ReplyEnded):
                    break
        assert events[0] == Transcript(item_id="i", revision=1, text="echo")
        heard = np.concatenate([event.audio for event in events if isinstance(event, ReplyAudio)])
        np.testing.assert_array_equal(heard, audio)
        await session.close()
        await host.until(lambda slots: all(slot["state"] == "free" for slot in slots))


async def test_a_stock_client_cannot_hold_turns_and_is_told_so() -> None:
    engine = EchoEngine(clock=time.monotonic_ns, max_sessions=4)
    async with worker(host=TurnBasedHost(engine), engine="echo") as host:
        response = await host.get("/api/chat?audio=opus")
        assert (response.status_code, response.json()["code"]) == (400, "invalid_value")


# --- peers that misbehave ----------------------------------------------------------------------------------------

DUPLEX = EngineInfo(model="m", input_rate=24_000, output_rate=24_000, duplex=True)
HELLO = (encode(Handshake()), encode(Metadata(values={"type": "session", "protocol": 1, "engine": to_json(DUPLEX)})))


@contextlib.asynccontextmanager
async def peer(
    handler: Callable[[ServerConnection], Awaitable[None]],
    health: Callable[[], object] = lambda: {"status": "ok", "engine": to_json(DUPLEX)},
) -> AsyncIterator[str]:
    def answer(connection: ServerConnection, request: Request) -> Response | None:
        if request.path != "/health":
            return None
        body = health()
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return Response(200, "OK", Headers([("Content-Length", str(len(data))), ("Connection", "close")]), data)

    async with serve(handler, "127.0.0.1", 0, process_request=answer, close_timeout=0.2) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"


async def greet(connection: ServerConnection) -> None:
    for message in HELLO:
        await connection.send(message)


SAID = encode(Frame(number=0, heard=1, times=FrameTimes(), audio=speech(1)))


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\x11\x00",
        SAID[:-1],
        b"\x11" + SAID[1:17] + b"\xff\xff\xff\x7f" * 4,
        b"\x21[]",
        b"\x10" + bytes(40),
        "text",
        bytes(40 * 2**20),
        encode(Text(text="x" * 5000)),
    ],
    ids=["empty", "short", "torn", "nan", "event", "pcm", "text", "huge", "endless text"],
)
async def test_garbage_ends_that_conversation_only(garbage: bytes | str) -> None:
    conversations = 0

    async def handler(connection: ServerConnection) -> None:
        nonlocal conversations
        conversations += 1
        await greet(connection)
        if conversations == 2:
            await connection.send(garbage)
        async for data in connection:
            assert isinstance(data, bytes)
            await connection.send(SAID)

    async with peer(handler) as url, linked(url) as engine:
        good, bad = await engine.open("good"), await engine.open("bad")
        assert await lost(bad)
        good.send(HearAudio(audio=speech(1)))
        assert len(await hear(good, 1)) == 1
        await asyncio.gather(good.close(), bad.close())


@pytest.mark.parametrize(
    "hello",
    [(), HELLO[:1], (HELLO[1], HELLO[0]), (HELLO[0], b"\x04{}"), (b"\x11", b""), ("hello", "you")],
)
async def test_a_peer_that_does_not_greet_as_a_worker_does_is_refused(hello: tuple[bytes | str, ...]) -> None:
    async def handler(connection: ServerConnection) -> None:
        for message in hello:
            await connection.send(message)
        await connection.wait_closed()

    async with peer(handler) as url, linked(url, replace(BUSY, open=2)) as engine:
        with pytest.raises(EngineError, match="does not speak as a worker does"):
            await engine.open("s")


async def test_a_worker_that_has_another_engine_than_before_is_refused() -> None:
    other = EngineInfo(model="other", input_rate=16_000, output_rate=24_000)

    async with (
        peer(greet, lambda: {"status": "ok", "engine": to_json(other)}) as url,
        linked(url) as engine,
    ):
        with pytest.raises(EngineChangedError, match="another engine than it had: m"):
            await engine.open("s")


@pytest.mark.parametrize(
    "health", [b"<html>", [], {"status": "ok"}, {"status": "failed"}, b"[" * 60_000, b" " * 70_000]
)
async def test_what_is_not_a_worker_is_refused_at_the_start(health: object) -> None:
    async with peer(greet, lambda: health) as url:
        with pytest.raises(EngineError, match="worker"):
            await WorkerEngine(url, clock=time.monotonic_ns).start()


async def test_a_worker_that_still_loads_is_waited_for_and_one_that_is_not_there_is_not() -> None:
    answers = iter([{"status": "starting"}, {"status": "starting"}, {"status": "ok", "engine": to_json(DUPLEX)}])
    async with peer(greet, lambda: next(answers)) as url, linked(url) as engine:
        assert engine.info == DUPLEX
    with pytest.raises(EngineError, match="the worker cannot be reached: ") as gone:
        await WorkerEngine(url, clock=time.monotonic_ns).start()
    assert gone.value.message == "the worker cannot be reached"


@pytest.mark.parametrize(
    "url", ["http://host:1", "ws://", "host:8998", "ws://host:1/api/chat", "ws://host:1?x=1", "ws://host:port"]
)
def test_an_address_that_is_not_a_workers_is_refused(url: str) -> None:
    with pytest.raises(EngineError) as refused:
        WorkerEngine(url, clock=time.monotonic_ns)
    assert refused.value.code == "invalid_url"


async def test_a_worker_that_falls_silent_is_ejected_until_it_is_well() -> None:
    status, opened = "ok", 0

    async def handler(connection: ServerConnection) -> None:
        nonlocal opened
        opened += 1
        await greet(connection)
        await connection.send(encode(Metadata(values={"type": "ready"})))
        await connection.wait_closed()

    options = replace(BUSY, patience=3, probe=0.2)
    async with (
        peer(handler, lambda: {"status": status, "engine": to_json(DUPLEX)}) as url,
        linked(url, options) as engine,
    ):
        session = await engine.open("s")
        await asyncio.sleep(0.5)  # nothing is sent: nothing is expected
        session.send(HearAudio(audio=speech(1)))
        assert await lost(session) == "the worker has fallen silent"
        status = "stalled"
        with pytest.raises(EngineBusyError, match="fallen silent"):
            await engine.open("too soon")
        await asyncio.sleep(0.25)
        with pytest.raises(EngineBusyError, match="fallen silent"):
            await engine.open("not well")
        status = "ok"
        await asyncio.sleep(0.25)
        again = await asyncio.gather(*(engine.open(name) for name in "abc"))
        assert opened == 4
        for one in (session, *again):
            await one.close()


async def test_a_worker_that_never_gets_ready_is_lost_and_one_that_does_is_watched_at_once() -> None:
    gets_ready = False

    async def handler(connection: ServerConnection) -> None:
        await greet(connection)
        await connection.recv()
        if gets_ready:
            await connection.send(encode(Metadata(values={"type": "ready"})))
        await connection.wait_closed()

    async with peer(handler) as url, linked(url, replace(BUSY, patience=3, prepare=0.5, probe=0)) as engine:
        session = await engine.open("s")
        await asyncio.sleep(0.7)  # it has not been told to begin
        session.send(Begin(instructions="", voice=""))
        assert await lost(session) == "the worker has fallen silent"
        await session.close()
    gets_ready = True
    async with peer(handler) as url, linked(url, replace(BUSY, patience=3)) as engine:
        session = await engine.open("s")
        session.send(Begin(instructions="", voice=""))
        session.send(HearAudio(audio=speech(1)))
        assert await lost(session) == "the worker has fallen silent"
        await session.close()


async def test_a_conversation_that_has_not_begun_lives_on_and_then_gives_no_more_signs() -> None:
    received: list[type] = []
    signs, begun = asyncio.Event(), asyncio.Event()

    async def handler(connection: ServerConnection) -> None:
        await greet(connection)
        async for data in connection:
            assert isinstance(data, bytes)
            received.append(type(decode(data)))
            if len(received) == 4:
                signs.set()
            if received[-1] is Metadata:
                begun.set()

    async with peer(handler) as url, linked(url, replace(BUSY, sign=0.05)) as engine:
        session = await engine.open("s")
        async with asyncio.timeout(PATIENCE):
            await signs.wait()
            session.send(Begin(instructions="", voice=""))
            await begun.wait()
        await asyncio.sleep(0.3)
        assert set(received[:-1]) == {Ping}
        assert received[-1] is Metadata
        await session.close()


@pytest.mark.parametrize("kind", ["duplex", "turns"])
async def test_a_quiet_session_outlives_the_workers_patience_for_strangers(kind: str) -> None:
    host_engine = None
    if kind == "turns":
        engine = EchoEngine(clock=time.monotonic_ns, max_sessions=4)
        host_engine = TurnBasedHost(engine, first_message_seconds=2)
    async with (
        worker(host=host_engine, first_message_seconds=2) as host,
        linked(host.url, replace(BUSY, sign=0.1)) as link,
    ):
        session = await link.open("s")
        await asyncio.sleep(2.5)
        assert [slot["state"] for slot in await host.slots()].count("free") == 3
        if kind == "duplex":
            session.send(Begin(instructions="", voice=""))
        else:
            session.send(Transcribe(item_id="i", revision=1, audio=speech(1)))
        await asyncio.sleep(2.5)  # it has begun, and may be silent
        assert [slot["state"] for slot in await host.slots()].count("free") == 3
        await session.close()


async def test_a_worker_that_takes_nothing_is_lost_and_never_waited_for() -> None:
    over = asyncio.Event()

    async def handler(connection: ServerConnection) -> None:
        await greet(connection)
        connection.transport.pause_reading()
        await over.wait()

    async with peer(handler) as url, linked(url, replace(BUSY, send_buffer=100_000)) as engine:
        session = await engine.open("s")
        for _ in range(400):
            session.send(HearAudio(audio=speech(10)))
        assert await lost(session) == "the worker does not take what it is sent"
        over.set()
        await session.close()


async def test_a_reader_that_pauses_is_no_fault_of_the_workers() -> None:
    async with worker() as host, linked(host.url, replace(BUSY, patience=25)) as engine:
        session = await engine.open("s")
        session.send(Begin(instructions="", voice=""))
        await listens(host)
        await talk(session, speech(30))
        assert len(await hear(session, 30)) == 30
        await session.close()


async def test_the_gateways_messages_are_the_wires() -> None:
    received, arrived = [], asyncio.Event()

    async def handler(connection: ServerConnection) -> None:
        await greet(connection)
        async for data in connection:
            assert isinstance(data, bytes)
            received.append(decode(data))
            if len(received) == 2:
                arrived.set()

    async with peer(handler) as url, linked(url) as engine:
        session = await engine.open("s")
        session.send(Begin(instructions="Be brief.", voice="v"))
        session.send(HearAudio(audio=speech(1)))
        async with asyncio.timeout(PATIENCE):
            await arrived.wait()
        assert received[0] == Metadata(values={"type": "begin", "instructions": "Be brief.", "voice": "v"})
        await session.close()
