"""All for which a worker would refuse a checkpoint, told without torch and without reading its weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from models.moshi.config import MOST_TOP_K
from models.moshi.files import Checkpoint, check_file, configured, load_tokenizer
from models.moshi.prompt import CHUNK, most_prompt_frames
from models.moshi.tensors import check_lm_weights, check_mimi_weights
from models.moshi.voices import VoiceCodes, load_voices
from streaming.engine import Samples
from streaming.errors import EngineError


def checkpoint_faults(directory: Path) -> list[EngineError]:
    """Every fault of a Moshi-class checkpoint, in its own words: configuration, files, tensors, tokenizer, voices.

    Where the configuration is wrong, what depends on it cannot be judged. Values of the weights are not looked at, and
    whether slots and window fit a device is for that device to say.
    """
    try:
        checkpoint = configured(directory)
    except EngineError as error:
        return [error]
    faults: list[EngineError] = []
    with _told(faults):
        check_served(checkpoint, window=checkpoint.lm.context)
    with _told(faults):
        check_file(checkpoint.lm_weights, ".safetensors")
        check_lm_weights(checkpoint)
    with _told(faults):
        check_file(checkpoint.mimi_weights, ".safetensors")
        check_mimi_weights(checkpoint)
    with _told(faults):
        check_file(checkpoint.text_tokenizer, ".model")
        load_tokenizer(checkpoint)
    with _told(faults):
        _check_voices(checkpoint)
    return faults


def check_served(checkpoint: Checkpoint, *, window: int) -> None:
    """Raises EngineError where a configuration that can be read asks for what is not served at this window (frames)."""
    if max(checkpoint.sampling.text_top_k, checkpoint.sampling.audio_top_k) > MOST_TOP_K:
        raise EngineError(f"lm_gen_config has a top_k above {MOST_TOP_K}", code="invalid_config")
    if checkpoint.model_type != "personaplex":
        return
    if max(checkpoint.lm.delays) > 1:
        raise EngineError("delays reach 2 or more; a persona needs at most 1", code="invalid_config")
    if most_prompt_frames(window) < CHUNK:
        raise EngineError(f"window is {window}; a persona needs at least {2 * CHUNK} frames", code="invalid_value")


@contextmanager
def _told(faults: list[EngineError]) -> Iterator[None]:
    try:
        yield
    except EngineError as error:
        faults.append(error)


def _check_voices(checkpoint: Checkpoint) -> None:
    """Only a PersonaPlex has voices; with any other model the directory is not looked at."""
    if checkpoint.model_type == "personaplex":
        load_voices(checkpoint.voices, _no_codes)


def _no_codes(audio: Samples) -> VoiceCodes:
    del audio
    return np.zeros((8, 0), np.int32)
