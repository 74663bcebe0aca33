"""The duplex policy: the engine hears every frame, speaks when it will, and yields when it will.

What the engine says, silence included, is cut into utterances, and each is one response of the conversation. The
gateway neither asks for one nor stops one; the user's turns are observed, for captions and measurements.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from streaming.audio import Reframer
from streaming.client_events import ClientEvent, CreateItem, CreateResponse
from streaming.core import MS, SECOND, Core
from streaming.engine import Begin, HearAudio, ReplyEnded, Samples, Speech
from streaming.errors import PeerError
from streaming.reply import AUDIO_TOKENS_PER_SECOND, Reply
from streaming.responses import Responses
from streaming.session_config import engine_voice
from streaming.timeline import Timeline
from streaming.user_turns import UserTurns
from streaming.utterances import Talk, Utterances

STALL = 2 * SECOND
"""ns without more of an utterance after which it is over: a client that sends no audio has an engine that is silent."""

AHEAD = 1500 * MS
"""How much faster than real time (ns) audio may come. The engine hears in real time and no faster, and whoever sends a
recording at once would talk to a queue. After a stall twice as much may come at once, which a worker still takes."""

SETTLING = 500 * MS
"""ns from the session's beginning on in which the engine is told nothing yet: stock clients send their instructions
when they have heard of the session, and audio meanwhile."""

PIECE = 20 * MS
"""The engine is given its audio in multiples of this (ns), however small the pieces are in which a client sends it."""

_KEPT_ARRIVALS = 4096


class Duplex:
    """One conversation with a duplex engine.

    A client that cancels a response is sent nothing more of that utterance: what follows it, once the engine has been
    quiet, is another response. An utterance longer than `SessionOptions.longest_turn` becomes several responses.
    """

    def __init__(self, core: Core, responses: Responses, turns: UserTurns, *, now: int) -> None:
        self._core = core
        self._responses = responses
        self._turns = turns
        self._settled_at = now + SETTLING
        self._held: list[Samples] = []  # of the user's audio, until then
        self._pieces = Reframer(core.engine.input_rate * PIECE // SECOND)
        self._utterances = Utterances(core.engine.output_rate)
        self._reply: Reply | None = None  # of the utterance under way
        self._length = 0  # of that reply, in samples
        self._words = 0  # of that reply: pieces of text
        self._given = 0  # samples of the user's audio
        self._given_at: deque[tuple[int, int]] = deque(maxlen=_KEPT_ARRIVALS)  # up to where, and when
        self._accounted = 0  # of them, those that earlier replies have accounted for
        self._came_at = 0
        self._said_at: int | None = None  # when the engine last said something
        self._said_before: int | None = None  # the same, of the utterance before
        self.begun = False
        """Whether the engine listens, so that its instructions and its voice are settled."""

    def check(self, event: ClientEvent) -> None:
        """Raises PeerError `duplex_engine` for what this engine cannot be asked."""
        model = self._core.engine.model
        if isinstance(event, CreateResponse):
            message = f"the model {model!r} speaks by itself: it hears all audio, and no response can be asked of it"
            raise PeerError(message, code="duplex_engine", param="type")
        if isinstance(event, CreateItem):
            raise PeerError(
                f"the model {model!r} hears the user's audio as it comes, and nothing else: this item would never "
                "reach it; put what it should know into session.instructions, before any audio is sent",
                code="duplex_engine",
                param="item",
            )

    # --- to the engine

    def hear(self, audio: Samples, *, now: int) -> None:
        """The next of the user's audio; before its first the engine is told who it is."""
        if len(audio):
            self._held.append(audio)
            self._give(now)

    def _give(self, now: int) -> None:
        """Hand over what is held, once the session has settled."""
        if not self._held or now < self._settled_at:
            return
        config, engine = self._core.config, self._core.engine
        if not self.begun:
            voice = engine_voice(config.audio.output.voice, engine)
            self._core.out.put(Begin(instructions=config.instructions, voice=voice))
            self.begun = True
        audio = np.concatenate(self._held)
        self._held.clear()
        if pieces := list(self._pieces.push(audio)):
            whole = np.concatenate(pieces)
            self._given += len(whole)
            self._given_at.append((self._given, now))
            self._core.out.put(HearAudio(audio=whole))

    # --- from the engine

    def speech(self, event: Speech, *, now: int) -> None:
        """The next of what the engine says."""
        self._came_at = now
        while len(self._given_at) > 1 and self._given_at[0][0] < event.heard:
            self._given_at.popleft()
        for segment in self._utterances.hear(event.audio, event.text):
            sounds = self._utterances.state is Talk.TALKING or segment.voice is not None
            if self._reply is None and not (sounds or segment.text):
                continue  # the silence after an utterance that was too long for one response
            if self._reply is None:
                self._said_before = self._said_at
                self._turns.answered(now=now)
                self._reply = self._responses.open(self._timeline(event, now))
            if not self._reply.done:
                if segment.voice is not None:
                    self._reply.on_voice(segment.voice, self._timeline(event, now))
                self._reply.on_speech(segment.audio, segment.text)
                self._words += bool(segment.text.strip())
                self._length += len(segment.audio)
            if segment.voice is not None or segment.text:
                self._said_at = now
            if segment.closed or self._too_long():
                self._end_reply()
        if self._utterances.state is Talk.TALKING:
            self._said_at = now

    def due(self) -> int | None:
        """When (ns) `follow` is needed."""
        if self._held:
            return self._settled_at
        return self._came_at + STALL if self._utterances.open else None

    def follow(self, *, now: int) -> None:
        """Take note of the time."""
        self._give(now)
        if self._utterances.open and now >= self._came_at + STALL:
            self._utterances.reset()
            self._end_reply()

    # --- inner workings

    def _too_long(self) -> bool:
        return self._length * SECOND >= self._core.options.longest_turn * self._core.engine.output_rate

    def _end_reply(self) -> None:
        """All of the reply has come; what comes next is another's."""
        reply, self._reply = self._reply, None
        if reply is not None and not reply.done:
            seconds = (self._given - self._accounted) / self._core.engine.input_rate
            ended = ReplyEnded(
                response_id=reply.plan.response_id, reason="completed", input_tokens=0, output_tokens=self._words
            )
            reply.on_ended(ended, heard_tokens=round(seconds * AUDIO_TOKENS_PER_SECOND))
            self._accounted = self._given
        self._length = self._words = 0

    def _timeline(self, event: Speech, now: int) -> Timeline:
        """The way to this frame, which begins a reply or is the first of it that can be heard.

        It starts at the end of the user's speech, if that was after the engine's utterance before. If it was not, or
        the user still speaks, nobody has waited for the engine's decision: it starts with the audio that the frame
        answers, and `endpointing` is zero.
        """
        times = event.times
        made = now - times.encode - times.model - times.decode
        given = made - times.queue
        if event.heard and self._given_at:
            given = min(given, self._given_at[0][1])
        spoken = self._turns.spoken_until
        if spoken is None or spoken <= (self._said_before or 0):
            spoken = given
        timeline = Timeline(min(spoken, given))
        timeline.mark("endpointing", given)
        timeline.mark("queue", made)
        timeline.mark("encode", made + times.encode)
        timeline.mark("model", now - times.decode)
        timeline.mark("decode", now)
        return timeline
