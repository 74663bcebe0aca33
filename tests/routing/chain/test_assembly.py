from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.chain.assembly import MAX_UNREGISTERED, Selection, assemble
from routing.chain.grammar import CommitmentError, parse
from routing.chain.records import Neuron, Record, Subnet
from routing.leaderboard import Dropped, Entry, Snapshot
from tests.routing.chain.fake_chain import commit_of, commitment, hotkey

NOW = 1000


def neuron(
    uid: int, *, incentive: float = 0.1, permit: bool = False, stake: float = 0.0, emission: float = 1.0
) -> Neuron:
    return Neuron(
        uid=uid,
        hotkey=hotkey(f"n{uid}"),
        incentive=incentive,
        emission=emission,
        stake=stake,
        permit=permit,
        last_update=900 + uid,
    )


def record(uid: int, text: str | CommitmentError, *, block: int = 500) -> Record:
    return Record(hotkey=hotkey(f"n{uid}"), block=block, commitment=parse(text) if isinstance(text, str) else text)


def leaderboard(
    neurons: list[Neuron], records: list[Record], *, competition: str | None = None, burn_uid: int | None = None
) -> Snapshot:
    subnet = Subnet(name="muse", block=NOW, time=50.0, neurons=tuple(neurons), records=tuple(records))
    selection = Selection(competition=competition, burn_uid=burn_uid)
    return assemble(subnet, selection, network="local", netuid=21, taken_at=50.0)


def dropped(snapshot: Snapshot) -> dict[int | None, str]:
    return {one.uid: one.code for one in snapshot.dropped}


def test_a_miner_becomes_an_entry() -> None:
    snapshot = leaderboard([neuron(3, incentive=0.6, emission=2.5)], [record(3, commitment("omega/moshi-a"))])
    entry = Entry(
        uid=3,
        hotkey=hotkey("n3"),
        model="omega/moshi-a",
        commit=commit_of("omega/moshi-a"),
        block=500,
        competition="v1",
        incentive=0.6,
        emission=2.5,
    )
    assert snapshot == Snapshot(
        source="chain", network="local", netuid=21, competition=None, block=NOW, taken_at=50.0, entries=(entry,)
    )


def test_entries_come_in_order_of_their_uids() -> None:
    uids = [5, 0, 9]
    snapshot = leaderboard(
        [neuron(uid) for uid in uids], [record(uid, commitment(f"omega/m{uid}"), block=900 - uid) for uid in uids]
    )
    assert [entry.uid for entry in snapshot.entries] == [0, 5, 9]


def test_a_registered_hotkey_without_a_commitment_is_not_told_of() -> None:
    assert leaderboard([neuron(0)], []) == replace(leaderboard([], []), validators=())


class TestDropped:
    def one(self, snapshot: Snapshot) -> Dropped:
        assert snapshot.entries == ()
        [one] = snapshot.dropped
        assert one.reason.isprintable()
        return one

    @pytest.mark.parametrize("code", ["foreign", "malformed", "sealed", "wrong_hash"])
    def test_what_cannot_be_read(self, code: str) -> None:
        error = CommitmentError(code, "is so")  # type: ignore[arg-type]
        one = self.one(leaderboard([neuron(0)], [record(0, error)]))
        assert one == Dropped(uid=0, hotkey=hotkey("n0"), code=code, reason="is so")  # type: ignore[arg-type]

    def test_the_version_is_told_where_it_could_be_read(self) -> None:
        one = self.one(leaderboard([neuron(0)], [record(0, commitment("omega/moshi-a"))], burn_uid=0))
        assert one.version == f"omega/moshi-a@{commit_of('omega/moshi-a')}"

    def test_whoever_is_not_registered(self) -> None:
        one = self.one(leaderboard([neuron(0)], [record(1, commitment("omega/moshi-a"))]))
        assert (one.uid, one.hotkey, one.code) == (None, hotkey("n1"), "unregistered")

    def test_the_burn_uid(self) -> None:
        one = self.one(leaderboard([neuron(0)], [record(0, commitment("omega/moshi-a"))], burn_uid=0))
        assert (one.code, one.reason) == ("burn_uid", "uid 0 is the one whose incentive is burnt")

    @pytest.mark.parametrize("written", ["v2", None])
    def test_another_competition(self, written: str | None) -> None:
        text = commitment("omega/moshi-a", competition=written)
        one = self.one(leaderboard([neuron(0)], [record(0, text)], competition="v1"))
        assert one.code == "wrong_competition"
        assert "not 'v1'" in one.reason

    @pytest.mark.parametrize("block", [NOW + 1, 2**64, -1])
    def test_a_block_that_has_not_been(self, block: int) -> None:
        one = self.one(leaderboard([neuron(0)], [record(0, commitment("omega/moshi-a"), block=block)]))
        assert one.code == "future_block"
        assert str(block) in one.reason

    @pytest.mark.parametrize("incentive", [math.nan, math.inf, -math.inf, -0.1, 1.01, 1e9])
    def test_an_impossible_incentive(self, incentive: float) -> None:
        one = self.one(leaderboard([neuron(0, incentive=incentive)], [record(0, commitment("omega/moshi-a"))]))
        assert one.code == "invalid_value"
        assert f"{incentive:g}" in one.reason

    @pytest.mark.parametrize("emission", [math.nan, math.inf, -1.0])
    def test_an_impossible_emission(self, emission: float) -> None:
        one = self.one(leaderboard([neuron(0, emission=emission)], [record(0, commitment("omega/moshi-a"))]))
        assert one.code == "invalid_value"


