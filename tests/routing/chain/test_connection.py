"""Against the SDK's own transport, over sockets of this machine."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import bittensor as bt
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from routing.chain.connection import substrate_for
from routing.chain.errors import ChainUnavailableError
from routing.chain.reader import ChainReader

PATIENCE = 60.0  # seconds


class Node:
    """A node that takes connections and never helps. `asked` is set by a first request, `left` by the goodbye."""

    def __init__(self, answer: str | None) -> None:
        self.answer = answer
        self.asked = asyncio.Event()
        self.left = asyncio.Event()

    async def serve(self, connection: ServerConnection) -> None:
        with suppress(ConnectionClosed):  # whether with a goodbye or without
            async for message in connection:
                self.asked.set()
                if self.answer is not None:
                    request = json.loads(message)
                    await connection.send(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": self.answer}))
        self.left.set()


@asynccontextmanager
async def running(node: Node) -> AsyncIterator[str]:
    async with serve(node.serve, "127.0.0.1", 0) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def reader(network: str) -> ChainReader:
    return ChainReader(network=network, netuid=21, open_substrate=substrate_for(network), timeout=PATIENCE)


async def give_up(network: str, when: asyncio.Event) -> None:
    """Cancel a reading, as its time limit does too."""
    reading = asyncio.create_task(reader(network).read(now=0.0))
    async with asyncio.timeout(PATIENCE):
        await when.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await check_nothing_is_left()


async def check_nothing_is_left() -> None:
    await asyncio.sleep(0)
    assert "rpc-session" not in {task.get_name() for task in asyncio.all_tasks()}


async def test_a_node_that_never_answers_is_left() -> None:
    node = Node(answer=None)
    async with running(node) as network:
        await give_up(network, node.asked)
        async with asyncio.timeout(PATIENCE):
            await node.left.wait()


async def test_a_node_that_answers_nonsense_is_left() -> None:
    node = Node(answer="0xzz")
    async with running(node) as network:
        with pytest.raises(ChainUnavailableError, match=f"^{network}: "):
            await reader(network).read(now=0.0)
        await check_nothing_is_left()
        async with asyncio.timeout(PATIENCE):
            await node.left.wait()


async def test_a_port_that_speaks_no_websocket_is_left() -> None:
    came, left = asyncio.Event(), asyncio.Event()

    async def silent(stream: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.set()
        await stream.read()
        left.set()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        await give_up(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", came)
        async with asyncio.timeout(PATIENCE):
            await left.wait()


async def test_a_closed_port() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # nobody else can have it, and nobody listens
        network = f"ws://127.0.0.1:{nobody.getsockname()[1]}"
        with pytest.raises(ChainUnavailableError, match=f"^{network}: RpcConnectionError: "):
            await reader(network).read(now=0.0)
    await check_nothing_is_left()


async def test_connections_that_were_given_up_are_closed_each_whatever_the_others_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closed = []

    class Connection:
        def __init__(self, number: int) -> None:
            self.number = number

        async def initialize(self) -> None:
            raise KeyError("not what the SDK expects")

        async def close(self) -> None:
            closed.append(self.number)
            if self.number == 0:
                raise ConnectionError("no goodbye")

    made = (Connection(number) for number in range(2))
    monkeypatch.setattr(bt.RpcSubstrate, "_interface", lambda *_: next(made))
    substrate = substrate_for("ws://127.0.0.1:1")()
    for _ in range(2):
        with pytest.raises(KeyError):
            await substrate.connect()
    await substrate.close()
    await substrate.close()
    assert closed == [0, 1]


def test_an_unknown_network() -> None:
    with pytest.raises(ValueError, match="Unknown network 'finey'"):
        substrate_for("finey")
