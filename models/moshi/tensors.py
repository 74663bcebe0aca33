"""The tensors that a Moshi-class checkpoint's weights files hold, worked out of its configuration; no torch.

Names and shapes are those of Kyutai's published files, in the order of moshi's own modules. Files that moshi's own
fine-tuning has saved, with one tensor for each depth step (`split`), are taken as well. A file's header is compared
with them before anything of it is loaded, by the worker as by whoever wants to know what a worker would say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from models.hub.safetensors_header import check_tensors, read_header
from models.moshi.config import FRAME_RATE, LmConfig, MimiConfig
from models.moshi.files import Checkpoint
from streaming.wire.moshi import RATE

_LM_TYPES = frozenset({"BF16", "F16", "F32"})
_MIMI_TYPES = frozenset({"F32"})

_OF_A_STEP = re.compile(r".*\.self_attn\.(in|out)_projs\.\d+\.weight")
"""moshi's own names of an attention's projections, one for each depth step; published files hold them as one tensor."""

Shape = tuple[int, ...]
Shapes = Iterator[tuple[str, Shape]]


class TensorSpec(NamedTuple):
    """What a tensor of a weights file must be; types by safetensors' names ("BF16")."""

    shape: Shape
    dtypes: frozenset[str]


def expected_tensors(checkpoint: Checkpoint) -> dict[Path, dict[str, TensorSpec]]:
    """By weights file, the tensors that a published one holds: all of them, and no others."""
    return {
        checkpoint.lm_weights: _specs(lm_shapes(checkpoint.lm), _LM_TYPES),
        checkpoint.mimi_weights: _specs(mimi_shapes(checkpoint.mimi), _MIMI_TYPES),
    }


def check_lm_weights(checkpoint: Checkpoint) -> bool:
    """Check the header of the language model's file; whether it is `split`.

    Raises EngineError where it is not safetensors, or holds other tensors than the configuration's model.
    """
    split = _is_split(checkpoint.lm_weights)
    check_tensors(checkpoint.lm_weights, _specs(lm_shapes(checkpoint.lm, split=split), _LM_TYPES))
    return split


def check_mimi_weights(checkpoint: Checkpoint) -> bool:
    """Check the header of the codec's file; whether it is `split`. Raises like `check_lm_weights`."""
    split = _is_split(checkpoint.mimi_weights)
    check_tensors(checkpoint.mimi_weights, _specs(mimi_shapes(checkpoint.mimi, split=split), _MIMI_TYPES))
    return split


def lm_shapes(config: LmConfig, *, split: bool = False) -> dict[str, Shape]:
    """The names and shapes of the language model's weights; `split` as moshi itself would save them."""
    return dict(_lm(config, split))


def mimi_shapes(config: MimiConfig, *, split: bool = False) -> dict[str, Shape]:
    """The names and shapes of the codec's weights, of all its codebooks; `split` as moshi itself would save them."""
    return dict(_mimi(config, split))


def _lm(config: LmConfig, split: bool) -> Shapes:
    dim, inner, steps = config.dim, config.depformer_dim, config.dep_q
    for book in range(config.n_q):
        yield f"emb.{book}.weight", (config.card + 1, dim)
    yield "text_emb.weight", (config.text_card + 1, dim)
    yield "text_linear.weight", (config.text_card, dim)
    for layer in range(config.num_layers):
        name = f"transformer.layers.{layer}"
        yield from _attention(name, dim, steps=1, split=split)
        yield from _alphas(name, dim)
        yield from _gating(f"{name}.gating", dim, int(config.hidden_scale * dim))
    yield "out_norm.alpha", (1, 1, dim)
    for step in range(steps):
        yield f"depformer_in.{step}.weight", (inner, dim)
    for step in range(steps - 1):
        yield f"depformer_emb.{step}.weight", (config.card + 1, inner)
    yield "depformer_text_emb.weight", (config.text_card + 1, inner)
    for layer in range(config.depformer_num_layers):
        name = f"depformer.layers.{layer}"
        yield from _attention(name, inner, steps=steps, split=split)
        yield from _alphas(name, inner)
        for step in range(steps):
            yield from _gating(f"{name}.gating.{step}", inner, config.depformer_dim_feedforward)
    for step in range(steps):
        yield f"linears.{step}.weight", (config.card, inner)


def _mimi(config: MimiConfig, split: bool) -> Shapes:
    yield from _encoder(config)
    yield from _decoder(config)
    for name in ("encoder_transformer", "decoder_transformer"):
        for layer in range(config.num_layers):
            yield from _codec_layer(f"{name}.transformer.layers.{layer}", config, split)
    yield from _quantizer("quantizer.rvq_first", config, books=1)
    yield from _quantizer("quantizer.rvq_rest", config, books=config.codebooks - 1)
    stride = round(RATE / config.hop / FRAME_RATE)
    yield "downsample.conv.conv.conv.weight", (config.dimension, config.dimension, 2 * stride)
    yield "upsample.convtr.convtr.convtr.weight", (config.dimension, 1, 2 * stride)


