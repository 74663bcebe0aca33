from __future__ import annotations

import itertools
from collections import Counter
from random import Random

import pytest

from routing.duels.duels import LIFETIME, TOKEN_BYTES, Contender, Duel, Duels
from routing.duels.votes import Tally
from streaming.core import SECOND
from streaming.errors import EngineBusyError, PeerError

X, Y, Z = (Contender(model=name, version=f"{name}@1") for name in ("x", "y", "z"))


def duels(*, seed: int = 1, most: int = 1000) -> Duels:
    secrets = (f"secret{number}" for number in itertools.count())
    return Duels(random=Random(seed), new_secret=lambda: next(secrets), most=most)


def met(one: Contender, other: Contender, votes: int) -> Tally:
    return Tally(version_a=one.version, version_b=other.version, winner="tie", votes=votes)


def versions(duel: Duel) -> set[str]:
    return {side.contender.version for side in duel.sides}


def talk(open_duels: Duels, duel: Duel, *, now: int = 0) -> None:
    """Both sides answer."""
    for side in duel.sides:
        session_id = f"sess_{side.token}"
        open_duels.began(open_duels.enter(side.token, now=now), session_id)
        open_duels.answered(session_id)


def code_of(raised: pytest.ExceptionInfo[PeerError]) -> str:
    return raised.value.code


# --- who meets whom


@pytest.mark.parametrize("contenders", [[], [X], [X, X]])
def test_a_duel_needs_two_versions(contenders: list[Contender]) -> None:
    with pytest.raises(PeerError) as raised:
        duels().open(contenders, [], now=0)
    assert code_of(raised) == "not_enough_models"


def test_two_versions_of_one_model_may_meet() -> None:
    newer = Contender(model="x", version="x@2")
    assert versions(duels().open([X, newer], [], now=0)) == {"x@1", "x@2"}


def test_those_who_have_met_least_meet() -> None:
    for seed in range(20):
        chosen = duels(seed=seed).open([X, Y, Z], [met(X, Y, 5), met(Y, X, 5), met(Z, X, 9), met(Y, Z, 12)], now=0)
        assert versions(chosen) == {"x@1", "z@1"}


def test_votes_on_others_do_not_matter() -> None:
    gone = Contender(model="gone", version="gone@1")
    assert versions(duels().open([X, Y], [met(X, gone, 50), met(gone, Y, 50)], now=0)) == {"x@1", "y@1"}


def test_duels_that_are_open_count_as_met() -> None:
    open_duels = duels()
    pairs = Counter(frozenset(versions(open_duels.open([X, Y, Z], [], now=0))) for _ in range(9))
    assert set(pairs.values()) == {3}


def test_a_duel_that_was_voted_on_counts_by_its_vote_alone() -> None:
    open_duels = duels()
    talk(open_duels, duel := open_duels.open([X, Y], [], now=0))
    open_duels.vote(duel.id, now=0)
    # The vote makes one meeting of x and y; counted twice it would be two, as many as the others have.
    tallies = [met(X, Y, 1), met(X, Z, 2), met(Y, Z, 2)]
    assert versions(open_duels.open([X, Y, Z], tallies, now=0)) == {"x@1", "y@1"}


def test_chance_decides_between_equals_and_who_is_a() -> None:
    first = Counter(duels(seed=seed).open([X, Y, Z], [], now=0).sides[0].contender.version for seed in range(300))
    assert set(first) == {"x@1", "y@1", "z@1"}
    assert min(first.values()) > 60


def test_labels_are_a_and_b_and_names_are_secrets() -> None:
    duel = Duels().open([X, Y], [], now=0)
    assert [side.label for side in duel.sides] == ["A", "B"]
    secrets = [duel.id.removeprefix("duel_"), *(side.token for side in duel.sides)]
    assert len(set(secrets)) == 3
    assert all(len(secret) * 6 >= TOKEN_BYTES * 8 >= 128 for secret in secrets)


def test_only_so_many_are_open_at_once() -> None:
    open_duels = duels(most=2)
    for _ in range(2):
        open_duels.open([X, Y], [], now=0)
    with pytest.raises(EngineBusyError):
        open_duels.open([X, Y], [], now=LIFETIME - 1)
    open_duels.open([X, Y], [], now=LIFETIME)
    assert len(open_duels) == 1


# --- tokens


def test_a_token_lets_one_conversation_in() -> None:
    open_duels = duels()
    side = open_duels.open([X, Y], [], now=0).sides[0]
    assert open_duels.enter(side.token, now=1) is side
    with pytest.raises(PeerError) as raised:
        open_duels.enter(side.token, now=2)
    assert code_of(raised) == "model_not_found"


