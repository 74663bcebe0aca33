from __future__ import annotations

import pytest

from routing.feedback.turns import KEPT, RatedTurns
from streaming.core import SECOND
from streaming.errors import PeerError
from streaming.timeline import TurnLatency

LATENCY = TurnLatency(total=400_000_000, parts=(("think", 400_000_000),))


def refused(turns: RatedTurns, response_id: str, *, now: int) -> str:
    with pytest.raises(PeerError) as raised:
        turns.take(response_id, now=now)
    assert raised.value.param == "response_id"
    return raised.value.code


def test_a_turn_is_rated_once() -> None:
    turns = RatedTurns()
    turns.add("resp_1", version="m@1", latency=LATENCY, now=0)
    turn = turns.take("resp_1", now=SECOND)
    assert (turn.version, turn.latency) == ("m@1", LATENCY)
    assert refused(turns, "resp_1", now=SECOND) == "already_rated"


def test_one_whose_rating_was_not_kept_may_be_rated_again() -> None:
    turns = RatedTurns()
    turns.add("resp_1", version="m@1", latency=LATENCY, now=0)
    turns.take("resp_1", now=0)
    turns.give_back("resp_1")
    assert turns.take("resp_1", now=0).version == "m@1"
    turns.give_back("resp_unknown")


def test_it_is_rated_for_an_hour() -> None:
    turns = RatedTurns()
    turns.add("resp_1", version="m@1", latency=LATENCY, now=5)
    turns.add("resp_2", version="m@1", latency=LATENCY, now=6)
    turns.take("resp_2", now=6)
    assert refused(turns, "resp_1", now=KEPT + 5) == "turn_not_found"
    assert refused(turns, "resp_2", now=KEPT + 5) == "already_rated"
    assert refused(turns, "resp_2", now=KEPT + 6) == "turn_not_found"
    assert len(turns) == 0


@pytest.mark.parametrize("response_id", ["", "resp_2", "resp_1 ", "x" * 10_000])
def test_one_that_is_not_known_is_not_found(response_id: str) -> None:
    turns = RatedTurns()
    turns.add("resp_1", version="m@1", latency=LATENCY, now=0)
    assert refused(turns, response_id, now=0) == "turn_not_found"


def test_the_oldest_make_room() -> None:
    turns = RatedTurns(most=3)
    for number in range(5):
        turns.add(f"resp_{number}", version="m@1", latency=LATENCY, now=number)
    assert len(turns) == 3
    assert refused(turns, "resp_1", now=5) == "turn_not_found"
    assert turns.take("resp_2", now=5).version == "m@1"
