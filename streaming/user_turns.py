"""The user's side of the conversation: following the voice, committing turns, and having them answered.

At the first likely end of a turn its reply is begun on speculation: transcription and the reply's first clause are
under way while the end is still being decided, and are thrown away if the user goes on.

In a conversation with a duplex engine turns are only observed: nothing is begun, stopped or owed on account of them.
"""

from __future__ import annotations

from streaming.audio import AudioFormat
from streaming.barge_in import Judgement
from streaming.client_events import ResponseParams
from streaming.config import ServerVad, TurnDetection
from streaming.conversation import Conversation
from streaming.core import SECOND, Core
from streaming.endpointing import Act, Endpointer, Endpointing, Voice
from streaming.engine import (
    DETECTOR_RATE,
    VOICE_FRAME,
    ChatMessage,
    PredictTurnEnd,
    TurnEndProbability,
    VoiceProbability,
)
from streaming.errors import PeerError
from streaming.items import InputAudio, Message
from streaming.listening import Listener
from streaming.overlap import HeldTurns, Overlaps
from streaming.responses import Responses
from streaming.server_events import AudioCleared, AudioCommitted, ItemAdded, ItemDone, SpeechStarted, SpeechStopped
from streaming.timeline import Timeline
from streaming.transcripts import Transcripts

LEAST_COMMIT = DETECTOR_RATE // 10
"""Samples of audio that a manual commit needs, as in OpenAI Realtime: 100 ms."""

