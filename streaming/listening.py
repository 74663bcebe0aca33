"""The user's audio on its way in: from wire bytes to frames for the detectors and clips for the engine."""

from __future__ import annotations

from collections import deque

from streaming.audio import NS, AudioBuffer, AudioFormat, Reframer, Resampler
from streaming.config import WireFormat
from streaming.engine import DETECTOR_RATE, VOICE_FRAME, DetectVoice, Samples
from streaming.errors import PeerError

LONGEST_LOOK = 8 * DETECTOR_RATE
"""Samples that a turn-end model looks back over."""

_KEPT_ARRIVALS = 4096


class Listener:
    """Everything a session has heard, by position: sample counts at DETECTOR_RATE since the session began.

    Audio may come faster than real time by at most `ahead` ns, and twice that at once after a silence.
    """

    def __init__(self, wire: WireFormat, *, engine_rate: int, ahead: int, now: int) -> None:
        self._engine_rate = engine_rate
        self._ahead = ahead
        self._began = now
        self._received = 0  # ns of audio
        self._heard = AudioBuffer()
        self._engine_heard = AudioBuffer() if engine_rate != DETECTOR_RATE else self._heard
        self._frames = Reframer(VOICE_FRAME)
        self._framed = 0
        self._arrivals: deque[tuple[int, int]] = deque(maxlen=_KEPT_ARRIVALS)
        self.listen_in(wire)

    def listen_in(self, wire: WireFormat) -> None:
        """From now on audio comes in this format."""
        self.format = AudioFormat.of(wire)
        self._to_detector = Resampler(self.format.rate, DETECTOR_RATE)
        self._to_engine = Resampler(self.format.rate, self._engine_rate)

    @property
    def end(self) -> int:
        """Position just after the newest sample."""
        return self._heard.end

    def append(self, data: bytes, *, now: int) -> tuple[list[DetectVoice], Samples]:
        """More audio: the voice frames that it completes, and its samples at the engine's rate.

        Raises AudioFormatError for a torn sample, and PeerError `audio_too_fast`; nothing has been taken then.
        """
        samples = self.format.decode(data)
        passed = now - self._began
        # A client that fell silent on the wire has not saved up the right to send a flood.
        received = max(self._received, passed - self._ahead) + self.format.duration_ns(data)
        if received - passed > self._ahead:
            raise PeerError(
                f"audio may come at most {self._ahead / NS:g} s faster than real time; wait, or send smaller pieces",
                code="audio_too_fast",
                param="audio",
            )
        self._received = received
        heard = self._to_detector.push(samples)
        self._heard.append(heard)
        self._arrivals.append((self._heard.end, now))
        for_engine = heard
        if self._engine_heard is not self._heard:
            for_engine = self._to_engine.push(samples)
            self._engine_heard.append(for_engine)
        frames = []
        for frame in self._frames.push(heard):
            self._framed += VOICE_FRAME
            frames.append(DetectVoice(end=self._framed, audio=frame))
        return frames, for_engine

    def arrived(self, position: int) -> int:
        """When (ns) the sample just before `position` came in; audio that came as one piece came at one time."""
        for end, at in self._arrivals:
            if end >= position:
                return at
        return self._arrivals[-1][1] if self._arrivals else self._began

    def for_detector(self, start: int, end: int) -> Samples:
        """What was heard in [start, end), at most the last LONGEST_LOOK of it."""
        return self._heard.slice(max(start, end - LONGEST_LOOK), end)

    def for_engine(self, start: int, end: int) -> Samples:
        """What was heard in [start, end), at the engine's rate."""
        return self._engine_heard.slice(self._engine_position(start), self._engine_position(end))

    def forget_before(self, position: int) -> None:
        """What lies before `position` will not be asked for again."""
        self._heard.drop_before(position)
        if self._engine_heard is not self._heard:
            self._engine_heard.drop_before(self._engine_position(position))

    def _engine_position(self, position: int) -> int:
        return position * self._engine_rate // DETECTOR_RATE