def test_the_newest_block_itself_is_not_in_the_future() -> None:
    assert leaderboard([neuron(0)], [record(0, commitment("omega/moshi-a"), block=NOW)]).entries


def test_any_competition_where_none_is_asked_for() -> None:
    records = [record(0, commitment("omega/a", competition="v1")), record(1, commitment("omega/b", competition=None))]
    assert len(leaderboard([neuron(0), neuron(1)], records).entries) == 2


class TestValidators:
    def test_a_permit_without_incentive(self) -> None:
        snapshot = leaderboard([neuron(0, permit=True, incentive=0, stake=5000.0), neuron(1)], [])
        [validator] = snapshot.validators
        assert (validator.uid, validator.stake, validator.last_update) == (0, 5000.0, 900)

    def test_its_commitment_is_dropped(self) -> None:
        snapshot = leaderboard([neuron(0, permit=True, incentive=0)], [record(0, commitment("omega/moshi-a"))])
        assert dropped(snapshot) == {0: "validator"}
        assert len(snapshot.validators) == 1

    def test_a_miner_whose_stake_wins_a_permit_stays_a_miner_and_does_not_score_itself(self) -> None:
        snapshot = leaderboard([neuron(0, permit=True, incentive=0.3)], [record(0, commitment("omega/moshi-a"))])
        assert [entry.uid for entry in snapshot.entries] == [0]
        assert snapshot.validators == ()

    def test_a_validator_with_incentive_and_a_foreign_commitment_stays_a_validator(self) -> None:
        foreign = CommitmentError("foreign", "is in another grammar")
        snapshot = leaderboard([neuron(0, permit=True, incentive=0.3)], [record(0, foreign)])
        assert dropped(snapshot) == {0: "foreign"}
        assert len(snapshot.validators) == 1

    def test_the_burn_uid_may_be_a_validator_too(self) -> None:
        snapshot = leaderboard(
            [neuron(0, permit=True, incentive=0.7)], [record(0, commitment("omega/moshi-a"))], burn_uid=0
        )
        assert dropped(snapshot) == {0: "burn_uid"}
        assert [validator.uid for validator in snapshot.validators] == [0]

    @pytest.mark.parametrize("stake", [math.nan, math.inf, -1.0])
    def test_an_impossible_stake_is_none(self, stake: float) -> None:
        assert leaderboard([neuron(0, permit=True, incentive=0, stake=stake)], []).validators == ()