_SEMANTIC_PADDING_MS = 300
_KEPT_QUIET = 2 * DETECTOR_RATE
_TAIL = DETECTOR_RATE // 5  # silence after the last word that is transcribed with it


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
        self._overlaps = HeldTurns(core, responses) if core.engine.duplex else Overlaps(core, conversation, responses)
        self._endpointer: Endpointer | None = None
        self._item_id = core.out.name("item")
        self._asked_until = -1  # up to where the coming turn's words have been asked for
        self._start = 0  # nothing before this position belongs to the coming turn
        self._followed = 0  # up to where the detector has followed the voice
        self._onset = 0
        self._owed: Timeline | None = None  # of a turn that was committed while a reply ran that it could not stop
        self._setting: TurnDetection | None = None
        self.latest_end: int | None = None
        """When (ns) the newest turn's last audio came in."""
        self.configure(now=0)

    def configure(self, *, now: int) -> None:
        """Take the session's turn detection as it is now; a turn under way is forgotten if its rule changed."""
        setting = self._core.config.audio.input.turn_detection
        if setting != self._setting:
            self._owed = None
        self._setting = setting
        longest = self._core.options.longest_turn * DETECTOR_RATE // SECOND
        rule = None if setting is None else Endpointing.of(setting, longest_turn=longest)
        if (self._endpointer.rule if self._endpointer else None) != rule:
            self._forget(now)
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
        """Whether the user is in a turn, has one to commit, or is owed the answer to one.

        What a duplex engine has heard needs no commit.
        """
        uncommitted = not (self.detects or self._core.engine.duplex) and self.waiting >= LEAST_COMMIT
        return self.speaking or uncommitted or self._owed is not None

    @property
    def item_id(self) -> str:
        """The id of the item that the coming turn will be."""
        return self._item_id

    @property
    def waiting(self) -> int:
        """Samples heard that no turn has taken; what the next commit would take."""
        return self._listener.end - self._start

    @property
    def spoken_until(self) -> int | None:
        """When (ns) the last that the user has said came in: of the turn under way, else of the newest."""
        if self._endpointer is not None and self._endpointer.in_turn:
            return self._listener.arrived(self._endpointer.voice_end)
        return self.latest_end

    # --- from the detectors

    def voice(self, event: VoiceProbability, *, now: int) -> None:
        """The next voice frame's probability."""
        self._followed = event.end
        if self._endpointer is None or event.end - VOICE_FRAME < self._start:  # of audio that has been taken already
            return
        was_quiet = self._endpointer.state is Voice.QUIET
        act = self._endpointer.hear(event.end, event.probability)
        if was_quiet and self._endpointer.state is not Voice.QUIET:
            self._onset = now
        voiced = self._endpointer.state in (Voice.ONSET, Voice.SPEAKING)
        self._act(act, now)
        self._judge(self._overlaps.hear(voice=voiced, now=now), now)
        self._look_ahead(event.end)

    def turn_end(self, event: TurnEndProbability, *, now: int) -> None:
        """The turn-end model's answer."""
        if self._endpointer is not None:
            self._act(self._endpointer.turn_end(event.end, event.probability), now)

    def words(self, item_id: str, text: str | None, *, now: int) -> None:
        """The words that were asked for last, None where they could not be found; over a reply, they are judged."""
        if item_id == self._item_id:
            self._judge(self._overlaps.words(text, now=now), now)

    # --- from the client

    def commit(self, *, now: int) -> None:
        """The client says that the turn is over. Raises PeerError when there is nothing to commit."""
        if self.waiting < LEAST_COMMIT:
            raise PeerError(
                f"the input audio buffer holds {self.waiting * 1000 // DETECTOR_RATE} ms of audio; "
                "a commit needs at least 100 ms",
                code="input_audio_buffer_commit_empty",
            )
        end = self._listener.end
        if self._endpointer is not None and self._endpointer.in_turn and not self._overlaps.pending:
            self._core.out.send(SpeechStopped(audio_end_ms=_ms(end), item_id=self._item_id))
        self._asked_until = -1
        self._commit(end)
        self._reset(now)

    def clear(self, *, now: int) -> None:
        """Forget the audio that no turn has taken."""
        self._start = self._listener.end
        self._forget(now)
        self._core.out.send(AudioCleared())

    def answered(self, *, now: int) -> None:
        """A duplex engine begins to speak: if the user is silent, that ends the turn."""
        if self._endpointer is not None and not self._overlaps.pending:
            self._act(self._endpointer.end(), now)

    def keep(self, samples: int) -> None:
        """Forget all but the newest of the audio that no turn has taken."""
        self._start = max(self._start, self._listener.end - samples)
        self._listener.forget_before(self._start)

    def forget_owed(self) -> None:
        """The client sees to the answer itself."""
        self._owed = None

    def idle(self) -> tuple[int, str]:
        """Commit the silence since the last turn: where it began, and the item that it became."""
        start, item_id = self._start, self._item_id
        self._commit(self._listener.end)
        return start, item_id

    # --- time

    def follow(self, *, now: int) -> None:
        """Take note of what became of the reply meanwhile."""
        self._judge(self._overlaps.follow(now=now), now)
        if self._owed is not None and self._responses.active is None:
            self._respond(self._owed)

    def due(self) -> int | None:
        """When (ns) `follow` is needed."""
        return self._overlaps.due()

    # --- the turn

    def _act(self, act: Act, now: int) -> None:
        if self._endpointer is None:
            return
        if act is Act.STARTED:
            self._on_started(now)
        elif act is Act.RESUMED:
            self._responses.forget_guess()
        elif act is Act.ENDED and self._overlaps.pending:
            self._endpointer.hold()
        elif act is Act.ENDED:
            self._end_turn(self._endpointer.voice_end, now)

    def _on_started(self, now: int) -> None:
        reply = self._responses.active
        if reply is None or not self._overlaps.allowed:
            self._tell_started(now)
        elif self._overlaps.reply_heard:
            self._overlaps.begin(reply, onset=self._onset, now=now)
        else:  # nothing of it was heard: the user simply goes on
            self._interrupt(now)
            self._tell_started(now)

    def _judge(self, judgement: Judgement, now: int) -> None:
        """Do what speech over a reply calls for."""
        if judgement is Judgement.ASK and not self._core.engine.transcribes:
            self._judge(self._overlaps.words(None, now=now), now)
        elif judgement is Judgement.ASK:
            self._ask_words(self._followed)
        elif judgement is Judgement.DISMISS:
            self._start = self._followed
            self._forget(now)
        elif judgement in (Judgement.INTERRUPT, Judgement.YIELD) and self._endpointer is not None:
            self._tell_started(now)
            if judgement is Judgement.INTERRUPT:
                self._interrupt(now)
            self._act(self._endpointer.settle(), now)

    def _interrupt(self, now: int) -> None:
        self._owed = None
        self._responses.interrupt(now=now)

    def _tell_started(self, now: int) -> None:
        self._overlaps.cut_unheard(now=now)
        self._core.out.send(SpeechStarted(audio_start_ms=_ms(self._turn_start()), item_id=self._item_id))

    def _end_turn(self, spoken_until: int, now: int) -> None:
        self._core.out.send(SpeechStopped(audio_end_ms=_ms(spoken_until), item_id=self._item_id))
        timeline = Timeline(self._listener.arrived(spoken_until))
        timeline.mark("endpointing", now)
        self._commit(min(spoken_until + _TAIL, self._listener.end), voice_end=spoken_until)
        if self._responds() and not self._responses.confirm_guess(now=now):
            self._respond(timeline)

    def _respond(self, timeline: Timeline) -> None:
        """Answer the turn, or owe the answer while a reply runs that the user may not interrupt."""
        self._owed = timeline if self._responses.active is not None else None
        if self._owed is None:
            self._responses.create(ResponseParams(), timeline=timeline)

    def _commit(self, end: int, *, voice_end: int | None = None) -> None:
        """Make [start, end) an item, and have its words found unless they have been asked for up to `voice_end`."""
        self.latest_end = self._listener.arrived(end if voice_end is None else voice_end)
        item_id, heard = self._item_id, self._listener.for_engine(self._turn_start(), end)
        rate = self._core.engine.input_rate
        item = Message(id=item_id, role="user", content=(InputAudio(),))
        previous = self._conversation.append(item)
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

    def _forget(self, now: int) -> None:
        """Drop the turn under way."""
        self._transcripts.drop(self._item_id)
        self._next_turn(self._start)
        self._reset(now)

    def _reset(self, now: int) -> None:
        """The user is in no turn; a reply that was being spoken over goes on."""
        self._responses.forget_guess()
        if self._endpointer is not None:
            self._endpointer.reset()
        self._overlaps.abandon(now=now)

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

    def _responds(self) -> bool:
        setting = self._core.config.audio.input.turn_detection
        return setting is not None and setting.create_response and not self._core.engine.duplex

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
        if self._may_guess() and self._endpointer.likely_end():
            if self._asked_until < self._endpointer.voice_end:
                self._ask_words(end)
            timeline = Timeline(self._listener.arrived(self._endpointer.voice_end))
            self._responses.guess(ChatMessage(role="user", text=None, item_id=self._item_id), timeline=timeline)

    def _may_guess(self) -> bool:
        return self._responds() and not self._overlaps.pending and self._responses.may_guess


def _ms(position: int) -> int:
    return position * 1000 // DETECTOR_RATE
