"""The rules of a session's settings: what a client may change, and what the engine can do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from streaming.config import SessionConfig
from streaming.engine import EngineInfo
from streaming.errors import PeerError
from streaming.merge_patch import merge_patch
from streaming.schema import from_json, to_json


def first_config(config: SessionConfig, *, session_id: str, engine: EngineInfo) -> SessionConfig:
    """The settings that a session begins with: the operator's, with the names that are the session's own."""
    voice = config.audio.output.voice or (engine.voices[0] if engine.voices else "")
    audio = replace(config.audio, output=replace(config.audio.output, voice=voice))
    modalities = config.output_modalities if engine.speaks else ("text",)
    return replace(config, id=session_id, model=engine.model, audio=audio, output_modalities=modalities)


def updated_config(
    config: SessionConfig, patch: Mapping[str, object], *, engine: EngineInfo, spoken: bool
) -> SessionConfig:
    """`config` with a client's merge patch applied. `spoken`: a reply has been heard, so that the voice is settled.

    Raises PeerError naming the field that cannot be taken; nothing of the patch is taken then.
    """
    merged = merge_patch(to_json(config), patch)
    # A client repeats the model that it asked for at the door, whatever name the router found for it.
    new = replace(from_json(SessionConfig, merged), id=config.id, model=config.model)
    if len(set(new.output_modalities)) != 1 or len(new.output_modalities) != 1:
        raise _refused("output_modalities", 'expected ["audio"] or ["text"]')
    if "audio" in new.output_modalities and not engine.speaks:
        raise _refused("output_modalities", f'the model {engine.model!r} writes only; expected ["text"]')
    if new.tools and not engine.tools:
        raise _refused("tools", f"the model {engine.model!r} does not call functions")
    if spoken and new.audio.output.voice != config.audio.output.voice:
        raise _refused(
            "audio.output.voice", "the voice is fixed once a reply has been spoken", code="cannot_update_voice"
        )
    language = new.audio.input.transcription.language if new.audio.input.transcription else None
    if language and language.split("-")[0].lower() not in engine.languages:
        known = ", ".join(engine.languages)
        raise _refused(
            "audio.input.transcription.language",
            f"the model {engine.model!r} does not know {language!r}; it knows: {known}",
        )
    return new


def _refused(field: str, message: str, *, code: str = "invalid_value") -> PeerError:
    return PeerError(message, code=code, param=f"session.{field}")
