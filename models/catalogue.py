"""Engines by name: what a server needs to know of this package.

Nothing of a model's runtime is imported before its engine is asked for.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, assert_never

from models.echo import EchoEngine
from models.instructions import DEFAULT_INSTRUCTIONS
from models.level import LevelDetector, PauseEndsTurn
from models.scripted import ScriptedEngine, ScriptedTurn
from models.weights import DEFAULT_DIRECTORY
from streaming.engine import Engine, TurnDetector, VoiceActivityDetector

if TYPE_CHECKING:
    from models.embedded.parts import ChatModel
    from models.embedded.scheduler import Scheduler

_CONVERSATIONS_KEPT = 8
"""Replies that the small chat model has in the making; each holds about 40 MB."""

EngineKind = Literal["embedded", "echo", "scripted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """What an engine is built from.

    `workers` is how many cores the models may use, None for all; `max_sessions` how many conversations are held.
    With `chat_url`, an OpenAI-compatible API writes the replies, `chat_model` there or else its first. The state
    after `instructions` is kept in memory, so they should be the ones that most sessions have. `script` is the
    scripted engine's.
    """

    models_dir: Path = DEFAULT_DIRECTORY
    max_sessions: int = 16
    workers: int | None = None
    instructions: str = DEFAULT_INSTRUCTIONS
    voice: str = "joe"
    speech_model: str = "whisper-tiny.en"
    language: str = "en"
    chat_url: str | None = None
    chat_model: str = ""
    chat_api_key: str = ""
    script: Sequence[ScriptedTurn] = (ScriptedTurn(),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """An engine, not yet started, and the detectors that go with it."""

    engine: Engine
    voice: VoiceActivityDetector
    turns: TurnDetector


def build_models(kind: EngineKind, settings: EngineSettings, *, clock: Callable[[], int] = time.monotonic_ns) -> Models:
    """The engine of this name. Raises EngineError where a detector's model is missing or altered."""
    match kind:
        case "embedded":
            return _embedded(settings, clock)
        case "echo":
            engine: Engine = EchoEngine(clock=clock, max_sessions=settings.max_sessions)
        case "scripted":
            engine = ScriptedEngine(settings.script, clock=clock, max_sessions=settings.max_sessions)
        case _:
            assert_never(kind)
    return Models(engine=engine, voice=LevelDetector(), turns=PauseEndsTurn())


def _embedded(settings: EngineSettings, clock: Callable[[], int]) -> Models:
    from concurrent.futures import ThreadPoolExecutor

    from models.embedded.ears import SmallEars
    from models.embedded.engine import JOBS_PER_SESSION, EmbeddedEngine
    from models.embedded.phonemes import Phonemiser
    from models.embedded.prepare import load_voice
    from models.embedded.scheduler import Scheduler
    from models.embedded.speech_to_text import SpeechToText
    from models.embedded.text_to_speech import SmallVoice
    from models.threads import limit_blas_to_one_thread
    from models.turn_detector import SmartTurn
    from models.vad import SileroDetector
    from models.weights import Weights

    limit_blas_to_one_thread()
    workers = settings.workers or _cores()
    weights = Weights(settings.models_dir)
    scheduler = Scheduler(workers=workers, max_sessions=settings.max_sessions, jobs_per_session=JOBS_PER_SESSION)
    ears = SmallEars(
        lambda: SpeechToText(weights, model=settings.speech_model, workers=workers, language=settings.language),
        scheduler,
    )
    voice = SmallVoice(settings.voice, lambda: load_voice(settings.voice, settings.models_dir), scheduler, Phonemiser())
    engine = EmbeddedEngine(
        ears=ears,
        chat=_chat(settings, scheduler),
        voice=voice,
        clock=clock,
        max_sessions=settings.max_sessions,
        scheduler=scheduler,
    )
    turns = SmartTurn(weights, ThreadPoolExecutor(workers, thread_name_prefix="turns"))
    return Models(engine=engine, voice=SileroDetector(weights), turns=turns)


def _chat(settings: EngineSettings, scheduler: Scheduler) -> ChatModel:
    if settings.chat_url is not None:
        from models.embedded.chat_http import HttpChatModel

        return HttpChatModel(settings.chat_url, model=settings.chat_model, api_key=settings.chat_api_key)

    from models.embedded.chat import SmallChatModel
    from models.embedded.prepare import prepare_chat

    return SmallChatModel(
        lambda: prepare_chat(settings.models_dir),
        scheduler,
        kept=min(settings.max_sessions, _CONVERSATIONS_KEPT),
        instructions=settings.instructions,
    )


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
