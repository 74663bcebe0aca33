"""How the operator's settings choose the models."""

from __future__ import annotations

from models.catalogue import EngineSettings, Models, build_models
from server.errors import StartupError
from server.settings import Settings


def load_models(settings: Settings) -> Models:
    """The engine, not yet started, and its detectors.

    Raises EngineError where a file is missing or altered, StartupError where a package is not installed.
    """
    chosen = EngineSettings(
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
    try:
        return build_models(settings.engine, chosen)
    except ModuleNotFoundError as error:
        what = "the embedded engine" if settings.engine == "embedded" else "detecting speech beside an engine elsewhere"
        raise StartupError(f"{what} needs {error.name}: pip install 'muse-voice[embedded]'") from None