class TestReuse:
    def test_the_earliest_keeps_a_version(self) -> None:
        records = [record(0, commitment("omega/moshi-a"), block=501), record(1, commitment("omega/moshi-a"), block=500)]
        snapshot = leaderboard([neuron(0), neuron(1)], records)
        assert [entry.uid for entry in snapshot.entries] == [1]
        assert [(one.uid, one.code, one.reason, one.version) for one in snapshot.dropped] == [
            (
                0,
                "duplicate_repository",
                "uid 1 committed to this version of omega/moshi-a before",
                f"omega/moshi-a@{commit_of('omega/moshi-a')}",
            )
        ]

    def test_nobody_takes_a_repository_from_its_owner_by_naming_it_first(self) -> None:
        """What the other names fails at its `hotkey.txt`; the owner's new version must not be dropped for it."""
        records = [
            record(0, commitment("omega/moshi-a", commit=commit_of("somebody else's")), block=1),
            record(1, commitment("omega/moshi-a", commit=commit_of("the owner's new one")), block=900),
        ]
        snapshot = leaderboard([neuron(0), neuron(1)], records)
        assert [entry.uid for entry in snapshot.entries] == [0, 1]
        assert snapshot.dropped == ()

    def test_in_one_block_the_lowest_uid_keeps_it(self) -> None:
        records = [record(uid, commitment("omega/moshi-a")) for uid in (7, 2, 4)]
        snapshot = leaderboard([neuron(uid) for uid in (7, 2, 4)], records)
        assert [entry.uid for entry in snapshot.entries] == [2]
        assert dropped(snapshot) == {4: "duplicate_repository", 7: "duplicate_repository"}

    def test_names_that_differ_in_case_are_one_repository(self) -> None:
        texts = [commitment(name, commit=commit_of("one")) for name in ("omega/moshi", "Omega/Moshi")]
        records = [record(0, texts[0]), record(1, texts[1], block=501)]
        assert dropped(leaderboard([neuron(0), neuron(1)], records)) == {1: "duplicate_repository"}

    def test_a_commit_under_another_name(self) -> None:
        commit = commit_of("one")
        records = [
            record(0, commitment("omega/moshi-a", commit=commit)),
            record(1, commitment("thief/moshi-b", commit=commit), block=501),
        ]
        snapshot = leaderboard([neuron(0), neuron(1)], records)
        assert [entry.uid for entry in snapshot.entries] == [0]
        assert dropped(snapshot) == {1: "reused_hash"}
        assert "uid 0" in snapshot.dropped[0].reason

    def test_what_is_dropped_for_itself_claims_nothing(self) -> None:
        records = [
            record(0, commitment("omega/moshi-a", competition="old"), block=1),
            record(1, commitment("omega/moshi-a")),
        ]
        snapshot = leaderboard([neuron(0), neuron(1)], records, competition="v1")
        assert [entry.uid for entry in snapshot.entries] == [1]


def test_of_those_that_have_left_only_the_newest_are_told() -> None:
    records = [
        Record(hotkey=f"left-{index}", block=index, commitment=parse(commitment("omega/m"))) for index in range(1000)
    ]
    snapshot = leaderboard([], records)
    assert [one.hotkey for one in snapshot.dropped] == [
        f"left-{index}" for index in range(999, 999 - MAX_UNREGISTERED, -1)
    ]


REPOSITORIES = ["omega/a", "omega/b", "Omega/A"]


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(REPOSITORIES),
            st.sampled_from(["x", "y", "z"]),
            st.integers(0, NOW + 2),
            st.floats() | st.floats(0, 1),
            st.booleans(),
        ),
        max_size=8,
    ),
    st.randoms(),
)
def test_every_commitment_is_an_entry_or_dropped_and_the_order_of_reading_does_not_matter(
    rows: list[tuple[str, str, int, float, bool]], chance: object
) -> None:
    neurons = [neuron(uid, incentive=row[3], permit=row[4]) for uid, row in enumerate(rows)]
    records = [record(uid, commitment(row[0], commit=commit_of(row[1])), block=row[2]) for uid, row in enumerate(rows)]
    snapshot = leaderboard(neurons, records, burn_uid=1)
    assert sorted([entry.uid for entry in snapshot.entries] + [one.uid or 0 for one in snapshot.dropped]) == list(
        range(len(rows))
    )
    assert len({entry.key.lower() for entry in snapshot.entries}) == len(snapshot.entries)
    assert len({entry.commit for entry in snapshot.entries}) == len(snapshot.entries)
    assert all(0 <= entry.incentive <= 1 and entry.block <= NOW for entry in snapshot.entries)
    mined, scoring = {entry.uid for entry in snapshot.entries}, {one.uid for one in snapshot.validators}
    assert not mined & scoring
    chance.shuffle(records)  # type: ignore[attr-defined]
    assert leaderboard(neurons, records, burn_uid=1) == snapshot
