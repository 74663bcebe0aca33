from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from fastapi import WebSocket

from server.driver import SlowConsumerError
from server.metrics import Metrics
from server.transports.websocket import KeepAlive, MessageSocket, WebSocketLimits


class Client:
    """A client that sends without end, and is sent to only while it `reads`."""

    def __init__(self) -> None:
        self.reads = asyncio.Event()
        self.read: list[bytes] = []

    async def receive(self) -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"type": "websocket.receive", "bytes": b"more"}

    async def send_bytes(self, data: bytes) -> None:
        await self.reads.wait()
        self.read.append(data)


def open_to(client: Client, *, keep_alive: KeepAlive | None = None) -> MessageSocket:
    limits = WebSocketLimits(send_buffer=1000)
    return MessageSocket(cast(WebSocket, client), limits=limits, metrics=Metrics(), keep_alive=keep_alive)


async def test_more_than_the_buffer_is_too_much() -> None:
    async with open_to(Client()) as socket:
        for _ in range(11):
            socket.send(bytes(100))
        with pytest.raises(SlowConsumerError):
            socket.send(b"")


async def test_what_has_been_sent_is_no_longer_counted() -> None:
    client = Client()
    client.reads.set()
    async with open_to(client) as socket:
        for _ in range(100):
            socket.send(bytes(1000))
            await asyncio.sleep(0.001)
    assert len(client.read) == 100


async def test_a_client_is_not_read_while_an_outsized_message_waits_for_it() -> None:
    client = Client()
    async with open_to(client) as socket:
        assert await socket.receive() == b"more"
        socket.send(bytes(5000))
        socket.send(b"small")  # which does not count towards the buffer's limit
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await socket.receive()
        client.reads.set()
        async with asyncio.timeout(1):
            assert await socket.receive() == b"more"


async def test_a_client_that_is_sent_nothing_is_kept_alive() -> None:
    client = Client()
    client.reads.set()
    async with open_to(client, keep_alive=KeepAlive(message=b"alive", seconds=0.02)) as socket:
        await asyncio.sleep(0.2)
        socket.send(b"last")
        await asyncio.sleep(0.01)
    assert 3 <= client.read.count(b"alive") <= 10
    assert b"last" in client.read