def test_a_token_is_kept_where_the_conversation_was_refused() -> None:
    open_duels = duels()
    side = open_duels.open([X, Y], [], now=0).sides[0]
    open_duels.leave(open_duels.enter(side.token, now=1))
    open_duels.began(open_duels.enter(side.token, now=2), "sess_1")
    open_duels.leave(side)
    open_duels.answered("sess_1")
    assert not side.answered
    open_duels.began(open_duels.enter(side.token, now=3), "sess_2")
    open_duels.answered("sess_2")
    assert side.answered


@pytest.mark.parametrize("token", ["", "x", "secret9", "secret0 ", "\ud800", "é", "x" * 100_000])
def test_a_wrong_token_is_refused(token: str) -> None:
    open_duels = duels()
    open_duels.open([X, Y], [], now=0)
    with pytest.raises(PeerError) as raised:
        open_duels.enter(token, now=0)
    assert code_of(raised) == "model_not_found"


def test_wrong_used_and_old_tokens_are_refused_alike() -> None:
    open_duels = duels()
    used, old = (side.token for side in open_duels.open([X, Y], [], now=0).sides)
    open_duels.enter(used, now=0)
    errors = []
    for token, now in ((used, 0), ("wrong", 0), (old, LIFETIME)):
        with pytest.raises(PeerError) as raised:
            open_duels.enter(token, now=now)
        errors.append((raised.value.code, raised.value.message, raised.value.param))
    assert len(set(errors)) == 1


def test_the_duels_id_is_no_token() -> None:
    open_duels = duels()
    duel = open_duels.open([X, Y], [], now=0)
    for name in (duel.id, duel.id.removeprefix("duel_")):
        with pytest.raises(PeerError):
            open_duels.enter(name, now=0)


# --- votes


def test_a_vote_counts_once_both_have_answered() -> None:
    open_duels = duels()
    duel = open_duels.open([X, Y], [], now=0)
    talk(open_duels, duel)
    assert open_duels.vote(duel.id, now=1) is duel
    with pytest.raises(PeerError) as raised:
        open_duels.vote(duel.id, now=2)
    assert code_of(raised) == "already_voted"


@pytest.mark.parametrize("answering", [0, 1])
def test_one_side_is_not_enough(answering: int) -> None:
    open_duels = duels()
    duel = open_duels.open([X, Y], [], now=0)
    for number, side in enumerate(duel.sides):
        open_duels.began(open_duels.enter(side.token, now=0), f"sess_{number}")
    open_duels.answered(f"sess_{answering}")
    open_duels.answered(f"sess_{answering}")
    with pytest.raises(PeerError) as raised:
        open_duels.vote(duel.id, now=0)
    assert code_of(raised) == "not_answered"


def test_turns_of_other_conversations_do_not_count() -> None:
    open_duels = duels()
    first, second = open_duels.open([X, Y], [], now=0), open_duels.open([X, Y], [], now=0)
    talk(open_duels, first)
    open_duels.answered("sess_of_nobody")
    with pytest.raises(PeerError):
        open_duels.vote(second.id, now=0)


def test_a_vote_that_was_not_kept_may_be_given_again() -> None:
    open_duels = duels()
    talk(open_duels, duel := open_duels.open([X, Y], [], now=0))
    open_duels.give_back(open_duels.vote(duel.id, now=0))
    assert open_duels.vote(duel.id, now=0) is duel


def test_a_duel_is_over_after_its_time() -> None:
    open_duels = duels()
    talk(open_duels, duel := open_duels.open([X, Y], [], now=0))
    open_duels.open([X, Y], [], now=SECOND)
    with pytest.raises(PeerError) as raised:
        open_duels.vote(duel.id, now=LIFETIME)
    assert code_of(raised) == "duel_not_found"
    open_duels.answered(f"sess_{duel.sides[0].token}")  # a conversation may outlast its duel
    open_duels.began(duel.sides[1], "sess_late")
    assert len(open_duels) == 1


@pytest.mark.parametrize("duel_id", ["", "duel_", "duel_x", "secret0"])
def test_a_duel_that_is_not_known_is_not_found(duel_id: str) -> None:
    open_duels = duels()
    open_duels.open([X, Y], [], now=0)
    with pytest.raises(PeerError) as raised:
        open_duels.vote(duel_id, now=0)
    assert code_of(raised) == "duel_not_found"


def test_what_is_over_is_forgotten() -> None:
    open_duels = duels(most=10)
    for number in range(100):
        talk(open_duels, open_duels.open([X, Y], [], now=number * LIFETIME), now=number * LIFETIME)
    held = open_duels._open
    assert (len(held.duels), len(held.sides), len(held.sessions)) == (1, 2, 2)
