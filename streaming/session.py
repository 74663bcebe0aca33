"""The session: one conversation, sans-I/O.

A driver gives it what comes (`receive`), tells it the time (`handle_timeout` at `next_timeout`), and after each call
carries away what goes out (`poll` until None): events for the client, commands for the engine and the detectors, and
observations for the operator. The same calls at the same times give the same outputs, always.

There are two policies. A turn-based engine is asked for each reply, which the user may interrupt; `user_turns` decides.
A duplex engine hears everything, and speaks and yields by itself; `duplex` makes responses of what it says.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, assert_never

from streaming.audio import AudioFormat, resample
from streaming.client_events import (
    AppendAudio,
    CancelResponse,
    ClearAudio,
    ClearOutputAudio,
    ClientEvent,
    CommitAudio,
    CreateItem,
    CreateResponse,
    DeleteItem,
    ResponseParams,
    RetrieveItem,
    TruncateItem,
    UpdateSession,
)
from streaming.config import ServerVad, SessionConfig
from streaming.conversation import Conversation
from streaming.core import MS, SECOND, Core, Outbox, Output, SessionOptions
from streaming.duplex import AHEAD, Duplex
from streaming.engine import (
    DETECTOR_RATE,
    DetectorEvent,
    EngineEvent,
    EngineInfo,
    EngineLost,
    Speech,
    Transcript,
    TranscriptFailed,
    TurnEndProbability,
    VoiceProbability,
)
from streaming.errors import PeerError
from streaming.items import InputAudio, Item, Message
from streaming.listening import Listener
from streaming.observations import CloseSession
from streaming.reply import Reply
from streaming.responses import ReplyEvent, Responses
from streaming.server_events import (
    ErrorDetail,
    ErrorEvent,
    IdleTimeout,
    ItemAdded,
    ItemDeleted,
    ItemDone,
    ItemRetrieved,
    ItemTruncated,
    Notice,
    NoticeCode,
    OutputAudioCleared,
    SessionCreated,
    SessionUpdated,
)
from streaming.session_config import first_config, updated_config
from streaming.timeline import Timeline
from streaming.transcripts import Transcripts
from streaming.user_turns import UserTurns

Input = ClientEvent | EngineEvent | DetectorEvent

_SILENT_USER = "The user has said nothing for a while. Ask briefly whether they are still there."


class Session:
    """One client's conversation with one engine, from `session.created` to `CloseSession`."""

    def __init__(
        self, *, session_id: str, config: SessionConfig, engine: EngineInfo, options: SessionOptions, now: int
    ) -> None:
        first = first_config(config, session_id=session_id, engine=engine)
        config = replace(first, metadata=None)
        self._conversation = Conversation()
        out = Outbox(session_id, taken=self._conversation)
        self._core = Core(config=config, engine=engine, options=options, out=out)
        self._responses = Responses(self._core, self._conversation)
        self._transcripts = Transcripts(self._core, self._conversation)
        ahead = min(options.ahead, AHEAD) if engine.duplex else options.ahead
        self._listener = Listener(config.audio.input.format, engine_rate=engine.input_rate, ahead=ahead, now=now)
        self._turns = UserTurns(self._core, self._conversation, self._responses, self._listener, self._transcripts)
        self._duplex = Duplex(self._core, self._responses, self._turns, now=now) if engine.duplex else None
        self._began = now
        self._last_word = now
        self._warned = False
        self._idle_counted_from: int | None = None
        self.closed = False
        self._core.out.send(SessionCreated(session=first))

    @property
    def backlog(self) -> float:
        """Seconds of reply audio held, not yet sent: a driver stops reading from the engine while it is large."""
        return self._responses.backlog

    @property
    def busy(self) -> bool:
        """Whether a turn is open: the user speaks, or a reply is being made, sent or owed. Else nobody is cut short."""
        return not self.closed and (self._turns.open or self._responses.running)

    def receive(self, event: Input, *, now: int) -> None:
        """Take one input. What a client does wrong comes out as an `ErrorEvent`, and changes nothing."""
        if self.closed:
            return
        match event:
            case VoiceProbability():
                self._turns.voice(event, now=now)
            case TurnEndProbability():
                self._turns.turn_end(event, now=now)
            case Transcript() | TranscriptFailed():
                if self._transcripts.hear(event):
                    text = event.text if isinstance(event, Transcript) else None
                    self._turns.words(event.item_id, text, now=now)
            case EngineLost():
                self._on_engine_lost(event, now)
            case (
                UpdateSession()
                | AppendAudio()
                | CommitAudio()
                | ClearAudio()
                | CreateItem()
                | RetrieveItem()
                | DeleteItem()
                | TruncateItem()
                | CreateResponse()
                | CancelResponse()
                | ClearOutputAudio()
            ):
                self._last_word = now
                try:
                    if self._duplex is not None:
                        self._duplex.check(event)
                    self._on_client(event, now)
                except PeerError as error:
                    self._core.out.refuse(error, event.event_id)
            case _:
                self._on_engine(event, now)
        self._settle(now)

    def refuse(self, error: PeerError, *, now: int) -> None:
        """Answer a message that could not be read as an event at all."""
        self._last_word = now
        self._core.out.refuse(error, error.event_id)

    def notify(self, code: NoticeCode, message: str) -> None:
        """Tell a client that knows Muse's own events what it may want to know; others would take it for an error."""
        if self._core.options.extensions and not self.closed:
            self._core.out.send(Notice(code=code, message=message))

    def next_timeout(self) -> int | None:
        """When (monotonic ns) `handle_timeout` is wanted; it may lie in the past."""
        if self.closed:
            return None
        speech_due = self._duplex.due() if self._duplex is not None else None
        times = (self._responses.due(), speech_due, self._turns.due(), self._idle_due(), self._silent_due())
        return min((time for time in (*times, self._length_due()) if time is not None), default=None)

    def handle_timeout(self, *, now: int) -> None:
        """Do what is due by now."""
        if self.closed:
            return
        if (due := self._silent_due()) is not None and due <= now:
            self._on_silent_user(now)
        self._settle(now)
        if (due := self._idle_due()) is not None and due <= now:
            self._expire("session_idle", "idle: nothing came from the client", now)
        elif (due := self._length_due()) is not None and due <= now:
            self._on_length(now)

    def poll(self) -> Output | None:
        """The next output; drain after every call."""
        return self._core.out.poll()

    # --- the client

    def _on_client(self, event: ClientEvent, now: int) -> None:
        match event:
            case AppendAudio():
                self._append(event.audio, now)
            case CommitAudio():
                self._turns.commit(now=now)
            case ClearAudio():
                self._turns.clear(now=now)
            case UpdateSession():
                self._update(event, now)
            case CreateItem():
                self._create_item(event.item, event.previous_item_id)
            case RetrieveItem():
                form = AudioFormat.of(self._core.config.audio.input.format)
                item = self._conversation.with_audio(event.item_id, form)
                self._core.out.send(ItemRetrieved(item=item))
            case DeleteItem():
                self._conversation.delete(event.item_id)
                self._responses.forget_guess()
                self._core.out.send(ItemDeleted(item_id=event.item_id))
            case TruncateItem():
                self._truncate(event, now)
            case CreateResponse():
                self._create_response(event.response or ResponseParams(), now)
            case CancelResponse():
                self._cancel(event.response_id, now)
            case ClearOutputAudio():
                reply = self._cancel(None, now)
                self._core.out.send(OutputAudioCleared(response_id=reply.plan.response_id))
            case _:
                assert_never(event)

    def _append(self, data: bytes, now: int) -> None:
        limit = self._core.options.longest_turn * DETECTOR_RATE // SECOND
        full = not self._turns.detects and self._turns.waiting >= limit
        if full and self._duplex is None:
            raise PeerError(
                f"the input audio buffer holds {limit // DETECTOR_RATE} s, which is all it can; commit or clear it",
                code="input_audio_buffer_full",
                param="audio",
            )
        frames, for_engine = self._listener.append(data, now=now)
        if self._duplex is not None:
            self._duplex.hear(for_engine, now=now)
            if full:  # a duplex engine has heard it, committed or not
                self._turns.keep(limit)
        if self._turns.detects:
            for frame in frames:
                self._core.out.put(frame)

    def _update(self, event: UpdateSession, now: int) -> None:
        old = self._core.config
        begun = self._duplex is not None and self._duplex.begun
        new = updated_config(old, event.session, engine=self._core.engine, spoken=self._responses.spoken, begun=begun)
        self._core.config = new
        if new.audio.input.format != old.audio.input.format:
            self._listener.listen_in(new.audio.input.format)
        self._turns.configure(now=now)
        self._responses.forget_guess()
        self._core.out.send(SessionUpdated(session=new))

    def _create_item(self, item: Item, after: str | None) -> None:
        form = AudioFormat.of(self._core.config.audio.input.format)
        clip = self._clip(item, form)
        samples = form.decode(clip)
        if isinstance(item, Message):
            content = tuple(replace(p, audio=None) if isinstance(p, InputAudio) else p for p in item.content)
            item = replace(item, content=content)
        item_id = item.id or self._core.out.name("item")
        if item_id == self._turns.item_id or self._responses.promised(item_id):
            raise PeerError(f"the id {item_id!r} is taken", code="item_id_taken", param="item.id")
        item = replace(item, id=item_id)
        previous = self._conversation.add(item, after=after)
        self._responses.forget_guess()
        self._core.out.send(ItemAdded(item=item, previous_item_id=previous))
        self._core.out.send(ItemDone(item=item, previous_item_id=previous))
        if clip:
            self._conversation.keep_audio(item_id, form, clip)
            self._transcripts.ask(item_id, resample(samples, form.rate, self._core.engine.input_rate))
            self._transcripts.commit(item_id, len(samples) / form.rate)

    def _clip(self, item: Item, form: AudioFormat) -> bytes:
        """The audio that a client put into an item."""
        parts = [part for part in item.content if isinstance(part, InputAudio)] if isinstance(item, Message) else []
        clips = [part.audio for part in parts if part.audio]
        if clips and len(parts) > 1:
            raise PeerError("an item holds one part of audio at most", code="invalid_value", param="item.content")
        clip = clips[0] if clips else b""
        limit = self._core.options.longest_turn
        if form.duration_ns(clip) > limit:
            raise PeerError(
                f"an item holds at most {limit // SECOND} s of audio", code="audio_too_long", param="item.content"
            )
        return clip

    def _create_response(self, params: ResponseParams, now: int) -> None:
        self._responses.create(params, timeline=Timeline(now))
        if params.conversation == "auto":
            self._turns.forget_owed()

    def _cancel(self, response_id: str | None, now: int) -> Reply:
        reply = self._responses.cancel(response_id, now=now)
        if reply.in_conversation:
            self._turns.forget_owed()
        return reply

    def _truncate(self, event: TruncateItem, now: int) -> None:
        self._conversation.get(event.item_id, code="item_truncate_invalid_item_id")
        reply = self._responses.truncatable(event.item_id)
        if reply is None or event.content_index != 0 or not reply.plan.speaks:
            raise PeerError(
                "only the spoken part (content_index 0) of one of the latest replies can be truncated",
                code="invalid_value",
                param="item_id" if reply is None else "content_index",
            )
        # The client knows best what it has played; what it was not sent, it cannot have.
        sent = reply.sent_milliseconds
        if event.audio_end_ms > sent:
            raise PeerError(
                f"audio_end_ms is {event.audio_end_ms}, but only {sent} ms of the item have been sent",
                code="invalid_value",
                param="audio_end_ms",
            )
        heard = reply.truncate(event.audio_end_ms)
        if reply is self._responses.active:
            self._cancel(None, now)
        self._responses.forget_guess()
        self._core.out.send(ItemTruncated(item_id=event.item_id, content_index=0, audio_end_ms=heard))

    # --- the engine

    def _on_engine(self, event: ReplyEvent | Speech, now: int) -> None:
        """What an engine says; a duplex engine knows no response by name, and no other makes `Speech`."""
        if isinstance(event, Speech):
            if self._duplex is not None:
                self._duplex.speech(event, now=now)
        elif self._duplex is None:
            self._responses.hear(event, now=now)

    # --- time

    def _settle(self, now: int) -> None:
        """Send what may be sent, and let the user's side see what became of the reply."""
        if self._duplex is not None:
            self._duplex.follow(now=now)
        self._responses.pump(now=now)
        self._turns.follow(now=now)

    def _idle_due(self) -> int | None:
        idle = self._core.options.idle
        return None if idle is None else self._last_word + idle

    def _length_due(self) -> int | None:
        longest = self._core.options.longest
        if longest is None:
            return None
        return self._began + longest - (0 if self._warned else self._core.options.warning)

    def _silent_due(self) -> int | None:
        """When the user will have been silent for `idle_timeout_ms`; never where no reply to it can be asked for."""
        setting, engine = self._core.config.audio.input.turn_detection, self._core.engine
        if engine.duplex or not engine.instructed:
            return None
        if not isinstance(setting, ServerVad) or setting.idle_timeout_ms is None:
            return None
        quiet_since = self._quiet_since()
        if quiet_since is None or self._turns.speaking or self._idle_counted_from == quiet_since:
            return None
        return quiet_since + setting.idle_timeout_ms * MS

    def _quiet_since(self) -> int | None:
        """When the latest reply had been heard out, or the user's latest turn had ended, whichever was later."""
        latest = self._responses.latest
        heard_out = latest.playout.dry_at() if latest is not None and latest.done else None
        return None if heard_out is None else max(heard_out, self._turns.latest_end or heard_out)

    def _on_silent_user(self, now: int) -> None:
        self._idle_counted_from = self._quiet_since()
        if self._turns.waiting == 0:
            return
        end = self._listener.end
        start, item_id = self._turns.idle()
        self._conversation.set_transcript(item_id, "")  # or the reply would be to this silence
        self._core.out.send(IdleTimeout(audio_start_ms=start // 16, audio_end_ms=end // 16, item_id=item_id))
        self._responses.create(ResponseParams(), timeline=Timeline(now), note=_SILENT_USER)

    def _on_length(self, now: int) -> None:
        left = self._core.options.warning // SECOND
        if not self._warned:
            self._warned = True
            self.notify("session_expiring", f"the session ends in {left} s")
        else:
            self._expire("session_expired", "the session has reached its longest duration", now)

    def _on_engine_lost(self, event: EngineLost, now: int) -> None:
        detail = ErrorDetail(type="server_error", code="engine_lost", message=event.message)
        self._core.out.send(ErrorEvent(error=detail))
        self._close(1011, "engine_lost", event.message, now)

    def _expire(self, code: Literal["session_expired", "session_idle"], reason: str, now: int) -> None:
        self.notify(code, reason)
        self._close(1000, code, reason, now)

    def _close(self, websocket_code: int, code: str, reason: str, now: int) -> None:
        self._responses.fail_all(code, reason, now=now)
        self._core.out.put(CloseSession(code=websocket_code, reason=reason))
        self.closed = True
