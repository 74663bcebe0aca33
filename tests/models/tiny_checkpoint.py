"""A checkpoint in the official format, whose weights are all zero: for what looks at headers only, without torch."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path

import sentencepiece

from models.moshi.config import LmConfig, MimiConfig
from models.moshi.files import configured
from models.moshi.tensors import TensorSpec, expected_tensors

LM = "model.safetensors"
MIMI = "tokenizer-e351c8d8-checkpoint125.safetensors"
TOKENIZER = "tokenizer_spm_32k_3.model"

_BYTES = {"BF16": 2, "F32": 4}


def write_checkpoint(directory: Path, *, hotkey: str | None = None) -> None:
    """Write it to `directory`, which is made; `hotkey` goes into hotkey.txt."""
    directory.mkdir(parents=True)
    tokenizer = _tokenizer()
    pieces = sentencepiece.SentencePieceProcessor(model_proto=tokenizer).get_piece_size()
    lm = replace(_LM, text_card=pieces)
    (directory / "config.json").write_text(json.dumps(lm.kwargs() | {"mimi_config_name": "mimi.json"}))
    (directory / "mimi.json").write_text(json.dumps(_MIMI.document()))
    (directory / TOKENIZER).write_bytes(tokenizer)
    for path, tensors in expected_tensors(configured(directory)).items():
        write_zeros(path, tensors)
    if hotkey is not None:
        (directory / "hotkey.txt").write_text(f"{hotkey}\n")


def write_zeros(path: Path, tensors: dict[str, TensorSpec]) -> None:
    """A safetensors file with these tensors, in the smallest type that each may have."""
    header, end = {}, 0
    for name, spec in tensors.items():
        dtype = min(spec.dtypes & _BYTES.keys(), key=lambda one: _BYTES[one])
        start, end = end, end + math.prod(spec.shape) * _BYTES[dtype]
        header[name] = {"dtype": dtype, "shape": spec.shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(end))


_LM = LmConfig(
    dim=16,
    num_heads=2,
    num_layers=1,
    context=20,
    card=16,
    depformer_dim=8,
    depformer_dim_feedforward=33,
    depformer_num_heads=2,
    depformer_num_layers=1,
)
_MIMI = MimiConfig(
    dimension=8,
    n_filters=2,
    ratios=(12, 10, 8),
    codebook_dimension=4,
    codebooks=8,
    bins=_LM.card,
    num_heads=2,
    num_layers=1,
    context=20,
    dim_feedforward=16,
)


def _tokenizer() -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["one letter is one piece of the text"] * 4),
        model_writer=model,
        model_type="char",
        vocab_size=32,
        hard_vocab_limit=False,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()
