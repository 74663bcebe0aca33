"""The chain as a source, in virtual time: `now` is what the tests say."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from routing import snapshot_file
from routing.chain.assembly import Selection
from routing.chain.reader import ChainReader
from routing.chain.source import ChainSource, Origin
from routing.leaderboard import SourceState
from tests.routing.chain.fake_chain import FakeChain, commitment, hotkey

T0 = 1_790_000_000.0
REFRESH = 300.0
STALE = 3600.0


class Clock:
    now = T0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def chain(clock: Clock) -> FakeChain:
    """One miner; the chain's clock is the tests'."""
    chain = FakeChain(clock=clock)
    chain.add(hotkey("alice"), incentive=0.6)
    chain.commit(hotkey("alice"), commitment("omega/moshi-a"))
    return chain


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "state" / "leaderboard.json"


def no_jitter() -> float:
    return 1.0


def source(
    chain: FakeChain,
    cache: Path,
    *,
    netuid: int = 21,
    competition: str | None = None,
    jitter: Callable[[], float] = no_jitter,
    within: float = 60.0,
) -> ChainSource:
    reader = ChainReader(
        network="local",
        netuid=netuid,
        open_substrate=chain.substrate,
        selection=Selection(competition=competition),
        timeout=within,
    )
    origin = Origin(network=reader.place, netuid=netuid, competition=competition)
    return ChainSource(reader, origin, cache=cache, refresh_seconds=REFRESH, stale_seconds=STALE, jitter=jitter)


def fail(chain: FakeChain) -> None:
    chain.failures["connect"] = ConnectionError("no route")


def recover(chain: FakeChain) -> None:
    chain.failures.clear()


def put(cache: Path, content: bytes) -> None:
    cache.parent.mkdir()
    cache.write_bytes(content)


def raise_incentive(cache: Path) -> None:
    document = json.loads(cache.read_text())
    document["snapshot"]["entries"][0]["incentive"] = 0.9
    cache.write_text(json.dumps(document))


def models(state: SourceState) -> list[str]:
    assert state.snapshot is not None
    return [entry.model for entry in state.snapshot.entries]


async def test_the_first_reading(chain: FakeChain, cache: Path) -> None:
    state = await source(chain, cache).refresh(now=T0)
    assert models(state) == ["omega/moshi-a"]
    assert (state.age, state.stale, state.problem, state.failures) == (0.0, False, None, 0)
    assert snapshot_file.read(cache) == state.snapshot


async def test_it_is_read_again_when_it_is_due_and_not_before(chain: FakeChain, cache: Path, clock: Clock) -> None:
    reading = source(chain, cache)
    await reading.refresh(now=T0)
    for after in (5.0, 100.0, REFRESH - 1):
        state = await reading.refresh(now=T0 + after)
        assert state.age == after
    assert chain.opened == 1
    clock.now += REFRESH
    chain.advance(25)
    chain.commit(hotkey("alice"), commitment("omega/moshi-b"))
    state = await reading.refresh(now=clock.now)
    assert models(state) == ["omega/moshi-b"]
    assert chain.opened == 2


async def test_a_clock_that_is_set_back_does_not_put_it_off(chain: FakeChain, cache: Path, clock: Clock) -> None:
    reading = source(chain, cache)
    await reading.refresh(now=T0)
    clock.now -= 86400
    chain.advance()
    await reading.refresh(now=clock.now)
    assert chain.opened == 2


class TestOutage:
    async def test_of_an_hour(
        self, chain: FakeChain, cache: Path, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        reading = source(chain, cache)
        good = await reading.refresh(now=T0)
        fail(chain)
        attempts = []
        for second in range(5, 3600, 5):
            before = chain.opened
            clock.now = T0 + second
            state = await reading.refresh(now=clock.now)
            assert state.snapshot is good.snapshot
            assert state.age == second
            assert not state.stale
            if chain.opened > before:
                attempts.append(second)
            assert (state.problem is not None) == (second >= REFRESH)
            assert state.failures == len(attempts)
        assert state.problem == "local: ConnectionError: no route"
        # Due at 300 s; then after 5, 10, 20, 40, 80, 160 s, and every 300 s.
        assert attempts[:7] == [300, 305, 315, 335, 375, 455, 615]
        assert len(attempts) == 7 + (3595 - 615) // 300
        assert not caplog.records, "whoever reads it logs it"

        clock.now = T0 + STALE + 1
        state = await reading.refresh(now=clock.now)
        assert state.stale
        assert state.snapshot is good.snapshot

        recover(chain)
        chain.advance(300)
        chain.commit(hotkey("alice"), commitment("omega/moshi-b"))
        clock.now += REFRESH
        state = await reading.refresh(now=clock.now)
        assert models(state) == ["omega/moshi-b"]
        assert (state.age, state.stale, state.problem, state.failures) == (0.0, False, None, 0)
        assert chain.open == 0

    async def test_a_restart_during_it_serves_what_was_kept_without_asking(
        self, chain: FakeChain, cache: Path, clock: Clock
    ) -> None:
        await source(chain, cache).refresh(now=T0)
        fail(chain)
        again = source(chain, cache)
        state = await again.refresh(now=T0 + 1800)
        assert chain.opened == 1
        assert models(state) == ["omega/moshi-a"]
        assert (state.age, state.stale, state.problem) == (1800.0, False, None)
        state = await again.refresh(now=T0 + 1801)
        assert chain.opened == 2
        assert models(state) == ["omega/moshi-a"]
        assert state.problem == "local: ConnectionError: no route"
        recover(chain)
        clock.now = T0 + 1900
        chain.advance(150)
        state = await again.refresh(now=clock.now)
        assert (state.age, state.problem) == (0.0, None)

    async def test_from_the_very_beginning(self, chain: FakeChain, cache: Path) -> None:
        fail(chain)
        state = await source(chain, cache).refresh(now=T0)
        assert state == SourceState(
            snapshot=None, age=None, stale=True, problem="local: ConnectionError: no route", failures=1
        )

    async def test_a_chain_that_hangs(self, chain: FakeChain, cache: Path) -> None:
        await source(chain, cache).refresh(now=T0)
        chain.hangs.add("runtime_call")
        reading = source(chain, cache, within=0.02)
        await reading.refresh(now=T0)
        state = await reading.refresh(now=T0 + REFRESH)
        assert models(state) == ["omega/moshi-a"]
        assert state.problem == "local: no answer within 0.02 s"
        assert chain.open == 0

    async def test_jitter_spreads_the_retries(self, chain: FakeChain, cache: Path) -> None:
        fail(chain)
        for jitter, first in ((0.0, 2.5), (0.5, 3.75), (1.0, 5.0)):
            reading = source(chain, cache, jitter=lambda jitter=jitter: jitter)  # type: ignore[misc]
            await reading.refresh(now=T0)
            before = chain.opened
            await reading.refresh(now=T0 + first - 0.01)
            assert chain.opened == before
            await reading.refresh(now=T0 + first)
            assert chain.opened == before + 1

    async def test_cancelling_a_reading_leaves_the_source_usable(self, chain: FakeChain, cache: Path) -> None:
        reading = source(chain, cache)
        chain.hangs.add("query_map")
        task = asyncio.create_task(reading.refresh(now=T0))
        for _ in range(20_000):
            await asyncio.sleep(0.001)
            if chain.count("query_map"):
                break
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert chain.open == 0
        chain.hangs.clear()
        assert models(await reading.refresh(now=T0 + 1)) == ["omega/moshi-a"]


class TestNothingServedBecauseOfIt:
    async def test_a_subnet_that_has_become_somebody_elses(self, chain: FakeChain, cache: Path) -> None:
        reading = source(chain, cache)
        good = await reading.refresh(now=T0)
        chain.advance()
        chain.commit(hotkey("alice"), "sn21-model:v1:ads/a@sha256:00")
        state = await reading.refresh(now=T0 + REFRESH)
        assert state.snapshot is good.snapshot
        assert state.problem is not None
        assert "subnet 21 is not ours" in state.problem
        assert snapshot_file.read(cache) == good.snapshot

    async def test_a_node_that_lags_behind(self, chain: FakeChain, cache: Path, clock: Clock) -> None:
        reading = source(chain, cache)
        good = await reading.refresh(now=T0)
        chain.advance(-100)
        clock.now = T0 + REFRESH
        state = await reading.refresh(now=clock.now)
        assert state.snapshot is good.snapshot
        assert state.problem == "local: the node is at block 4999900, behind 5000000"
        clock.now = T0 + STALE + 1
        state = await reading.refresh(now=clock.now)
        assert state.snapshot is not None
        assert state.snapshot.block == 4999900
        assert state.problem is None

    async def test_a_node_that_is_stuck_grows_stale(self, chain: FakeChain, cache: Path, clock: Clock) -> None:
        reading = source(chain, cache)
        await reading.refresh(now=T0)
        state = await reading.refresh(now=T0 + 2 * STALE)  # the chain's own clock stands still
        assert (state.age, state.stale, state.failures) == (2 * STALE, True, 0)
        assert state.problem == "local: the node's newest block is 7200 s old"


class TestDisk:
    async def test_unwritable(self, chain: FakeChain, tmp_path: Path) -> None:
        (tmp_path / "state").write_text("a file where a directory should be")
        cache = tmp_path / "state" / "leaderboard.json"
        reading = source(chain, cache)
        state = await reading.refresh(now=T0)
        assert models(state) == ["omega/moshi-a"]
        assert state.failures == 0
        assert state.problem is not None
        assert state.problem.startswith(
            "the leaderboard is good, but not kept for a restart: leaderboard.json: cannot be"
        )
        assert str(tmp_path) not in state.problem
        (tmp_path / "state").unlink()
        chain.advance()
        state = await reading.refresh(now=T0 + REFRESH)
        assert state.problem is None
        assert snapshot_file.read(cache) == state.snapshot

    @pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"format": "muse-leaderboard", "version": 1}'])
    async def test_broken(self, chain: FakeChain, cache: Path, content: bytes) -> None:
        put(cache, content)
        reading = source(chain, cache)
        state = await reading.refresh(now=T0)
        assert models(state) == ["omega/moshi-a"]
        assert state.problem is None
        assert snapshot_file.read(cache) == state.snapshot

    async def test_broken_during_an_outage(
        self, chain: FakeChain, cache: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        put(cache, b"{")
        fail(chain)
        state = await source(chain, cache).refresh(now=T0)
        assert state.snapshot is None
        (record,) = caplog.records
        assert record.getMessage() == "the leaderboard that was kept is not used"
        assert "leaderboard.json" in str(record.__dict__["fields"])

    async def test_tampered_with(self, chain: FakeChain, cache: Path) -> None:
        await source(chain, cache).refresh(now=T0)
        raise_incentive(cache)
        fail(chain)
        state = await source(chain, cache).refresh(now=T0 + 1)
        assert state.snapshot is None

    @pytest.mark.parametrize("changed", [{"netuid": 22}, {"competition": "v1"}])
    async def test_of_another_leaderboard(self, chain: FakeChain, cache: Path, changed: dict[str, Any]) -> None:
        await source(chain, cache).refresh(now=T0)
        fail(chain)
        state = await source(chain, cache, **changed).refresh(now=T0 + 1)
        assert state.snapshot is None
        recover(chain)
        chain.netuid = changed.get("netuid", 21)
        state = await source(chain, cache, **changed).refresh(now=T0 + 2)
        assert state.snapshot is not None
        assert snapshot_file.read(cache) == state.snapshot

    async def test_of_another_network(self, chain: FakeChain, cache: Path) -> None:
        await source(chain, cache).refresh(now=T0)
        kept = snapshot_file.read(cache)
        assert Origin(network="local", netuid=21, competition=None).matches(kept)
        assert not Origin(network="finney", netuid=21, competition=None).matches(kept)

    async def test_one_that_a_person_wrote_is_not_the_chains(self, chain: FakeChain, cache: Path) -> None:
        kept = (await source(chain, cache).refresh(now=T0)).snapshot
        assert kept is not None
        assert not Origin(network="local", netuid=21, competition=None).matches(replace(kept, source="file"))
