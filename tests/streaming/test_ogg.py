from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.errors import AudioFormatError
from streaming.ogg import MOST_PACKET, Page, PageReader


def lacing_of(packets: list[bytes]) -> bytes:
    return b"".join(b"\xff" * (len(packet) // 255) + bytes((len(packet) % 255,)) for packet in packets)


def page(body: bytes, lacing: bytes, *, flags: int = 0) -> bytes:
    return struct.pack("<4sBBqIIIB", b"OggS", 0, flags, 0, 1, 0, 0, len(lacing)) + lacing + body


def page_of(*packets: bytes, flags: int = 0) -> bytes:
    return page(b"".join(packets), lacing_of(list(packets)), flags=flags)


def read(*pieces: bytes) -> list[Page]:
    reader = PageReader()
    return [read_page for piece in pieces for read_page in reader.push(piece)]


@given(
    st.lists(st.lists(st.binary(max_size=600), max_size=8), max_size=5),
    st.lists(st.integers(1, 200), min_size=1, max_size=50),
)
def test_pages_come_whole_wherever_the_stream_is_cut(pages: list[list[bytes]], sizes: list[int]) -> None:
    stream = b"".join(page_of(*packets) for packets in pages)
    cuts = np.cumsum(sizes).tolist()
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    found = read(*pieces)
    assert [list(one.packets) for one in found] == pages
    assert b"".join(one.data for one in found) == stream


def test_the_page_that_a_stream_begins_with() -> None:
    assert [one.first for one in read(page_of(b"a", flags=2) + page_of(b"b"))] == [True, False]


def test_a_packet_over_three_pages_begins_once() -> None:
    first = page(b"x" * 510, b"\xff\xff")
    second = page(b"y" * 255, b"\xff", flags=1)
    third = page(b"z" * 10 + b"next", bytes((10, 4)), flags=1)
    assert [one.packets for one in read(first + second + third)] == [(b"x" * 510,), (), (b"next",)]


def test_a_packet_of_exactly_255_bytes_ends_with_its_page() -> None:
    assert [one.packets for one in read(page_of(b"x" * 255) + page_of(b"y"))] == [(b"x" * 255,), (b"y",)]


@pytest.mark.parametrize(
    ("pieces", "what"),
    [
        ((b"garbage",), "OggS"),
        ((b"Og", b"gX"), "OggS"),
        ((page_of(b"a"), b"\0" * 30), "OggS"),
        ((page_of(b"a")[:4] + b"\x01" + page_of(b"a")[5:],), "version 0"),
        ((page(b"x" * 255, b"\xff"), page_of(b"y")), "cut in two"),
        ((page_of(b"y", flags=1),), "cut in two"),
        (
            (page(b"x" * 65_025, b"\xff" * 255),),
            str(MOST_PACKET),
        ),
    ],
)
def test_what_are_no_pages(pieces: tuple[bytes, ...], what: str) -> None:
    with pytest.raises(AudioFormatError, match=what):
        read(*pieces)


def test_a_page_that_never_ends_is_no_error_and_holds_only_what_came() -> None:
    assert read(page_of(b"a" * 200)[:-1]) == []


@given(st.binary(max_size=400))
def test_nothing_but_the_one_error(data: bytes) -> None:
    for head in (b"", b"OggS", b"OggS\0"):
        try:
            pages = read(head + data)
        except AudioFormatError:
            continue
        assert sum(len(one.data) for one in pages) <= len(head + data)
