from __future__ import annotations

import contextlib
import io
import struct
from itertools import pairwise

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.engine import Samples
from streaming.errors import PeerError
from streaming.opus import LOOKAHEAD_SAMPLES, MOST_BYTES, PAGE_SAMPLES, RATE, OpusDecoder, OpusEncoder
from tests.streaming.test_ogg import page_of

HEAD, TAGS = struct.pack("<8sBBHIhB", b"OpusHead", 1, 1, 312, 48_000, 0, 0), b"OpusTags" + bytes(8)
HEADERS = page_of(HEAD, flags=2) + page_of(TAGS)
LONG = bytes((31 << 3 | 3, 6))  # two bytes that decode to six frames of 20 ms
TINY = bytes((31 << 3,))  # one byte, 20 ms


def speech(seconds: float, *, pitch: float = 180.0) -> Samples:
    """Something like a voice: harmonics under a slow envelope."""
    at = np.arange(int(seconds * RATE)) / RATE
    phase = 2 * np.pi * pitch * at + 3 * np.sin(2 * np.pi * 3 * at)
    voice = sum(np.sin(k * phase) / k for k in range(1, 12)) * np.abs(np.sin(2 * np.pi * 1.7 * at))
    return np.asarray(0.2 * voice, np.float32)


def encoded(samples: Samples, size: int = 480) -> bytes:
    encoder = OpusEncoder()
    pieces = [encoder.push(samples[start : start + size]) for start in range(0, len(samples), size)]
    return b"".join([*pieces, encoder.flush()])


def decoded(data: bytes, size: int = 4000) -> Samples:
    decoder = OpusDecoder()
    return np.concatenate([decoder.push(data[start : start + size]) for start in range(0, len(data), size)])


def likeness(one: Samples, other: Samples) -> float:
    length = min(len(one), len(other))
    return float(np.corrcoef(one[:length], other[:length])[0, 1])


# --- round trips


def test_what_was_said_is_heard_6_5_ms_later() -> None:
    said = speech(3)
    heard = decoded(encoded(said))
    assert len(heard) == len(said)
    assert likeness(heard[LOOKAHEAD_SAMPLES:], said) > 0.85
    by_lag = {lag: likeness(heard[lag:], said[: RATE * 2]) for lag in range(0, 960, 4)}
    assert abs(max(by_lag, key=by_lag.__getitem__) - LOOKAHEAD_SAMPLES) <= 8


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 3000), min_size=1, max_size=20), st.integers(1, 700))
def test_neither_side_cares_how_it_is_cut(sizes: list[int], cut: int) -> None:
    said = speech(0.5)
    encoder = OpusEncoder()
    ends = [0, *np.cumsum(sizes).tolist(), len(said)]
    stream = b"".join(encoder.push(said[start:end]) for start, end in pairwise(ends))
    stream += encoder.flush()
    assert stream[102:] == encoded(said)[102:]
    np.testing.assert_array_equal(decoded(stream, cut), decoded(stream))


def test_a_page_leaves_with_its_last_sample() -> None:
    encoder = OpusEncoder()
    assert encoder.push(np.zeros(480, np.float32)).count(b"OggS") == 2  # the headers
    assert encoder.push(np.zeros(479, np.float32)) == b""
    assert encoder.push(np.zeros(1, np.float32)).count(b"OggS") == 1
    assert encoder.flush() == b""
    assert encoder.push(np.zeros(PAGE_SAMPLES * 3, np.float32)).count(b"OggS") == 3


def test_flushing_fills_the_page_with_silence() -> None:
    encoder, decoder = OpusEncoder(), OpusDecoder()
    stream = encoder.push(speech(0.05)) + encoder.flush()
    assert len(decoder.push(stream)) == 2 * PAGE_SAMPLES
    assert encoder.flush() == b""
    assert len(decoder.push(encoder.push(speech(0.04)))) == PAGE_SAMPLES


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_what_is_no_sample_is_made_one(bad: float) -> None:
    said = speech(1)
    said[5000:5100] = bad
    heard = decoded(encoded(said))
    assert np.isfinite(heard).all()
    assert np.abs(heard).max() <= 1
    assert likeness(heard[12_000 + LOOKAHEAD_SAMPLES :], said[12_000:]) > 0.8


def test_samples_of_another_kind() -> None:
    said = speech(0.2)
    expected = encoded(said)
    assert encoded(said.astype(np.float64)) == expected
    assert encoded(np.repeat(said, 2)[::2]) == expected


# --- other people's streams


