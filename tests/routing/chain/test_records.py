from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.chain.grammar import Commitment, CommitmentError, parse
from routing.chain.records import Record, read_records
from tests.routing.chain.fake_chain import FakeChain, commitment, hotkey

ALICE = hotkey("alice")


def records(chain: FakeChain) -> tuple[Record, ...]:
    committed = [
        (key, {"block": record.block, "deposit": 0, "info": {"fields": record.fields}})
        for key, record in chain.committed.items()
    ]
    return read_records(committed, chain.revealed.items())


def only(chain: FakeChain) -> Record:
    [record] = records(chain)
    return record


def refusal(record: Record) -> tuple[str, str]:
    assert isinstance(record.commitment, CommitmentError)
    return record.commitment.code, record.commitment.reason


def test_a_plain_commitment() -> None:
    chain = FakeChain(block=100)
    chain.commit(ALICE, commitment("omega/moshi-a"), block=90)
    assert only(chain) == Record(hotkey=ALICE, block=90, commitment=parse(commitment("omega/moshi-a")))


def test_a_sealed_commitment_says_so() -> None:
    chain = FakeChain()
    chain.seal(ALICE)
    assert refusal(only(chain)) == ("sealed", "is sealed until round 1000000000 of drand")


def test_a_sealed_commitment_that_could_not_be_opened() -> None:
    chain = FakeChain()
    chain.commit_fields(ALICE, [{"TimelockRevealFailed": {"reveal_round": 7}}])
    assert refusal(only(chain)) == ("sealed", "is sealed for good: it could not be opened")


def test_a_commitment_counts_from_the_block_of_its_opening() -> None:
    chain = FakeChain(block=100)
    chain.seal(ALICE)
    chain.advance(20)
    chain.reveal(ALICE, commitment("omega/moshi-a"))
    assert only(chain) == Record(hotkey=ALICE, block=120, commitment=parse(commitment("omega/moshi-a")))


def test_the_newest_opening_counts() -> None:
    chain = FakeChain(block=100)
    chain.reveal(ALICE, commitment("omega/moshi-a"))
    chain.advance()
    chain.reveal(ALICE, commitment("omega/moshi-b"))
    record = only(chain)
    assert isinstance(record.commitment, Commitment)
    assert (record.block, record.commitment.model) == (101, "omega/moshi-b")


def test_a_new_seal_hides_what_was_opened_before_it() -> None:
    chain = FakeChain(block=100)
    chain.reveal(ALICE, commitment("omega/moshi-a"))
    chain.advance()
    chain.seal(ALICE)
    assert refusal(only(chain))[0] == "sealed"


def test_an_opening_that_the_record_has_outlasted_counts() -> None:
    chain = FakeChain(block=100)
    chain.reveal(ALICE, commitment("omega/moshi-a"))
    chain.seal(ALICE, block=90)
    assert isinstance(only(chain).commitment, Commitment)


def test_what_is_written_in_the_clear_counts_whatever_was_opened() -> None:
    chain = FakeChain(block=100)
    chain.reveal(ALICE, commitment("omega/moshi-a"))
    chain.commit(ALICE, "hello", block=90)
    assert refusal(only(chain))[0] == "foreign"


@pytest.mark.parametrize("text", ["x" * 12, "x0123456789a"])
def test_an_opening_that_looks_like_broken_hex_is_text(text: str) -> None:
    chain = FakeChain()
    chain.reveal(ALICE, text)
    assert chain.revealed[ALICE][0][0].startswith("0x")  # what the SDK's own reading stops at
    assert refusal(only(chain))[0] == "foreign"


@pytest.mark.parametrize("cut", [slice(0, -1), slice(0, 0)])
def test_an_opening_that_is_not_of_its_stated_length_is_no_text(cut: slice) -> None:
    chain = FakeChain()
    chain.reveal(ALICE, commitment("omega/moshi-a"))
    chain.revealed[ALICE] = [(text[cut], block) for text, block in chain.revealed[ALICE]]
    assert refusal(only(chain)) == ("malformed", "was opened, and is not text")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ([], "malformed"),
        ([{"Raw1": "0x61"}, {"Raw1": "0x61"}], "malformed"),
        ([{}], "malformed"),
        (["None"], "malformed"),
        (["ResetBondsFlag"], "malformed"),
        ([{"Raw0": "0x"}], "malformed"),
        ([{"Raw2": "0xc328"}], "foreign"),  # not UTF-8
        ([{"Raw1": "0xzz"}], "foreign"),
        ([{"Raw1": 7}], "foreign"),
        ([{"Sha256": "0x" + "00" * 32}], "foreign"),
        ([{"TimelockEncrypted": None}], "sealed"),
        (None, "malformed"),
    ],
)
def test_other_fields(fields: Any, code: str) -> None:
    [record] = read_records([(ALICE, {"block": 5, "info": {"fields": fields}})], [])
    assert refusal(record)[0] == code


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(JUNK, JUNK)
def test_one_strange_record_takes_no_other_with_it(record: Any, opened: Any) -> None:
    chain = FakeChain()
    chain.commit(ALICE, commitment("omega/moshi-a"))
    good = (ALICE, {"block": 7, "info": {"fields": chain.committed[ALICE].fields}})
    read = {
        one.hotkey: one for one in read_records([("mallory", record), good], [("mallory", opened), ("eve", opened)])
    }
    assert isinstance(read[ALICE].commitment, Commitment)
    assert all(isinstance(one.commitment, CommitmentError) for key, one in read.items() if key != ALICE)
