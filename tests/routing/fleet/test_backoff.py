from __future__ import annotations

from routing.fleet.backoff import Backoff


def test_it_doubles_and_stays_at_the_most() -> None:
    backoff = Backoff(first=0.5, most=3)
    assert [backoff.after(failures) / 1e9 for failures in (1, 2, 3, 4, 5, 10**6)] == [0.5, 1, 2, 3, 3, 3]