def stream_of(*, rate: int, layout: str, said: Samples) -> bytes:
    """The same made by ffmpeg's libopus."""
    file = io.BytesIO()
    with av.open(file, "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=rate, options={"page_duration": "40000"})
        assert isinstance(stream, av.AudioStream)
        stream.layout = layout
        channels = np.tile(said, (stream.layout.nb_channels, 1))
        frame = av.AudioFrame.from_ndarray(channels.astype(np.float32), format="fltp", layout=layout)
        frame.sample_rate = rate
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    return file.getvalue()


@pytest.mark.parametrize(("rate", "layout"), [(24_000, "mono"), (24_000, "stereo"), (48_000, "mono")])
def test_another_encoder_s_stream(rate: int, layout: str) -> None:
    said = speech(1.5)
    data = stream_of(rate=rate, layout=layout, said=np.repeat(said, rate // RATE))
    heard = decoded(data, 300)
    assert abs(len(heard) - len(said)) < 1500
    best = max(likeness(heard[lag:], said[:RATE]) for lag in range(0, 480, 2))
    assert best > 0.95


def test_more_channels_than_can_be_mixed() -> None:
    data = stream_of(rate=48_000, layout="5.1", said=speech(0.5))
    with pytest.raises(PeerError, match="one channel, or two to mix, got 6"):
        OpusDecoder().push(data[:2000])


def test_a_stream_that_is_joined_after_its_headers() -> None:
    stream = encoded(speech(1))
    heard = decoded(stream[102:])
    np.testing.assert_array_equal(heard, decoded(stream))


def test_two_streams_one_after_the_other() -> None:
    stream = encoded(speech(0.4))
    assert len(decoded(stream + stream)) == 2 * len(decoded(stream))


def test_two_packets_in_a_page_as_the_stock_page_sends_them() -> None:
    decoder = OpusDecoder()
    assert len(decoder.push(HEADERS)) == 0
    assert len(decoder.push(page_of(TINY, TINY))) == 960


def test_a_packet_over_two_pages() -> None:
    packet = bytes((31 << 3,)) + np.random.default_rng(0).bytes(1274)
    first = struct.pack("<4sBBqIIIB", b"OggS", 0, 0, 0, 1, 0, 0, 2) + b"\xff\xff" + packet[:510]
    rest = packet[510:]
    table = b"\xff" * (len(rest) // 255) + bytes((len(rest) % 255,))
    second = struct.pack("<4sBBqIIIB", b"OggS", 0, 1, 0, 1, 0, 0, len(table)) + table + rest
    assert len(decoded(HEADERS + first + second)) == 480


# --- garbage


def packets(*several: bytes) -> bytes:
    return HEADERS + page_of(*several)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"garbage", "expected an Ogg page"),
        (b"\x1aE\xdf\xa3" + bytes(60), "expected an Ogg page"),  # WebM, which browsers record by themselves
        (bytes(10), "expected an Ogg page"),
        (page_of(b"\x01vorbis" + bytes(23), flags=2), "header of Opus"),
        (page_of(b"OpusHead", flags=2), "header of Opus"),
        (page_of(flags=2), "header of Opus"),
        (page_of(HEAD, TAGS, flags=2), "header of Opus"),
        (page_of(HEAD[:8] + b"\x10" + HEAD[9:], flags=2), "version 16"),
        (page_of(HEAD[:9] + b"\x00" + HEAD[10:], flags=2), "got 0"),
        (page_of(HEAD[:9] + b"\xff" + HEAD[10:18] + b"\xff", flags=2), "got 255"),
        (packets(b""), "an empty packet"),
        (packets(bytes((31 << 3 | 3,))), "no frames"),
        (packets(bytes((31 << 3 | 3, 0))), "no frames"),
        (packets(bytes((31 << 3 | 3, 7))), "120 ms"),
        (packets(bytes((3 << 3 | 3, 3))), "120 ms"),
        (packets(b"\xff\x41\xff\xff"), "not a stream of Ogg Opus"),
    ],
)
def test_garbage_is_named_and_ends_the_stream(data: bytes, what: str) -> None:
    decoder = OpusDecoder()
    with pytest.raises(PeerError, match=what) as caught:
        decoder.push(data)
    assert caught.value.code == "invalid_audio"
    with pytest.raises(PeerError, match="broken") as caught:
        decoder.push(encoded(speech(0.1)))
    assert caught.value.code == "invalid_audio"


def test_garbage_after_good_pages() -> None:
    decoder = OpusDecoder()
    stream = encoded(speech(0.4))
    assert len(decoder.push(stream)) == 0.4 * RATE
    with pytest.raises(PeerError, match="OggS"):
        decoder.push(b"garbage" * 10)


def test_a_truncated_page_is_waited_for_and_a_torn_one_refused() -> None:
    stream = encoded(speech(0.4))
    decoder = OpusDecoder()
    before = len(decoder.push(stream[:-20]))
    assert before == 0.4 * RATE - PAGE_SAMPLES
    assert len(decoder.push(b"")) == 0
    assert len(decoder.push(stream[-20:])) == PAGE_SAMPLES
    torn = OpusDecoder()
    torn.push(stream[:-20])
    with pytest.raises(PeerError):
        torn.push(encoded(speech(0.4)))


@pytest.mark.parametrize(
    "bomb",
    [
        packets(*[LONG] * 17),
        packets(*[LONG] * 255),
        HEADERS + page_of(LONG) * 17,
        HEADERS + page_of(*[TINY] * 101),
    ],
)
def test_little_that_would_be_long_is_refused_before_it_is_decoded(bomb: bytes) -> None:
    assert len(bomb) < 1000
    with pytest.raises(PeerError, match="at most 2 s at once") as caught:
        OpusDecoder().push(bomb)
    assert caught.value.code == "invalid_audio"


def test_two_seconds_at_once_are_taken() -> None:
    assert len(OpusDecoder().push(packets(*[LONG] * 16))) == 16 * 2880


def test_many_pages_of_nothing_are_refused() -> None:
    with pytest.raises(PeerError, match="bytes at once"):
        OpusDecoder().push(page_of() * (MOST_BYTES // 27 + 1))


def check_what_comes_of(data: bytes) -> None:
    with contextlib.suppress(PeerError):
        heard = OpusDecoder().push(data)
        assert heard.dtype == np.float32
        assert len(heard) <= 2 * RATE
        assert np.isfinite(heard).all()


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_broken_streams_raise_nothing_else(data: st.DataObject) -> None:
    stream = bytearray(STREAM)
    for _ in range(data.draw(st.integers(1, 6))):
        stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    check_what_comes_of(bytes(stream))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=12))
def test_random_packets_raise_nothing_else(several: list[bytes]) -> None:
    check_what_comes_of(packets(*several))


STREAM = encoded(speech(0.3))
