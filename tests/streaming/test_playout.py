import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streaming.audio import NS
from streaming.core import MS
from streaming.playout import DUCKED_GAIN, Frame, Playout

RATE = 24_000
FRAME = 960


def playout() -> Playout:
    return Playout(rate=RATE, lead=400 * MS, frame=FRAME)


def ones(samples: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.ones(samples, dtype=np.float32)


def drain(out: Playout, now: int) -> list[Frame]:
    frames = []
    while frame := out.next_frame(now=now):
        frames.append(frame)
    return frames


def test_the_lead_is_sent_at_once_and_the_rest_in_real_time() -> None:
    out = playout()
    out.push(ones(RATE), 10)
    assert len(drain(out, 0)) == 10  # 400 ms
    assert out.due() == 40 * MS
    assert len(drain(out, 40 * MS)) == 1
    assert len(drain(out, 139 * MS)) == 2


def test_a_short_last_frame_waits_for_the_end() -> None:
    out = playout()
    out.push(ones(FRAME + 100), 5)
    assert [len(frame.audio) for frame in drain(out, 0)] == [FRAME]
    assert out.due() is None
    out.finish()
    assert [len(frame.audio) for frame in drain(out, 40 * MS)] == [100]
    assert out.over


def test_an_underrun_is_counted_and_moves_the_clock() -> None:
    out = playout()
    out.push(ones(FRAME), 1)
    drain(out, 0)
    out.push(ones(FRAME), 2)
    (late,) = drain(out, 100 * MS)
    assert late.gap == 60 * MS
    assert out.heard(now=100 * MS) == FRAME
    assert out.heard(now=120 * MS) == FRAME + FRAME // 2


def test_ducking_ramps_down_and_back_without_a_step() -> None:
    out = playout()
    out.push(ones(RATE), 1)
    frames = [out.next_frame(now=0)]
    out.duck(on=True)
    frames += [out.next_frame(now=0), out.next_frame(now=0)]
    assert out.ducked_at == 0
    out.duck(on=False)
    frames.append(out.next_frame(now=0))
    joined = np.concatenate([frame.audio for frame in frames if frame])
    assert float(np.abs(np.diff(joined)).max()) < 0.002
    assert np.isclose(joined[2 * FRAME : 3 * FRAME], DUCKED_GAIN).all()
    assert np.isclose(joined[-1], 1.0)


def test_heard_words_end_with_a_whole_word() -> None:
    out = playout()
    text = "It is noon. Time for lunch."
    out.push(ones(RATE), 11)
    out.push(ones(RATE), len(text))
    assert text[: out.text_heard(RATE, text)] == "It is noon."
    assert text[: out.text_heard(RATE - 4000, text)].rstrip() == "It is"
    assert text[: out.text_heard(RATE + RATE // 2, text)].rstrip() == "It is noon. Time"
    assert out.text_heard(0, text) == 0
    assert out.text_heard(3 * RATE, text) == len(text)


@given(
    st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 300)), min_size=1, max_size=40),
    st.integers(0, 600),
)
def test_heard_never_exceeds_sent_nor_real_time_and_the_lead_holds(steps: list[tuple[int, int]], lead_ms: int) -> None:
    out = Playout(rate=RATE, lead=lead_ms * MS, frame=FRAME)
    now = 0
    first: int | None = None
    heard = pushed = 0
    received: list[np.ndarray] = []
    for samples, wait in steps:
        out.push(np.arange(pushed, pushed + samples, dtype=np.float32), pushed + samples)
        pushed += samples
        for frame in drain(out, now):
            first = now if first is None else first
            received.append(frame.audio)
        assert heard <= out.heard(now=now) <= out.sent <= pushed
        heard = out.heard(now=now)
        if first is not None:
            assert heard <= (now - first) * RATE // NS + 1
            ahead = (out.sent - heard) / RATE * 1000
            assert ahead <= max(lead_ms, 40) + 1
        assert out.text_heard(heard, "x" * pushed) <= heard
        now += wait * MS
    out.finish()
    while not out.over:
        now += NS
        received += [frame.audio for frame in drain(out, now)]
    if received:
        np.testing.assert_array_equal(np.concatenate(received), np.arange(pushed, dtype=np.float32))


def test_live_audio_does_not_wait_until_it_fills_a_frame() -> None:
    out = Playout(rate=RATE, lead=400 * MS, frame=FRAME, live=True)
    out.push(ones(FRAME + 100), 5)
    assert [len(frame.audio) for frame in drain(out, 0)] == [FRAME, 100]
    assert out.due() is None
    out.push(ones(RATE), 6)
    assert len(drain(out, 0)) == 8  # but the lead is kept: 44 ms and eight frames of 40


def test_a_sample_of_the_newest_frame_is_played_after_what_was_sent_before_it() -> None:
    out = playout()
    out.push(ones(3 * FRAME), 5)
    drain(out, 0)
    assert out.played_at(2 * FRAME) == 80 * MS
    assert out.played_at(2 * FRAME + FRAME // 2) == 100 * MS
