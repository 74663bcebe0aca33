"""The two ways in which audio travels on Moshi's wire: Ogg Opus, as stock clients have it, and PCM."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from streaming.engine import FrameTimes, Samples
from streaming.errors import PeerError
from streaming.opus import OpusDecoder, OpusEncoder
from streaming.wire.moshi import FRAME_SAMPLES, MOST_SAMPLES, Frame, Message, OggOpus, Pcm

UNEXPECTED = "unexpected_message"
"""The code of the error for a message that has no place in the conversation, which goes on."""


class Voice(Protocol):
    """Both directions of one conversation's audio: 24 kHz, mono."""

    def hear(self, message: OggOpus | Pcm) -> Samples:
        """The samples that a client's message completes, shape (n,), which may be none.

        Raises PeerError: `UNEXPECTED` where audio was to come in the other way, `invalid_audio` where it is none.
        """

    def say(self, audio: Samples) -> Iterator[Message]:
        """The messages that `audio`, shape (n,), completes."""

    def pause(self) -> Iterator[Message]:
        """The messages for what is held back, now that nothing follows for a while."""


class OpusVoice:
    """A stream of Ogg Opus each way."""

    def __init__(self) -> None:
        self._decoder = OpusDecoder()
        self._encoder = OpusEncoder()

    def hear(self, message: OggOpus | Pcm) -> Samples:
        """See `Voice.hear`. The stream is broken for good by what is no audio."""
        if isinstance(message, Pcm):
            raise PeerError("audio comes as opus here; ask for PCM with audio=pcm in the query", code=UNEXPECTED)
        return self._decoder.push(message.data)

    def say(self, audio: Samples) -> Iterator[Message]:
        """See `Voice.say`."""
        return _pages(self._encoder.push(audio))

    def pause(self) -> Iterator[Message]:
        """See `Voice.pause`."""
        return _pages(self._encoder.flush())


class PcmVoice:
    """Samples as they are. What is said is counted in messages, what is heard in frames of 80 ms."""

    def __init__(self) -> None:
        self._heard = 0
        self._frames = 0

    def hear(self, message: OggOpus | Pcm) -> Samples:
        """See `Voice.hear`."""
        if isinstance(message, OggOpus):
            raise PeerError("audio comes as PCM here, as the query asked", code=UNEXPECTED)
        self._heard += len(message.audio)
        return message.audio

    def say(self, audio: Samples) -> Iterator[Message]:
        """See `Voice.say`."""
        for start in range(0, len(audio), MOST_SAMPLES):
            piece = audio[start : start + MOST_SAMPLES]
            yield Frame(number=self._frames, heard=self._heard // FRAME_SAMPLES, times=FrameTimes(), audio=piece)
            self._frames += 1

    def pause(self) -> Iterator[Message]:
        """See `Voice.pause`: nothing is held back."""
        return iter(())


def _pages(data: bytes) -> Iterator[Message]:
    if data:
        yield OggOpus(data=data)
