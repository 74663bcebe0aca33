"""One reply: what the engine makes of it on one side, what the client is sent and hears of it on the other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from streaming.audio import NS, AudioFormat, Resampler
from streaming.conversation import Conversation
from streaming.core import Core
from streaming.engine import ReplyAudio, ReplyEnded, ReplyFailed, ReplyStage, ReplyToolCall, Samples, Stage
from streaming.items import FunctionCall
from streaming.observations import TurnMeasured, Underrun
from streaming.playout import Playout
from streaming.response_events import ResponseEvents, ResponsePlan
from streaming.server_events import ErrorDetail, InputTokenDetails, OutputTokenDetails, StatusDetails, Usage
from streaming.timeline import Part, Timeline

AUDIO_TOKENS_PER_SECOND = 12.5
"""Audio is accounted in frames of Mimi's rate."""

LATENCY_KEY = "muse.latency"
"""Where `response.done` carries the turn's latency, as JSON, in its metadata."""

_PART_OF_STAGE: Mapping[Stage, Part] = {
    "queue": "queue",
    "transcribe": "transcribe",
    "first_token": "think",
    "first_clause": "write",
    "first_audio": "voice",
}


class Reply:
    """A response from its first thought to `response.done`.

    While it is provisional it collects; after `confirm`, `pump` sends what is due. It ends once all has been
    sent, once the engine has failed, or by `cancel`; whichever comes first. A `live` one is spoken in real time by a
    duplex engine, and can be heard from where `on_voice` says.
    """

    def __init__(
        self,
        core: Core,
        plan: ResponsePlan,
        conversation: Conversation | None,
        timeline: Timeline,
        *,
        live: bool = False,
    ) -> None:
        self.plan = plan
        self.timeline = timeline
        self.provisional = True
        self.done = False
        self.settled = False
        """Whether it is settled what was heard of it: it was stopped, or cut since."""
        self._core = core
        self._conversation = conversation
        self._events = ResponseEvents(plan, core.out, conversation)
        self._format = AudioFormat.of(plan.audio.format)
        self._resampler = Resampler(core.engine.output_rate, self._format.rate)
        frame = core.options.frame * self._format.rate // NS
        self.playout = Playout(rate=self._format.rate, lead=core.options.lead, frame=frame, live=live)
        self._audible = None if live else 0  # the first sample that can be heard
        self._first_sent: int | None = None
        self._heard_tokens = 0
        self._text = ""
        self._shown = 0
        self._audio = bytearray()
        self._calls: list[FunctionCall] = []
        self._ended: ReplyEnded | None = None
        self._failure: ReplyFailed | None = None
        self._begun = False
        self._limit: int | None = None  # ms: what the client says it has played, which counts more than the pace

    @property
    def failed(self) -> bool:
        """Whether the engine has failed."""
        return self._failure is not None

    @property
    def in_conversation(self) -> bool:
        """Whether this reply joins the conversation; only one at a time does."""
        return self._conversation is not None

    # --- from the engine

    def on_text(self, text: str) -> None:
        """More words."""
        self._text += text

    def on_audio(self, event: ReplyAudio) -> None:
        """More speech."""
        self.playout.push(self._resampler.push(event.audio), min(event.text_end, len(self._text)))

    def on_speech(self, audio: Samples, text: str) -> None:
        """More of a live reply, at the engine's rate, and the words that begin in it."""
        self._text += text
        if self.plan.speaks:
            self.playout.push(self._resampler.push(audio), len(self._text))

    def on_voice(self, offset: int, timeline: Timeline) -> None:
        """In the audio that comes next the live reply can be heard, from `offset` samples on; `timeline` led to it."""
        if not self._begun:
            self._audible = self.playout.pushed + offset * self._format.rate // self._core.engine.output_rate
            self.timeline = timeline

    def on_stage(self, event: ReplyStage) -> None:
        """One more mark on the timeline."""
        self.timeline.mark(_PART_OF_STAGE[event.stage], event.at)

    def on_tool_call(self, event: ReplyToolCall) -> None:
        """A function to call."""
        self._calls.append(FunctionCall(call_id=event.call_id, name=event.name, arguments=event.arguments))

    def on_ended(self, event: ReplyEnded, *, heard_tokens: int = 0) -> None:
        """Nothing more will come. `heard_tokens`: the user's audio that a live reply accounts for."""
        self.playout.push(self._resampler.finish(), len(self._text))
        self.playout.finish()
        self._ended = event
        self._heard_tokens = heard_tokens

    def on_failed(self, event: ReplyFailed) -> None:
        """Nothing more can come: what has been sent stays, and the client is told."""
        self._failure = event

    # --- to the client

    def confirm(self) -> None:
        """The reply is wanted: tell the client that it begins."""
        self.provisional = False
        self._events.created()

    def due(self) -> int | None:
        """When (ns) `pump` will have something to do; 0 for at once."""
        if self.done or self.provisional:
            return None
        if self._failure is not None or (self._ended is not None and self.playout.over):
            return 0
        return self.playout.due()

    def pump(self, *, now: int) -> None:
        """Send all that may be sent by now, and end the response once that was all."""
        if self.done or self.provisional:
            return
        if self._failure is not None:
            error = ErrorDetail(type="server_error", code=self._failure.code, message=self._failure.message)
            self._stop(StatusDetails(type="failed", error=error), now)
            return
        if not self.plan.speaks:
            self._show(len(self._text), now)
        while frame := self.playout.next_frame(now=now):
            self._show(frame.text_end, now)
            self._mark_sent(now)
            if frame.gap:
                self._core.out.put(Underrun(response_id=self.plan.response_id, gap=frame.gap))
            data = self._format.encode(frame.audio)
            if self._conversation is not None:
                self._audio += data
            self._events.audio(data)
        if self._ended is not None and self.playout.over:
            self._finish(self._ended, now)

    def cancel(self, reason: Literal["turn_detected", "client_cancelled"], *, now: int) -> None:
        """End it early. Its item keeps the words that were heard; nothing more is sent."""
        self._stop(StatusDetails(type="cancelled", reason=reason), now)

    # --- what was heard

    @property
    def sent_milliseconds(self) -> int:
        """How much of the reply has been sent; nobody can have heard more."""
        return self.playout.sent * 1000 // self._format.rate

    def truncate(self, milliseconds: int) -> int:
        """The client has played so much; what it has once said was not heard stays so. Returns what counts, in ms."""
        self._limit = milliseconds if self._limit is None else min(milliseconds, self._limit)
        self._cut(self._limit)
        return self._limit

    def cut_unheard(self, *, now: int) -> int:
        """Cut it to what has been heard by the pace; returns how much that is, in ms."""
        milliseconds = self.playout.heard(now=now) * 1000 // self._format.rate
        self._cut(milliseconds)
        return milliseconds

    # --- inner workings

    def _cut(self, milliseconds: int) -> None:
        """The conversation keeps the words in the first `milliseconds`, and that much audio."""
        self.settled = True
        if self._conversation is not None:
            samples = self._samples(milliseconds)
            words = self._text[: self.playout.text_heard(samples, self._text)].rstrip()
            self._conversation.set_transcript(self.plan.item_id, words)
            self._conversation.cut_audio(self.plan.item_id, samples)

    def _samples(self, milliseconds: int) -> int:
        return min(milliseconds * self._format.rate // 1000, self.playout.sent)

    def _show(self, until: int, now: int) -> None:
        if until > self._shown:
            if not (self.plan.speaks and self.playout.live):
                self._begin(now)
            self._events.text(self._text[self._shown : until])
            self._shown = until

    def _mark_sent(self, now: int) -> None:
        """A frame was sent: is it the first that can be heard?"""
        self._first_sent = now if self._first_sent is None else self._first_sent
        if self._audible is not None and self.playout.sent > self._audible and not self._begun:
            self._begin(self.playout.played_at(self._audible))

    def _begin(self, at: int) -> None:
        """Mark the first of the reply that leaves."""
        if not self._begun:
            self._begun = True
            self.timeline.mark("send", at)
            latency = self.timeline.latency()
            self._core.out.put(TurnMeasured(response_id=self.plan.response_id, latency=latency))

    def _finish(self, ended: ReplyEnded, now: int) -> None:
        self._show(len(self._text), now)
        for call in self._calls:
            self._events.tool_call(replace(call, id=self._core.out.name("item")))
        details = StatusDetails(type="completed")
        if ended.reason == "max_tokens":
            details = StatusDetails(type="incomplete", reason="max_output_tokens")
        self._end(details, self._text)

    def _stop(self, details: StatusDetails, now: int) -> None:
        self.settled = True
        heard = self._shown
        if self.plan.speaks:
            samples = self.playout.heard(now=now) if self._limit is None else self._samples(self._limit)
            heard = self.playout.text_heard(samples, self._text)
        self.playout.stop()
        self._end(details, self._text[:heard].rstrip())

    def _end(self, details: StatusDetails, words: str) -> None:
        self.done = True
        if self._first_sent is not None:
            self._begin(self._first_sent)  # of a live reply that was words and silence
        metadata = dict(self.plan.metadata or {})
        if self._begun:
            metadata[LATENCY_KEY] = json.dumps(self.timeline.latency().as_milliseconds())
        self._events.done(details, words=words, usage=self._usage(), metadata=metadata or None)
        if self._conversation is not None and self._audio:
            self._conversation.keep_audio(self.plan.item_id, self._format, bytes(self._audio))
            if self._limit is not None:
                self._conversation.cut_audio(self.plan.item_id, self._samples(self._limit))
        self._audio.clear()

    def _usage(self) -> Usage:
        spoken = round(self.playout.sent / self._format.rate * AUDIO_TOKENS_PER_SECOND)
        read = written = cached = 0  # an engine that was stopped does not say
        if self._ended is not None:
            read, written, cached = self._ended.input_tokens, self._ended.output_tokens, self._ended.cached_tokens
        heard = self._heard_tokens
        return Usage(
            input_tokens=read + heard,
            output_tokens=written + spoken,
            total_tokens=read + heard + written + spoken,
            input_token_details=InputTokenDetails(text_tokens=read, audio_tokens=heard, cached_tokens=cached),
            output_token_details=OutputTokenDetails(text_tokens=written, audio_tokens=spoken),
        )
