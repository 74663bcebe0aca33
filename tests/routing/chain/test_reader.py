from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from routing.chain import connection
from routing.chain.assembly import Selection
from routing.chain.errors import ChainUnavailableError, WrongSubnetError
from routing.chain.reader import ChainReader, public_name
from tests.routing.chain.fake_chain import FakeChain, commit_of, commitment, hotkey

NOW = 1_790_000_000.0


@pytest.fixture
def chain() -> FakeChain:
    """Two miners and a validator."""
    chain = FakeChain(clock=lambda: NOW - 6)
    chain.add(hotkey("val"), permit=True, stake=5000.0)
    chain.add(hotkey("alice"), incentive=0.6, emission=2.5)
    chain.add(hotkey("bob"), incentive=0.4)
    chain.commit(hotkey("alice"), commitment("omega/moshi-a"), block=chain.block - 10)
    chain.commit(hotkey("bob"), commitment("omega/moshi-b"), block=chain.block - 5)
    return chain


def reader(chain: FakeChain, **options: Any) -> ChainReader:
    return ChainReader(network="local", netuid=21, open_substrate=chain.substrate, **{"timeout": 60.0} | options)


async def test_the_leaderboard_as_it_is_on_chain(chain: FakeChain) -> None:
    snapshot = await reader(chain).read(now=NOW)
    assert (snapshot.source, snapshot.network, snapshot.netuid, snapshot.block) == ("chain", "local", 21, chain.block)
    assert [(entry.uid, entry.model, entry.commit) for entry in snapshot.entries] == [
        (1, "omega/moshi-a", commit_of("omega/moshi-a")),
        (2, "omega/moshi-b", commit_of("omega/moshi-b")),
    ]
    assert snapshot.entries[0].incentive == pytest.approx(0.6, abs=1e-4)
    assert snapshot.entries[0].emission == 2.5
    [validator] = snapshot.validators
    assert (validator.hotkey, validator.stake) == (hotkey("val"), 5000.0)
    assert snapshot.taken_at == NOW - 6


async def test_a_clock_behind_the_chains_makes_no_snapshot_of_tomorrow(chain: FakeChain) -> None:
    assert (await reader(chain).read(now=NOW - 60)).taken_at == NOW - 60


async def test_the_number_of_readings_does_not_grow_with_the_subnet(chain: FakeChain) -> None:
    await reader(chain).read(now=NOW)
    few = len(chain.calls)
    for index in range(250):
        chain.add(hotkey(f"m{index}"))
        chain.commit(hotkey(f"m{index}"), commitment(f"omega/m{index}"))
    chain.calls.clear()
    await reader(chain).read(now=NOW)
    assert len(chain.calls) == few
    assert chain.count("runtime_call") == 1
    assert chain.count("query_map") == 2


