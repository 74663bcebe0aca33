"""The source of the leaderboard that the settings name."""

from __future__ import annotations

from importlib.util import find_spec
from secrets import SystemRandom
from typing import TYPE_CHECKING

from routing.file_source import FileSource
from routing.leaderboard import SourceState
from routing.settings import PREFIX, RoutingSettings
from routing.source import SnapshotSource
from streaming.errors import EngineError

if TYPE_CHECKING:
    from routing.chain.connection import OpenSubstrate
    from routing.chain.reader import ChainReader


def open_source(settings: RoutingSettings, *, open_substrate: OpenSubstrate | None = None) -> SnapshotSource:
    """The source, before its first reading. `open_substrate`: a chain of one's own, for tests.

    Raises EngineError for a network that is not known, and where the chain is asked for and bittensor is missing.
    """
    if settings.source == "file":
        return FileSource(
            settings.snapshot,
            refresh_seconds=settings.refresh_seconds,
            stale_seconds=settings.stale_seconds,
        )
    return _chain_source(settings, open_substrate)


async def read_once(
    settings: RoutingSettings, *, now: float, open_substrate: OpenSubstrate | None = None
) -> SourceState:
    """One reading, for a command. `now` is Unix time, s. Raises EngineError as `open_source`."""
    source = open_source(settings, open_substrate=open_substrate)
    try:
        await source.refresh(now=now)  # which may be what the last run has left
        return await source.refresh(now=now)
    finally:
        await source.close()


def open_reader(settings: RoutingSettings, *, open_substrate: OpenSubstrate | None = None) -> ChainReader:
    """What reads the chain that the settings name. Raises EngineError for a network that is not known."""
    from routing.chain.assembly import Selection
    from routing.chain.connection import substrate_for
    from routing.chain.reader import ChainReader

    try:
        return ChainReader(
            network=settings.network,
            netuid=settings.netuid,
            open_substrate=open_substrate or substrate_for(settings.network),
            selection=Selection(competition=settings.competition, burn_uid=settings.burn_uid),
            subnet_name=settings.subnet_name,
            own_share=settings.own_share,
            timeout=settings.chain_timeout_seconds,
        )
    except ValueError as error:
        raise EngineError(f"{PREFIX}NETWORK: {error}", code="invalid_value") from None


def _chain_source(settings: RoutingSettings, open_substrate: OpenSubstrate | None) -> SnapshotSource:
    if find_spec("bittensor") is None:
        raise EngineError(f"{PREFIX}SOURCE is chain, and bittensor is not installed: pip install 'muse-voice[chain]'")
    from routing.chain.source import ChainSource, Origin

    reader = open_reader(settings, open_substrate=open_substrate)
    return ChainSource(
        reader,
        Origin(network=reader.place, netuid=settings.netuid, competition=settings.competition),
        cache=settings.cache,
        refresh_seconds=settings.refresh_seconds,
        stale_seconds=settings.stale_seconds,
        jitter=SystemRandom().random,
    )
