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
from streaming.items import InputAudio, Item, ItemReference, Message
from streaming.observations import SpeculationEnded
from streaming.reply import Reply
from streaming.response_events import ResponsePlan
from streaming.session_config import check_modalities, check_tools, check_voice, engine_voice
from streaming.timeline import Timeline

MOST_BESIDE = 4
"""Responses beside the conversation that may run at once."""

_TRUNCATABLE = 8  # replies that a client may still truncate

ReplyEvent = ReplyText | ReplyAudio | ReplyStage | ReplyToolCall | ReplyEnded | ReplyFailed


class Responses:
    """Starts, feeds, paces and stops replies. At most one is in the conversation; a provisional one counts."""

    def __init__(self, core: Core, conversation: Conversation) -> None:
        self._core = core
        self._conversation = conversation
        self._running: dict[str, Reply] = {}
        self._recent: deque[Reply] = deque(maxlen=_TRUNCATABLE)
        self._guess: Reply | None = None
        self._next: deque[Reply] = deque()  # live replies, behind the one that is being sent
        self.spoken = False
        """Whether any reply's audio has been sent."""
        self.latest: Reply | None = None
        """The newest reply of the conversation that the client was told of, running or not."""

    @property
    def active(self) -> Reply | None:
        """The confirmed reply of the conversation that is running."""
        return self.latest if self.latest is not None and not self.latest.done else None

    def truncatable(self, item_id: str) -> Reply | None:
        """The reply whose message this item is, if it is one of the newest."""
        return next((reply for reply in self._recent if reply.plan.item_id == item_id), None)

    def promised(self, item_id: str) -> bool:
        """Whether a running reply's message will have this id."""
        return any(reply.plan.item_id == item_id for reply in self._running.values())

    @property
    def running(self) -> bool:
        """Whether any reply runs, in the conversation, beside it or on speculation."""
        return bool(self._running)

    @property
    def backlog(self) -> float:
        """Seconds of audio held, not yet sent."""
        return sum((reply.playout.backlog for reply in self._running.values()), 0.0)

    # --- starting

    @property
    def may_guess(self) -> bool:
        """Whether neither a reply of the conversation nor a guess at one is under way."""
        return self._guess is None and self.active is None

    def guess(self, pending: ChatMessage, *, timeline: Timeline) -> None:
        """Begin a reply to the conversation and to `pending`, a turn that has not joined it yet, on speculation."""
        messages = (*self._conversation.messages(), pending)
        self._guess = self._start(ResponseParams(), timeline, messages, provisional=True)

    def confirm_guess(self, *, now: int) -> bool:
        """The turn is over: the guess becomes its reply. False where there is no guess that can."""
        guess = self._guess
        if guess is None or guess.failed or self.active is not None:
            self.forget_guess()
            return False
        self._guess = None
        guess.timeline.mark("endpointing", now)
        self._announce(guess)
        self._core.out.put(ConfirmReply(response_id=guess.plan.response_id))
        self._core.out.put(SpeculationEnded(response_id=guess.plan.response_id, used=True))
        return True

    def forget_guess(self) -> None:
        """What the guess was made from has changed; the client never knew of it."""
        guess, self._guess = self._guess, None
        if guess is not None:
            del self._running[guess.plan.response_id]
            self._core.out.put(CancelReply(response_id=guess.plan.response_id))
            self._core.out.put(SpeculationEnded(response_id=guess.plan.response_id, used=False))

    def open(self, timeline: Timeline) -> Reply:
        """A duplex engine begins to speak by itself. The client is told once the reply before has been sent."""
        plan = self._plan(ResponseParams())
        reply = Reply(self._core, plan, self._conversation, timeline, live=True)
        self._running[plan.response_id] = reply
        self._next.append(reply)
        return reply

    def create(self, params: ResponseParams, *, timeline: Timeline, note: str = "") -> None:
        """Answer now. `note` is added to the instructions.

        Raises PeerError when a response of the conversation runs, or the parameters are not the engine's.
        """
        beside = params.conversation == "none"
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
        self._announce(self._start(params, timeline, self._context(params), provisional=False, note=note))

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
            # LiveKit knows this refusal, which a race makes, by the first words of its message.
            message = f"Cancellation failed: {what}"
            raise PeerError(message, code="response_cancel_not_active", param="response_id")
        self._cancel(reply, "client_cancelled", now)
        return reply

    def fail_all(self, code: str, message: str, *, now: int) -> None:
        """The session is over: so is every reply."""
        self._next.clear()
        for reply in self._running.values():
            reply.on_failed(ReplyFailed(response_id=reply.plan.response_id, code=code, message=message))
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
            self._pump(reply, now)
        while self._next and self.active is None:
            reply = self._next.popleft()
            self._announce(reply)
            self._pump(reply, now)

    # --- inner workings

    def _pump(self, reply: Reply, now: int) -> None:
        reply.pump(now=now)
        self.spoken = self.spoken or reply.playout.sent > 0
        if reply.done:
            del self._running[reply.plan.response_id]

    def _announce(self, reply: Reply) -> None:
        reply.confirm()
        if reply.in_conversation:
            self.latest = reply
            self._recent.append(reply)

    def _start(
        self,
        params: ResponseParams,
        timeline: Timeline,
        messages: tuple[ChatMessage, ...],
        *,
        provisional: bool,
        note: str = "",
    ) -> Reply:
        config, engine = self._core.config, self._core.engine
        tools = config.tools if params.tools is None else params.tools
        tool_choice = params.tool_choice or config.tool_choice
        check_tools(tools, tool_choice, engine=engine, of="response")
        plan = self._plan(params)
        instructions = config.instructions if params.instructions is None else params.instructions
        command = StartReply(
            response_id=plan.response_id,
            instructions=f"{instructions}\n{note}".strip(),
            messages=messages,
            speaks=plan.speaks,
            voice=engine_voice(plan.audio.voice, engine),
            speed=plan.audio.speed,
            max_tokens=None if plan.max_tokens == "inf" else plan.max_tokens,
            provisional=provisional,
            tools=tools,
            tool_choice=tool_choice,
        )
        beside = params.conversation == "none"
        if not beside:
            self.forget_guess()
        self._core.out.put(command)
        reply = Reply(self._core, plan, None if beside else self._conversation, timeline)
        self._running[plan.response_id] = reply
        return reply

    def _plan(self, params: ResponseParams) -> ResponsePlan:
        config, engine = self._core.config, self._core.engine
        output = params.audio.output if params.audio is not None else None
        form: WireFormat = config.audio.output.format
        voice = config.audio.output.voice
        if output is not None:
            form, voice = output.format or form, output.voice or voice
            check_voice(voice, engine=engine, of="response")
        if params.output_modalities is not None:
            check_modalities(params.output_modalities, engine=engine, of="response")
        return ResponsePlan(
            response_id=self._core.out.name("resp"),
            item_id=self._core.out.name("item"),
            modalities=params.output_modalities or config.output_modalities,
            audio=AudioOutput(format=form, voice=voice, speed=config.audio.output.speed),
            max_tokens=params.max_output_tokens or config.max_output_tokens,
            metadata=params.metadata,
        )

    def _context(self, params: ResponseParams) -> tuple[ChatMessage, ...]:
        if params.input is None:
            return self._conversation.messages()
        return as_messages(tuple(self._resolve(item) for item in params.input))

    def _resolve(self, item: Item | ItemReference) -> Item:
        if isinstance(item, ItemReference):
            return self._conversation.get(item.id, param="response.input")
        if isinstance(item, Message) and any(isinstance(part, InputAudio) and part.audio for part in item.content):
            raise PeerError(
                "a response's input takes no audio: create an item of it, and refer to that",
                code="invalid_value",
                param="response.input",
            )
        return item

    def _cancel(self, reply: Reply, reason: Literal["turn_detected", "client_cancelled"], now: int) -> None:
        del self._running[reply.plan.response_id]
        if not reply.playout.live:
            self._core.out.put(CancelReply(response_id=reply.plan.response_id))
        reply.cancel(reason, now=now)
