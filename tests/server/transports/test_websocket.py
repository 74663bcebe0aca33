from __future__ import annotations

import asyncio
import time
from typing import Any, cast

import pytest
from fastapi import WebSocket

from server.driver import SlowConsumerError
from server.metrics import Metrics
from server.transports.websocket import KeepAlive, MessageSocket, WebSocketLimits
from tests.waiting import PATIENCE, until


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
        for sent in range(1, 101):
            socket.send(bytes(1000))
            await until(lambda: len(client.read) == sent)  # noqa: B023 - it is called at once


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
        async with asyncio.timeout(PATIENCE):
            assert await socket.receive() == b"more"


async def test_a_client_that_is_sent_nothing_is_kept_alive() -> None:
    client = Client()
    client.reads.set()
    began = time.monotonic()
    async with open_to(client, keep_alive=KeepAlive(message=b"alive", seconds=0.05)) as socket:
        await until(lambda: client.read.count(b"alive") == 3)
        assert time.monotonic() - began > 0.14
        socket.send(b"last")
        await until(lambda: b"last" in client.read)
