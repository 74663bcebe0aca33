import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.container.npy import NpyError, NpyReader, write_npy
from streaming.engine import Samples
from tests.models.container.fake_container import npy

WAVE = np.array([0.0, 0.25, -0.5, 1.0], np.float32)
MOST = 1000


def read(data: bytes, *, piece: int = 1 << 16) -> Samples:
    reader = NpyReader(MOST)
    for start in range(0, len(data), piece):
        reader.feed(data[start : start + piece])
    return reader.finish()


def with_header(header: str, data: bytes = b"", *, version: bytes = b"\x01\x00") -> bytes:
    size = len(header).to_bytes(2 if version == b"\x01\x00" else 4, "little")
    return b"\x93NUMPY" + version + size + header.encode() + data


def header(descr: str = "<f4", shape: str = "(4,)") -> str:
    return f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"


def test_what_is_written_is_what_numpy_writes() -> None:
    assert write_npy(WAVE[None]) == npy(WAVE[None])


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", ">f8"])
@pytest.mark.parametrize("shape", [(4,), (1, 4), (4, 1)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_float_and_every_shape_of_one_channel_is_read(dtype: str, shape: tuple[int, ...], order: Any) -> None:
    samples = read(npy(np.asarray(WAVE.astype(dtype).reshape(shape), order=order)))
    np.testing.assert_array_equal(samples, WAVE)
    assert samples.dtype == np.float32
    assert samples.dtype.isnative


@pytest.mark.parametrize("dtype", ["<i2", ">i2"])
def test_integers_are_scaled(dtype: str) -> None:
    samples = read(npy(np.array([[0, 16384, -32768, 32767]], dtype)))
    np.testing.assert_array_equal(samples, np.array([0, 0.5, -1, 32767 / 32768], np.float32))


@pytest.mark.parametrize("loud", [np.array([2.5, -1e30, 0.5], "<f4"), np.array([1e308, -1e308, 0.5], "<f8")])
def test_what_is_too_loud_is_clipped(loud: npt.NDArray[Any]) -> None:
    np.testing.assert_array_equal(read(npy(loud)), np.array([1, -1, 0.5], np.float32))


@pytest.mark.parametrize("shape", [(0,), (1, 0), (0, 1)])
def test_no_samples_are_no_error(shape: tuple[int, ...]) -> None:
    assert read(npy(np.zeros(shape, np.float32))).shape == (0,)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("piece", [1, 7, 64, 1000])
def test_every_version_is_read_in_pieces_of_any_size(version: tuple[int, int], piece: int) -> None:
    file = io.BytesIO()
    np.lib.format.write_array(file, WAVE, version=version)
    np.testing.assert_array_equal(read(file.getvalue(), piece=piece), WAVE)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "breaks off"),
        (b"\x93NUM", "breaks off"),
        (b"RIFF....WAVEfmt ", "not an .npy file"),
        (npy(WAVE)[:60], "breaks off"),
        (npy(WAVE)[:-1], "breaks off"),
        (npy(WAVE) + b"\0", "longer than its header"),
        (npy(np.array([WAVE, None], object), pickled=True), "none of float32"),
        (npy(WAVE.astype(np.float16)), "none of float32"),
        (npy(WAVE.astype(np.complex64)), "none of float32"),
        (npy(np.zeros(4, np.uint8)), "none of float32"),
        (npy(np.array(["text"])), "none of float32"),
        (npy(np.zeros(4, [("a", "<f4")])), "one plain array"),
        (npy(np.array(np.float32(1))), "shape"),
        (npy(np.zeros((2, 4), np.float32)), "shape"),
        (npy(np.zeros((1, 1, 4), np.float32)), "shape"),
        (npy(np.array([0, np.nan], np.float32)), "not finite"),
        (npy(np.array([0, -np.inf], np.float64)), "not finite"),
        (npy(np.zeros(MOST + 1, np.float32)), "more than 1000 samples"),
        (with_header(header(shape="(4,)"), bytes(12)), "breaks off"),
        (with_header(header(shape="(2,)"), bytes(12)), "longer than its header"),
        (with_header(header(shape="(-4,)"), bytes(16)), "one plain array"),
        (with_header(header(shape=f"({'9' * 400},)")), "more than 1000 samples"),
        (with_header("__import__('os')"), "one plain array"),
        (with_header("(" * 500), "one plain array"),
        (with_header(header() + " " * 2000), "header is longer"),
        (b"\x93NUMPY\x02\x00" + b"\xff" * 8, "header is longer"),
        (with_header(header(), bytes(16), version=b"\x09\x00"), "version"),
    ],
)
def test_what_cannot_be_taken_is_refused_by_name(data: bytes, why: str) -> None:
    with pytest.raises(NpyError, match=why):
        read(data)


def test_a_header_is_refused_before_its_samples_have_come() -> None:
    ten_minutes = npy(np.zeros(600 * 16_000, np.float32))[:128]
    with pytest.raises(NpyError, match="more than"):
        NpyReader(120 * 16_000).feed(ten_minutes)


@given(st.binary(max_size=400))
def test_random_bytes_raise_the_named_error_and_no_other(data: bytes) -> None:
    with pytest.raises(NpyError):
        read(data)


@given(
    changes=st.lists(st.tuples(st.integers(0, 143), st.integers(0, 255)), max_size=4),
    length=st.integers(0, 160),
    piece=st.integers(1, 200),
)
def test_mutated_files_are_read_or_raise_the_named_error(
    changes: list[tuple[int, int]], length: int, piece: int
) -> None:
    data = bytearray(npy(WAVE))
    for position, value in changes:
        data[position] = value
    try:
        samples = read(bytes(data[:length]), piece=piece)
    except NpyError:
        return
    assert samples.dtype == np.float32
    assert samples.size <= MOST
    assert np.abs(samples).max(initial=0) <= 1


@given(st.text(max_size=80).map(lambda inside: f"{{'descr': '<f4', {inside}}}"))
def test_no_header_is_ever_evaluated(text: str) -> None:
    raw = text.encode()
    with pytest.raises(NpyError):
        read(b"\x93NUMPY\x01\x00" + len(raw).to_bytes(2, "little") + raw)
