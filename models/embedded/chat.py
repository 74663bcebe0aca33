"""The embedded chat model: a small language model that keeps what it has read of each conversation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from models.embedded.chat_memory import ChatMemory, Reading
from models.embedded.chat_prompt import END, Prompt, build_prompt
from models.embedded.llama import Llama, Logits
from models.embedded.parts import ChatBegun, ChatEnded, ChatEvent, ChatRequest, TextDelta
from models.embedded.sampling import Sampler, SamplingOptions
from models.embedded.scheduler import Deadline, Job, Scheduler
from models.instructions import DEFAULT_INSTRUCTIONS
from streaming.engine import ChatMessage

_SENTENCE_ENDS = (".", "!", "?")
_STEP = 16  # tokens read at once: about 40 ms, after which more urgent work may go first


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatOptions:
    """How replies are written.

    Past `long_enough` tokens a reply ends with the sentence that it is in; at `max_tokens` it is cut. `history` is
    how many tokens of the conversation the model is shown; where there are more, the older half is left out, so that
    what has been read stays useful for several turns.
    """

    max_tokens: int = 96
    long_enough: int = 24
    history: int = 400
    sampling: SamplingOptions = field(default_factory=SamplingOptions)


class SmallChatModel:
    """A converted model (`convert.convert`) that writes for any number of conversations.

    `load` gives its directory; it is called in a thread at the start. Of the newest `kept` conversations it remembers
    what it has read, so that a turn costs only its own words; of the others it remembers `instructions`.
    """

    tools = False

    def __init__(
        self,
        load: Callable[[], Path],
        scheduler: Scheduler,
        *,
        kept: int,
        instructions: str = DEFAULT_INSTRUCTIONS,
        options: ChatOptions | None = None,
    ) -> None:
        self._load = load
        self._scheduler = scheduler
        self._kept = kept
        self._instructions = instructions
        self._options = options or ChatOptions()
        self._memory: ChatMemory | None = None

    async def start(self) -> None:
        """Load the model and read the default instructions. Raises EngineError as `load` does."""
        self._memory = await asyncio.to_thread(self._start)

    def _start(self) -> ChatMemory:
        llama = Llama(self._load())
        prompt = build_prompt(llama.tokenizer, self._instructions, (), budget=0)
        return ChatMemory(llama, llama.ids(prompt.system), kept=self._kept)

    async def stream(self, request: ChatRequest, *, needed_at: Deadline) -> AsyncGenerator[ChatEvent, None]:
        """See `parts.ChatModel`."""
        memory = self._memory
        if memory is None:
            raise RuntimeError("the chat model has not been started")

        def write(job: Job, emit: Callable[[ChatEvent], None]) -> None:
            emit(ChatBegun())
            with memory.reading(request.session_id) as reading:
                _Writer(memory.llama, self._options, reading, job, emit).write(request)

        events = self._scheduler.stream(request.session_id, write, needed_at=needed_at, room=4)
        async with aclosing(events):
            async for event in events:
                yield event

    async def close(self) -> None:
        """Release the model."""
        self._memory = None


class _Writer:
    """Writes one reply, in a job's thread."""

    def __init__(
        self, llama: Llama, options: ChatOptions, reading: Reading, job: Job, emit: Callable[[ChatEvent], None]
    ) -> None:
        self._llama = llama
        self._options = options
        self._reading = reading
        self._job = job
        self._emit = emit

    def write(self, request: ChatRequest) -> None:
        prompt = self._prompt(request)
        ids = self._llama.ids(prompt.system + prompt.conversation)
        known = self._reading.back_to(ids)
        logits = self._read(ids[known:])
        limit = min(self._options.max_tokens, request.max_tokens or self._options.max_tokens)
        written, reason = self._continue(logits, limit)
        self._emit(ChatEnded(reason=reason, input_tokens=len(ids), output_tokens=written, cached_tokens=known))

    def _continue(self, logits: Logits, limit: int) -> tuple[int, Literal["completed", "max_tokens"]]:
        """Write until the model ends, the reply is long enough, or it must be cut: how many tokens, and why."""
        from tokenizers.decoders import DecodeStream

        decoder = DecodeStream(skip_special_tokens=True)
        sampler = Sampler(self._options.sampling, self._reading.ids)
        end = self._llama.ids([END])[0]
        for count in range(1, limit + 1):
            token = sampler.choose(logits)
            if token == end:
                return count, "completed"
            text = decoder.step(self._llama.tokenizer, token)
            if text:
                self._emit(TextDelta(text))
                if count >= self._options.long_enough and text.rstrip().endswith(_SENTENCE_ENDS):
                    return count, "completed"
            if count < limit:
                logits = self._read([token])
        return limit, "max_tokens"

    def _read(self, ids: list[int]) -> Logits:
        for start in range(0, len(ids), _STEP):
            self._job.check()
            logits = self._reading.read(ids[start : start + _STEP])
        return logits

    def _prompt(self, request: ChatRequest) -> Prompt:
        """The conversation from where it was last begun, or from its middle once that has become too long."""
        messages = self._since(request.messages)
        prompt = self._build(request, messages, self._options.history)
        if prompt.skipped:
            prompt = self._build(request, messages, self._options.history // 2)
        self._reading.since = messages[prompt.skipped].item_id if messages else None
        return prompt

    def _since(self, messages: tuple[ChatMessage, ...]) -> tuple[ChatMessage, ...]:
        since = self._reading.since
        starts = [index for index, message in enumerate(messages) if since is not None and message.item_id == since]
        return messages[starts[0] :] if starts else messages

    def _build(self, request: ChatRequest, messages: tuple[ChatMessage, ...], budget: int) -> Prompt:
        return build_prompt(self._llama.tokenizer, request.instructions, messages, budget=budget)
