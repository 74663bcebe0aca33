import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.worker.slots import Slot, Slots


@given(st.lists(st.booleans(), max_size=80), st.integers(1, 5))
def test_no_slot_is_held_twice_and_none_is_lost(moves: list[bool], count: int) -> None:
    slots, held = Slots(count), list[Slot]()
    for reserve in moves:
        if reserve:
            slot = slots.reserve("s", 1)
            assert (slot is None) == (len(held) == count)
            if slot is not None:
                assert slot not in held
                held.append(slot)
        elif held:
            slots.release(held.pop(0), 2)
        assert slots.free == count - len(held)
        assert sum(slot.state == "free" for slot in slots.all) == slots.free


def test_a_slot_tells_whose_it_is_and_since_when() -> None:
    slots = Slots(2)
    slot = slots.reserve("a", 5)
    assert slot is not None
    assert (slot.state, slot.session, slot.since) == ("opening", "a", 5)
    slot.become("talking", 9)
    assert slot.since == 9
    slots.release(slot, 11)
    assert (slot.state, slot.session) == ("free", "")
    with pytest.raises(ValueError, match="free already"):
        slots.release(slot, 12)


def test_the_slot_that_was_freed_last_is_given_last() -> None:
    slots = Slots(3)
    first = slots.reserve("a", 0)
    assert first is not None
    slots.release(first, 0)
    assert [slot.index for _ in range(3) if (slot := slots.reserve("b", 0))] == [1, 2, 0]
