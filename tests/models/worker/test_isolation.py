"""Whatever one client does, its neighbour's conversation is the one that it would have had alone."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from models.worker.batch import Step
from models.worker.echo import EchoBatch
from streaming.engine import FrameTimes, Samples
from streaming.wire.moshi import FRAME_SAMPLES, Frame, Handshake, Metadata, OggOpus, Pcm, Ping, decode, encode
from tests.models.worker.loopback import (
    FRAME_SECONDS,
    PATIENCE,
    Worker,
    begin,
    converse,
    ending,
    session_of,
    speech,
    until_ready,
    worker,
)

FRAMES = 10
SPEECH = speech(FRAMES)

Misuse = Callable[[ClientConnection], Awaitable[None]]


@pytest.fixture(scope="module")
def alone() -> Samples:
    async def run() -> Samples:
        async with worker() as host:
            return await converse(host, SPEECH)

    answer = asyncio.run(run())
    assert len(answer) == (FRAMES - 1) * 1920
    return answer


async def text(client: ClientConnection) -> None:
    await client.send("hello")


async def empty(client: ClientConnection) -> None:
    await client.send(b"")


async def torn(client: ClientConnection) -> None:
    await client.send(b"\x10\x00\x00\x00")


async def not_a_number(client: ClientConnection) -> None:
    audio = speech(1)
    audio[700] = np.nan
    await client.send(encode(Pcm(audio=audio)))


async def infinite(client: ClientConnection) -> None:
    await client.send(encode(Pcm(audio=np.full(10, np.inf, np.float32))))


async def too_long(client: ClientConnection) -> None:
    await client.send(encode(Pcm(audio=np.zeros(24_001, np.float32))))


async def oversize(client: ClientConnection) -> None:
    await client.send(b"\x10" + bytes(2**20))


async def the_workers_kind(client: ClientConnection) -> None:
    await client.send(encode(Frame(number=0, heard=0, times=FrameTimes(), audio=speech(1))))


async def a_turn_based_command(client: ClientConnection) -> None:
    await client.send(b'\x20["ConfirmReply",{"response_id":"r"}]')


async def opus_garbage(client: ClientConnection) -> None:
    await client.send(encode(OggOpus(data=b"OggS" + bytes(100))))


async def bad_json(client: ClientConnection) -> None:
    await client.send(b"\x04{")


async def deep_json(client: ClientConnection) -> None:
    await client.send(b"\x04" + b"[" * 100_000)


async def somebody_elses_session(client: ClientConnection) -> None:
    await client.send(encode(Metadata(values={"type": "begin", "session": "talk_0000000000000000"})))


async def flood_of_audio(client: ClientConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        for _ in range(200):
            await client.send(encode(Pcm(audio=speech(5))))


async def flood_of_pings(client: ClientConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        for _ in range(5_000):
            await client.send(encode(Ping()))


MISUSES: list[tuple[Misuse, int, str]] = [
    (text, 1003, "text_message"),
    (empty, 1007, "empty_message"),
    (torn, 1007, "invalid_audio"),
    (not_a_number, 1007, "invalid_audio"),
    (infinite, 1007, "invalid_audio"),
    (too_long, 1007, "invalid_audio"),
    (oversize, 1009, ""),
    (the_workers_kind, 1008, "unexpected_message"),
    (a_turn_based_command, 1008, "unexpected_message"),
    (opus_garbage, 1008, "unexpected_message"),
    (bad_json, 1007, "invalid_message"),
    (deep_json, 1007, "invalid_message"),
    (somebody_elses_session, 1008, "invalid_session"),
    (flood_of_audio, 1008, "too_much_audio"),
    (flood_of_pings, 1008, "too_many_messages"),
]


async def beside(host: Worker, misuse: Callable[[str], Awaitable[None]], audio: Samples = SPEECH) -> Samples:
    """What a neighbour who says `audio` is answered while somebody misbehaves, who is told the neighbour's session."""
    started: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    neighbour = asyncio.create_task(converse(host, audio, started))
    await misuse(await started)
    return await neighbour


@pytest.mark.parametrize("some", [MISUSES[:5], MISUSES[5:10], MISUSES[10:]])
async def test_a_misuse_gets_its_error_and_the_neighbour_hears_what_it_would_have_heard_alone(
    some: list[tuple[Misuse, int, str]], alone: Samples
) -> None:
    ends: dict[str, tuple[int | None, str]] = {}
    async with worker(slots=8) as host:

        async def misuses(neighbour: str) -> None:
            for misuse, _, _ in some:
                async with host.talk() as client:
                    if misuse is not somebody_elses_session:
                        await begin(client)
                        await until_ready(client)
                    await misuse(client)
                    ends[misuse.__name__] = await ending(client)

        np.testing.assert_array_equal(await beside(host, misuses), alone)
        assert ends == {misuse.__name__: (close, code) for misuse, close, code in some}
        await host.until(lambda slots: all(slot["state"] == "free" for slot in slots))


async def test_naming_the_neighbours_own_session_gives_no_hold_on_it(alone: Samples) -> None:
    async with worker() as host:

        async def misuse(neighbour: str) -> None:
            async with host.talk() as client:
                await begin(client)
                await client.send(encode(Metadata(values={"type": "close", "session": neighbour})))
                assert await ending(client) == (1008, "invalid_session")

        np.testing.assert_array_equal(await beside(host, misuse), alone)


