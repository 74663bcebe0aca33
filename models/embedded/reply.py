"""One spoken or written reply: the chat model's words, cut into clauses, and the voice that speaks them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass

from models.embedded.clauses import Clause, ClauseCutter
from models.embedded.parts import (
    ChatBegun,
    ChatEnded,
    ChatEvent,
    ChatModel,
    ChatRequest,
    Speech,
    TextDelta,
    ToolCall,
    Voice,
)
from models.embedded.spoken import SpokenText
from models.tasks import gather_all
from models.turn_based import Emit, ReplyWork
from streaming.audio import NS
from streaming.engine import (
    ChatMessage,
    ReplyAudio,
    ReplyEnded,
    ReplyStage,
    ReplyText,
    ReplyToolCall,
    Stage,
    StartReply,
)

NOT_HEARD = "Sorry, I didn't catch that."
NO_ANSWER = "Sorry, I have no answer to that."

_CLAUSES_AHEAD = 4
_WORDS_AHEAD = 512
_SLOWEST, _FASTEST = 0.25, 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A user turn's words, and when (monotonic ns) finding them began and ended."""

    text: str
    begun: int
    ended: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyParts:
    """What a reply is made with.

    Of a provisional reply `provisional_audio` seconds are spoken. No chunk is given out while the listener has `ahead`
    seconds left to play: enough to write and speak the next clause in, little enough that the conversation's other
    events, a transcript above all, never stand in line behind a long reply.
    """

    chat: ChatModel
    voice: Voice
    hear: Callable[[str], Awaitable[Heard]]
    clock: Callable[[], int]
    provisional_audio: float = 0.5
    ahead: float = 4.0


