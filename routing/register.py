"""A miner's model on its way to the leaderboard: checked, uploaded, looked at there, committed on chain, read back.

Every step looks first at what is done already, so that calling again goes on where it stopped: the same files are the
same commit, and a commitment that stands is not written twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

import bittensor as bt

from models.hub.settings import HubSettings
from models.hub.snapshot import Snapshot
from models.hub.upload import Published, publish
from routing.chain.commit import write_commitment
from routing.chain.errors import ChainError, WrongSubnetError
from routing.chain.grammar import Commitment, format_commitment
from routing.chain.reader import ChainReader
from routing.chain.records import Record, Subnet
from routing.inspection import NO_COMMIT, Candidate
from routing.leaderboard import Entry
from streaming.errors import EngineError

_READS = 15
_BETWEEN_READS = 6.0
"""Reads, and s between them: a node that is behind may take a while to show what another has written."""

Say = Callable[[str], None]
"""Told of each step, in a line."""


class RefusedError(EngineError):
    """A model that would not be served. `problems`: each reason."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(problems), code="registration_refused")
        self.problems = problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What is needed to register a model. `hotkey`, of `candidate`, is the wallet's."""

    candidate: Candidate
    hotkey: str
    wallet: bt.WalletLike
    reader: ChainReader
    hub: HubSettings
    private: bool = False


def register(registration: Registration, weights: Snapshot, say: Say) -> Entry:
    """Upload verified weights and commit to them; returns their place on the leaderboard.

    Raises RefusedError before anything is changed where the router would not list the model, and WeightsError or
    ChainError where a step fails: those before it, which `say` was told of, are done.
    """
    chain = _Chain(registration)
    asyncio.run(chain.check())
    say(f"chain: {chain.place}: the hotkey is registered, and the commitment would be listed")
    published = publish(weights, registration.candidate.repository, registration.hub, private=registration.private)
    say(_told(published))
    return asyncio.run(chain.commit(published.ref.commit, say))


class _Chain:
    """The steps on chain."""

    def __init__(self, registration: Registration) -> None:
        self._candidate = registration.candidate
        self._hotkey = registration.hotkey
        self._wallet = registration.wallet
        self._reader = registration.reader

    @property
    def place(self) -> str:
        return f"{self._reader.place}, subnet {self._reader.netuid}"

    async def check(self) -> None:
        """Raises RefusedError where a commitment to the candidate would not be listed, whatever its commit."""
        subnet = await self._reader.fetch()
        commitment = self._candidate.commitment(NO_COMMIT)
        standing = self._standing(subnet)
        if standing is not None and replace(standing, commit=NO_COMMIT) == commitment:
            commitment = standing  # it may be that nothing is left to be done
        self._judge(subnet, commitment)

    async def commit(self, commit: str, say: Say) -> Entry:
        """Write the commitment where it does not stand yet, and read it back."""
        commitment = self._candidate.commitment(commit)
        subnet = await self._reader.fetch()
        entry = self._judge(subnet, commitment)
        if self._standing(subnet) == commitment:
            say(f"chain: {format_commitment(commitment)} stands already")
            return entry
        await write_commitment(self._reader, format_commitment(commitment), self._wallet)
        say(f"chain: {format_commitment(commitment)} is written")
        return await self._read_back(commitment)

    async def _read_back(self, commitment: Commitment) -> Entry:
        for _ in range(_READS):
            subnet = await self._reader.fetch()
            if self._standing(subnet) == commitment:
                return self._judge(subnet, commitment)
            await asyncio.sleep(_BETWEEN_READS)
        raise ChainError(f"{self.place}: the commitment was taken, and is not read back", code="not_read_back")

    def _standing(self, subnet: Subnet | None) -> Commitment | None:
        """What the hotkey has committed to."""
        records = subnet.records if subnet else ()
        found = next((record.commitment for record in records if record.hotkey == self._hotkey), None)
        return found if isinstance(found, Commitment) else None

    def _judge(self, subnet: Subnet | None, commitment: Commitment) -> Entry:
        """Its place on the leaderboard, were it written now or stands already. Raises RefusedError without one."""
        if subnet is not None and self._standing(subnet) != commitment:
            record = Record(hotkey=self._hotkey, block=subnet.block, commitment=commitment)
            others = (one for one in subnet.records if one.hotkey != self._hotkey and not _stands_for_none(one))
            subnet = replace(subnet, records=(*others, record))
        try:
            snapshot = self._reader.judge(subnet, now=subnet.time if subnet else 0.0)
        except WrongSubnetError as error:
            raise RefusedError((f"{self._reader.place}: {error.message}", *self._unregistered(subnet))) from None
        for entry in snapshot.entries:
            if entry.hotkey == self._hotkey:
                return entry
        dropped = [one.reason for one in snapshot.dropped if one.hotkey == self._hotkey]
        raise RefusedError(tuple(f"{self.place}: the commitment would be dropped: {reason}" for reason in dropped))

    def _unregistered(self, subnet: Subnet | None) -> tuple[str, ...]:
        if subnet is None or any(neuron.hotkey == self._hotkey for neuron in subnet.neurons):
            return ()
        return (f"{self.place}: the hotkey {self._hotkey} is not registered",)


def _stands_for_none(record: Record) -> bool:
    """Whether it claims what `NO_COMMIT` stands for: which would else be in the way of everybody's next commit."""
    return isinstance(record.commitment, Commitment) and record.commitment.commit == NO_COMMIT


def _told(published: Published) -> str:
    """What became of the upload, in a line."""
    done = f"{len(published.sent)} files uploaded" if published.sent else "all files were there already"
    shown = ", PRIVATE: whoever has no token for it can neither check nor serve it" if published.private else ""
    return f"hub: {published.ref}: {done}, and verified{shown}"
