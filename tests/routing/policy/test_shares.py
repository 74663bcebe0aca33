from hypothesis import given
from hypothesis import strategies as st

from routing.policy.shares import place, within

SESSIONS = [f"sess_{number}" for number in range(4000)]


def test_a_share_holds_about_that_many_sessions() -> None:
    for share in (0.05, 0.25, 0.5):
        among = sum(within(share, session, "a") for session in SESSIONS) / len(SESSIONS)
        assert abs(among - share) < 0.03


def test_shares_of_different_salts_are_independent() -> None:
    both = sum(within(0.5, session, "a") and within(0.5, session, "b") for session in SESSIONS) / len(SESSIONS)
    assert abs(both - 0.25) < 0.03


@given(st.text(), st.text(), st.floats(0, 1), st.floats(0, 1))
def test_who_is_in_a_share_is_in_every_larger_one(session: str, salt: str, one: float, other: float) -> None:
    small, large = sorted((one, other))
    assert within(large, session, salt) or not within(small, session, salt)
    assert 0 <= place(session, salt) < 1


@given(st.text())
def test_none_and_all(session: str) -> None:
    assert not within(0.0, session, "a")
    assert within(1.0, session, "a")


def test_places_are_the_same_in_every_process() -> None:
    assert round(place("sess_1", "salt"), 6) == 0.587848
