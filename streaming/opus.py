"""Ogg Opus, 24 kHz mono, to samples and back: the one place that knows the opus binding (`sphn`).

What the binding does not check is checked here before it sees a byte: it takes any page for audio, decodes a page of
28 bytes to 5 s where its packet is empty, and goes on after an error with whatever state it is in. So pages are cut
and their packets' durations added up first (`streaming.ogg`; RFC 6716, section 3.1, and RFC 7845).
"""

from __future__ import annotations

import numpy as np
import sphn

from streaming.engine import Samples
from streaming.errors import AudioFormatError
from streaming.ogg import Page, PageReader

RATE = 24_000
"""Hz of all samples here."""

PAGE_SAMPLES = 960
"""Samples in one page that `OpusEncoder` writes: 40 ms."""

LOOKAHEAD_SAMPLES = 156
"""Samples by which what is decoded lags behind what was encoded: 6.5 ms, which the codec looks ahead."""

MOST_SECONDS = 2.0
"""Seconds that one piece of a stream may decode to."""

MOST_BYTES = 128 * 1024
"""Bytes in one piece of a stream: what `MOST_SECONDS` take at Opus' highest rate, 510 kbit/s."""

_LONGEST_PACKET = RATE * 120 // 1000
_HEAD_BYTES = 19
_CHANNELS = (1, 2)


class OpusDecoder:
    """One incoming stream.

    Takes what stock clients send: the two headers, then packets of 2.5 to 120 ms, one or several a page; a stream
    that is joined after its headers, and stereo, which is mixed. The rate that the header names does not matter
    (RFC 7845, section 5.1), and neither does its pre-skip: the first few ms are silence. Decoding takes some 2 ms of
    CPU a second of speech.
    """

    def __init__(self) -> None:
        self._pages = PageReader()
        self._reader = sphn.OpusStreamReader(RATE)
        self._headed = False  # the stream's first header has come, and its second is due
        self._broken = False

    def push(self, data: bytes) -> Samples:
        """The stream's next bytes, cut anywhere; the samples that they complete, shape (n,), which may be none.

        Raises PeerError `invalid_audio` for what is not Ogg Opus, and for more than `MOST_BYTES` or `MOST_SECONDS` in
        one piece. The stream is over then: there is no way back into it, and every later call raises.
        """
        if self._broken:
            raise AudioFormatError("the opus stream is broken; nothing more of it can be decoded", param=None)
        try:
            return self._decode(data)
        except (AudioFormatError, ValueError) as error:
            self._broken = True
            raise AudioFormatError(f"not a stream of Ogg Opus that can be taken: {error}", param=None) from None

    def _decode(self, data: bytes) -> Samples:
        if len(data) > MOST_BYTES:
            raise AudioFormatError(f"at most {MOST_BYTES} bytes at once, got {len(data)}", param=None)
        pages = list(self._pages.push(data))
        samples = sum(self._check(page) for page in pages)
        if samples > MOST_SECONDS * RATE:
            raise AudioFormatError(f"at most {MOST_SECONDS:g} s at once, got {samples / RATE:.1f} s", param=None)
        decoded = [self._reader.append_bytes(page.data) for page in pages]
        joined: Samples = np.concatenate([np.zeros(0, np.float32), *decoded])
        return joined.clip(-1, 1)

    def _check(self, page: Page) -> int:
        """How many samples the page's packets decode to, at most."""
        packets = page.packets
        if page.first:
            _check_head(packets)
            self._headed = True
            return 0
        if self._headed and packets:
            self._headed = False
            if packets[0].startswith(b"OpusTags"):
                packets = packets[1:]
        return sum(map(_packet_samples, packets))


class OpusEncoder:
    """One outgoing stream: pages of 40 ms, one packet of two 20 ms frames in each.

    A page leaves when its last sample has come, so a sample waits 40 ms at most, and the codec itself adds
    `LOOKAHEAD_SAMPLES`. Encoding takes some 0.7 ms of CPU a page.
    """

    def __init__(self) -> None:
        self._writer = sphn.OpusStreamWriter(RATE)
        self._held = 0

    def push(self, samples: Samples) -> bytes:
        """Any number of samples, shape (n,); the bytes that are ready, which may be none.

        The first call gives the stream's headers. What is not a number becomes silence, what is out of range is
        clipped.
        """
        clean = np.clip(np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0), -1, 1)
        self._held = (self._held + len(clean)) % PAGE_SAMPLES
        return bytes(self._writer.append_pcm(np.ascontiguousarray(clean, np.float32)))

    def flush(self) -> bytes:
        """What is held back, filled up with silence; nothing where nothing is."""
        return self.push(np.zeros(PAGE_SAMPLES - self._held, np.float32)) if self._held else b""


def _check_head(packets: tuple[bytes, ...]) -> None:
    """The identification header (RFC 7845, section 5.1)."""
    head = packets[0] if packets else b""
    if len(packets) != 1 or not head.startswith(b"OpusHead") or len(head) < _HEAD_BYTES:
        raise AudioFormatError("the stream does not begin with the header of Opus", param=None)
    version, channels, family = head[8], head[9], head[18]
    if version >> 4:
        raise AudioFormatError(f"version {version} of Ogg Opus is not known", param=None)
    if family != 0 or channels not in _CHANNELS:
        raise AudioFormatError(
            f"expected one channel, or two to mix, got {channels} (mapping family {family})", param=None
        )


def _packet_samples(packet: bytes) -> int:
    """How many samples at RATE a packet decodes to, by its first two bytes (RFC 6716, section 3.1)."""
    if not packet:
        raise AudioFormatError("an empty packet", param=None)
    config, code = packet[0] >> 3, packet[0] & 3
    if config < 12:  # SILK
        frame = (240, 480, 960, 1440)[config & 3]
    elif config < 16:  # hybrid
        frame = (240, 480)[config & 1]
    else:  # CELT
        frame = (60, 120, 240, 480)[config & 3]
    count = (1, 2, 2, packet[1] & 63 if len(packet) > 1 else 0)[code]
    if count == 0 or count * frame > _LONGEST_PACKET:
        raise AudioFormatError("a packet of no frames, or of more than 120 ms", param=None)
    return count * frame
