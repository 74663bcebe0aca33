"""Playout of one reply: when each frame may be sent, what has been heard of it, and which words those were.

The client is taken to play what it is given as it comes, without a gap while it has something to play. A frame is
sent when the client would otherwise hold less than `lead` of unplayed audio; so what it may not yet have heard is
bounded, and an interruption cannot cut more than that from what was sent.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from streaming.audio import NS
from streaming.engine import Samples

DUCKED_GAIN = 0.2
"""Amplitude of a reply that somebody speaks over: -14 dB."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame to send; `text_end` is how many characters of the reply's text it reaches into, `gap` (ns) how long
    the client had run dry before it."""

    audio: Samples
    text_end: int
    gap: int


@dataclass(slots=True)
class Playout:
    """The audio of one reply on its way out, at `rate` Hz. `lead` is in ns, `frame` in samples.

    `live`: the audio is made in real time, so what there is of it does not wait until it fills a frame. `sent` counts
    samples; `sent_at` is when (ns) the last frame was sent, `ducked_at` when the first softened one was.
    """

    rate: int
    lead: int
    frame: int
    live: bool = False
    sent: int = 0
    finished: bool = False
    sent_at: int | None = None
    ducked_at: int | None = None
    _chunks: deque[Samples] = field(default_factory=deque)
    _waiting: int = 0
    _pushed: int = 0
    _marks: list[tuple[int, int]] = field(default_factory=list)
    _dry_at: int | None = None
    _gain: float = 1.0
    _target: float = 1.0

    def push(self, audio: Samples, text_end: int) -> None:
        """More audio; the text up to character `text_end` is spoken when it ends."""
        if not len(audio):
            return
        self._chunks.append(audio)
        self._waiting += len(audio)
        self._pushed += len(audio)
        self._marks.append((self._pushed, text_end))

    def finish(self) -> None:
        """No more audio will come; the last frame may be short."""
        self.finished = True

    def duck(self, *, on: bool) -> None:
        """Send what follows softly, or at full strength again. The gain moves over one frame, without a click."""
        self._target = DUCKED_GAIN if on else 1.0
        self.ducked_at = None

    @property
    def pushed(self) -> int:
        """Samples that have come, sent or not."""
        return self._pushed

    @property
    def over(self) -> bool:
        """Whether all there will ever be has been sent."""
        return self.finished and not self._waiting

    @property
    def backlog(self) -> float:
        """Seconds of audio that wait to be sent."""
        return self._waiting / self.rate

    def due(self) -> int | None:
        """When (ns) the next frame may be sent: 0 if at once, None while there is none."""
        if not self._waiting or (self._waiting < self.frame and not (self.finished or self.live)):
            return None
        return 0 if self._dry_at is None else self._dry_at - self.lead + self._duration(self.frame)

    def next_frame(self, *, now: int) -> Frame | None:
        """The next frame, if it may be sent by now."""
        due = self.due()
        if due is None or due > now:
            return None
        audio = self._take(min(self.frame, self._waiting))
        dry_at = now if self._dry_at is None else self._dry_at
        gap = max(now - dry_at, 0)
        self.sent += len(audio)
        self.sent_at = now
        if self._target < 1.0 and self.ducked_at is None:
            self.ducked_at = now
        self._dry_at = max(now, dry_at) + self._duration(len(audio))
        return Frame(self._apply_gain(audio), self.text_begun(self.sent), gap)

    def heard(self, *, now: int) -> int:
        """How many samples the client has played by now, by the pace."""
        if self._dry_at is None:
            return 0
        unplayed = max(self._dry_at - now, 0) * self.rate // NS
        return max(self.sent - unplayed, 0)

    def playing(self, *, now: int) -> bool:
        """Whether the client still has something to play, by the pace."""
        return self._dry_at is not None and self._dry_at > now

    def played_at(self, sample: int) -> int:
        """When (ns) the client plays a sample of the frame that was sent last, by the pace."""
        return (self._dry_at or 0) - self._duration(self.sent - sample)

    def dry_at(self) -> int | None:
        """When (ns) the client will have played all that was sent; None before the first frame."""
        return self._dry_at

    def stop(self) -> None:
        """Send nothing more."""
        self._chunks.clear()
        self._waiting = 0
        self.finished = True

    def text_begun(self, samples: int) -> int:
        """How many characters of the text have begun to be spoken in the first `samples`: whole chunks of it."""
        index = bisect_left(self._marks, samples, key=lambda mark: mark[0])
        return self._marks[min(index, len(self._marks) - 1)][1] if samples and self._marks else 0

    def text_heard(self, samples: int, text: str) -> int:
        """How many characters of `text` are spoken in the first `samples`, back to the end of the last whole word.

        Inside a chunk of audio the text is taken to be spread evenly.
        """
        index = bisect_right(self._marks, samples, key=lambda mark: mark[0])
        start, text_start = self._marks[index - 1] if index else (0, 0)
        if index == len(self._marks):
            return text_start
        end, text_end = self._marks[index]
        position = text_start + (text_end - text_start) * (samples - start) // (end - start)
        while 0 < position < len(text) and not (text[position].isspace() or text[position - 1].isspace()):
            position -= 1
        return position

    def _duration(self, samples: int) -> int:
        return samples * NS // self.rate

    def _take(self, count: int) -> Samples:
        taken: list[Samples] = []
        while count:
            chunk = self._chunks.popleft()
            if len(chunk) > count:
                self._chunks.appendleft(chunk[count:])
                chunk = chunk[:count]
            taken.append(chunk)
            count -= len(chunk)
            self._waiting -= len(chunk)
        return taken[0] if len(taken) == 1 else np.concatenate(taken)

    def _apply_gain(self, audio: Samples) -> Samples:
        if self._gain == self._target == 1.0:
            return audio
        ramp = np.linspace(self._gain, self._target, len(audio), dtype=np.float32)
        self._gain = self._target
        return audio * ramp
