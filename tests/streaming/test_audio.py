import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from streaming.audio import AudioBuffer, AudioFormat, Encoding, Reframer, Resampler, resample
from streaming.engine import Samples
from streaming.errors import AudioFormatError

PCM = AudioFormat("pcm16", 24_000)
LAWS: list[Encoding] = ["pcmu", "pcma"]


def tone(rate: int, seconds: float = 1.0, hertz: float = 440.0) -> Samples:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)).astype(np.float32)


@given(st.binary(max_size=400).filter(lambda data: len(data) % 2 == 0))
def test_pcm_round_trip_is_exact(data: bytes) -> None:
    assert PCM.encode(PCM.decode(data)) == data


def test_a_torn_sample_is_refused() -> None:
    with pytest.raises(AudioFormatError, match="even number of bytes, got 3"):
        PCM.decode(b"abc")


@pytest.mark.parametrize("law", LAWS)
def test_g711_codes_survive_a_round_trip(law: Encoding) -> None:
    form = AudioFormat(law, 8000)
    codes = bytes(range(256))
    again = np.frombuffer(form.encode(form.decode(codes)), dtype=np.uint8)
    values = form.decode(codes)
    np.testing.assert_array_equal(values[again], values)


@pytest.mark.parametrize(
    ("law", "code", "value"),
    # Known points of ITU-T G.711: the largest magnitudes and the smallest, both signs.
    [
        ("pcmu", 0x80, 32124),
        ("pcmu", 0x00, -32124),
        ("pcmu", 0xFF, 0),
        ("pcma", 0xAA, 32256),
        ("pcma", 0x2A, -32256),
        ("pcma", 0xD5, 8),
        ("pcma", 0x55, -8),
    ],
)
def test_g711_values(law: Encoding, code: int, value: int) -> None:
    assert round(float(AudioFormat(law, 8000).decode(bytes([code]))[0]) * 32768) == value


@pytest.mark.parametrize("law", LAWS)
def test_g711_keeps_speech_above_35_decibels(law: Encoding) -> None:
    form = AudioFormat(law, 8000)
    signal = tone(8000)
    noise = form.decode(form.encode(signal)) - signal
    assert 10 * np.log10(np.mean(signal**2) / np.mean(noise**2)) > 35


def test_bad_samples_become_finite() -> None:
    data = PCM.encode(np.array([np.nan, np.inf, -np.inf, 2.0, -2.0], dtype=np.float32))
    np.testing.assert_allclose(PCM.decode(data), [0, 1, -1, 1, -1], atol=1e-4)


@pytest.mark.parametrize(("source", "target"), [(24_000, 16_000), (8000, 16_000), (22_050, 24_000), (24_000, 8000)])
def test_streamed_resampling_equals_the_whole(source: int, target: int) -> None:
    signal = tone(source)
    stream = Resampler(source, target)
    chunks = [stream.push(chunk) for chunk in np.array_split(signal, 37)]
    streamed = np.concatenate([*chunks, stream.finish()])
    np.testing.assert_allclose(streamed, resample(signal, source, target), atol=1e-6)
    assert abs(len(streamed) - target) <= 1
    inner = slice(target // 10, -target // 10)
    np.testing.assert_allclose(streamed[inner], tone(target)[: len(streamed)][inner], atol=2e-3)


def test_resampling_for_the_detectors_holds_back_less_than_10_ms() -> None:
    stream = Resampler(24_000, 16_000)
    out = sum(len(stream.push(chunk)) for chunk in tone(24_000).reshape(50, 480))
    assert 16_000 - out < 160


def test_a_resampler_starts_afresh_after_finish() -> None:
    stream = Resampler(24_000, 16_000)
    first = np.concatenate([stream.push(tone(24_000)), stream.finish()])
    second = np.concatenate([stream.push(tone(24_000)), stream.finish()])
    np.testing.assert_array_equal(first, second)


@given(st.lists(st.integers(0, 50), max_size=20), st.integers(1, 30))
def test_frames_join_back(lengths: list[int], size: int) -> None:
    signal = np.arange(sum(lengths), dtype=np.float32)
    reframer = Reframer(size)
    cuts = np.cumsum([0, *lengths])
    frames = [f for a, b in itertools.pairwise(cuts) for f in reframer.push(signal[a:b])]
    assert all(f.shape == (size,) for f in frames)
    joined = np.concatenate(frames) if frames else np.zeros(0)
    np.testing.assert_array_equal(joined, signal[: len(signal) // size * size])


@given(st.lists(hnp.arrays(np.float32, st.integers(0, 9000), elements=st.just(1.0)), max_size=6), st.data())
def test_a_buffer_is_a_window_on_the_stream(chunks: list[Samples], data: st.DataObject) -> None:
    buffer = AudioBuffer()
    position = 0
    for chunk in chunks:
        buffer.append(np.arange(position, position + len(chunk), dtype=np.float32))
        position += len(chunk)
        buffer.drop_before(data.draw(st.integers(0, position)))
        start = data.draw(st.integers(0, position))
        end = data.draw(st.integers(start, position))
        assert buffer.end == position
        expected = np.arange(max(start, buffer.start), max(end, buffer.start), dtype=np.float32)
        np.testing.assert_array_equal(buffer.slice(start, end), expected)
