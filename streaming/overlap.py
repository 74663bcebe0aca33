"""Speech over a reply: the reply is softened at once, and plays on or stops as the speech is judged.

Where the engine is duplex, the model hears the speech and yields by itself: `HeldTurns` judges nothing, and waits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from streaming.barge_in import BARGE_IN, BargeInRule, Effect, Floor, Judgement, Overlap, OverlapJudge
from streaming.conversation import Conversation
from streaming.core import Core
from streaming.observations import BargeInMeasured
from streaming.reply import Reply
from streaming.responses import Responses
from streaming.server_events import BargeInProgress, ItemTruncated

_SIGNALS = {
    Judgement.INTERRUPT: Overlap.INTERRUPTS,
    Judgement.DISMISS: Overlap.DISMISSED,
    Judgement.YIELD: Overlap.REPLY_OVER,
}


@dataclass(slots=True)
class _SpeechOver:
    """Speech over a reply, not yet judged.

    `onset` is when (ns) the voice was detected, `ducked` when the reply was told to soften.
    """

    reply: Reply
    judge: OverlapJudge
    onset: int
    ducked: int


class Overlaps:
    """Walks `BARGE_IN`. Each call answers what the speech over the reply now calls for; WAIT where there is none."""

    def __init__(self, core: Core, conversation: Conversation, responses: Responses) -> None:
        self._core = core
        self._conversation = conversation
        self._responses = responses
        self._floor = Floor.SILENT
        self._over: _SpeechOver | None = None

    @property
    def allowed(self) -> bool:
        """Whether speech may interrupt a reply."""
        setting = self._core.config.audio.input.turn_detection
        return setting is not None and setting.interrupt_response

    @property
    def reply_heard(self) -> bool:
        """Whether a reply is being heard."""
        return self._floor is not Floor.SILENT

    @property
    def pending(self) -> bool:
        """Whether there is speech over a reply that has not been judged."""
        return self._over is not None

    def begin(self, reply: Reply, *, onset: int, now: int) -> None:
        """The user speaks over `reply`; the voice was detected at `onset` (ns)."""
        self._over = _SpeechOver(reply, OverlapJudge(BargeInRule(), heard_at=now), onset, now)
        self._step(Overlap.USER_SPEAKS, now)

    def hear(self, *, voice: bool, now: int) -> Judgement:
        """One more frame."""
        return self._conclude(self._over.judge.hear(voice=voice, now=now), now) if self._over else Judgement.WAIT

    def words(self, text: str | None, *, now: int) -> Judgement:
        """The words that were asked for last; None where they could not be found."""
        return self._conclude(self._over.judge.words(text), now) if self._over else Judgement.WAIT

    def follow(self, *, now: int) -> Judgement:
        """Take note of the time, and of what became of the reply."""
        reply, over = self._responses.active, self._over
        if over is not None and (reply is not over.reply or not self.allowed):
            return self._conclude(Judgement.YIELD, now)
        if reply is None:
            self._step(Overlap.REPLY_OVER, now)
        elif reply.playout.sent:
            self._step(Overlap.REPLY_HEARD, now)
        return self._conclude(over.judge.judge(now=now), now) if over is not None else Judgement.WAIT

    def due(self) -> int | None:
        """When (ns) `follow` is needed."""
        return self._over.judge.timeout() if self._over is not None else None

    def abandon(self, *, now: int) -> None:
        """The speech has been taken away unjudged; the reply plays on."""
        if self._over is not None:
            self._conclude(Judgement.YIELD, now)

    def cut_unheard(self, *, now: int) -> None:
        """The user begins to speak: a reply that was sent whole but not yet heard whole ends where it was heard."""
        reply = self._responses.latest
        if reply is None or not reply.done or reply.settled or not reply.playout.playing(now=now) or not self.allowed:
            return
        if reply.plan.item_id not in self._conversation:
            return
        cut = ItemTruncated(item_id=reply.plan.item_id, content_index=0, audio_end_ms=reply.cut_unheard(now=now))
        if self._core.options.extensions:  # a stock client expects this event only as an answer
            self._core.out.send(cut)

    # --- inner workings

    def _conclude(self, judgement: Judgement, now: int) -> Judgement:
        if (signal := _SIGNALS.get(judgement)) is not None:
            self._step(signal, now)
        return judgement

    def _step(self, signal: Overlap, now: int) -> None:
        self._floor, effect = BARGE_IN[self._floor, signal]
        over = self._over
        if over is None or effect is Effect.NONE:
            return
        if effect is Effect.DUCK:
            over.reply.playout.duck(on=not self._core.options.extensions)
            self._progress("onset", over.reply)
            return
        self._over = None
        if effect is Effect.STOP:
            self._measure(over, "interrupted", now)
            self._progress("decided", over.reply)
            return
        if effect is Effect.RESTORE:
            self._measure(over, "dismissed", now)
        over.reply.playout.duck(on=False)
        self._progress("dismissed", over.reply)

    def _progress(self, phase: Literal["onset", "dismissed", "decided"], reply: Reply) -> None:
        if self._core.options.extensions:
            self._core.out.send(BargeInProgress(phase=phase, response_id=reply.plan.response_id))

    def _measure(self, over: _SpeechOver, outcome: Literal["interrupted", "dismissed"], now: int) -> None:
        playout = over.reply.playout
        self._core.out.put(
            BargeInMeasured(
                response_id=over.reply.plan.response_id,
                outcome=outcome,
                onset=over.onset,
                ducked=over.ducked if self._core.options.extensions else playout.ducked_at,
                decided=now,
                last_frame=playout.sent_at,
            )
        )


class HeldTurns:
    """Speech over a duplex engine's reply, in the place of `Overlaps`: it is an ordinary turn, once the reply is over.

    Until then, or until it has lasted as long as a turn may, the client is not told of it: stock clients drop what they
    have yet to play when they hear of a turn's start, and would cut a reply that the model itself has not stopped.
    """

    allowed = True
    reply_heard = True

    def __init__(self, core: Core, responses: Responses) -> None:
        self._longest = core.options.longest_turn
        self._responses = responses
        self._since: int | None = None

    @property
    def pending(self) -> bool:
        """Whether there is a turn that the client has not been told of."""
        return self._since is not None

    def begin(self, reply: Reply, *, onset: int, now: int) -> None:  # noqa: ARG002 as `Overlaps` has it
        """The user speaks over `reply`."""
        self._since = now

    def hear(self, *, voice: bool, now: int) -> Judgement:  # noqa: ARG002 as `Overlaps` has it
        """One more frame: of no consequence."""
        return Judgement.WAIT

    def words(self, text: str | None, *, now: int) -> Judgement:  # noqa: ARG002 as `Overlaps` has it
        """The words that were asked for: of no consequence."""
        return Judgement.WAIT

    def follow(self, *, now: int) -> Judgement:
        """YIELD once the turn is to be told."""
        if self._since is None or (self._responses.active is not None and now - self._since < self._longest):
            return Judgement.WAIT
        self._since = None
        return Judgement.YIELD

    def due(self) -> int | None:
        """None: `follow` is needed when the reply has ended, and then only."""
        return None

    def abandon(self, *, now: int) -> None:  # noqa: ARG002 as `Overlaps` has it
        """The turn has been taken away."""
        self._since = None

    def cut_unheard(self, *, now: int) -> None:
        """What was sent of a reply is heard: nobody interrupts it."""