def _attention(layer: str, dim: int, *, steps: int, split: bool) -> Shapes:
    if split:
        for step in range(steps):
            yield f"{layer}.self_attn.out_projs.{step}.weight", (dim, dim)
        for step in range(steps):
            yield f"{layer}.self_attn.in_projs.{step}.weight", (3 * dim, dim)
    else:
        yield f"{layer}.self_attn.out_proj.weight", (steps * dim, dim)
        yield f"{layer}.self_attn.in_proj_weight", (steps * 3 * dim, dim)


def _alphas(layer: str, dim: int) -> Shapes:
    yield f"{layer}.norm1.alpha", (1, 1, dim)
    yield f"{layer}.norm2.alpha", (1, 1, dim)


def _gating(name: str, dim: int, feedforward: int) -> Shapes:
    """As `moshi.modules.gating.ActivationGating` sizes it: as many weights as without a gate."""
    hidden = 21 * dim // 8 if feedforward == 4 * dim else 2 * feedforward // 3
    yield f"{name}.linear_in.weight", (2 * hidden, dim)
    yield f"{name}.linear_out.weight", (dim, hidden)


def _encoder(config: MimiConfig) -> Shapes:
    """Modules by their place in `moshi.modules.seanet.SEANetEncoder`; activations have a place, and no weights."""
    place, channels = 1, config.n_filters
    yield from _convolution("encoder.model.0.conv.conv", channels, 1, 7)
    for ratio in reversed(config.ratios):
        yield from _residual(f"encoder.model.{place}", channels)
        yield from _convolution(f"encoder.model.{place + 2}.conv.conv", 2 * channels, channels, 2 * ratio)
        place, channels = place + 3, 2 * channels
    yield from _convolution(f"encoder.model.{place + 1}.conv.conv", config.dimension, channels, 3)


def _decoder(config: MimiConfig) -> Shapes:
    place, channels = 1, config.n_filters << len(config.ratios)
    yield from _convolution("decoder.model.0.conv.conv", channels, config.dimension, 7)
    for ratio in config.ratios:
        name = f"decoder.model.{place + 1}.convtr.convtr"
        yield f"{name}.weight", (channels, channels // 2, 2 * ratio)
        yield f"{name}.bias", (channels // 2,)
        yield from _residual(f"decoder.model.{place + 2}", channels // 2)
        place, channels = place + 3, channels // 2
    yield from _convolution(f"decoder.model.{place + 1}.conv.conv", 1, channels, 3)


def _residual(name: str, channels: int) -> Shapes:
    yield from _convolution(f"{name}.block.1.conv.conv", channels // 2, channels, 3)
    yield from _convolution(f"{name}.block.3.conv.conv", channels, channels // 2, 1)


def _convolution(name: str, outputs: int, inputs: int, width: int) -> Shapes:
    yield f"{name}.weight", (outputs, inputs, width)
    yield f"{name}.bias", (outputs,)


def _codec_layer(layer: str, config: MimiConfig, split: bool) -> Shapes:
    dim = config.dimension
    yield from _attention(layer, dim, steps=1, split=split)
    for norm in ("norm1", "norm2"):
        yield f"{layer}.{norm}.weight", (dim,)
        yield f"{layer}.{norm}.bias", (dim,)
    yield f"{layer}.linear1.weight", (config.dim_feedforward, dim)
    yield f"{layer}.linear2.weight", (dim, config.dim_feedforward)
    yield f"{layer}.layer_scale_1.scale", (dim,)
    yield f"{layer}.layer_scale_2.scale", (dim,)


def _quantizer(name: str, config: MimiConfig, *, books: int) -> Shapes:
    yield f"{name}.input_proj.weight", (config.codebook_dimension, config.dimension, 1)
    yield f"{name}.output_proj.weight", (config.dimension, config.codebook_dimension, 1)
    for book in range(books):
        codebook = f"{name}.vq.layers.{book}._codebook"
        yield f"{codebook}._initialized", (1,)
        yield f"{codebook}.cluster_usage", (config.bins,)
        yield f"{codebook}.embedding_sum", (config.bins, config.codebook_dimension)


def _specs(shapes: dict[str, Shape], dtypes: frozenset[str]) -> dict[str, TensorSpec]:
    return {name: TensorSpec(shape, dtypes) for name, shape in shapes.items()}


def _is_split(path: Path) -> bool:
    return any(_OF_A_STEP.fullmatch(name) for name in read_header(path).tensors)
