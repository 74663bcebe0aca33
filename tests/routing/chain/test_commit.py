from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import bittensor as bt
import pytest
from bittensor._transport.codec import RuntimeCodec

from routing.chain import commit as module
from routing.chain.commit import CommitmentRefusedError, write_commitment
from routing.chain.errors import ChainUnavailableError
from routing.chain.reader import ChainReader
from tests.routing.chain.fake_chain import FakeChain, commit_of, commitment, hotkey, keypair

TEXT = commitment("alice/moshi")


@pytest.fixture
def chain() -> FakeChain:
    chain = FakeChain()
    chain.add(hotkey("alice"), incentive=0.5)
    return chain


def reader(chain: FakeChain) -> ChainReader:
    return ChainReader(network="local", netuid=chain.netuid, open_substrate=chain.substrate, timeout=60.0)


async def test_what_is_written_is_what_the_reader_reads(chain: FakeChain) -> None:
    await write_commitment(reader(chain), TEXT, keypair("alice"))
    snapshot = await reader(chain).read(now=chain.clock())
    [entry] = snapshot.entries
    assert (entry.hotkey, entry.model, entry.commit) == (hotkey("alice"), "alice/moshi", commit_of("alice/moshi"))
    assert chain.open == 0


async def test_a_refusal_carries_the_chains_own_words(chain: FakeChain) -> None:
    with pytest.raises(CommitmentRefusedError, match=r"AccountNotAllowedCommit: Account is not allowed .*registered"):
        await write_commitment(reader(chain), TEXT, keypair("bob"))
    assert hotkey("bob") not in chain.committed
    assert chain.open == 0


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (bt.ChainError("Space Limit Exceeded", name="SpaceLimitExceeded"), "SpaceLimitExceeded: .*byte quota"),
        (bt.ChainError("Priority is too low"), "Priority is too low; wait for the rate-limit window"),
    ],
)
async def test_a_rate_limit_is_told(chain: FakeChain, error: bt.ChainError, said: str) -> None:
    chain.failures["submit"] = error
    with pytest.raises(CommitmentRefusedError, match=said):
        await write_commitment(reader(chain), TEXT, keypair("alice"))


async def test_a_chain_that_does_not_answer_is_another_matter(
    chain: FakeChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SUBMIT_SECONDS", 0.05)
    chain.hangs.add("submit")
    with pytest.raises(ChainUnavailableError, match=r"no answer within 0\.05 s"):
        await write_commitment(reader(chain), TEXT, keypair("alice"))
    monkeypatch.setattr(module, "SUBMIT_SECONDS", 60.0)
    chain.failures["submit"] = ConnectionError("reset")
    chain.hangs.clear()
    with pytest.raises(ChainUnavailableError, match="ConnectionError: reset"):
        await write_commitment(reader(chain), TEXT, keypair("alice"))
    await asyncio.sleep(0)
    assert chain.open == 0


def test_the_sdk_encodes_it_as_the_chains_type(chain: FakeChain, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against `pallet_commitments`' types: `CommitmentInfo { fields: BoundedVec<Data> }`, `Data::Raw86([u8; 86])`."""
    [call] = _calls(chain, monkeypatch)
    runtime, name = _runtime_with_commitments()
    encoded = runtime.encode(name, call.params["info"])
    data = TEXT.encode()
    assert encoded == bytes([1 << 2, 1 + len(data)]) + data  # one field; variants count from None


def _calls(chain: FakeChain, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    submitted: list[Any] = []
    monkeypatch.setattr(bt.Client, "submit_call", _recorder(submitted))
    asyncio.run(write_commitment(reader(chain), TEXT, keypair("alice")))
    return submitted


def _recorder(submitted: list[Any]) -> Any:
    async def submit_call(_: bt.Client, call: Any, wallet: Any, *, signer: str) -> bt.ExtrinsicResult:
        assert (wallet.ss58_address, signer) == (hotkey("alice"), "hotkey")
        submitted.append(call)
        return bt.ExtrinsicResult(success=True, message="Success")

    return submit_call


def _runtime_with_commitments() -> tuple[RuntimeCodec, str]:
    """A runtime, version 14 of its metadata, that holds nothing but these types."""
    types: list[bytes] = []

    def add(definition: bytes) -> int:
        types.append(_vec([]) + _vec([]) + definition + _vec([]))  # without path, parameters and docs
        return len(types) - 1

    byte = add(b"\x05\x03")
    arrays = [add(b"\x03" + size.to_bytes(4, "little") + _compact(byte)) for size in range(129)]
    variants = [_text("None") + _vec([]) + b"\x00" + _vec([])]
    variants += [
        _text(f"Raw{size}") + _vec([_field(array)]) + bytes([size + 1]) + _vec([]) for size, array in enumerate(arrays)
    ]
    fields = add(b"\x02" + _compact(add(b"\x01" + _vec(variants))))
    info = add(b"\x00" + _vec([_field(add(b"\x00" + _vec([_field(fields)])), name="fields")]))
    nothing = add(b"\x04" + _vec([]))
    listed = _vec(_compact(number) + definition for number, definition in enumerate(types))
    metadata = b"meta\x0e" + listed + _vec([]) + _compact(nothing) + b"\x04" + _vec([]) + _compact(nothing)
    return RuntimeCodec(metadata, spec_version=1, transaction_version=1), f"scale_info::{info}"


def _compact(number: int) -> bytes:
    return bytes([number << 2]) if number < 64 else (number << 2 | 1).to_bytes(2, "little")


def _vec(items: Iterable[bytes]) -> bytes:
    found = list(items)
    return _compact(len(found)) + b"".join(found)


def _text(text: str) -> bytes:
    return _compact(len(text)) + text.encode()


def _field(number: int, *, name: str = "") -> bytes:
    named = b"\x01" + _text(name) if name else b"\x00"
    return named + _compact(number) + b"\x00" + _vec([])
