"""Against the SDK's own transport, over sockets of this machine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.server import ServerConnection, serve

from routing.chain.connection import substrate_for
from routing.chain.errors import ChainUnavailableError
from routing.chain.reader import ChainReader


class Node:
    """A node that takes connections and never helps."""

    def __init__(self, answer: str | None) -> None:
        self.answer = answer
        self.connected = asyncio.Event()
        self.left = asyncio.Event()
        self.network = ""

    async def serve(self, connection: ServerConnection) -> None:
        self.connected.set()
        async for message in connection:
            if self.answer is not None:
                request = json.loads(message)
                await connection.send(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": self.answer}))
        self.left.set()


@asynccontextmanager
async def running(node: Node) -> AsyncIterator[Node]:
    async with serve(node.serve, "127.0.0.1", 0) as server:
        node.network = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield node


async def fail_to_read(network: str, within: float) -> str:
    """Why it fails; nothing of the transport runs on."""
    reader = ChainReader(network=network, netuid=21, open_substrate=substrate_for(network), timeout=within)
    with pytest.raises(ChainUnavailableError) as refused:
        await reader.read(now=0.0)
    await asyncio.sleep(0)
    assert "rpc-session" not in {task.get_name() for task in asyncio.all_tasks()}
    return refused.value.message


async def test_a_node_that_never_answers_is_left() -> None:
    async with running(Node(answer=None)) as node:
        message = await fail_to_read(node.network, within=0.3)
        assert message == f"{node.network}: no answer within 0.3 s"
        async with asyncio.timeout(5):
            await node.left.wait()


async def test_a_node_that_answers_nonsense_is_left() -> None:
    async with running(Node(answer="0xzz")) as node:
        message = await fail_to_read(node.network, within=5.0)
        assert message.startswith(f"{node.network}: ")
        async with asyncio.timeout(5):
            await node.left.wait()


async def test_a_port_that_speaks_no_websocket_is_left() -> None:
    left = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        left.set()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        network = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        assert await fail_to_read(network, within=0.3) == f"{network}: no answer within 0.3 s"
        async with asyncio.timeout(5):
            await left.wait()


async def test_a_closed_port() -> None:
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as server:
        network = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    assert (await fail_to_read(network, within=5.0)).startswith(f"{network}: RpcConnectionError: ")


def test_an_unknown_network() -> None:
    with pytest.raises(ValueError, match="Unknown network 'finey'"):
        substrate_for("finey")
