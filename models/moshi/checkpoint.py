"""A Moshi-class checkpoint on disk: its files, its configuration, and the models that they hold.

A directory holds the language model's weights, Mimi's, a SentencePiece text tokenizer and, for models that can be
given a voice, `voices/`. Weights are safetensors, with the names and shapes that Kyutai's published files have.
`expected_tensors` says what those are. Files that moshi's own fine-tuning has saved, with one tensor for each depth
step, are taken as well. A file's header is checked before anything of it is loaded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import sentencepiece
import torch
from moshi.models import loaders
from moshi.models.compression import MimiModel
from moshi.models.lm import LMModel
from safetensors import SafetensorError, safe_open

from models.hub.safetensors_header import check_tensors, read_header
from models.moshi.config import (
    HEARD_CODEBOOKS,
    LmConfig,
    MimiConfig,
    ModelType,
    Sampling,
    read_mimi_config,
    read_model_config,
)
from streaming.errors import EngineError

_LM_TYPES = frozenset({"BF16", "F16", "F32"})
_MIMI_TYPES = frozenset({"F32"})

_STACKED = re.compile(r"(.*\.self_attn)\.(in|out)_projs\.(\d+)\.weight")
"""moshi's own names of an attention's projections, one for each depth step; published files hold them as one tensor."""


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


class TensorSpec(NamedTuple):
    """What a tensor of a weights file must be; types by safetensors' names ("BF16")."""

    shape: tuple[int, ...]
    dtypes: frozenset[str]


def read_checkpoint(directory: Path) -> Checkpoint:
    """Read a model directory's configuration, and check that its files are there; no weights are opened.

    The configuration is `config.json`, else `config.yaml`, else Moshi 7B's. Raises EngineError naming the file, and
    what is wrong in it or that it is missing.
    """
    if not directory.is_dir():
        raise EngineError(f"there is no directory {directory}", code="model_missing")
    found = (path for name in ("config.json", "config.yaml") if (path := directory / name).is_file())
    config = read_model_config(next(found, None))
    mimi = MimiConfig()
    if config.mimi_config_name is not None:
        mimi = read_mimi_config(_file(directory, config.mimi_config_name, ".json"))
    if mimi.bins != config.lm.card:
        raise EngineError(
            f"the codec has {mimi.bins} codes a codebook and the language model's card is {config.lm.card}; "
            "expected the same",
            code="invalid_config",
        )
    voices = directory / "voices"
    return Checkpoint(
        model_type=config.model_type,
        lm_weights=_file(directory, config.moshi_name, ".safetensors"),
        mimi_weights=_file(directory, config.mimi_name, ".safetensors"),
        text_tokenizer=_file(directory, config.tokenizer_name, ".model"),
        voices=voices if voices.is_dir() else None,
        lm=config.lm,
        mimi=mimi,
        sampling=config.sampling,
    )


def expected_tensors(checkpoint: Checkpoint) -> dict[Path, dict[str, TensorSpec]]:
    """By weights file, the tensors that a published one holds: all of them, and no others."""
    return {
        checkpoint.lm_weights: _specs(_lm_on_meta(checkpoint.lm, torch.bfloat16), _LM_TYPES),
        checkpoint.mimi_weights: _specs(_mimi_on_meta(checkpoint.mimi), _MIMI_TYPES),
    }


def check_weights(checkpoint: Checkpoint) -> None:
    """Check the headers of both weights files, before anything of either is loaded.

    Raises EngineError where a file is not safetensors, or holds other tensors than the configuration's models.
    """
    _check_header(checkpoint.lm_weights, _lm_on_meta(checkpoint.lm, torch.bfloat16), _LM_TYPES)
    _check_header(checkpoint.mimi_weights, _mimi_on_meta(checkpoint.mimi), _MIMI_TYPES)


def published_shapes(model: torch.nn.Module, *, split: bool = False) -> dict[str, tuple[int, ...]]:
    """The names and shapes that a model's weights have in a published file; `split` as moshi itself would save them."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, tensor in model.state_dict().items():
        if split or (match := _STACKED.fullmatch(name)) is None:
            shapes[name] = tuple(tensor.shape)
        else:
            published = f"{match[1]}.in_proj_weight" if match[2] == "in" else f"{match[1]}.out_proj.weight"
            rows = shapes.get(published, (0,))[0] + tensor.shape[0]
            shapes[published] = (rows, *tensor.shape[1:])
    return shapes


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
    model = _lm_on_meta(config, dtype)
    stored = _lm_on_meta(checkpoint.lm, dtype)
    _load_weights(model, checkpoint.lm_weights, device, dtype, stored=stored, dtypes=_LM_TYPES)
    return model


def load_mimi(checkpoint: Checkpoint, device: torch.device | str) -> MimiModel:
    """The codec, in float32, with the codebooks that the language model hears and speaks.

    Raises EngineError where the file is not safetensors, or holds other tensors than the model's.
    """
    model = _mimi_on_meta(checkpoint.mimi)
    device = torch.device(device)
    _load_weights(model, checkpoint.mimi_weights, device, torch.float32, stored=model, dtypes=_MIMI_TYPES)
    return model


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


def _file(directory: Path, name: str, suffix: str) -> Path:
    path = directory / name
    if path.suffix != suffix:
        raise EngineError(f"{name} is not a {suffix} file, and no other is opened", code="invalid_weights")
    if not path.is_file():
        raise EngineError(f"{name} is missing in {directory}", code="model_missing")
    return path


def _lm_on_meta(config: LmConfig, dtype: torch.dtype) -> LMModel:
    """The model without weights. Asserts of moshi's own would be a defect of ours: `LmConfig` has been checked."""
    with torch.device("meta"):
        model = LMModel(device="meta", dtype=dtype, **config.kwargs())
    return model.eval()


def _mimi_on_meta(config: MimiConfig) -> MimiModel:
    with torch.device("meta"):
        return loaders.get_mimi(None, config.document(), device="meta", num_codebooks=HEARD_CODEBOOKS)


def _specs(model: torch.nn.Module, dtypes: frozenset[str], *, split: bool = False) -> dict[str, TensorSpec]:
    return {name: TensorSpec(shape, dtypes) for name, shape in published_shapes(model, split=split).items()}


def _check_header(path: Path, model: torch.nn.Module, dtypes: frozenset[str]) -> bool:
    """Check that a file holds the tensors of `model`; whether they are split, as moshi itself saves them."""
    split = any(_STACKED.fullmatch(name) for name in read_header(path).tensors)
    check_tensors(path, _specs(model, dtypes, split=split))
    return split


def _load_weights(
    model: torch.nn.Module,
    path: Path,
    device: torch.device,
    dtype: torch.dtype,
    *,
    stored: torch.nn.Module,
    dtypes: frozenset[str],
) -> None:
    """Give `model`, which is on the meta device, its weights out of a file that holds those of `stored`.

    The header is checked first. The file is memory-mapped, and where the model has the first of a tensor's rows only,
    no more than those are read.
    """
    split = _check_header(path, stored, dtypes)
    state: dict[str, Any] = {}
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            for name, shape in published_shapes(model, split=split).items():
                state[name] = file.get_slice(name)[: shape[0]].to(dtype)
    except (SafetensorError, OSError) as error:
        raise EngineError(f"{path.name}: {error}", code="invalid_weights") from error
    model.load_state_dict(state, assign=True)
    model.requires_grad_(False)
