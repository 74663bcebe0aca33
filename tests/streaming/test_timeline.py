from hypothesis import given
from hypothesis import strategies as st

from streaming.timeline import PARTS, Part, Timeline


@given(st.integers(0, 10**12), st.dictionaries(st.sampled_from(PARTS), st.integers(0, 10**12)))
def test_parts_add_up_to_the_whole(start: int, marks: dict[Part, int]) -> None:
    timeline = Timeline(start)
    for part, at in marks.items():
        timeline.mark(part, at)
    latency = timeline.latency()
    assert sum(length for _, length in latency.parts) == latency.total
    assert all(length >= 0 for _, length in latency.parts)
    assert latency.total == max([0, *(at - start for at in marks.values())])
    assert tuple(name for name, _ in latency.parts) == PARTS


def test_work_done_while_the_end_was_being_decided_costs_nothing() -> None:
    timeline = Timeline(0)
    timeline.mark("transcribe", 150)
    timeline.mark("endpointing", 220)
    timeline.mark("think", 200)
    timeline.mark("voice", 300)
    timeline.mark("voice", 999)  # the first counts
    timeline.mark("send", 301)
    parts = dict(timeline.latency().parts)
    assert parts["endpointing"] == 220
    assert parts["transcribe"] == parts["think"] == 0
    assert parts["voice"] == 80
    assert parts["send"] == 1


def test_a_duplex_engine_s_frame_has_parts_of_its_own() -> None:
    timeline = Timeline(0)
    for part, at in (("endpointing", 200), ("queue", 210), ("encode", 215), ("model", 240), ("decode", 248)):
        timeline.mark(part, at)  # type: ignore[arg-type]
    timeline.mark("send", 288)
    parts = {name: length for name, length in timeline.latency().parts if length}
    assert parts == {"endpointing": 200, "queue": 10, "encode": 5, "model": 25, "decode": 8, "send": 40}
