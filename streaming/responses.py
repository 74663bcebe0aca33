"""The session's responses: the one that joins the conversation, and those that a client asks for beside it."""

from __future__ import annotations

from collections import deque
from typing import Literal

from streaming.client_events import ResponseParams
from streaming.config import AudioOutput, WireFormat
from streaming.conversation import Conversation, as_messages
from streaming.core import Core
from streaming.engine import (
    CancelReply,
    ChatMessage,
    ConfirmReply,
    ReplyAudio,
    ReplyEnded,
    ReplyFailed,
    ReplyStage,
    ReplyText,
    ReplyToolCall,
    StartReply,
)
from streaming.errors import PeerError
from streaming.items import Item, ItemReference
from streaming.observations import SpeculationEnded
from streaming.reply import Reply
from streaming.response_events import ResponsePlan
from streaming.timeline import Timeline

MOST_BESIDE = 4
"""Responses beside the conversation that may run at once."""

STOCK_VOICES = frozenset(
    ("alloy", "ash", "ballad", "cedar", "coral", "echo", "fable", "marin", "nova", "onyx", "sage", "shimmer", "verse")
)
"""Names that stock clients ask for without knowing the server; they mean its default voice."""

_TRUNCATABLE = 8  # replies that a client may still truncate

ReplyEvent = ReplyText | ReplyAudio | ReplyStage | ReplyToolCall | ReplyEnded | ReplyFailed


