from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.engine import Samples
from streaming.utterances import UTTERANCES, Bound, Segment, Sign, Talk, UtteranceRule, Utterances

RATE = 24_000
MS = RATE // 1000
RULE = UtteranceRule()
SPEECH = 0.1
NOISE = 0.0005


def sound(ms: float, level: float = SPEECH) -> Samples:
    return np.full(round(ms * MS), level, dtype=np.float32)


def hear(utterances: Utterances, *pieces: tuple[Samples, str]) -> list[Segment]:
    return [segment for audio, text in pieces for segment in utterances.hear(audio, text)]


def milliseconds(segments: Iterable[Segment]) -> float:
    return sum(len(segment.audio) for segment in segments) / MS


def test_the_table_is_total_and_only_opens_and_closes_what_it_can() -> None:
    assert set(UTTERANCES) == {(state, sign) for state in Talk for sign in Sign}
    inside = {Talk.TALKING, Talk.PAUSING}
    for (before, _), (after, bound) in UTTERANCES.items():
        assert (bound is Bound.OPENED) == (before not in inside and after in inside)
        assert (bound is Bound.CLOSED) == (before in inside and after not in inside)


def test_near_silence_is_no_utterance_however_long() -> None:
    noise = np.random.default_rng(0).normal(0, RULE.release / 2, 60 * RATE).astype(np.float32)
    assert hear(Utterances(RATE), (noise, "")) == []


@pytest.mark.parametrize("length", [1, 20, RULE.onset - 20])
def test_a_click_is_no_utterance(length: int) -> None:
    assert hear(Utterances(RATE), (sound(500, NOISE), ""), (sound(length), ""), (sound(2000, NOISE), "")) == []


def test_clicks_do_not_add_up() -> None:
    click = np.concatenate([sound(20), sound(300, NOISE)])
    assert hear(Utterances(RATE), *[(click, "")] * 20) == []


def test_sound_opens_an_utterance_with_its_onset_and_the_pre_roll() -> None:
    utterances = Utterances(RATE)
    assert hear(utterances, (sound(500, NOISE), "")) == []
    (segment,) = hear(utterances, (sound(80), ""))
    assert milliseconds([segment]) == RULE.pre_roll + 80
    assert segment.voice == RULE.pre_roll * MS
    assert segment.audio[segment.voice - 1] == np.float32(NOISE)
    assert segment.audio[segment.voice] == np.float32(SPEECH)
    (more,) = hear(utterances, (sound(80), ""))
    assert milliseconds([more]) == 80
    assert more.voice is None


def test_an_onset_that_began_in_the_chunk_before_is_kept() -> None:
    utterances = Utterances(RATE)
    chunk = np.concatenate([sound(60, NOISE), sound(20)])
    assert hear(utterances, (sound(80, NOISE), ""), (chunk, "")) == []
    (segment,) = hear(utterances, (sound(80), ""))
    assert milliseconds([segment]) == RULE.pre_roll + 20 + 80
    assert segment.voice == RULE.pre_roll * MS


def test_words_open_an_utterance_before_its_sound() -> None:
    utterances = Utterances(RATE)
    (first,) = hear(utterances, (sound(80, NOISE), ""), (sound(80, NOISE), " Hello"))
    assert (first.text, first.voice) == ("Hello", None)
    assert milliseconds([first]) == RULE.pre_roll + 80
    (second,) = hear(utterances, (np.concatenate([sound(40, NOISE), sound(40)]), " there"))
    assert (second.text, second.voice) == (" there", 40 * MS)


def test_words_in_the_midst_of_an_onset_take_it_along() -> None:
    utterances = Utterances(RATE)
    chunk = np.concatenate([sound(60, NOISE), sound(20)])
    (segment,) = hear(utterances, (chunk, ""), (sound(80), "Hi"))
    assert segment.voice == RULE.pre_roll * MS
    assert milliseconds([segment]) == RULE.pre_roll + 20 + 80


def test_blank_words_open_nothing_and_stay_within_an_utterance() -> None:
    utterances = Utterances(RATE)
    assert hear(utterances, (sound(80, NOISE), " "), (sound(80, NOISE), "\n")) == []
    segments = hear(utterances, (sound(80), " "), (sound(80), "a"), (sound(80), " "), (sound(80), "b"))
    assert [segment.text for segment in segments] == ["", "a", " ", "b"]


def test_words_need_no_sound_with_them() -> None:
    utterances = Utterances(RATE)
    nothing = np.zeros(0, dtype=np.float32)
    (segment,) = hear(utterances, (nothing, "Hello"))
    assert segment.text == "Hello"
    assert len(segment.audio) == 0
    assert utterances.open


