"""Utterances: where a duplex engine, which makes sound all the time, begins to say something and stops.

    QUIET ---voice--> ONSET ---voice lasts--> TALKING ---silence--> PAUSING ---silence lasts--> QUIET (closed)
      |                 |  \\--silence-> QUIET    ^                     |
      +------words------+------------------------+---voice or words----+

Words open an utterance at once and keep it open: a model such as Moshi writes them a little before it says them. Sound
opens one when it has been above a floor for a while. Lengths are in samples of the engine's audio.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np

from streaming.engine import Samples


class Talk(Enum):
    """Where the engine is in an utterance."""

    QUIET = auto()
    ONSET = auto()
    TALKING = auto()
    PAUSING = auto()


class Sign(Enum):
    """What can come of the engine."""

    WORDS = auto()
    VOICE = auto()
    VOICE_LASTS = auto()
    SILENCE = auto()
    SILENCE_LASTS = auto()


class Bound(Enum):
    """What a transition means for the utterance."""

    NONE = auto()
    OPENED = auto()
    CLOSED = auto()


UTTERANCES: Mapping[tuple[Talk, Sign], tuple[Talk, Bound]] = {
    (Talk.QUIET, Sign.WORDS): (Talk.TALKING, Bound.OPENED),
    (Talk.QUIET, Sign.VOICE): (Talk.ONSET, Bound.NONE),
    (Talk.QUIET, Sign.VOICE_LASTS): (Talk.TALKING, Bound.OPENED),
    (Talk.QUIET, Sign.SILENCE): (Talk.QUIET, Bound.NONE),
    (Talk.QUIET, Sign.SILENCE_LASTS): (Talk.QUIET, Bound.NONE),
    (Talk.ONSET, Sign.WORDS): (Talk.TALKING, Bound.OPENED),
    (Talk.ONSET, Sign.VOICE): (Talk.ONSET, Bound.NONE),
    (Talk.ONSET, Sign.VOICE_LASTS): (Talk.TALKING, Bound.OPENED),
    (Talk.ONSET, Sign.SILENCE): (Talk.QUIET, Bound.NONE),
    (Talk.ONSET, Sign.SILENCE_LASTS): (Talk.QUIET, Bound.NONE),
    (Talk.TALKING, Sign.WORDS): (Talk.TALKING, Bound.NONE),
    (Talk.TALKING, Sign.VOICE): (Talk.TALKING, Bound.NONE),
    (Talk.TALKING, Sign.VOICE_LASTS): (Talk.TALKING, Bound.NONE),
    (Talk.TALKING, Sign.SILENCE): (Talk.PAUSING, Bound.NONE),
    (Talk.TALKING, Sign.SILENCE_LASTS): (Talk.QUIET, Bound.CLOSED),
    (Talk.PAUSING, Sign.WORDS): (Talk.TALKING, Bound.NONE),
    (Talk.PAUSING, Sign.VOICE): (Talk.TALKING, Bound.NONE),
    (Talk.PAUSING, Sign.VOICE_LASTS): (Talk.TALKING, Bound.NONE),
    (Talk.PAUSING, Sign.SILENCE): (Talk.PAUSING, Bound.NONE),
    (Talk.PAUSING, Sign.SILENCE_LASTS): (Talk.QUIET, Bound.CLOSED),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class UtteranceRule:
    """When sound is speech and when a silence ends an utterance. Lengths are in ms, levels are RMS of `window`.

    A model's silence is decoded too, and is not quite silent: sound counts from `floor` (-40 dBFS) on, well under
    speech and well over such noise, and once it counts, down to `release` (-46 dBFS). `onset` of sound opens an
    utterance, `quiet` without sound or words closes it. Of the audio before the onset `pre_roll` belongs to it, so that
    a soft first consonant is not cut; the listener hears the model by so much later, and no more.
    """

    floor: float = 0.01
    release: float = 0.005
    window: int = 20
    onset: int = 60
    quiet: int = 800
    pre_roll: int = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """The next of one utterance: its audio, with the pre-roll where it opens, and the words that begin in it.

    `voice` is where in `audio` the utterance can first be heard, in the one segment where that is. `closed`: it ends.
    """

    audio: Samples
    text: str = ""
    voice: int | None = None
    closed: bool = False


class Utterances:
    """Cuts what an engine says, at `rate` Hz, into utterances; what lies between them is dropped."""

    def __init__(self, rate: int, rule: UtteranceRule | None = None) -> None:
        rule = rule or UtteranceRule()
        self._rule = rule
        self._window, self._onset_needed, self._quiet_needed, self._pre_roll = (
            length * rate // 1000 for length in (rule.window, rule.onset, rule.quiet, rule.pre_roll)
        )
        self.reset()

    def reset(self) -> None:
        """The engine is quiet, and what came before is forgotten."""
        self.state = Talk.QUIET
        self._before: deque[Samples] = deque()  # not in any utterance: the pre-roll and the onset of the next one
        self._kept: list[Samples] = []
        self._onset = 0
        self._quiet = 0
        self._heard = self._worded = False  # whether the utterance has had any sound, any words

    @property
    def open(self) -> bool:
        """Whether the engine is in an utterance."""
        return self.state in (Talk.TALKING, Talk.PAUSING)

    def hear(self, audio: Samples, text: str) -> Iterator[Segment]:
        """The next audio, of any length, and the words that begin in it: what of them belongs to an utterance."""
        voice: int | None = None
        if text.strip():
            self._quiet = 0
            if self._step(Sign.WORDS) is Bound.OPENED:
                voice = self._begin()
        text = self._words(text)
        for start in range(0, len(audio), self._window):
            piece = audio[start : start + self._window]
            bound = self._step(self._sign(piece))
            (self._kept if self.open or bound is Bound.CLOSED else self._before).append(piece)
            if bound is Bound.OPENED:
                voice = self._begin()
            elif self.state is Talk.TALKING and not self._heard:
                self._heard = True
                voice = _length(self._kept) - len(piece)
            elif bound is Bound.CLOSED:
                segment = Segment(audio=self._take(), text=text, voice=voice, closed=True)
                text, voice = "", None
                self.reset()
                yield segment
            elif not self.open:
                self._trim()
        if self._kept or text:
            yield Segment(audio=self._take(), text=text, voice=voice)

    def _sign(self, piece: Samples) -> Sign:
        """What this piece of audio is a sign of, after all that came before."""
        level = float(np.sqrt(np.mean(np.square(piece))))
        sounding = self.state in (Talk.ONSET, Talk.TALKING)
        if level >= (self._rule.release if sounding else self._rule.floor):
            self._quiet = 0
            self._onset += len(piece)
            return Sign.VOICE_LASTS if self._onset >= self._onset_needed else Sign.VOICE
        self._onset = 0
        self._quiet += len(piece)
        return Sign.SILENCE_LASTS if self._quiet >= self._quiet_needed else Sign.SILENCE

    def _step(self, sign: Sign) -> Bound:
        self.state, bound = UTTERANCES[self.state, sign]
        return bound

    def _begin(self) -> int | None:
        """Take what was kept from before the opening; returns where in it the utterance can be heard, if anywhere."""
        self._kept = [*self._before, *self._kept]
        self._before.clear()
        self._heard = self._onset > 0
        return _length(self._kept) - self._onset if self._heard else None

    def _words(self, text: str) -> str:
        """What of these words the utterance has: none of them outside one, and no space before its first."""
        if not self.open:
            return ""
        if not self._worded:
            text = text.lstrip()
        self._worded = self._worded or bool(text)
        return text

    def _take(self) -> Samples:
        kept, self._kept = self._kept, []
        return np.concatenate(kept) if kept else np.zeros(0, dtype=np.float32)

    def _trim(self) -> None:
        """Keep as much of the past as the next utterance may begin with."""
        while self._before and _length(self._before) - len(self._before[0]) >= self._pre_roll + self._onset:
            self._before.popleft()


def _length(pieces: deque[Samples] | list[Samples]) -> int:
    return sum(len(piece) for piece in pieces)
