"""Engines by name or address: what a server needs to know of this package.

Nothing of a model's runtime is imported before its engine is asked for.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args
from urllib.parse import urlsplit

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

DetectorKind = Literal["models", "loudness"]

ENGINE_NAMES: tuple[EngineKind, ...] = get_args(EngineKind)
WITHOUT_MODELS: tuple[EngineKind, ...] = ("echo", "scripted")

WORKER_SCHEMES = ("ws", "wss")
STOCK_SCHEMES = ("moshi", "moshis")
CONTAINER_SCHEMES = ("http", "https")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """What an engine is built from.

    `workers` is how many cores the models may use, None for all; `max_sessions` how many conversations are held.
    With `chat_url`, an OpenAI-compatible API writes the replies, `chat_model` there or else its first. The state
    after `instructions` is kept in memory, so they should be the ones that most sessions have. `script` is the
    scripted engine's. `engine_key` is sent to an engine that has an address; `engine_patience` is how
    many frames' time (80 ms) a worker may be silent while it owes an answer. Beside such an engine the detectors are
    the embedded one's, or go by loudness where that is asked for.
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
    engine_key: str = ""
    engine_patience: float = 3.0
    detectors: DetectorKind = "models"


@dataclass(frozen=True, slots=True, kw_only=True)
class Detectors:
    """The models that find speech, and the ends of turns."""

    voice: VoiceActivityDetector
    turns: TurnDetector


def check_engine(name: str) -> str:
    """The name, or the address, of an engine. Raises ValueError for what is neither."""
    if name in ENGINE_NAMES or (
        urlsplit(name).scheme in WORKER_SCHEMES + STOCK_SCHEMES + CONTAINER_SCHEMES and urlsplit(name).netloc
    ):
        return name
    raise ValueError(
        f"expected {', '.join(ENGINE_NAMES)}, ws://host:port of a worker, moshi://host:port of a "
        "stock Moshi server, or http://host:port of a container"
    )


def build_engine(address: str, settings: EngineSettings, *, clock: Callable[[], int] = time.monotonic_ns) -> Engine:
    """The engine of this name, or at this address (see `check_engine`), not yet started.

    Raises EngineError where a file is missing or altered, ModuleNotFoundError where a package is.
    """
    match address:
        case "embedded":
            return _embedded(settings, clock)
        case "echo":
            return EchoEngine(clock=clock, max_sessions=settings.max_sessions)
        case "scripted":
            return ScriptedEngine(settings.script, clock=clock, max_sessions=settings.max_sessions)
    return _remote(check_engine(address), settings, clock)


def build_detectors(addresses: Sequence[str], settings: EngineSettings) -> Detectors:
    """The detectors that go with the engines of these names and addresses; with none, those beside an address.

    Raises EngineError where a model's file is missing or altered, ModuleNotFoundError where a package is.
    """
    if _hear_by_loudness(addresses, settings):
        return Detectors(voice=LevelDetector(), turns=PauseEndsTurn())

    from concurrent.futures import ThreadPoolExecutor

    from models.turn_detector import SmartTurn
    from models.vad import SileroDetector
    from models.weights import Weights

    weights = Weights(settings.models_dir)
    executor = ThreadPoolExecutor(settings.workers or _cores(), thread_name_prefix="turns")
    return Detectors(voice=SileroDetector(weights), turns=SmartTurn(weights, executor))


def _hear_by_loudness(addresses: Sequence[str], settings: EngineSettings) -> bool:
    if "embedded" in addresses:
        return False
    if addresses and all(address in WITHOUT_MODELS for address in addresses):
        return True
    return settings.detectors == "loudness"


def _remote(url: str, settings: EngineSettings, clock: Callable[[], int]) -> Engine:
    if urlsplit(url).scheme in WORKER_SCHEMES:
        from models.link.engine import LinkOptions, WorkerEngine

        options = LinkOptions(patience=settings.engine_patience)
        return WorkerEngine(url, clock=clock, key=settings.engine_key, options=options)

    if urlsplit(url).scheme in STOCK_SCHEMES:
        from models.link.stock import StockEngine

        return StockEngine(url, clock=clock)

    from models.container.engine import ContainerEngine

    return ContainerEngine(url, clock=clock, max_sessions=settings.max_sessions, key=settings.engine_key)


def _embedded(settings: EngineSettings, clock: Callable[[], int]) -> Engine:
    from models.embedded.ears import SmallEars
    from models.embedded.engine import JOBS_PER_SESSION, EmbeddedEngine
    from models.embedded.phonemes import Phonemiser
    from models.embedded.prepare import load_voice
    from models.embedded.scheduler import Scheduler
    from models.embedded.speech_to_text import SpeechToText
    from models.embedded.text_to_speech import SmallVoice
    from models.threads import limit_blas_to_one_thread
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
    return EmbeddedEngine(
        ears=ears,
        chat=_chat(settings, scheduler),
        voice=voice,
        clock=clock,
        max_sessions=settings.max_sessions,
        scheduler=scheduler,
    )


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