def test_quiet_closes_an_utterance_and_is_part_of_it() -> None:
    utterances = Utterances(RATE)
    segments = hear(utterances, (sound(400), ""), (sound(3000, NOISE), ""))
    assert [segment.closed for segment in segments] == [False, True]
    assert milliseconds(segments) == 400 + RULE.quiet
    assert not utterances.open


@pytest.mark.parametrize("level", [NOISE, RULE.floor * 0.9])
def test_a_pause_that_is_shorter_keeps_it_open(level: float) -> None:
    segments = hear(Utterances(RATE), (sound(400), ""), (sound(RULE.quiet - 20, level), ""), (sound(80), ""))
    assert not any(segment.closed for segment in segments)
    assert milliseconds(segments) == 400 + RULE.quiet - 20 + 80


def test_words_keep_it_open_in_silence() -> None:
    utterances = Utterances(RATE)
    segments = hear(utterances, (sound(400), "a"), *((sound(720, NOISE), " b") for _ in range(5)))
    assert not any(segment.closed for segment in segments)
    assert "".join(segment.text for segment in segments) == "a b b b b b"


def test_sound_that_has_begun_may_sink_to_the_lower_level_but_not_begin_there() -> None:
    between = (RULE.floor + RULE.release) / 2
    assert hear(Utterances(RATE), (sound(2000, between), "")) == []
    segments = hear(Utterances(RATE), (sound(100), ""), (sound(5000, between), ""))
    assert milliseconds(segments) == 5100
    assert not any(segment.closed for segment in segments)


def test_two_utterances_in_one_chunk_share_nothing() -> None:
    chunk = np.concatenate([sound(200, 0.1), sound(RULE.quiet, NOISE), sound(10, NOISE), sound(200, 0.2)])
    first, second = hear(Utterances(RATE), (chunk, "Hi"))
    assert (first.closed, first.text, second.closed, second.text) == (True, "Hi", False, "")
    assert milliseconds([second]) == pytest.approx(210, abs=20)
    assert float(first.audio.max()) == pytest.approx(0.1)


def test_an_utterance_begins_afresh_after_another() -> None:
    utterances = Utterances(RATE)
    hear(utterances, (sound(200), "One"), (sound(RULE.quiet, NOISE), ""))
    first, second = hear(utterances, (sound(80, NOISE), " two"), (sound(80), ""))
    assert (first.text, first.voice) == ("two", None)
    assert second.voice == 0


def test_a_reset_forgets_the_past() -> None:
    utterances = Utterances(RATE)
    hear(utterances, (sound(400), "a"))
    utterances.reset()
    assert not utterances.open
    (segment,) = hear(utterances, (sound(80), " b"))
    assert segment.text == "b"
    assert milliseconds([segment]) == 80


stretches = st.lists(
    st.tuples(st.integers(1, 1500), st.sampled_from([0.0, NOISE, 0.007, 0.02, 0.3]), st.sampled_from(["", " ", " so"])),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(stretches, st.integers(20, 4000))
def test_utterances_are_stretches_of_the_stream_in_order_however_it_is_cut(
    plan: list[tuple[int, float, str]], chunk: int
) -> None:
    """Each is contiguous, none overlaps another, and each that closed has been quiet for as long as it must."""
    stream = np.concatenate([np.full(ms * 8, level, dtype=np.float32) for ms, level, _ in plan])
    stream += np.random.default_rng(1).normal(0, 1e-5, len(stream)).astype(np.float32)
    utterances = Utterances(8000)
    said: list[list[Segment]] = [[]]
    texts = iter(text for *_, text in plan)
    for start in range(0, len(stream), chunk):
        for segment in utterances.hear(stream[start : start + chunk], next(texts, "")):
            said[-1].append(segment)
            if segment.closed:
                said.append([])
    position = 0
    for utterance in filter(None, said):
        audio = np.concatenate([segment.audio for segment in utterance])
        if not len(audio):
            continue
        begin = stream.tobytes().find(audio.tobytes(), 4 * position)
        assert begin >= 0
        position = begin // 4 + len(audio)
        if utterance[-1].closed:
            tail = audio[-8 * RULE.quiet :]
            assert len(tail) == 8 * RULE.quiet
            assert float(np.sqrt(np.mean(tail**2))) < RULE.floor
        assert sum(segment.voice is not None for segment in utterance) <= 1
        assert all(not segment.closed for segment in utterance[:-1])
