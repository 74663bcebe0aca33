"""A conversation's audio, as PCM or as one stream of Ogg Opus each way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from streaming.engine import Samples
from streaming.errors import PeerError
from streaming.wire.moshi import Frame, Message, OggOpus, Pcm
from streaming.wire.moshi_query import AudioCoding


class AudioCodec(Protocol):
    """One conversation's two directions."""

    def heard(self, message: Pcm | OggOpus) -> Samples:
        """The samples in a message, in [-1, 1]. Raises PeerError for a form that was not agreed on, and for garbage."""

    def said(self, frame: Frame) -> Iterator[Message]:
        """The messages that bring a frame."""


class PcmAudio:
    """See `AudioCodec`."""

    def heard(self, message: Pcm | OggOpus) -> Samples:
        """See `AudioCodec.heard`."""
        if not isinstance(message, Pcm):
            raise PeerError("expected PCM (kind 0x10), as was asked for by audio=pcm", code="unexpected_message")
        return message.audio.clip(-1, 1)

    def said(self, frame: Frame) -> Iterator[Message]:
        """See `AudioCodec.said`."""
        yield frame


class OpusAudio:
    """See `AudioCodec`. Text and codes reach the client, as with a stock server, by kinds of their own."""

    def __init__(self) -> None:
        from streaming.opus import OpusDecoder, OpusEncoder

        self._decoder = OpusDecoder()
        self._encoder = OpusEncoder()

    def heard(self, message: Pcm | OggOpus) -> Samples:
        """See `AudioCodec.heard`."""
        if not isinstance(message, OggOpus):
            raise PeerError("expected Ogg Opus (kind 0x01); ask for PCM by audio=pcm", code="unexpected_message")
        return self._decoder.push(message.data)

    def said(self, frame: Frame) -> Iterator[Message]:
        """See `AudioCodec.said`."""
        if data := self._encoder.push(frame.audio):
            yield OggOpus(data=data)


def audio_codec(wire: AudioCoding) -> AudioCodec:
    """Fresh state for a conversation. Raises ModuleNotFoundError where Opus is asked for and sphn is not installed."""
    return OpusAudio() if wire == "opus" else PcmAudio()
