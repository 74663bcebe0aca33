import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.config import SemanticVad, ServerVad
from streaming.endpointing import ENDPOINTING, MS, Act, Endpointer, Endpointing, Signal, Voice
from streaming.engine import VOICE_FRAME

RULE = Endpointing(asks=(128 * MS, 512 * MS), steps=((0.9, 128 * MS), (0.5, 320 * MS)), longest=1024 * MS)


class Stream:
    """Feeds frames and collects what they meant."""

    def __init__(self, rule: Endpointing) -> None:
        self.endpointer = Endpointer(rule)
        self.end = 0
        self.asked: list[int] = []

    def feed(self, probability: float, frames: int = 1) -> list[Act]:
        acts = []
        for _ in range(frames):
            self.end += VOICE_FRAME
            acts.append(self.endpointer.hear(self.end, probability))
            if self.endpointer.should_ask():
                self.asked.append(self.end)
        return [act for act in acts if act is not Act.NOTHING]

    def frames_until(self, act: Act, limit: int = 400) -> int:
        for count in range(1, limit):
            if act in self.feed(0.01):
                return count
        raise AssertionError(f"no {act} in {limit} frames of silence")


def test_the_table_is_total() -> None:
    assert set(ENDPOINTING) == set(itertools.product(Voice, Signal))


def test_a_turn_starts_once_and_ends_once_only_while_it_is_on() -> None:
    for (state, _signal), (after, act) in ENDPOINTING.items():
        in_turn = {Voice.SPEAKING, Voice.PAUSING}
        assert (act is Act.STARTED) == (state not in in_turn and after in in_turn)
        assert (act is Act.ENDED) == (state in in_turn and after not in in_turn)


def test_a_click_is_not_speech() -> None:
    stream = Stream(RULE)
    assert stream.feed(0.9, 1) + stream.feed(0.01, 40) == []


def test_speech_starts_after_its_shortest_length() -> None:
    assert Stream(RULE).feed(0.9, 2) == [Act.STARTED]


def test_the_threshold_has_hysteresis() -> None:
    stream = Stream(RULE)
    stream.feed(0.9, 5)
    assert stream.feed(0.4, 20) == []  # below the threshold, above the release: still the same speech
    assert stream.feed(0.3, 1) == []
    assert stream.endpointer.state is Voice.PAUSING
    assert stream.feed(0.4, 1) == []  # a pause ends at the threshold again
    assert stream.feed(0.6, 1) == [Act.RESUMED]


@pytest.mark.parametrize(("probability", "frames"), [(0.95, 4), (0.7, 10), (0.2, 32)])
def test_the_more_complete_the_turn_the_shorter_the_silence(probability: float, frames: int) -> None:
    stream = Stream(RULE)
    stream.feed(0.9, 10)
    stream.feed(0.01, 3)
    acts = [stream.endpointer.turn_end(stream.end, probability)]
    assert Act.ENDED not in acts
    assert 3 + stream.frames_until(Act.ENDED) == frames


def test_an_answer_that_comes_late_ends_the_turn_at_once() -> None:
    stream = Stream(RULE)
    stream.feed(0.9, 10)
    stream.feed(0.01, 8)
    assert stream.endpointer.turn_end(stream.end, 0.95) is Act.ENDED


def test_an_answer_about_an_earlier_pause_is_stale() -> None:
    stream = Stream(RULE)
    stream.feed(0.9, 10)
    stream.feed(0.01, 4)
    asked_at = stream.end
    stream.feed(0.9, 2)
    assert stream.endpointer.turn_end(asked_at, 0.99) is Act.NOTHING
    stream.feed(0.01, 6)
    assert stream.endpointer.turn_end(asked_at, 0.99) is Act.NOTHING


def test_the_model_is_asked_once_for_each_due_silence() -> None:
    stream = Stream(RULE)
    stream.feed(0.9, 10)
    start = stream.end
    stream.feed(0.01, 31)
    assert [(end - start) // MS for end in stream.asked] == [128, 512]


def test_server_vad_waits_for_its_silence() -> None:
    stream = Stream(Endpointing.of(ServerVad(silence_duration_ms=480)))
    stream.feed(0.9, 10)
    assert stream.frames_until(Act.ENDED) == 15
    assert stream.asked == []


def test_eagerness_orders_the_waits() -> None:
    rules = [Endpointing.of(SemanticVad(eagerness=eagerness)) for eagerness in ("high", "auto", "low")]
    for probability in (None, 0.05, 0.3, 0.7, 0.99):
        waits = [rule.silence_needed(probability) for rule in rules]
        assert waits == sorted(waits)
    assert [rule.longest // MS for rule in rules] == [2000, 4000, 8000]


def test_a_turn_that_is_too_long_is_cut() -> None:
    stream = Stream(Endpointing(longest_turn=VOICE_FRAME * 50))
    acts = stream.feed(0.9, 130)
    assert acts == [Act.STARTED, Act.ENDED] * 2 + [Act.STARTED]


@given(st.lists(st.tuples(st.floats(0, 1), st.one_of(st.none(), st.floats(0, 1))), max_size=300))
def test_starts_and_ends_alternate(steps: list[tuple[float, float | None]]) -> None:
    stream = Stream(RULE)
    seen: list[Act] = []
    for probability, turn_end in steps:
        seen += stream.feed(probability)
        if turn_end is not None:
            seen.append(stream.endpointer.turn_end(stream.end, turn_end))
        assert stream.endpointer.voice_start <= stream.endpointer.voice_end <= stream.end
    turns = [act for act in seen if act in (Act.STARTED, Act.ENDED)]
    assert turns == [Act.STARTED, Act.ENDED] * (len(turns) // 2) + [Act.STARTED] * (len(turns) % 2)


def test_the_other_side_ends_a_pause_and_nothing_else() -> None:
    stream = Stream(RULE)
    acts = [stream.endpointer.end()]
    for probability in (0.9, 0.01):
        stream.feed(probability, 10)
        acts.append(stream.endpointer.end())
    assert acts == [Act.NOTHING, Act.NOTHING, Act.ENDED]
    assert stream.endpointer.end() is Act.NOTHING
