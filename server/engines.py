"""How the operator's settings choose the models."""

from __future__ import annotations

from collections.abc import Callable

from models.catalogue import Detectors, EngineSettings, build_detectors, build_engine
from server.errors import StartupError
from server.settings import Settings
from streaming.engine import Engine
from streaming.errors import EngineError


def engine_settings(settings: Settings) -> EngineSettings:
    """What every engine is built from."""
    return EngineSettings(
        models_dir=settings.models_dir,
        max_sessions=settings.max_sessions,
        workers=settings.workers,
        instructions=settings.instructions,
        voice=settings.voice,
        speech_model=settings.speech_model,
        language=settings.language,
        chat_url=settings.chat_url,
        chat_model=settings.chat_model,
        chat_api_key=settings.chat_api_key.get_secret_value(),
        engine_key=settings.engine_key.get_secret_value(),
        engine_patience=settings.engine_patience,
        detectors=settings.detectors,
    )


def engine_builder(settings: Settings) -> Callable[[str], Engine]:
    """What makes the engine of an address, not yet started; it raises EngineError where that cannot be made."""
    chosen = engine_settings(settings)

    def build(address: str) -> Engine:
        try:
            return build_engine(address, chosen)
        except ModuleNotFoundError as error:
            raise EngineError(_missing(f"the engine {address}", error)) from None

    return build


def load_detectors(settings: Settings) -> Detectors:
    """The detectors, for all engines alike.

    Raises EngineError where a file is missing or altered, StartupError where a package is not installed.
    """
    try:
        return build_detectors(settings.engine, engine_settings(settings))
    except ModuleNotFoundError as error:
        raise StartupError(_missing("detecting speech", error)) from None


def _missing(what: str, error: ModuleNotFoundError) -> str:
    return f"{what} needs {error.name}: pip install 'muse-voice[embedded]'"
