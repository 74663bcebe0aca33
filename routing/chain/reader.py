"""Reads a subnet off the chain: neurons and all commitments at one block, over one connection."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import bittensor as bt

from models.hub.errors import printable
from routing.chain.aside import aside
from routing.chain.assembly import Selection, assemble
from routing.chain.connection import OpenSubstrate, connected
from routing.chain.errors import ChainError, ChainUnavailableError
from routing.chain.guard import check_subnet
from routing.chain.records import Neuron, Subnet, read_records
from routing.leaderboard import Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainReader:
    """One reading at a time, each over a connection of its own.

    `network`: finney, test, local, or a ws:// address. `open_substrate`: what to connect to it, of
    `connection.substrate_for`. `timeout`: s, for all of a reading. For `subnet_name` and `own_share`, see
    `guard.check_subnet`.
    """

    network: str
    netuid: int
    open_substrate: OpenSubstrate
    selection: Selection = field(default_factory=Selection)
    subnet_name: str | None = None
    own_share: float = 0.5
    timeout: float = 60.0

    @property
    def place(self) -> str:
        """The network as it may be shown: an address without its path, which can hold a key."""
        return public_name(self.network)

    async def read(self, *, now: float) -> Snapshot:
        """The leaderboard as it is at the chain's newest block. `now` is Unix time, s.

        `taken_at` is that block's time, so that the snapshots of a node that is stuck grow old.

        Raises WrongSubnetError where the subnet is not ours, ChainUnavailableError where it cannot be read.
        """
        subnet = await self.fetch()
        with self.failures_named():
            return await asyncio.to_thread(self.judge, subnet, now=now)

    async def fetch(self) -> Subnet | None:
        """What the subnet holds at the newest block, whosever it is; None where there is no such subnet.

        The SDK decodes the runtime's metadata and all neurons in one go each, so it has a thread to itself.

        Raises ChainUnavailableError where it cannot be read.
        """
        with self.failures_named():
            async with asyncio.timeout(self.timeout):
                return await aside(self._fetch)

    def judge(self, subnet: Subnet | None, *, now: float) -> Snapshot:
        """The leaderboard of a subnet that has been fetched. Raises WrongSubnetError where it is not ours."""
        ours = check_subnet(subnet, netuid=self.netuid, name=self.subnet_name, own_share=self.own_share)
        return assemble(ours, self.selection, network=self.place, netuid=self.netuid, taken_at=min(now, ours.time))

    @contextmanager
    def failures_named(self) -> Iterator[None]:
        """Raises ChainUnavailableError for all that goes wrong between us and the chain; other ChainErrors pass."""
        try:
            yield
        except TimeoutError:
            raise ChainUnavailableError(f"{self.place}: no answer within {self.timeout:g} s") from None
        except ChainError:
            raise
        except Exception as error:  # the SDK, its transport and a strange answer raise what they will
            raise ChainUnavailableError(f"{self.place}: {self._describe(error)}") from error

    async def _fetch(self) -> Subnet | None:
        maps = bt.storage.Commitments
        async with connected(self.network, self.open_substrate) as client:
            view = await client.at()
            async with asyncio.TaskGroup() as group:
                graph = group.create_task(view.subnets.metagraph(self.netuid, commitments=False))
                committed = group.create_task(view.query_map(maps.CommitmentOf, [self.netuid]))
                revealed = group.create_task(view.query_map(maps.RevealedCommitments, [self.netuid]))
                time = group.create_task(view.timestamp())
        metagraph = graph.result()
        if metagraph is None:
            return None
        return Subnet(
            name=metagraph.name,
            block=metagraph.block,
            time=time.result().timestamp(),
            neurons=tuple(_neuron(neuron) for neuron in metagraph.neurons),
            records=read_records(committed.result(), revealed.result()),
        )

    def _describe(self, error: Exception) -> str:
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        text = str(error).replace(self.network, self.place)
        return f"{type(error).__name__}: {printable(text, 200)}" if text else type(error).__name__


def public_name(network: str) -> str:
    """A network's name, or the scheme, host and port of its address."""
    if "://" not in network:
        return network
    parts = urlsplit(network)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}"


def _neuron(neuron: bt.MetagraphNeuron) -> Neuron:
    return Neuron(
        uid=neuron.uid,
        hotkey=neuron.hotkey,
        incentive=neuron.incentive,
        emission=neuron.emission.amount,
        stake=neuron.total_stake.amount,
        permit=neuron.validator_permit,
        last_update=neuron.last_update,
    )
