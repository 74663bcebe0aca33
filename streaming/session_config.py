"""The rules of a session's settings: what a client may change, and what the engine can do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from streaming.config import FunctionTool, Modality, NamedTool, SessionConfig, ToolChoice
from streaming.engine import EngineInfo
from streaming.errors import PeerError
from streaming.merge_patch import merge_patch
from streaming.schema import from_json, to_json

STOCK_VOICES = frozenset(
    ("alloy", "ash", "ballad", "cedar", "coral", "echo", "fable", "marin", "nova", "onyx", "sage", "shimmer", "verse")
)
"""Names that stock clients ask for without knowing the server; they mean its default voice."""


def first_config(config: SessionConfig, *, session_id: str, engine: EngineInfo) -> SessionConfig:
    """The settings that a session begins with: the operator's, with the names that are the session's own."""
    voice = config.audio.output.voice or (engine.voices[0] if engine.voices else "")
    audio = replace(config.audio, output=replace(config.audio.output, voice=voice))
    modalities = config.output_modalities if engine.speaks else ("text",)
    first = replace(config, id=session_id, model=engine.model, audio=audio, output_modalities=modalities)
    return _in_effect(first, engine)


def updated_config(
    config: SessionConfig, patch: Mapping[str, object], *, engine: EngineInfo, spoken: bool, begun: bool = False
) -> SessionConfig:
    """`config` with a client's merge patch applied. `spoken`: a reply has been heard, so that the voice is settled.

    `begun`: a duplex engine listens, and was told who it is: its instructions and its voice are settled.

    Raises PeerError naming the field that cannot be taken; nothing of the patch is taken then.
    """
    merged = merge_patch(to_json(config), patch)
    # A client repeats the model that it asked for at the door, whatever name the router found for it.
    new = replace(from_json(SessionConfig, merged), id=config.id, model=config.model, metadata=None)
    check_modalities(new.output_modalities, engine=engine, of="session")
    check_tools(new.tools, new.tool_choice, engine=engine, of="session")
    check_voice(new.audio.output.voice, engine=engine, of="session")
    if begun:
        _check_persona(config, new)
    if spoken and new.audio.output.voice != config.audio.output.voice:
        message = "the voice is fixed once a reply has been spoken"
        raise PeerError(message, code="cannot_update_voice", param="session.audio.output.voice")
    language = new.audio.input.transcription.language if new.audio.input.transcription else None
    if language and language.split("-")[0].lower() not in engine.languages:
        known = ", ".join(engine.languages)
        raise _refused(
            "session.audio.input.transcription.language",
            f"the model {engine.model!r} does not know {language!r}; it knows: {known}",
        )
    return _in_effect(new, engine)


def _in_effect(config: SessionConfig, engine: EngineInfo) -> SessionConfig:
    """`config` without what stock clients ask for unasked and the engine does otherwise: they see what holds."""
    given = config.audio.input
    turns = given.turn_detection
    if engine.duplex and turns is not None:
        turns = replace(turns, create_response=False, interrupt_response=False)
    transcription = given.transcription if engine.transcribes else None
    heard = replace(given, transcription=transcription, turn_detection=turns)
    return replace(config, audio=replace(config.audio, input=heard))


def _check_persona(config: SessionConfig, new: SessionConfig) -> None:
    why = "once a duplex model listens; set it before any audio is sent"
    if new.instructions != config.instructions:
        message = f"the instructions are fixed {why}"
        raise PeerError(message, code="cannot_update_instructions", param="session.instructions")
    if new.audio.output.voice != config.audio.output.voice:
        message = f"the voice is fixed {why}"
        raise PeerError(message, code="cannot_update_voice", param="session.audio.output.voice")


def check_modalities(modalities: tuple[Modality, ...], *, engine: EngineInfo, of: str) -> None:
    """Raises PeerError unless it is one, and the engine's. `of`: the object that has the field, as in the others."""
    if len(modalities) != 1:
        raise _refused(f"{of}.output_modalities", 'expected ["audio"] or ["text"]')
    if "audio" in modalities and not engine.speaks:
        raise _refused(f"{of}.output_modalities", f'the model {engine.model!r} writes only; expected ["text"]')


def check_tools(tools: tuple[FunctionTool, ...], choice: ToolChoice, *, engine: EngineInfo, of: str) -> None:
    """Raises PeerError unless the engine calls functions and a function that is chosen is one of them."""
    if tools and not engine.tools:
        raise _refused(f"{of}.tools", f"the model {engine.model!r} does not call functions")
    if isinstance(choice, NamedTool) and choice.name not in (names := [tool.name for tool in tools]):
        known = ", ".join(names) or "none"
        raise _refused(f"{of}.tool_choice", f"there is no function {choice.name!r}; there is: {known}")


def check_voice(voice: str, *, engine: EngineInfo, of: str) -> None:
    """Raises PeerError naming the engine's voices unless `voice` is one, or a stock client's."""
    if voice and voice not in STOCK_VOICES and engine.voices and voice not in engine.voices:
        known = ", ".join(engine.voices)
        raise _refused(f"{of}.audio.output.voice", f"there is no voice {voice!r}; there is: {known}")


def engine_voice(voice: str, engine: EngineInfo) -> str:
    """The engine's name of a voice that `check_voice` lets pass."""
    return voice if voice in engine.voices else next(iter(engine.voices), "")


def _refused(param: str, message: str) -> PeerError:
    return PeerError(message, code="invalid_value", param=param)
