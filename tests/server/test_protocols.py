"""What hostile bytes cost: spoken over a bare socket, as no client library would."""

from __future__ import annotations

import asyncio
import base64
import os
import struct

import pytest

from server import protocols
from server.protocols import Allowance, WebSocketProtocol
from tests.server.conftest import Running, Serve
from tests.server.fakes import fake_gateway
from tests.waiting import PATIENCE, until

TEXT, CONTINUATION, PING, CLOSE = 0x1, 0x0, 0x9, 0x8


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
    size = len(payload)
    head = bytes([(0x80 if fin else 0) | opcode])
    head += bytes([0x80 | size]) if size < 126 else bytes([0x80 | 126]) + struct.pack("!H", size)
    return head + bytes(4) + payload  # a mask of zeros


async def upgrade(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    key = base64.b64encode(os.urandom(16)).decode()
    writer.write(
        f"GET /v1/realtime HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    head = await reader.readuntil(b"\r\n\r\n")
    assert b" 101 " in head.split(b"\r\n")[0]
    return reader, writer


async def close_code(reader: asyncio.StreamReader) -> int | None:
    """The code of the server's close frame; None where the connection ended without one."""
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                head = await reader.readexactly(2)
                size = head[1] & 0x7F
                if size == 126:
                    size = struct.unpack("!H", await reader.readexactly(2))[0]
                payload = await reader.readexactly(size)
                if head[0] & 0x0F == CLOSE:
                    return int(struct.unpack("!H", payload[:2])[0])
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


async def freed(server: Running) -> None:
    await until(lambda: not server.gateway.active)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(TEXT, b"\xff\xfe"), 1007),
        (frame(0x3, b"x"), 1002),
        (bytes([0x81, 0x01]) + b"x", 1002),  # not masked
        (bytes([0xC1, 0x80]) + bytes(4), 1002),  # a reserved bit
        (frame(PING) * 100, 1008),
        (frame(0xA) * 100, 1008),
        (frame(TEXT, b"{", fin=False) + frame(CONTINUATION, fin=False) * 70_000, 1009),
        (frame(TEXT, b"{", fin=False) + frame(CLOSE, struct.pack("!H", 1000)), 1000),
    ],
    ids=[
        "bad UTF-8",
        "bad opcode",
        "unmasked",
        "reserved bit",
        "pings",
        "pongs",
        "empty fragments",
        "close in a message",
    ],
)
async def test_abuse_is_closed_with_its_code(serve: Serve, sent: bytes, code: int) -> None:
    async with serve(fake_gateway()) as server:
        reader, writer = await upgrade(server.port)
        writer.write(sent)
        assert await close_code(reader) == code
        await freed(server)
        writer.close()


async def test_a_few_pings_are_answered(serve: Serve) -> None:
    async with serve(fake_gateway()) as server:
        reader, writer = await upgrade(server.port)
        writer.write(frame(PING, b"hi") * 5)
        async with asyncio.timeout(PATIENCE):
            seen = b""
            while seen.count(b"\x8a\x02hi") < 5:
                seen += await reader.read(1000)
        writer.close()


async def test_many_small_messages_in_one_read_all_arrive_in_order(serve: Serve) -> None:
    async with serve(fake_gateway()) as server:
        reader, writer = await upgrade(server.port)
        bad = frame(TEXT, b"{}")
        writer.write(bad * 8000 + frame(CLOSE, struct.pack("!H", 1000)))
        assert await close_code(reader) == 1000
        await freed(server)
        assert server.count("muse_bad_client_events_total") == 8000
        writer.close()


async def test_a_flood_is_parsed_a_little_at_a_time(serve: Serve) -> None:
    async with serve(fake_gateway()) as server:
        reader, writer = await upgrade(server.port)
        protocol = next(iter(server.server.server_state.connections))
        assert isinstance(protocol, WebSocketProtocol)
        small = frame(TEXT, b"{}")
        ending = asyncio.create_task(close_code(reader))
        writer.write(small * 8000 + frame(CLOSE, struct.pack("!H", 1000)))
        most = 0
        while not ending.done():
            most = max(most, protocol.queue.qsize())
            await asyncio.sleep(0)
        assert 0 < most < 300
        writer.close()


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost:"], ids=["nothing", "half a head"])
async def test_a_slow_request_is_dropped(serve: Serve, sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocols, "REQUEST_SECONDS", 0.1)
    async with serve(fake_gateway()) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(sent)
        async with asyncio.timeout(PATIENCE):
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await reader.readexactly(1)
        writer.close()


async def test_an_endless_head_is_refused(serve: Serve) -> None:
    async with serve(fake_gateway()) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\nX: ")
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(b"x" * 100_000)
        async with asyncio.timeout(PATIENCE):
            assert (await reader.read(12)).startswith(b"HTTP/1.1 400")
        writer.close()


async def test_a_dead_peer_is_let_go(serve: Serve) -> None:
    async with serve(fake_gateway()) as server:
        server.server.config.ws_ping_interval = 0.1
        server.server.config.ws_ping_timeout = 0.1
        _, writer = await upgrade(server.port)
        await until(lambda: server.count("muse_session_seconds_count") == 1)  # it was let in, and has gone
        await freed(server)
        await until(lambda: not server.server.server_state.connections)
        writer.close()


def test_an_allowance_refills() -> None:
    allowance = Allowance(rate=1, burst=2)
    assert [allowance.take(now) for now in (10.0, 10.0, 10.0, 11.0, 11.5, 12.0)] == [
        True,
        True,
        False,
        True,
        False,
        True,
    ]
