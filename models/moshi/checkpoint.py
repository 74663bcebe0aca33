"""The models of a Moshi-class checkpoint, loaded: the language model and the codec.

A file's header is checked (`models.moshi.tensors`) before anything of it is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from moshi.models import loaders
from moshi.models.compression import MimiModel
from moshi.models.lm import LMModel
from safetensors import SafetensorError, safe_open

from models.moshi.config import HEARD_CODEBOOKS, LmConfig, MimiConfig
from models.moshi.files import Checkpoint
from models.moshi.tensors import Shape, check_lm_weights, check_mimi_weights, lm_shapes, mimi_shapes
from streaming.errors import EngineError


def load_lm(
    checkpoint: Checkpoint,
    *,
    device: torch.device | str,
    dtype: torch.dtype | None = None,
    window: int | None = None,
    heard_codebooks: int = HEARD_CODEBOOKS,
) -> LMModel:
    """The language model, in `dtype` (by default bfloat16 on CUDA, else float32), ready for inference.

    `window` is how many frames its attention reaches back, by default the configuration's context. Of the depth
    transformer only the first `heard_codebooks` steps are loaded: a later step feeds no earlier one, so the codes of
    those kept stay what they are; the user's own codes, which PersonaPlex predicts too, are never heard.

    Raises EngineError where the file is not safetensors, or holds other tensors than the model's.
    """
    device = torch.device(device)
    dtype = dtype or (torch.bfloat16 if device.type == "cuda" else torch.float32)
    config = replace(
        checkpoint.lm,
        dep_q=min(heard_codebooks, checkpoint.lm.dep_q),
        context=checkpoint.lm.context if window is None else window,
    )
    split = check_lm_weights(checkpoint)
    model = _lm_on_meta(config, dtype)
    _load_weights(model, checkpoint.lm_weights, lm_shapes(config, split=split), device, dtype)
    return model


def load_mimi(checkpoint: Checkpoint, device: torch.device | str) -> MimiModel:
    """The codec, in float32, with the codebooks that the language model hears and speaks.

    Raises EngineError where the file is not safetensors, or holds other tensors than the model's.
    """
    split = check_mimi_weights(checkpoint)
    model = _mimi_on_meta(checkpoint.mimi)
    shapes = mimi_shapes(checkpoint.mimi, split=split)
    _load_weights(model, checkpoint.mimi_weights, shapes, torch.device(device), torch.float32)
    return model


def _lm_on_meta(config: LmConfig, dtype: torch.dtype) -> LMModel:
    """The model without weights. Asserts of moshi's own would be a defect of ours: `LmConfig` has been checked."""
    with torch.device("meta"):
        model = LMModel(device="meta", dtype=dtype, **config.kwargs())
    return model.eval()


def _mimi_on_meta(config: MimiConfig) -> MimiModel:
    with torch.device("meta"):
        return loaders.get_mimi(None, config.document(), device="meta", num_codebooks=HEARD_CODEBOOKS)


def _load_weights(
    model: torch.nn.Module, path: Path, shapes: Mapping[str, Shape], device: torch.device, dtype: torch.dtype
) -> None:
    """Give `model`, which is on the meta device, its weights, of these names and shapes, out of a file.

    The file is memory-mapped, and where the model has the first of a tensor's rows only, no more than those are read.
    """
    state: dict[str, Any] = {}
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            for name, shape in shapes.items():
                state[name] = file.get_slice(name)[: shape[0]].to(dtype)
    except (SafetensorError, OSError) as error:
        raise EngineError(f"{path.name}: {error}", code="invalid_weights") from error
    model.load_state_dict(state, assign=True)
    model.requires_grad_(False)
