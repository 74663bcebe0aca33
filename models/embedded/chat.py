"""The embedded chat model: a small language model on CTranslate2, one thread for each reply."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from models.embedded.chat_prompt import END, Prompt, build_prompt, load_tokenizer
from models.embedded.parts import ChatBegun, ChatEnded, ChatEvent, ChatRequest, TextDelta
from models.embedded.scheduler import Deadline, Job, Scheduler
from models.instructions import DEFAULT_INSTRUCTIONS

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_SENTENCE_ENDS = (".", "!", "?")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatOptions:
    """How replies are written.

    Past `long_enough` tokens a reply ends with the sentence that it is in; at `max_tokens` it is cut. `history` is
    how many tokens of the conversation the model is shown: reading one costs about 0.6 ms. At `temperature` 0 the
    likeliest words are taken and equal prompts give equal replies.
    """

    max_tokens: int = 96
    long_enough: int = 24
    history: int = 256
    temperature: float = 0.0
    top_k: int = 20
    repetition_penalty: float = 1.1
    seed: int = 0


class SmallChatModel:
    """A converted model (`convert.convert`) shared by `replicas` replies at a time.

    `load` gives its directory; it is called in a thread at the start.

    The state after the system message is kept for `instructions`, and for no others: whatever a client sets as
    instructions must not stay in memory.
    """

    tools = False

    def __init__(
        self,
        load: Callable[[], Path],
        scheduler: Scheduler,
        *,
        replicas: int,
        instructions: str = DEFAULT_INSTRUCTIONS,
        options: ChatOptions | None = None,
    ) -> None:
        self._load = load
        self._scheduler = scheduler
        self._replicas = replicas
        self._instructions = instructions
        self._options = options or ChatOptions()
        self._loaded: _Loaded | None = None
        # A reply whose reader pauses keeps its replica: who waits for one must not hold a core meanwhile.
        self._free_replicas = asyncio.Semaphore(replicas)

    async def start(self) -> None:
        """Load the model and keep the default instructions' state in every replica."""
        self._loaded = await asyncio.to_thread(
            lambda: _Loaded(self._load(), self._replicas, self._options, self._instructions)
        )

    async def stream(self, request: ChatRequest, *, needed_at: Deadline) -> AsyncGenerator[ChatEvent, None]:
        """See `parts.ChatModel`."""
        loaded = self._loaded
        if loaded is None:
            raise RuntimeError("the chat model has not been started")

        def write(job: Job, emit: Callable[[ChatEvent], None]) -> None:
            emit(ChatBegun())
            _Writer(loaded, self._options, job, emit).write(request, keep=request.instructions == self._instructions)

        async with self._free_replicas:
            events = self._scheduler.stream(request.session_id, write, needed_at=needed_at, room=4)
            async with aclosing(events):
                async for event in events:
                    yield event

    async def close(self) -> None:
        """Unload the model. Every reply has ended before: the scheduler is closed first."""
        if self._loaded is not None:
            self._loaded.generator.unload_model()
            self._loaded = None


class _Loaded:
    def __init__(self, directory: Path, replicas: int, options: ChatOptions, instructions: str) -> None:
        import ctranslate2

        if options.temperature:
            ctranslate2.set_random_seed(options.seed)
        self.tokenizer: Tokenizer = load_tokenizer(directory / "tokenizer.json")
        self.replicas = replicas
        self.generator = ctranslate2.Generator(
            str(directory), device="cpu", compute_type="int8_float32", inter_threads=replicas, intra_threads=1
        )
        self._warm_up(build_prompt(self.tokenizer, instructions, (), budget=options.history))

    def _warm_up(self, prompt: Prompt) -> None:
        """Each replica keeps a state of its own, so all of them must be at it at the same time."""
        everyone = threading.Barrier(self.replicas)

        def meet(_: Any) -> bool:
            everyone.wait(timeout=60)
            return True

        def once() -> None:
            self.generator.generate_batch(
                [prompt.conversation],
                static_prompt=prompt.system,
                include_prompt_in_result=False,
                max_length=1,
                callback=meet,
            )

        threads = [threading.Thread(target=once) for _ in range(self.replicas)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


class _Writer:
    """One reply, written token by token in CTranslate2's thread while the job's thread waits."""

    def __init__(self, loaded: _Loaded, options: ChatOptions, job: Job, emit: Callable[[ChatEvent], None]) -> None:
        from tokenizers.decoders import DecodeStream

        self._loaded = loaded
        self._options = options
        self._job = job
        self._emit = emit
        self._decoder = DecodeStream(skip_special_tokens=True)
        self._tokens = 0
        self._ended_early = False
        self._error: BaseException | None = None

    def write(self, request: ChatRequest, *, keep: bool) -> None:
        options = self._options
        prompt = build_prompt(self._loaded.tokenizer, request.instructions, request.messages, budget=options.history)
        limit = min(options.max_tokens, request.max_tokens or options.max_tokens)
        results = self._loaded.generator.generate_batch(
            [prompt.conversation if keep else prompt.system + prompt.conversation],
            static_prompt=prompt.system if keep else None,
            cache_static_prompt=keep,
            include_prompt_in_result=False,
            max_length=limit,
            sampling_topk=options.top_k if options.temperature else 1,
            sampling_temperature=options.temperature or 1.0,
            repetition_penalty=options.repetition_penalty,
            end_token=END,
            callback=self._take,
        )
        if self._error is not None:
            raise self._error
        written = len(results[0].sequences_ids[0])
        reason: Literal["completed", "max_tokens"] = "max_tokens"
        if self._ended_early or written < limit:
            reason = "completed"
        self._emit(
            ChatEnded(
                reason=reason,
                input_tokens=len(prompt.system) + len(prompt.conversation),
                output_tokens=self._tokens,
                cached_tokens=len(prompt.system) if keep else 0,
            )
        )

    def _take(self, step: Any) -> bool:
        """One token; True ends the reply. An error must not unwind into CTranslate2: it waits until that returns."""
        try:
            self._tokens += 1
            if step.token == END:
                return False
            text = self._decoder.step(self._loaded.tokenizer, step.token_id)
            if text:
                self._emit(TextDelta(text))
                self._ended_early = self._tokens >= self._options.long_enough and text.rstrip().endswith(_SENTENCE_ENDS)
            self._job.check()
        except BaseException as error:
            self._error = error
            return True
        return self._ended_early
