"""Ogg pages out of a stream of bytes that is cut anywhere (RFC 3533), for one stream of packets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from streaming.errors import AudioFormatError

MOST_PACKET = 61_440
"""Bytes in one packet: what RFC 7845 (section 6) asks a decoder of Ogg Opus to take."""

_MAGIC = b"OggS"
_HEADER = 27  # bytes before the segment table
_CONTINUED, _FIRST = 0x01, 0x02  # flags


@dataclass(frozen=True, slots=True)
class Page:
    """One page: all its bytes, whether a stream begins with it, and the packets that begin in it, as far as they are in
    it."""

    data: bytes
    first: bool
    packets: tuple[bytes, ...]


class PageReader:
    """Cuts a stream into pages. Holds one page at most, so what it holds is bounded by what it is given, or 64 KiB.

    Checksums are not checked: the transport has its own, and whoever sends garbage can send it with a good one.
    """

    def __init__(self) -> None:
        self._rest = bytearray()
        self._going_on = 0  # bytes so far of a packet that goes on in the next page

    def push(self, data: bytes) -> Iterator[Page]:
        """The pages that `data` completes. Raises AudioFormatError where the bytes are not pages."""
        self._rest += data
        while (size := self._page_size()) is not None and size <= len(self._rest):
            page = bytes(self._rest[:size])
            del self._rest[:size]
            yield Page(page, first=bool(page[5] & _FIRST), packets=tuple(self._packets(page)))

    def _page_size(self) -> int | None:
        rest = self._rest
        if not _MAGIC.startswith(bytes(rest[:4])):
            raise AudioFormatError(f"expected an Ogg page, which begins with {_MAGIC!r}", param=None)
        if len(rest) < _HEADER:
            return None
        if rest[4] != 0:
            raise AudioFormatError(f"expected version 0 of an Ogg page, got {rest[4]}", param=None)
        table = rest[_HEADER : _HEADER + rest[26]]
        return _HEADER + rest[26] + sum(table) if len(table) == rest[26] else None

    def _packets(self, page: bytes) -> Iterator[bytes]:
        table = page[_HEADER : _HEADER + page[26]]
        continues = bool(page[5] & _CONTINUED)
        if table and continues != bool(self._going_on):
            raise AudioFormatError("an Ogg packet was cut in two, and one half is missing", param=None)
        start = _HEADER + page[26]
        length = 0
        for index, segment in enumerate(table):
            length += segment
            if segment < 255 or index == len(table) - 1:
                if not continues:
                    yield page[start : start + length]
                self._going_on = self._going_on + length if segment == 255 else 0
                if self._going_on > MOST_PACKET:
                    raise AudioFormatError(f"an Ogg packet has more than {MOST_PACKET} bytes", param=None)
                start += length
                length, continues = 0, False