class Reply(ReplyWork):
    """See `turn_based.ReplyWork`. A provisional reply waits after its first clause and first half second."""

    def __init__(self, session_id: str, command: StartReply, parts: ReplyParts, emit: Emit) -> None:
        super().__init__(command, emit)
        self._session_id = session_id
        self._parts = parts
        self._asked_at = parts.clock()
        self._text_length = 0
        self._playing_since: int | None = None
        self._spoken_samples = 0
        self._ended: ChatEnded | None = None

    def confirm(self) -> None:
        """See `ReplyWork.confirm`."""
        if not self._wanted.is_set() and self._playing_since is not None:
            self._playing_since = self._parts.clock()
        super().confirm()

    async def run(self) -> None:
        """See `ReplyWork.run`: EngineError where a model fails."""
        clauses: asyncio.Queue[Clause | None] = asyncio.Queue(_CLAUSES_AHEAD)
        words = await self._words()
        written: asyncio.Queue[ChatEvent | None] = asyncio.Queue(_WORDS_AHEAD)
        if self._command.speaks:
            await gather_all(self._think(words, written), self._write(written, clauses), self._speak(clauses))
        else:
            await gather_all(self._think(words, written), self._write(written, None))
        await self._wanted.wait()
        ended = self._ended or ChatEnded(reason="completed", input_tokens=0, output_tokens=0)
        await self._emit(
            ReplyEnded(
                response_id=self._command.response_id,
                reason=ended.reason,
                input_tokens=ended.input_tokens,
                output_tokens=ended.output_tokens,
                cached_tokens=ended.cached_tokens,
            )
        )

    async def _words(self) -> AsyncGenerator[ChatEvent, None]:
        """The chat model's events, once what the user said is known."""
        messages = []
        for message in self._command.messages:
            text = message.text
            if text is None and message.tool_call is None:
                text = await self._transcript(message) if message.item_id else ""
            messages.append((message, text or ""))
        # A function may give nothing back: its call must not be left without an answer.
        known = tuple(
            _with_text(message, text)
            for message, text in messages
            if text.strip() or message.tool_call or message.role == "tool"
        )
        not_heard = bool(messages) and messages[-1][0].role == "user" and not messages[-1][1].strip()
        # A cough may have cut short the answer to the turn before it, which still waits for one.
        if not_heard and not (known and known[-1].role in ("user", "tool")):
            return _say(NOT_HEARD)
        request = ChatRequest(
            session_id=self._session_id,
            instructions=self._command.instructions,
            messages=known,
            max_tokens=self._command.max_tokens,
            tools=self._command.tools,
            tool_choice=self._command.tool_choice,
        )
        return self._parts.chat.stream(request, needed_at=self._words_needed_at)

    async def _transcript(self, message: ChatMessage) -> str:
        heard = await self._parts.hear(message.item_id or "")
        if message is self._command.messages[-1]:
            await self._stage("queue", heard.begun)
            await self._stage("transcribe", heard.ended)
        return heard.text

    async def _think(self, words: AsyncGenerator[ChatEvent, None], written: asyncio.Queue[ChatEvent | None]) -> None:
        """Take the words as fast as they are written: a model must not be held while its words are being spoken.

        A provisional reply's words are taken one by one, as `_write` needs them.
        """
        async with aclosing(words):
            async for event in words:
                await written.put(event)
                if not self._wanted.is_set():
                    await written.join()
        await written.put(None)

    async def _write(
        self, written: asyncio.Queue[ChatEvent | None], clauses: asyncio.Queue[Clause | None] | None
    ) -> None:
        """Emit the words; hand the clauses that they make to the voice."""
        spoken, cutter = SpokenText(), ClauseCutter()
        called = False
        while event := await written.get():
            match event:
                case ChatBegun():
                    await self._stage("queue", self._parts.clock())
                case TextDelta():
                    text = spoken.push(event.text) if self._command.speaks else event.text
                    await self._add(text, cutter, clauses)
                case ToolCall():
                    called = True
                    await self._wanted.wait()
                    await self._call(event)
                case ChatEnded():
                    self._ended = event
            written.task_done()
        await self._add(spoken.flush(), cutter, clauses)
        if not self._text_length and not called:
            await self._add(NO_ANSWER, cutter, clauses)
        for clause in cutter.flush():
            await self._hand_over(clause, clauses)
        if clauses is not None:
            await clauses.put(None)

    async def _add(self, text: str, cutter: ClauseCutter, clauses: asyncio.Queue[Clause | None] | None) -> None:
        if not text:
            return
        if not self._text_length:
            await self._stage("first_token", self._parts.clock())
        self._text_length += len(text)
        await self._emit(ReplyText(response_id=self._command.response_id, text=text))
        for clause in cutter.push(text):
            await self._hand_over(clause, clauses)
            await self._wanted.wait()  # a provisional reply goes no further than its first clause

    async def _hand_over(self, clause: Clause, clauses: asyncio.Queue[Clause | None] | None) -> None:
        if clause.end == len(clause.text):
            await self._stage("first_clause", self._parts.clock())
        if clauses is not None:
            await clauses.put(clause)

    async def _call(self, call: ToolCall) -> None:
        await self._emit(
            ReplyToolCall(
                response_id=self._command.response_id,
                call_id=call.call_id,
                name=call.name,
                arguments=call.arguments,
            )
        )

    async def _speak(self, clauses: asyncio.Queue[Clause | None]) -> None:
        """Emit the clauses' audio."""
        speed = min(max(self._command.speed, _SLOWEST), _FASTEST)
        while clause := await clauses.get():
            if not any(character.isalnum() for character in clause.text):
                continue
            chunks = self._parts.voice.speak(
                self._session_id, clause.text, speed=speed, needed_at=self._audio_needed_at
            )
            async with aclosing(chunks):
                async for chunk in chunks:
                    await self._keep_pace()
                    await self._play(clause, chunk)
                    if self._spoken_samples >= self._parts.provisional_audio * self._parts.voice.rate:
                        await self._wanted.wait()

    async def _keep_pace(self) -> None:
        """Return once the listener has no more than `ahead` seconds left to play."""
        left = (self._audio_needed_at() - self._parts.clock()) / NS
        if left > self._parts.ahead:
            await asyncio.sleep(left - self._parts.ahead)

    async def _play(self, clause: Clause, chunk: Speech) -> None:
        now = self._parts.clock()
        if self._playing_since is None:
            self._playing_since = now
            await self._stage("first_audio", now)
        else:
            # What ran dry is played from now on.
            self._playing_since = max(self._playing_since, now - self._seconds_spoken())
        self._spoken_samples += chunk.audio.size
        await self._emit(
            ReplyAudio(
                response_id=self._command.response_id,
                audio=chunk.audio,
                text_end=clause.end - len(clause.text) + _spoken_characters(clause.text, chunk.done),
            )
        )

    def _seconds_spoken(self) -> int:
        return self._spoken_samples * NS // self._parts.voice.rate

    def _audio_needed_at(self) -> int:
        """When the listener runs dry; for the first audio, the moment at which the reply was asked for."""
        if self._playing_since is None:
            return self._asked_at
        return self._playing_since + self._seconds_spoken()

    def _words_needed_at(self) -> int:
        if self._command.speaks or not self._text_length:
            return self._audio_needed_at()
        return self._parts.clock()

    async def _stage(self, stage: Stage, at: int) -> None:
        await self._emit(ReplyStage(response_id=self._command.response_id, stage=stage, at=at))


def _with_text(message: ChatMessage, text: str | None) -> ChatMessage:
    return ChatMessage(
        role=message.role,
        text=text,
        item_id=message.item_id,
        tool_call_id=message.tool_call_id,
        tool_call=message.tool_call,
    )


def _spoken_characters(text: str, done: float) -> int:
    """How much of the text is spoken at `done`: whole words only, so that none counts as heard before its end."""
    if done >= 1:
        return len(text)
    reached = int(len(text) * done)
    while reached and not text[reached - 1].isspace():
        reached -= 1
    return reached


async def _say(text: str) -> AsyncGenerator[ChatEvent, None]:
    yield TextDelta(text)
    yield ChatEnded(reason="completed", input_tokens=0, output_tokens=0)
