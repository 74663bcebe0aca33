"""A connection to the chain that is closed again, whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import bittensor as bt

CLOSE_SECONDS = 15.0
"""Longest wait for the connection to close; its own wait for the other side's goodbye is 10 s."""

OpenSubstrate = Callable[[], bt.Substrate]
"""Makes an unconnected substrate; tests give one that keeps its chain in memory."""


def substrate_for(network: str) -> OpenSubstrate:
    """How to reach `network`: finney, test, local, or a ws:// address, with the network's public nodes to fall back on.

    Raises ValueError for any other name.
    """
    label, endpoint = bt.settings.resolve_endpoint(network)
    fallbacks = bt.settings.default_fallback_endpoints(label)
    archives = bt.settings.default_archive_endpoints(label)
    return lambda: _Substrate(endpoint, fallback_endpoints=fallbacks, archive_endpoints=archives)


@asynccontextmanager
async def connected(network: str, open_substrate: OpenSubstrate) -> AsyncIterator[bt.Client]:
    """A client for the time of a `with`. Raises whatever the SDK raises.

    The client's own `connect` is not used: it reads every subnet's token symbol and keeps them in the user's home.
    """
    substrate = open_substrate()
    try:
        await substrate.connect()
        yield bt.Client(network, substrate=substrate)
    finally:
        with suppress(Exception):  # what was read is good, however the goodbye went
            async with asyncio.timeout(CLOSE_SECONDS):
                await substrate.close()


class _Substrate(bt.RpcSubstrate):
    """Closes those connections too that were given up while they were being opened: the SDK forgets them."""

    def __init__(self, endpoint: str, **options: Any) -> None:
        super().__init__(endpoint, **options)
        self._opened: list[Any] = []

    def _interface(self, endpoint: str, fallbacks: list[str]) -> Any:
        connection = super()._interface(endpoint, fallbacks)
        self._opened.append(connection)
        return connection

    async def close(self) -> None:
        try:
            await super().close()
        finally:
            opened, self._opened = self._opened, []
            await asyncio.gather(*(connection.close() for connection in opened), return_exceptions=True)
