"""The user's side of the conversation: following the voice, judging speech over a reply, and committing turns.

At the first likely end of a turn its reply is begun on speculation: transcription and the reply's first clause are
under way while the end is still being decided, and are thrown away if the user goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from streaming.audio import AudioFormat
from streaming.barge_in import BARGE_IN, BargeInRule, Effect, Floor, Judgement, Overlap, OverlapJudge
from streaming.config import ServerVad
from streaming.conversation import Conversation
from streaming.core import SECOND, Core
from streaming.endpointing import Act, Endpointer, Endpointing, Voice
from streaming.engine import (
    DETECTOR_RATE,
    ChatMessage,
    PredictTurnEnd,
    TurnEndProbability,
    VoiceProbability,
)
from streaming.errors import PeerError
from streaming.items import InputAudio, Message
from streaming.listening import Listener
from streaming.observations import BargeInMeasured
from streaming.reply import Reply
from streaming.responses import Responses
from streaming.server_events import (
    AudioCleared,
    AudioCommitted,
    BargeInProgress,
    ItemAdded,
    ItemDone,
    ItemTruncated,
    SpeechStarted,
    SpeechStopped,
)
from streaming.timeline import Timeline
from streaming.transcripts import Transcripts

LEAST_COMMIT = DETECTOR_RATE // 10
"""Samples of audio that a manual commit needs, as in OpenAI Realtime: 100 ms."""

_SEMANTIC_PADDING_MS = 300
_KEPT_QUIET = 2 * DETECTOR_RATE
_TAIL = DETECTOR_RATE // 5  # silence after the last word that is transcribed with it


@dataclass(slots=True)
class _SpeechOver:
    """Speech over a reply, not yet judged. `ended`: the endpointer has already called it a whole turn.

    `onset` is when (ns) the voice was detected, `ducked` when the reply was told to soften.
    """

    reply: Reply
    judge: OverlapJudge
    onset: int
    ducked: int
    ended: bool = False


class UserTurns:
    """Turns the detectors' answers into the user's turns."""

    def __init__(
        self, core: Core, conversation: Conversation, responses: Responses, listener: Listener, transcripts: Transcripts
    ) -> None:
        self._core = core
        self._conversation = conversation
        self._responses = responses
        self._listener = listener
        self._transcripts = transcripts
        self._endpointer: Endpointer | None = None
        self._item_id = core.out.name("item")
        self._asked_until = -1  # up to where the coming turn's words have been asked for
        self._start = 0  # nothing before this position belongs to the coming turn
        self._floor = Floor.SILENT
        self._over: _SpeechOver | None = None
        self._guess: Reply | None = None
        self._onset = 0
        self._owed: Timeline | None = None  # of a turn that was committed while a reply ran that it could not stop
        self.configure()

    def configure(self) -> None:
        """Take the session's turn detection as it is now; a turn under way is forgotten if it changed."""
        setting = self._core.config.audio.input.turn_detection
        longest = self._core.options.longest_turn * DETECTOR_RATE // SECOND
        rule = None if setting is None else Endpointing.of(setting, longest_turn=longest)
        if (self._endpointer.rule if self._endpointer else None) != rule:
            self._forget()
            self._endpointer = None if rule is None else Endpointer(rule)

    @property
    def detects(self) -> bool:
        """Whether voice frames are wanted."""
        return self._endpointer is not None

    @property
    def speaking(self) -> bool:
        """Whether the user is in a turn."""
        return self._endpointer is not None and self._endpointer.state is not Voice.QUIET

    @property
    def open(self) -> bool:
        """Whether the user is in a turn, or owed the answer to one."""
        return self.speaking or self._owed is not None

    @property
    def waiting(self) -> int:
        """Samples heard that no turn has taken; what the next commit would take."""
        return self._listener.end - self._start

    # --- from the detectors

    def voice(self, event: VoiceProbability, *, now: int) -> None:
        """The next voice frame's probability."""
        if self._endpointer is None:
            return
        self._follow_reply(now)
        was_quiet = self._endpointer.state is Voice.QUIET
        act = self._endpointer.hear(event.end, event.probability)
        if was_quiet and self._endpointer.state is not Voice.QUIET:
            self._onset = now
        voiced = self._endpointer.state in (Voice.ONSET, Voice.SPEAKING)
        self._act(act, now)
        if self._over is not None:
            self._judge(self._over.judge.hear(voice=voiced, now=now), now)
        self._look_ahead(event.end)

    def turn_end(self, event: TurnEndProbability, *, now: int) -> None:
        """The turn-end model's answer."""
        if self._endpointer is not None:
            self._act(self._endpointer.turn_end(event.end, event.probability), now)

    def words(self, item_id: str, text: str, *, now: int) -> None:
        """The words that were asked for last; where they were spoken over a reply, they are judged."""
        if self._over is not None and item_id == self._item_id:
            self._judge(self._over.judge.words(text), now)

    # --- from the client

    def commit(self) -> None:
        """The client says that the turn is over. Raises PeerError when there is nothing to commit."""
        if self.waiting < LEAST_COMMIT:
            raise PeerError(
                f"the input audio buffer holds {self.waiting * 1000 // DETECTOR_RATE} ms of audio; "
                "a commit needs at least 100 ms",
                code="input_audio_buffer_commit_empty",
            )
        self._drop_guess()
        self._transcripts.drop(self._item_id)
        self._asked_until = -1
        self._commit(self._listener.end)
        self._forget()

    def clear(self) -> None:
        """Forget the audio that no turn has taken."""
        self._forget()
        self._start = self._listener.end
        self._listener.forget_before(self._start)
        self._core.out.send(AudioCleared())

    def idle(self) -> tuple[int, str]:
        """Commit the silence since the last turn: where it began, and the item that it became."""
        start, item_id = self._start, self._item_id
        self._commit(self._listener.end)
        return start, item_id

    # --- time

    def follow(self, *, now: int) -> None:
        """Take note of what became of the reply meanwhile."""
        self._follow_reply(now)
        if self._over is not None:
            self._judge(self._over.judge.judge(now=now), now)

    def due(self) -> int | None:
        """When (ns) `follow` is needed."""
        return self._over.judge.timeout() if self._over is not None else None

    # --- the turn

    def _act(self, act: Act, now: int) -> None:
        if act is Act.STARTED:
            self._on_started(now)
        elif act is Act.RESUMED:
            self._drop_guess()
        elif act is Act.ENDED:
            if self._over is not None:
                self._over.ended = True
            else:
                self._end_turn(now)

    def _on_started(self, now: int) -> None:
        reply = self._responses.active
        if reply is None or not self._interrupts():
            self._tell_started(now)
        elif self._floor is Floor.SILENT:  # nothing of it was heard: the user simply goes on
            self._responses.interrupt(now=now)
            self._tell_started(now)
        else:
            self._over = _SpeechOver(reply, OverlapJudge(BargeInRule()), self._onset, now)
            self._step(Overlap.USER_SPEAKS, now)

    def _tell_started(self, now: int) -> None:
        if self._endpointer is None:
            return
        self._cut_unheard(now)
        self._core.out.send(SpeechStarted(audio_start_ms=_ms(self._turn_start()), item_id=self._item_id))

    def _end_turn(self, now: int) -> None:
        if self._endpointer is None:
            return
        spoken_until = self._endpointer.voice_end
        self._core.out.send(SpeechStopped(audio_end_ms=_ms(spoken_until), item_id=self._item_id))
        began = self._listener.arrived(spoken_until)
        guess, self._guess = self._guess, None
        self._commit(min(spoken_until + _TAIL, self._listener.end), voice_end=spoken_until)
        if guess is not None:
            guess.timeline.mark("endpointing", now)
            self._responses.confirm(guess)
            self._responses.pump(now=now)
        elif self._responds():
            timeline = Timeline(began)
            timeline.mark("endpointing", now)
            self._respond(timeline)

    def _respond(self, timeline: Timeline) -> None:
        """Answer the turn, or owe the answer while a reply runs that the user may not interrupt."""
        self._owed = timeline if self._responses.active is not None else None
        if self._owed is None:
            self._responses.create(None, timeline=timeline)

    def _commit(self, end: int, *, voice_end: int | None = None) -> None:
        """Make [start, end) an item, and have its words found unless they have been asked for up to `voice_end`."""
        item_id, heard = self._item_id, self._listener.for_engine(self._turn_start(), end)
        rate = self._core.engine.input_rate
        item = Message(id=item_id, role="user", content=(InputAudio(),))
        previous = self._conversation.add(item)
        kept = AudioFormat("pcm16", rate)
        self._conversation.keep_audio(item_id, kept, kept.encode(heard))
        self._core.out.send(AudioCommitted(item_id=item_id, previous_item_id=previous))
        self._core.out.send(ItemAdded(item=item, previous_item_id=previous))
        self._core.out.send(ItemDone(item=item, previous_item_id=previous))
        if self._asked_until < (end if voice_end is None else voice_end):
            self._transcripts.ask(item_id, heard)
        self._transcripts.commit(item_id, len(heard) / rate)
        self._next_turn(end)

    def _next_turn(self, start: int) -> None:
        """Whatever comes from `start` on is another turn's."""
        self._start = start
        self._item_id = self._core.out.name("item")
        self._asked_until = -1
        self._listener.forget_before(start)

    def _forget(self) -> None:
        """Drop the turn under way; a reply that was being spoken over goes on."""
        self._drop_guess()
        self._transcripts.drop(self._item_id)
        self._next_turn(self._start)
        if self._endpointer is not None:
            self._endpointer.reset()
        if self._over is not None:
            self._over.reply.playout.duck(on=False)
            self._over = None
            self._floor = Floor.REPLYING

    def _ask_words(self, end: int) -> None:
        self._asked_until = end
        self._transcripts.ask(self._item_id, self._listener.for_engine(self._turn_start(), end))

    def _turn_start(self) -> int:
        if self._endpointer is None:
            return self._start
        return max(self._endpointer.voice_start - self._padding(), self._start)

    def _padding(self) -> int:
        setting = self._core.config.audio.input.turn_detection
        padding = setting.prefix_padding_ms if isinstance(setting, ServerVad) else _SEMANTIC_PADDING_MS
        return padding * DETECTOR_RATE // 1000

    def _interrupts(self) -> bool:
        setting = self._core.config.audio.input.turn_detection
        return setting is not None and setting.interrupt_response

    def _responds(self) -> bool:
        setting = self._core.config.audio.input.turn_detection
        return setting is not None and setting.create_response

    # --- looking ahead

    def _look_ahead(self, end: int) -> None:
        if self._endpointer is None:
            return
        if self._endpointer.state is Voice.QUIET:
            self._start = max(self._start, end - max(_KEPT_QUIET, self._padding()))
            self._listener.forget_before(self._start)
            return
        if self._endpointer.should_ask():
            audio = self._listener.for_detector(self._turn_start(), end)
            self._core.out.put(PredictTurnEnd(end=end, audio=audio))
        if self._guess is None and self._may_guess() and self._endpointer.likely_end():
            self._ask_words(end)
            timeline = Timeline(self._listener.arrived(self._endpointer.voice_end))
            pending = ChatMessage(role="user", text=None, item_id=self._item_id)
            self._guess = self._responses.prepare(timeline, pending)

    def _may_guess(self) -> bool:
        return self._over is None and self._responds() and self._responses.active is None

    def _drop_guess(self) -> None:
        if self._guess is not None:
            self._responses.discard(self._guess)
            self._guess = None

    # --- speech over a reply

    def _follow_reply(self, now: int) -> None:
        reply = self._responses.active
        if self._floor is not Floor.SILENT and (reply is None or (self._over and self._over.reply is not reply)):
            self._step(Overlap.REPLY_OVER, now)
        elif reply is not None and reply.playout.sent:
            self._step(Overlap.REPLY_HEARD, now)
        if self._owed is not None and reply is None:
            self._respond(self._owed)

    def _judge(self, judgement: Judgement, now: int) -> None:
        if judgement is Judgement.ASK:
            self._ask_words(self._listener.end)
        elif judgement is Judgement.INTERRUPT:
            self._step(Overlap.INTERRUPTS, now)
        elif judgement is Judgement.DISMISS:
            self._step(Overlap.DISMISSED, now)

    def _step(self, signal: Overlap, now: int) -> None:
        self._floor, effect = BARGE_IN[self._floor, signal]
        over = self._over
        if over is None or effect is Effect.NONE:
            return
        if effect is Effect.DUCK:
            if not self._core.options.extensions:
                over.reply.playout.duck(on=True)
            self._progress("onset", over.reply)
            return
        self._over = None
        if effect is Effect.RESTORE:
            self._measure(over, "dismissed", now)
            over.reply.playout.duck(on=False)
            self._progress("dismissed", over.reply)
            self._start = self._listener.end
            self._forget()
            return
        self._tell_started(now)
        if effect is Effect.STOP:
            self._measure(over, "interrupted", now)
            self._progress("decided", over.reply)
            self._responses.interrupt(now=now)
        if over.ended:
            self._end_turn(now)

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

    def _cut_unheard(self, now: int) -> None:
        """A reply that was sent whole but not yet heard whole ends where it was heard when the user begins to speak."""
        reply = self._responses.latest
        if reply is None or not reply.done or not reply.playout.playing(now=now) or not self._interrupts():
            return
        milliseconds = reply.heard_milliseconds(now=now)
        reply.truncate(milliseconds)
        self._core.out.send(ItemTruncated(item_id=reply.plan.item_id, content_index=0, audio_end_ms=milliseconds))


def _ms(position: int) -> int:
    return position * 1000 // DETECTOR_RATE
