"""The embedded models in the form in which they are run, made from the verified files once and kept beside them."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from models.embedded.convert import convert, converted_directory
from models.embedded.text_to_speech import Synthesiser, VoiceConfig
from models.embedded.voice_split import split_voice
from models.weights import DEFAULT_DIRECTORY, Weights, read_manifest

CHAT_MODEL = "smollm2"
CHAT_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"

_VOICE = "voice-"


def prepare_chat(directory: Path = DEFAULT_DIRECTORY) -> Path:
    """The converted chat model's directory; about 4 s where it must be made, else the time to hash the source.

    Raises EngineError where the source is missing or altered.
    """
    source = Weights(directory).path(CHAT_MODEL, CHAT_FILE)
    converted = converted_directory(directory, _sha256(CHAT_MODEL, CHAT_FILE))
    convert(source, converted)
    return converted


def prepare_voice(name: str = "joe", directory: Path = DEFAULT_DIRECTORY) -> Path:
    """The directory of the voice's three graphs; about 1 s where they must be made. Raises as `prepare_chat` does."""
    model, file = _voice_file(name)
    source = Weights(directory).path(model, file)
    converted = converted_directory(directory, _sha256(model, file))
    split_voice(source, converted)
    return converted


def load_voice(name: str = "joe", directory: Path = DEFAULT_DIRECTORY) -> Synthesiser:
    """The voice, ready to speak. Raises as `prepare_chat` does."""
    model, file = _voice_file(name)
    config = VoiceConfig.parse(Weights(directory).read(model, f"{file}.json"))
    return Synthesiser(prepare_voice(name, directory), config)


def prepare(models: Collection[str], directory: Path = DEFAULT_DIRECTORY) -> None:
    """Make what is made from these models, of those that need it. Raises as `prepare_chat` does."""
    if CHAT_MODEL in models:
        prepare_chat(directory)
    for model in models:
        if model.startswith(_VOICE):
            prepare_voice(model.removeprefix(_VOICE), directory)


def _voice_file(name: str) -> tuple[str, str]:
    return f"{_VOICE}{name}", f"en_US-{name}-medium.onnx"


def _sha256(model: str, name: str) -> str:
    return read_manifest()[model].files[name].sha256
