"""Endpointing: where the user's turn begins and ends. The rules are the table `ENDPOINTING`:

    QUIET ---voice--> ONSET ---voice lasts--> SPEAKING ---silence--> PAUSING ---silence lasts--> QUIET (turn ended)
                        |                        ^                      |
                        silence -> QUIET         +--------voice---------+

Positions and lengths are sample counts at DETECTOR_RATE.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto

from streaming.config import ServerVad, TurnDetection
from streaming.engine import DETECTOR_RATE, VOICE_FRAME

MS = DETECTOR_RATE // 1000
"""Samples in a millisecond."""


class Voice(Enum):
    """Where the user is in a turn."""

    QUIET = auto()
    ONSET = auto()
    SPEAKING = auto()
    PAUSING = auto()


class Signal(Enum):
    """What can happen to the user's voice."""

    VOICE = auto()
    VOICE_LASTS = auto()
    SILENCE = auto()
    SILENCE_LASTS = auto()
    TOO_LONG = auto()


class Act(Enum):
    """What a transition means for the session."""

    NOTHING = auto()
    STARTED = auto()
    RESUMED = auto()
    ENDED = auto()


ENDPOINTING: Mapping[tuple[Voice, Signal], tuple[Voice, Act]] = {
    (Voice.QUIET, Signal.VOICE): (Voice.ONSET, Act.NOTHING),
    (Voice.QUIET, Signal.VOICE_LASTS): (Voice.SPEAKING, Act.STARTED),
    (Voice.QUIET, Signal.SILENCE): (Voice.QUIET, Act.NOTHING),
    (Voice.QUIET, Signal.SILENCE_LASTS): (Voice.QUIET, Act.NOTHING),
    (Voice.QUIET, Signal.TOO_LONG): (Voice.QUIET, Act.NOTHING),
    (Voice.ONSET, Signal.VOICE): (Voice.ONSET, Act.NOTHING),
    (Voice.ONSET, Signal.VOICE_LASTS): (Voice.SPEAKING, Act.STARTED),
    (Voice.ONSET, Signal.SILENCE): (Voice.QUIET, Act.NOTHING),
    (Voice.ONSET, Signal.SILENCE_LASTS): (Voice.QUIET, Act.NOTHING),
    (Voice.ONSET, Signal.TOO_LONG): (Voice.QUIET, Act.NOTHING),
    (Voice.SPEAKING, Signal.VOICE): (Voice.SPEAKING, Act.NOTHING),
    (Voice.SPEAKING, Signal.VOICE_LASTS): (Voice.SPEAKING, Act.NOTHING),
    (Voice.SPEAKING, Signal.SILENCE): (Voice.PAUSING, Act.NOTHING),
    (Voice.SPEAKING, Signal.SILENCE_LASTS): (Voice.QUIET, Act.ENDED),
    (Voice.SPEAKING, Signal.TOO_LONG): (Voice.QUIET, Act.ENDED),
    (Voice.PAUSING, Signal.VOICE): (Voice.SPEAKING, Act.RESUMED),
    (Voice.PAUSING, Signal.VOICE_LASTS): (Voice.SPEAKING, Act.RESUMED),
    (Voice.PAUSING, Signal.SILENCE): (Voice.PAUSING, Act.NOTHING),
    (Voice.PAUSING, Signal.SILENCE_LASTS): (Voice.QUIET, Act.ENDED),
    (Voice.PAUSING, Signal.TOO_LONG): (Voice.QUIET, Act.ENDED),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpointing:
    """When a voice is speech and when a silence ends the turn. Lengths are in samples.

    `asks` are the silences at which the turn-end model is asked. `steps` are pairs (probability, silence): a turn
    that the model calls complete with at least that probability ends after that silence; the first that fits counts,
    and `longest` is the wait where none does. `guess` is the silence after which the reply is begun on speculation.
    """

    threshold: float = 0.5
    release: float = 0.35
    shortest_voice: int = 64 * MS
    guess: int = 32 * MS
    asks: tuple[int, ...] = ()
    steps: tuple[tuple[float, int], ...] = ()
    longest: int = 500 * MS
    longest_turn: int = 60_000 * MS

    @classmethod
    def of(cls, setting: TurnDetection, *, longest_turn: int = 60_000 * MS) -> Endpointing:
        """The rule that a session's `turn_detection` asks for."""
        if isinstance(setting, ServerVad):
            return cls(
                threshold=setting.threshold,
                release=max(setting.threshold - 0.15, 0.01),
                longest=setting.silence_duration_ms * MS,
                longest_turn=longest_turn,
            )
        return replace(_SEMANTIC[setting.eagerness], longest_turn=longest_turn)

    def silence_needed(self, probability: float | None) -> int:
        """How much silence ends a turn that the model calls complete with this probability."""
        if probability is not None:
            for least, silence in self.steps:
                if probability >= least:
                    return silence
        return self.longest


def _semantic(*, asks: tuple[int, ...], steps: tuple[tuple[float, int], ...], longest: int) -> Endpointing:
    """The same in milliseconds."""
    in_samples = tuple((probability, silence * MS) for probability, silence in steps)
    return Endpointing(asks=tuple(ask * MS for ask in asks), steps=in_samples, longest=longest * MS)


# Chosen on recordings of people: docs/benchmarks.md gives the waits and the false cuts of each.
_AUTO = _semantic(asks=(192, 384, 768, 1536), steps=((0.9, 320), (0.5, 384), (0.1, 768)), longest=4000)
_SEMANTIC = {
    "high": _semantic(asks=(128, 256, 512, 1024), steps=((0.9, 256), (0.5, 320), (0.1, 640)), longest=2000),
    "auto": _AUTO,
    "medium": _AUTO,
    "low": _semantic(asks=(256, 512, 1024, 2048), steps=((0.9, 512), (0.5, 768), (0.1, 2048)), longest=8000),
}


@dataclass(slots=True)
class Endpointer:
    """Follows one user's voice, frame by frame, through `ENDPOINTING`."""

    rule: Endpointing
    state: Voice = Voice.QUIET
    voice_start: int = 0
    voice_end: int = 0
    silence: int = 0
    _voiced: int = 0
    _turn_end: float | None = None
    _asked: int = -1

    def hear(self, end: int, probability: float) -> Act:
        """One more frame, of VOICE_FRAME samples up to position `end`, with its probability of speech."""
        was_voice = self.state in (Voice.ONSET, Voice.SPEAKING)
        voice = probability >= (self.rule.release if was_voice else self.rule.threshold)
        if voice:
            return self._on_voice(end)
        self.silence += VOICE_FRAME
        self._step(Signal.SILENCE)
        return self.settle()

    def turn_end(self, end: int, probability: float) -> Act:
        """The turn-end model's answer about the pause that began before `end`; one about an earlier pause is stale."""
        if self.state is not Voice.PAUSING or end <= self.voice_end:
            return Act.NOTHING
        self._turn_end = probability
        return self.settle()

    @property
    def in_turn(self) -> bool:
        """Whether a turn has started and not ended."""
        return self.state in (Voice.SPEAKING, Voice.PAUSING)

    def should_ask(self) -> bool:
        """Whether the turn-end model is due to be asked now; each due silence is asked about once."""
        if self.state is not Voice.PAUSING:
            return False
        due = sum(ask <= self.silence for ask in self.rule.asks) - 1
        if due <= self._asked:
            return False
        self._asked = due
        return True

    def likely_end(self) -> bool:
        """Whether the pause is long enough to begin the reply on speculation."""
        return self.state is Voice.PAUSING and self.silence >= self.rule.guess

    def settle(self) -> Act:
        """Whether the silence so far ends the turn."""
        if self.state is Voice.PAUSING and self.silence >= self.rule.silence_needed(self._turn_end):
            return self._step(Signal.SILENCE_LASTS)
        return Act.NOTHING

    def end(self) -> Act:
        """The pause ends the turn, however short it is, because the other side has begun to speak."""
        return self._step(Signal.SILENCE_LASTS) if self.state is Voice.PAUSING else Act.NOTHING

    def hold(self) -> None:
        """Take an end back: it is not decided yet whether there is a turn at all, and `settle` will be asked again."""
        self.state = Voice.PAUSING

    def reset(self) -> None:
        """Forget the turn, such as after a manual commit."""
        self.state = Voice.QUIET

    def _on_voice(self, end: int) -> Act:
        if self.state is Voice.QUIET:
            self.voice_start = end - VOICE_FRAME
            self._voiced = 0
        self._voiced += VOICE_FRAME
        self.voice_end = end
        self.silence = 0
        self._turn_end = None
        self._asked = -1
        act = self._step(Signal.VOICE_LASTS if self._voiced >= self.rule.shortest_voice else Signal.VOICE)
        if end - self.voice_start >= self.rule.longest_turn and self.state is Voice.SPEAKING:
            return self._step(Signal.TOO_LONG)
        return act

    def _step(self, signal: Signal) -> Act:
        self.state, act = ENDPOINTING[self.state, signal]
        return act