async def test_the_callers_loop_goes_on_while_much_is_decoded(
    chain: FakeChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoding, go_on, decoded = threading.Event(), threading.Event(), FakeChain.metagraph

    def metagraph(chain: FakeChain) -> dict[str, Any]:
        decoding.set()
        assert go_on.wait(60), "the loop waits for what is decoded"
        return decoded(chain)

    monkeypatch.setattr(FakeChain, "metagraph", metagraph)
    reading = asyncio.create_task(reader(chain).read(now=NOW))
    assert await asyncio.to_thread(decoding.wait, 60)
    go_on.set()
    assert (await reading).entries


async def test_it_reads_one_block_of_a_chain_that_goes_on(chain: FakeChain) -> None:
    chain.moves = True
    await reader(chain).read(now=NOW)
    assert len(chain.blocks_read) == 1
    assert chain.block > 5_000_001


async def test_the_competition_and_the_burn_uid_are_the_operators(chain: FakeChain) -> None:
    chain.add(hotkey("carol"), incentive=0.1)
    chain.commit(hotkey("carol"), commitment("omega/moshi-c", competition="v2"))
    snapshot = await reader(chain, selection=Selection(competition="v1", burn_uid=2)).read(now=NOW)
    assert [entry.uid for entry in snapshot.entries] == [1]
    assert [(one.uid, one.code) for one in snapshot.dropped] == [(2, "burn_uid"), (3, "wrong_competition")]
    assert snapshot.competition == "v1"


async def test_an_incentive_out_of_range_is_dropped_alone(chain: FakeChain) -> None:
    chain.neuron(hotkey("bob")).incentive = 1e9
    snapshot = await reader(chain).read(now=NOW)
    assert [entry.uid for entry in snapshot.entries] == [1]
    assert [(one.uid, one.code) for one in snapshot.dropped] == [(2, "invalid_value")]


async def test_a_commitment_that_the_sdk_cannot_decode_is_dropped_alone(chain: FakeChain) -> None:
    chain.add(hotkey("mallory"))
    chain.reveal(hotkey("mallory"), "x" * 12)
    async with chain_client(chain) as client:
        with pytest.raises(ValueError, match="fromhex"):
            await client.subnets.metagraph(21)
    snapshot = await reader(chain).read(now=NOW)
    assert [entry.uid for entry in snapshot.entries] == [1, 2]
    assert [(one.uid, one.code) for one in snapshot.dropped] == [(3, "foreign")]


async def test_sealed_and_left_behind(chain: FakeChain) -> None:
    chain.seal(hotkey("bob"))
    chain.commit(hotkey("gone"), commitment("omega/gone"))
    snapshot = await reader(chain).read(now=NOW)
    assert [(one.uid, one.code) for one in snapshot.dropped] == [(2, "sealed"), (None, "unregistered")]


class TestRefused:
    async def test_no_such_subnet(self, chain: FakeChain) -> None:
        chain.name = None
        with pytest.raises(WrongSubnetError, match="there is no subnet 21"):
            await reader(chain).read(now=NOW)

    async def test_somebody_elses(self, chain: FakeChain) -> None:
        for name in ("alice", "bob"):
            chain.commit(hotkey(name), f"sn21-model:v1:ads/{name}@sha256:{'0' * 64}")
        with pytest.raises(WrongSubnetError, match="0 of its 2 commitments are in our grammar"):
            await reader(chain).read(now=NOW)

    async def test_another_name(self, chain: FakeChain) -> None:
        with pytest.raises(WrongSubnetError, match="is called 'muse', not 'omega'"):
            await reader(chain, subnet_name="omega").read(now=NOW)

    async def test_an_empty_one(self) -> None:
        chain = FakeChain()
        with pytest.raises(WrongSubnetError, match="has no neurons"):
            await reader(chain).read(now=NOW)


METHODS = ["connect", "block_number", "block_hash", "runtime_call", "query_map", "query"]


class TestConnections:
    async def test_one_for_a_reading_and_it_is_closed(self, chain: FakeChain) -> None:
        await reader(chain).read(now=NOW)
        await reader(chain).read(now=NOW)
        assert (chain.opened, chain.open) == (2, 0)

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize(
        "error", [ConnectionError("gone"), ValueError("not SCALE"), KeyError("block"), TimeoutError()]
    )
    async def test_closed_after_an_error(self, chain: FakeChain, method: str, error: Exception) -> None:
        chain.failures[method] = error
        with pytest.raises(ChainUnavailableError, match="local: ") as refused:
            await reader(chain).read(now=NOW)
        assert refused.value.message.isprintable()
        await self.check_nothing_is_left(chain)

    @pytest.mark.parametrize("method", METHODS)
    async def test_closed_after_a_timeout(self, chain: FakeChain, method: str) -> None:
        chain.hangs.add(method)
        timeout = 0.02
        while not chain.count(method):  # a busy machine takes longer to come so far
            timeout *= 2
            chain.opened = 0
            with pytest.raises(ChainUnavailableError, match=rf"local: no answer within {timeout:g} s"):
                await reader(chain, timeout=timeout).read(now=NOW)
        await self.check_nothing_is_left(chain)

    @pytest.mark.parametrize("method", METHODS)
    async def test_closed_after_a_cancellation(self, chain: FakeChain, method: str) -> None:
        chain.hangs.add(method)
        reading = asyncio.create_task(reader(chain).read(now=NOW))
        async with asyncio.timeout(60):
            while not chain.count(method):  # noqa: ASYNC110  (it comes about on another thread)
                await asyncio.sleep(0.001)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await self.check_nothing_is_left(chain)

    async def test_closed_after_a_refusal(self, chain: FakeChain) -> None:
        chain.name = None
        with pytest.raises(WrongSubnetError):
            await reader(chain).read(now=NOW)
        await self.check_nothing_is_left(chain)

    async def test_a_goodbye_that_nobody_answers_is_not_waited_for(
        self, chain: FakeChain, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(connection, "CLOSE_SECONDS", 0.05)
        chain.hangs.add("close")
        assert (await reader(chain).read(now=NOW)).entries

    async def test_what_was_read_is_good_even_if_the_goodbye_fails(self, chain: FakeChain) -> None:
        chain.failures["close"] = ConnectionError("gone")
        assert (await reader(chain).read(now=NOW)).entries

    async def check_nothing_is_left(self, chain: FakeChain) -> None:
        assert chain.opened == 1
        assert chain.open == 0
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize(
    ("network", "shown"),
    [
        ("finney", "finney"),
        ("ws://127.0.0.1:9944", "ws://127.0.0.1:9944"),
        ("wss://user:secret@node.example:443/v1/secret?key=secret", "wss://node.example:443"),
    ],
)
def test_an_address_is_shown_without_what_can_hold_a_key(network: str, shown: str) -> None:
    assert public_name(network) == shown


async def test_neither_is_a_key_shown_in_an_error() -> None:
    chain = FakeChain()
    network = "ws://node.example/v1/secret"
    chain.failures["connect"] = ConnectionError(f"cannot reach {network}")
    with pytest.raises(ChainUnavailableError) as refused:
        await ChainReader(network=network, netuid=21, open_substrate=chain.substrate).read(now=NOW)
    assert refused.value.message == "ws://node.example: ConnectionError: cannot reach ws://node.example"


def chain_client(chain: FakeChain) -> Any:
    import bittensor as bt

    return bt.Client("local", substrate=chain.substrate())
