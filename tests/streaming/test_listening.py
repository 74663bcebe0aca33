import numpy as np
import pytest

from streaming.audio import NS, AudioFormat
from streaming.config import PcmFormat, PcmuFormat
from streaming.engine import VOICE_FRAME
from streaming.errors import PeerError
from streaming.listening import LONGEST_LOOK, Listener

PCM = AudioFormat("pcm16", 24_000)


def ramp(seconds: float) -> bytes:
    return PCM.encode(np.linspace(-0.5, 0.5, int(24_000 * seconds), dtype=np.float32))


def listener(engine_rate: int = 16_000, ahead: int = 30 * NS) -> Listener:
    return Listener(PcmFormat(), engine_rate=engine_rate, ahead=ahead, now=0)


def test_frames_are_contiguous_and_whole() -> None:
    ears = listener()
    frames = []
    for index in range(50):
        frames += ears.append(ramp(0.02), now=index * NS // 50)[0]
    assert [frame.end for frame in frames] == [VOICE_FRAME * (i + 1) for i in range(len(frames))]
    assert all(frame.audio.shape == (VOICE_FRAME,) for frame in frames)
    heard = ears.for_detector(0, ears.end)
    np.testing.assert_array_equal(np.concatenate([f.audio for f in frames]), heard[: frames[-1].end])


@pytest.mark.parametrize("engine_rate", [16_000, 24_000])
def test_the_engine_hears_the_same_stretch_at_its_own_rate(engine_rate: int) -> None:
    ears = listener(engine_rate)
    for index in range(100):
        ears.append(ramp(0.02), now=index * NS // 50)
    assert len(ears.for_engine(8000, 24_000)) == engine_rate
    ears.forget_before(16_000)
    assert len(ears.for_engine(8000, 24_000)) == engine_rate // 2


def test_the_look_back_is_bounded() -> None:
    ears = listener()
    ears.append(ramp(12.0), now=0)
    assert len(ears.for_detector(0, ears.end)) == LONGEST_LOOK


def test_a_position_is_dated_by_when_it_came_in() -> None:
    ears = listener()
    for index in range(10):
        ears.append(ramp(0.1), now=(index + 1) * NS // 10)
    assert ears.arrived(100) == NS // 10
    assert ears.arrived(8000) == pytest.approx(NS // 2, abs=NS // 10)
    assert ears.arrived(10**9) == NS


def test_audio_may_run_ahead_of_real_time_by_so_much_only() -> None:
    ears = listener(ahead=5 * NS)
    ears.append(ramp(4.0), now=0)
    end = ears.end
    with pytest.raises(PeerError, match="at most 5 s faster"):
        ears.append(ramp(2.0), now=0)
    assert ears.end == end
    ears.append(ramp(2.0), now=NS)


def test_a_long_silence_on_the_wire_saves_up_no_flood() -> None:
    ears = listener(ahead=5 * NS)
    ears.append(ramp(0.1), now=0)
    ears.append(ramp(0.1), now=600 * NS)
    ears.append(ramp(9.0), now=600 * NS)
    with pytest.raises(PeerError):
        ears.append(ramp(2.0), now=600 * NS)


def test_a_change_of_format_keeps_positions_going() -> None:
    ears = listener()
    ears.append(ramp(1.0), now=NS)
    before = ears.end
    ears.listen_in(PcmuFormat())
    ears.append(bytes([0xFF]) * 8000, now=2 * NS)
    assert ears.end - before == pytest.approx(16_000, abs=600)
