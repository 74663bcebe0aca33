from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.worker.intake import MOST_FRAMES, WINDOW, HeardFrame, Intake
from streaming.engine import Samples
from streaming.errors import PeerError
from streaming.wire.moshi import FRAME_SAMPLES

LOUD, QUIET = 0.5, 0.001


def numbered(first: int, count: int, level: float = LOUD) -> Samples:
    """Frames that can be told apart: each is loud or quiet, and its first sample is its number in tiny steps."""
    audio = np.full((count, FRAME_SAMPLES), level, np.float32)
    audio[:, 0] = np.arange(first, first + count) / 2**14
    return audio.reshape(-1)


def numbers(frames: Sequence[HeardFrame | None]) -> list[int]:
    return [round(float(frame.audio[0]) * 2**14) for frame in frames if frame is not None]


def listening() -> Intake:
    intake = Intake()
    intake.listen()
    return intake


@given(
    pieces=st.lists(st.integers(0, 3 * FRAME_SAMPLES), max_size=60),
    ticks=st.lists(st.integers(0, 3), min_size=60, max_size=60),
    quiet=st.booleans(),
)
def test_no_sample_is_lost_or_out_of_place_that_is_not_counted(
    pieces: list[int], ticks: list[int], quiet: bool
) -> None:
    intake, sent, got = listening(), 0, []
    for piece, count in zip(pieces, ticks, strict=False):
        step = QUIET / 2**20 if quiet else LOUD / 2**20
        audio = np.arange(sent, sent + piece, dtype=np.float32) * np.float32(step)
        try:
            intake.put(audio, now=sent)
        except PeerError:
            assert intake.depth + piece // FRAME_SAMPLES >= MOST_FRAMES
        else:
            sent += piece
        got += [frame for _ in range(count) if (frame := intake.take()) is not None]
        assert intake.depth <= MOST_FRAMES
    assert intake.taken == len(got)
    assert intake.taken + intake.dropped + intake.depth == sent // FRAME_SAMPLES
    starts = [frame.audio[0] for frame in got]
    assert starts == sorted(starts)
    for frame in got:
        # Inside a frame no sample is missing, wherever the pieces were cut.
        assert np.all(np.diff(frame.audio) > 0)


def test_pieces_of_any_length_make_frames_and_a_frame_says_when_it_was_whole() -> None:
    intake = listening()
    intake.put(numbered(1, 1)[:1000], now=10)
    assert intake.take() is None
    intake.put(np.concatenate([numbered(1, 1)[1000:], numbered(2, 1)]), now=30)
    frames = [intake.take(), intake.take(), intake.take()]
    assert numbers(frames) == [1, 2]
    assert [frame.at for frame in frames if frame] == [30, 30]


def test_before_the_model_listens_only_the_newest_frame_is_kept() -> None:
    intake = Intake()
    intake.put(numbered(0, 7), now=0)
    assert intake.take() is None
    for number in range(7, 500):
        intake.put(numbered(number, 1), now=0)
    intake.listen()
    assert numbers([intake.take(), intake.take()]) == [499]
    assert intake.dropped == 499


def test_more_than_it_holds_is_refused_and_changes_nothing() -> None:
    intake = listening()
    intake.put(numbered(0, MOST_FRAMES), now=0)
    with pytest.raises(PeerError, match="4 s of audio") as refused:
        intake.put(numbered(90, 1), now=0)
    assert refused.value.code == "too_much_audio"
    assert numbers([intake.take() for _ in range(MOST_FRAMES)]) == list(range(MOST_FRAMES))


def run(intake: Intake, arrivals: Sequence[int], *, level: float = LOUD) -> list[int]:
    """So many frames come before each tick; returns the depth after each."""
    depths, number = [], 0
    for count in arrivals:
        intake.put(numbered(number, count, level), now=0)
        number += count
        intake.take()
        depths.append(intake.depth)
    return depths


def test_a_burst_that_stays_is_trimmed_in_silence() -> None:
    depths = run(intake := listening(), [6, *[1] * (WINDOW + 6)], level=QUIET)
    assert depths[WINDOW - 1] == 5
    assert depths[-1] == 0
    assert intake.dropped == 5


def test_a_burst_that_stays_is_trimmed_in_speech_later_and_slowly() -> None:
    depths = run(intake := listening(), [3, *[1] * (6 * WINDOW)])
    assert depths[2 * WINDOW - 2] == 2
    assert depths[-1] == 0
    assert intake.dropped == 2


def test_a_reserve_that_jitter_uses_is_left_alone() -> None:
    # The network holds two frames back once a second: the two that wait are needed.
    depths = run(intake := listening(), [3, *[0, 0, 3, *[1] * 9] * 50])
    assert intake.dropped == 0
    assert min(depths) == 0


@pytest.mark.parametrize("parts_per_million", [-100, 100])
@pytest.mark.parametrize("level", [QUIET, LOUD])
def test_an_hour_of_a_clock_that_drifts_adds_no_delay(parts_per_million: int, level: float) -> None:
    intake = listening()
    ticks, sent, deepest = 3600 * 1000 // 80, 0.0, 0
    block = np.full(FRAME_SAMPLES + 1, level, np.float32)
    for _ in range(ticks):
        before = int(sent)
        sent += FRAME_SAMPLES * (1 + parts_per_million / 1e6)
        intake.put(block[: int(sent) - before], now=0)
        intake.take()
        deepest = max(deepest, intake.depth)
    drift = abs(round(ticks * parts_per_million / 1e6))
    assert deepest <= 2
    assert intake.dropped <= drift + 1
    if parts_per_million > 0:
        assert intake.dropped >= drift - 2
