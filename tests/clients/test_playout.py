"""What a listener has heard, in virtual time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from clients.playout import Heard, PlayoutClock

MS = 1_000_000


def heard(milliseconds: int, item: str = "a") -> Heard:
    return Heard(item_id=item, content_index=0, milliseconds=milliseconds)


def test_audio_plays_as_it_arrives() -> None:
    clock = PlayoutClock()
    assert clock.heard(now=0) is None
    clock.add("a", 0, 100 * MS, now=1000 * MS)
    clock.add("a", 0, 100 * MS, now=1001 * MS)
    assert clock.heard(now=1000 * MS) == heard(0)
    assert clock.heard(now=1150 * MS) == heard(150)
    assert clock.ends == 1200 * MS
    assert clock.heard(now=1200 * MS) is None


def test_a_gap_is_not_heard() -> None:
    clock = PlayoutClock()
    clock.add("a", 0, 100 * MS, now=0)
    clock.add("a", 0, 100 * MS, now=500 * MS)
    assert clock.heard(now=530 * MS) == heard(130)


def test_a_new_reply_is_counted_from_its_start() -> None:
    clock = PlayoutClock()
    clock.add("a", 0, 100 * MS, now=0)
    clock.add("b", 0, 100 * MS, now=200 * MS)
    assert clock.heard(now=250 * MS) == heard(50, "b")


def test_stopping_ends_it() -> None:
    clock = PlayoutClock()
    clock.add("a", 0, 100 * MS, now=0)
    clock.stop()
    assert clock.heard(now=10 * MS) is None
    clock.add("b", 0, 100 * MS, now=20 * MS)
    assert clock.heard(now=30 * MS) == heard(10, "b")


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(1, 200)), min_size=1), st.integers(0, 1000))
def test_no_more_is_heard_than_was_received(frames: list[tuple[int, int]], later: int) -> None:
    clock = PlayoutClock()
    now = received = 0
    for pause, duration in frames:
        now += pause * MS
        clock.add("a", 0, duration * MS, now=now)
        received += duration
    so_far = clock.heard(now=now + later * MS)
    if so_far is None:
        assert clock.ends <= now + later * MS
    else:
        assert 0 <= so_far.milliseconds <= min(received, (now // MS) + later)