async def test_a_client_that_breaks_off_leaves_no_trace(alone: Samples) -> None:
    async with worker(slots=2) as host:

        async def misuse(neighbour: str) -> None:
            for _ in range(4):
                async with host.talk() as client:
                    session = await session_of(client)
                    await begin(client)
                    await client.send(encode(Pcm(audio=speech(2))))
                    client.transport.abort()
                await host.until_left(session)

        np.testing.assert_array_equal(await beside(host, misuse), alone)


class Talkative(EchoBatch):
    """Says a second in each frame, to all but the first slot."""

    def step(self, frames: Mapping[int, Samples]) -> Step:
        step = super().step(frames)
        answers = {
            slot: replace(out, audio=np.zeros(24_000, np.float32)) if slot else out for slot, out in step.frames.items()
        }
        return replace(step, frames=answers)


async def test_a_client_that_never_reads_is_closed_and_its_slot_is_free(alone: Samples) -> None:
    async with worker(batch=lambda: Talkative(4), send_buffer_bytes=4096) as host:

        async def misuse(neighbour: str) -> None:
            deaf = socket.socket()
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(("127.0.0.1", int(host.url.rpartition(":")[2])))
            async with host.talk(sock=deaf, max_queue=1) as client:
                session = await session_of(client)
                await begin(client)
                client.transport.pause_reading()
                for _ in range(5):
                    await client.send(encode(Pcm(audio=speech(1))))
                    await asyncio.sleep(FRAME_SECONDS)
                await host.until_left(session)
                client.transport.abort()

        np.testing.assert_array_equal(await beside(host, misuse), alone)
        await host.until_counted('conversations_closed_total{code="1013"} 1.0')


async def test_a_silent_client_is_reaped_and_one_that_speaks_is_not() -> None:
    audio = speech(40)  # which takes longer
    async with worker(silent_seconds=2) as host:

        async def misuse(neighbour: str) -> None:
            async with host.talk() as client:
                await begin(client)
                assert await ending(client) == (1001, "silent")

        answer = await beside(host, misuse, audio)
        np.testing.assert_array_equal(answer, audio[:-FRAME_SAMPLES])


async def test_a_client_that_opens_and_sends_nothing_at_all_is_closed(alone: Samples) -> None:
    async with worker(first_message_seconds=2) as host:

        async def misuse(neighbour: str) -> None:
            async with host.talk() as client:
                session = await session_of(client)
                assert await ending(client) == (1001, "silent")
            await host.until_left(session)

        np.testing.assert_array_equal(await beside(host, misuse), alone)


async def test_pings_keep_a_client_only_until_it_begins() -> None:
    async with worker(first_message_seconds=2, silent_seconds=1) as host, host.talk() as client:
        for _ in range(12):
            await client.send(encode(Ping()))
            await asyncio.sleep(0.2)
        assert sum(slot["state"] == "opening" for slot in await host.slots()) == 1
        await begin(client)

        async def ping() -> None:
            with contextlib.suppress(ConnectionClosed):
                while True:
                    await client.send(encode(Ping()))
                    await asyncio.sleep(0.1)

        pinging = asyncio.create_task(ping())
        assert await ending(client) == (1001, "silent")
        await pinging


class SlowToPrepare(EchoBatch):
    """Takes a second over a prompt."""

    def __init__(self, slots: int) -> None:
        super().__init__(slots)
        self.pieces: list[float] = []

    def prepare(self) -> bool:
        self.pieces.append(time.monotonic())
        if len(self.pieces) < 12:
            time.sleep(0.08)
            return True
        return super().prepare()


async def test_a_stock_client_is_awaited_from_when_it_is_told_that_it_is_heard() -> None:
    pytest.importorskip("sphn")
    batch = SlowToPrepare(4)
    async with (
        worker(batch=lambda: batch, first_message_seconds=0.5) as host,
        host.talk("audio=opus") as client,
    ):
        assert decode(await client.recv(decode=False)) == Handshake()
        began, ready = batch.pieces[0], batch.pieces[11]
        assert ready - began > 0.5  # longer than a client may be silent that could speak
        assert await ending(client) == (1001, "silent")
        assert time.monotonic() - ready > 0.5


async def test_a_half_open_client_is_reaped(alone: Samples) -> None:
    async with worker(ping_seconds=2) as host:

        async def misuse(neighbour: str) -> None:
            async with host.talk() as client:
                session = await session_of(client)
                client.transport.pause_reading()  # it is there, and answers nothing
                await host.until_left(session)
                client.transport.abort()

        np.testing.assert_array_equal(await beside(host, misuse), alone)


async def test_a_handshake_that_never_ends_is_cut_off_and_holds_no_slot() -> None:
    async with worker(handshake_seconds=2, slots=1) as host:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(host.url.rpartition(":")[2]))
        writer.write(b"GET /api/chat?audio=pcm HTTP/1.1\r\nHost: x\r\n")
        assert (await host.get("/health")).json()["free"] == 1
        async with asyncio.timeout(PATIENCE):
            assert await reader.read() == b""
        writer.close()
        async with host.talk() as client:
            assert await session_of(client)


async def test_opus_garbage_from_a_stock_client_is_its_own_trouble(alone: Samples) -> None:
    pytest.importorskip("sphn")
    async with worker() as host:

        async def misuse(neighbour: str) -> None:
            async with host.talk("audio=opus") as client:
                assert decode(await client.recv(decode=False)) == Handshake()  # it listens
                await client.send(encode(OggOpus(data=b"OggS" + b"\xff" * 200)))
                assert await ending(client) == (1007, "invalid_audio")

        np.testing.assert_array_equal(await beside(host, misuse), alone)