class Responses:
    """Starts, feeds, paces and stops replies. At most one is in the conversation; a provisional one counts."""

    def __init__(self, core: Core, conversation: Conversation) -> None:
        self._core = core
        self._conversation = conversation
        self._running: dict[str, Reply] = {}
        self._recent: deque[Reply] = deque(maxlen=_TRUNCATABLE)
        self.latest: Reply | None = None
        """The newest reply of the conversation that the client was told of, running or not."""

    @property
    def active(self) -> Reply | None:
        """The confirmed reply of the conversation that is running."""
        return self.latest if self.latest is not None and not self.latest.done else None

    def truncatable(self, item_id: str) -> Reply | None:
        """The reply whose message this item is, if it is one of the newest."""
        return next((reply for reply in self._recent if reply.plan.item_id == item_id), None)

    @property
    def spoken(self) -> bool:
        """Whether any reply's audio has been sent."""
        return self.latest is not None and self.latest.playout.sent > 0

    @property
    def running(self) -> bool:
        """Whether any reply runs, in the conversation, beside it or on speculation."""
        return bool(self._running)

    @property
    def backlog(self) -> float:
        """Seconds of audio held, not yet sent."""
        return sum((reply.playout.backlog for reply in self._running.values()), 0.0)

    # --- starting

    def prepare(self, timeline: Timeline, pending: ChatMessage) -> Reply:
        """Begin a reply to the conversation and to `pending`, a turn that has not joined it yet, on speculation."""
        return self._start(None, timeline, (*self._conversation.messages(), pending), provisional=True)

    def create(self, params: ResponseParams | None, *, timeline: Timeline, note: str = "") -> Reply:
        """Answer now. `note` is added to the instructions.

        Raises PeerError when a response of the conversation runs, or the parameters are not the engine's.
        """
        beside = params is not None and params.conversation == "none"
        if beside and sum(not reply.in_conversation for reply in self._running.values()) >= MOST_BESIDE:
            raise PeerError(
                f"at most {MOST_BESIDE} responses beside the conversation run at once", code="too_many_responses"
            )
        if not beside and self.active is not None:
            raise PeerError(
                f"response {self.active.plan.response_id} is still running; cancel it or wait for response.done",
                code="conversation_already_has_active_response",
                param="response",
            )
        reply = self._start(params, timeline, self._context(params), provisional=False, note=note)
        self._announce(reply)
        return reply

    def confirm(self, reply: Reply) -> None:
        """A provisional reply is wanted."""
        self._announce(reply)
        self._core.out.put(ConfirmReply(response_id=reply.plan.response_id))
        self._core.out.put(SpeculationEnded(response_id=reply.plan.response_id, used=True))

    def discard(self, reply: Reply) -> None:
        """A provisional reply is not wanted; the client never knew of it."""
        del self._running[reply.plan.response_id]
        self._core.out.put(CancelReply(response_id=reply.plan.response_id))
        self._core.out.put(SpeculationEnded(response_id=reply.plan.response_id, used=False))

    # --- stopping

    def interrupt(self, *, now: int) -> None:
        """The user speaks: stop the conversation's reply, if one runs."""
        if self.active is not None:
            self._cancel(self.active, "turn_detected", now)

    def cancel(self, response_id: str | None, *, now: int) -> Reply:
        """The client asks to stop. Raises PeerError where nothing runs."""
        reply = self.active if response_id is None else self._running.get(response_id)
        if reply is None or reply.provisional:
            what = "no response is running" if response_id is None else f"response {response_id!r} is not running"
            raise PeerError(f"{what}; nothing to cancel", code="response_cancel_not_active", param="response_id")
        self._cancel(reply, "client_cancelled", now)
        return reply

    def fail_all(self, message: str, *, now: int) -> None:
        """The engine is gone."""
        for reply in self._running.values():
            reply.on_failed(ReplyFailed(response_id=reply.plan.response_id, code="engine_lost", message=message))
        self.pump(now=now)

    # --- the engine's side, and time

    def hear(self, event: ReplyEvent, *, now: int) -> None:
        """What the engine made of a reply; what belongs to one that was stopped is dropped."""
        reply = self._running.get(event.response_id)
        if reply is None:
            return
        match event:
            case ReplyText():
                reply.on_text(event.text)
            case ReplyAudio():
                reply.on_audio(event)
            case ReplyStage():
                reply.on_stage(event)
            case ReplyToolCall():
                reply.on_tool_call(event)
            case ReplyEnded():
                reply.on_ended(event)
            case ReplyFailed():
                reply.on_failed(event)
        self.pump(now=now)

    def due(self) -> int | None:
        """When (ns) `pump` will have something to do."""
        return min((due for reply in self._running.values() if (due := reply.due()) is not None), default=None)

    def pump(self, *, now: int) -> None:
        """Send what is due."""
        for reply in list(self._running.values()):
            reply.pump(now=now)
            if reply.done:
                del self._running[reply.plan.response_id]

    # --- inner workings

    def _announce(self, reply: Reply) -> None:
        reply.confirm()
        if reply.in_conversation:
            self.latest = reply
            self._recent.append(reply)

    def _start(
        self,
        params: ResponseParams | None,
        timeline: Timeline,
        messages: tuple[ChatMessage, ...],
        *,
        provisional: bool,
        note: str = "",
    ) -> Reply:
        params = params or ResponseParams()
        config = self._core.config
        tools = config.tools if params.tools is None else params.tools
        if tools and not self._core.engine.tools:
            raise PeerError(
                f"the model {self._core.engine.model!r} does not call functions", code="unsupported", param="tools"
            )
        plan = self._plan(params)
        instructions = config.instructions if params.instructions is None else params.instructions
        self._core.out.put(
            StartReply(
                response_id=plan.response_id,
                instructions=f"{instructions}\n{note}".strip(),
                messages=messages,
                speaks=plan.speaks,
                voice=self.voice(plan.audio.voice),
                speed=plan.audio.speed,
                max_tokens=None if plan.max_tokens == "inf" else plan.max_tokens,
                provisional=provisional,
                tools=tools,
                tool_choice=params.tool_choice or config.tool_choice,
            )
        )
        conversation = None if params.conversation == "none" else self._conversation
        reply = Reply(self._core, plan, conversation, timeline)
        self._running[plan.response_id] = reply
        return reply

    def _plan(self, params: ResponseParams) -> ResponsePlan:
        config = self._core.config
        output = params.audio.output if params.audio is not None else None
        form: WireFormat = config.audio.output.format
        voice = config.audio.output.voice
        if output is not None:
            form, voice = output.format or form, output.voice or voice
            self.voice(voice)
        modalities = params.output_modalities or config.output_modalities
        if not self._core.engine.speaks:
            modalities = ("text",)
        return ResponsePlan(
            response_id=self._core.out.name("resp"),
            item_id=self._core.out.name("item"),
            modalities=modalities,
            audio=AudioOutput(format=form, voice=voice, speed=config.audio.output.speed),
            max_tokens=params.max_output_tokens or config.max_output_tokens,
            metadata=params.metadata,
        )

    def voice(self, asked: str) -> str:
        """The engine's name of a voice. Raises PeerError naming those that there are."""
        voices = self._core.engine.voices
        if asked in voices:
            return asked
        if not asked or asked in STOCK_VOICES or not voices:
            return voices[0] if voices else ""
        known = ", ".join(voices)
        raise PeerError(
            f"there is no voice {asked!r}; there is: {known}", code="invalid_value", param="audio.output.voice"
        )

    def _context(self, params: ResponseParams | None) -> tuple[ChatMessage, ...]:
        if params is None or params.input is None:
            return self._conversation.messages()
        return as_messages(tuple(self._resolve(item) for item in params.input))

    def _resolve(self, item: Item | ItemReference) -> Item:
        return self._conversation.get(item.id, param="response.input") if isinstance(item, ItemReference) else item

    def _cancel(self, reply: Reply, reason: Literal["turn_detected", "client_cancelled"], now: int) -> None:
        del self._running[reply.plan.response_id]
        self._core.out.put(CancelReply(response_id=reply.plan.response_id))
        reply.cancel(reason, now=now)
