"""A Moshi-class checkpoint on disk: its files, its configuration and its text tokenizer; no torch.

A directory holds the language model's weights, Mimi's, a SentencePiece text tokenizer and, for models that can be
given a voice, `voices/`. Weights are safetensors; `models.moshi.tensors` says what is in them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import sentencepiece

from models.moshi.config import LmConfig, MimiConfig, ModelType, Sampling, read_mimi_config, read_model_config
from streaming.errors import EngineError


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The files of a model and what its configuration says. `voices` is a directory, None where there is none."""

    model_type: ModelType
    lm_weights: Path
    mimi_weights: Path
    text_tokenizer: Path
    voices: Path | None
    lm: LmConfig
    mimi: MimiConfig
    sampling: Sampling


def read_checkpoint(directory: Path) -> Checkpoint:
    """Read a model directory's configuration, and check that its files are there; no weights are opened.

    The configuration is `config.json`, else `config.yaml`, else Moshi 7B's. Raises EngineError naming the file, and
    what is wrong in it or that it is missing.
    """
    checkpoint = configured(directory)
    check_file(checkpoint.lm_weights, ".safetensors")
    check_file(checkpoint.mimi_weights, ".safetensors")
    check_file(checkpoint.text_tokenizer, ".model")
    return checkpoint


def configured(directory: Path) -> Checkpoint:
    """What a model directory's configuration says; whether its files are there is not looked at.

    Raises EngineError naming the configuration's file, and what is wrong in it or that it is missing.
    """
    if not directory.is_dir():
        raise EngineError(f"there is no directory {directory}", code="model_missing")
    found = (path for name in ("config.json", "config.yaml") if (path := directory / name).is_file())
    config = read_model_config(next(found, None))
    mimi = MimiConfig()
    if config.mimi_config_name is not None:
        check_file(directory / config.mimi_config_name, ".json")
        mimi = read_mimi_config(directory / config.mimi_config_name)
    if mimi.bins != config.lm.card:
        raise EngineError(
            f"the codec has {mimi.bins} codes a codebook and the language model's card is {config.lm.card}; "
            "expected the same",
            code="invalid_config",
        )
    voices = directory / "voices"
    return Checkpoint(
        model_type=config.model_type,
        lm_weights=directory / config.moshi_name,
        mimi_weights=directory / config.mimi_name,
        text_tokenizer=directory / config.tokenizer_name,
        voices=voices if voices.is_dir() else None,
        lm=config.lm,
        mimi=mimi,
        sampling=config.sampling,
    )


def check_file(path: Path, suffix: str) -> None:
    """Raises EngineError where a file that the configuration names is of another kind, or missing."""
    if path.suffix != suffix:
        raise EngineError(f"{path.name} is not a {suffix} file, and no other is opened", code="invalid_weights")
    if not path.is_file():
        raise EngineError(f"{path.name} is missing in {path.parent}", code="model_missing")


def load_tokenizer(checkpoint: Checkpoint) -> sentencepiece.SentencePieceProcessor:
    """The text tokenizer.

    Raises EngineError where the file is not a SentencePiece model, or has not one piece of text for each text token.
    """
    tokenizer = sentencepiece.SentencePieceProcessor()
    try:
        tokenizer.LoadFromSerializedProto(checkpoint.text_tokenizer.read_bytes())
    except (OSError, RuntimeError) as error:
        raise EngineError(
            f"{checkpoint.text_tokenizer.name} is not a SentencePiece model: {error}", code="invalid_weights"
        ) from error
    if tokenizer.get_piece_size() != checkpoint.lm.text_card:
        raise EngineError(
            f"{checkpoint.text_tokenizer.name} has {tokenizer.get_piece_size()} pieces; "
            f"expected text_card ({checkpoint.lm.text_card})",
            code="invalid_weights",
        )
    try:
        for token in range(checkpoint.lm.text_card):
            tokenizer.id_to_piece(token)
    except UnicodeDecodeError as error:
        raise EngineError(
            f"{checkpoint.text_tokenizer.name} has pieces that are not UTF-8", code="invalid_weights"
        ) from error
    return tokenizer
