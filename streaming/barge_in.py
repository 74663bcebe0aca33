"""Barge-in: speech over a reply, and whether it is an interruption, a cough or an "mm-hmm". The table `BARGE_IN`:

    SILENT ---reply heard--> REPLYING ---user speaks--> DUCKED ---interrupts--> SILENT
                                ^                          |
                                +-------dismissed----------+

Lengths are sample counts at DETECTOR_RATE, times are monotonic ns.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from streaming.endpointing import MS
from streaming.engine import VOICE_FRAME


class Floor(Enum):
    """Who can be heard."""

    SILENT = auto()
    REPLYING = auto()
    DUCKED = auto()


class Overlap(Enum):
    """What can happen while a reply is heard. REPLY_OVER: it has ended, or the speech over it is no longer judged."""

    REPLY_HEARD = auto()
    REPLY_OVER = auto()
    USER_SPEAKS = auto()
    INTERRUPTS = auto()
    DISMISSED = auto()


class Effect(Enum):
    """What a barge-in transition means for the reply."""

    NONE = auto()
    DUCK = auto()
    RESTORE = auto()
    STOP = auto()
    YIELD = auto()


BARGE_IN: Mapping[tuple[Floor, Overlap], tuple[Floor, Effect]] = {
    (Floor.SILENT, Overlap.REPLY_HEARD): (Floor.REPLYING, Effect.NONE),
    (Floor.SILENT, Overlap.REPLY_OVER): (Floor.SILENT, Effect.NONE),
    (Floor.SILENT, Overlap.USER_SPEAKS): (Floor.SILENT, Effect.NONE),
    (Floor.SILENT, Overlap.INTERRUPTS): (Floor.SILENT, Effect.NONE),
    (Floor.SILENT, Overlap.DISMISSED): (Floor.SILENT, Effect.NONE),
    (Floor.REPLYING, Overlap.REPLY_HEARD): (Floor.REPLYING, Effect.NONE),
    (Floor.REPLYING, Overlap.REPLY_OVER): (Floor.SILENT, Effect.NONE),
    (Floor.REPLYING, Overlap.USER_SPEAKS): (Floor.DUCKED, Effect.DUCK),
    (Floor.REPLYING, Overlap.INTERRUPTS): (Floor.SILENT, Effect.STOP),
    (Floor.REPLYING, Overlap.DISMISSED): (Floor.REPLYING, Effect.NONE),
    (Floor.DUCKED, Overlap.REPLY_HEARD): (Floor.DUCKED, Effect.NONE),
    (Floor.DUCKED, Overlap.REPLY_OVER): (Floor.SILENT, Effect.YIELD),
    (Floor.DUCKED, Overlap.USER_SPEAKS): (Floor.DUCKED, Effect.NONE),
    (Floor.DUCKED, Overlap.INTERRUPTS): (Floor.SILENT, Effect.STOP),
    (Floor.DUCKED, Overlap.DISMISSED): (Floor.REPLYING, Effect.RESTORE),
}

_LISTENING = """
    ah aha ahem alright cool gotcha great hm hmm hmmm huh interesting mhm mm mmhm mmhmm mmm nice oh ok okay ooh right
    sure true uh uhhuh um umhum wow yeah yep yes yup
"""
BACKCHANNELS = frozenset(_LISTENING.split())
"""Words that only say "go on": an overlap made of these, and not too many, does not stop a reply."""

_WORD = re.compile(r"[a-z']+")
_MOST_BACKCHANNEL_WORDS = 3


def is_backchannel(text: str) -> bool:
    """Whether `text` is nothing, or nothing but a few words of listening ("mm-hmm", "yeah, right")."""
    words = _WORD.findall(text.lower().replace("-", ""))
    return len(words) <= _MOST_BACKCHANNEL_WORDS and all(word in BACKCHANNELS for word in words)


@dataclass(frozen=True, slots=True, kw_only=True)
class BargeInRule:
    """How speech over a reply is judged. Lengths are in samples of voice, silences not counted.

    Voice shorter than `cough` is dismissed at its end. After `listen` of voice, or at its end, its words are asked
    for: words that are not a backchannel interrupt. After `surely` it interrupts whatever the words are. `pause` is
    the silence that ends an overlap, `patience` (ns) how long the words are waited for. A microphone that sends
    nothing for `stall` (ns) is taken to be silent.
    """

    cough: int = 160 * MS
    listen: int = 416 * MS
    surely: int = 960 * MS
    pause: int = 192 * MS
    patience: int = 1_000_000_000
    stall: int = 1_500_000_000


class Judgement(Enum):
    """What to do next about speech over a reply."""

    WAIT = auto()
    ASK = auto()
    INTERRUPT = auto()
    DISMISS = auto()
    YIELD = auto()
    """Nothing: the reply is over by itself, or may no longer be interrupted, and the speech is an ordinary turn."""


@dataclass(slots=True)
class OverlapJudge:
    """Judges one stretch of speech over a reply. Its words come from the engine, when it asks for them.

    `heard_at` is when (ns) the newest frame came.
    """

    rule: BargeInRule
    heard_at: int
    voiced: int = 0
    silence: int = 0
    _asked_at: int | None = None
    _asked_silent: bool = False

    def hear(self, *, voice: bool, now: int) -> Judgement:
        """One more frame of VOICE_FRAME samples."""
        self.heard_at = now
        if voice:
            self.voiced += VOICE_FRAME
            self.silence = 0
            self._asked_silent = False  # the words that were asked for are not all there will be
        else:
            self.silence += VOICE_FRAME
        return self.judge(now=now)

    def judge(self, *, now: int) -> Judgement:
        """What the speech so far amounts to."""
        over = self.silence >= self.rule.pause or now - self.heard_at >= self.rule.stall
        late = self._asked_at is not None and now - self._asked_at >= self.rule.patience
        if self.voiced >= self.rule.surely:
            return Judgement.INTERRUPT
        if over and self.voiced < self.rule.cough:
            return Judgement.DISMISS
        if late and (judgement := self._without_words()) is not Judgement.WAIT:
            return judgement
        if (over and not self._asked_silent) or (self._asked_at is None and self.voiced >= self.rule.listen):
            self._asked_at, self._asked_silent = now, over
            return Judgement.ASK
        return Judgement.WAIT

    def words(self, text: str | None) -> Judgement:
        """The words of what was asked about last; None where they could not be found."""
        if text is None:
            return self._without_words()
        if not is_backchannel(text):
            return Judgement.INTERRUPT
        return Judgement.DISMISS if self._asked_silent else Judgement.WAIT

    def timeout(self) -> int | None:
        """When (ns) `judge` will have something to say though nothing comes."""
        if self._asked_silent or (self._asked_at is not None and self.voiced >= self.rule.listen):
            return None if self._asked_at is None else self._asked_at + self.rule.patience
        return self.heard_at + self.rule.stall

    def _without_words(self) -> Judgement:
        """Speech whose words are not to be had goes by its length."""
        if self.voiced >= self.rule.listen:
            return Judgement.INTERRUPT
        return Judgement.DISMISS if self._asked_silent else Judgement.WAIT
