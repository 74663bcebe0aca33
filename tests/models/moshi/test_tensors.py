"""The tensors worked out of a configuration are those of moshi's own modules, made from it on no device."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
import torch
from moshi.models import loaders
from moshi.models.lm import LMModel

from models.moshi.config import LmConfig, MimiConfig, read_mimi_config
from models.moshi.tensors import lm_shapes, mimi_shapes

_SMALL = LmConfig(
    dim=64, num_heads=2, num_layers=2, text_card=40, card=30, depformer_dim=32, depformer_num_heads=2, context=20
)
_OF_A_STEP = re.compile(r"(.*\.self_attn)\.(in|out)_projs\.(\d+)\.weight")


def as_published(shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """The projections of all depth steps as one tensor, in the place of the first."""
    published: dict[str, tuple[int, ...]] = {}
    for name, shape in shapes.items():
        if match := _OF_A_STEP.fullmatch(name):
            whole = f"{match[1]}.in_proj_weight" if match[2] == "in" else f"{match[1]}.out_proj.weight"
            published[whole] = (published.get(whole, (0,))[0] + shape[0], *shape[1:])
        else:
            published[name] = shape
    return published


def saved(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize(
    "config",
    [
        LmConfig(),
        LmConfig(dep_q=16),
        _SMALL,
        replace(_SMALL, hidden_scale=4.0),  # where a gate is sized by another rule
        replace(_SMALL, hidden_scale=2.7, depformer_dim_feedforward=128),
        replace(_SMALL, dep_q=16, depformer_num_layers=3, depformer_dim_feedforward=100),
    ],
)
def test_the_language_models_are_moshis_in_their_order(config: LmConfig) -> None:
    with torch.device("meta"):
        found = saved(LMModel(device="meta", dtype=torch.bfloat16, **config.kwargs()))
    assert list(lm_shapes(config, split=True).items()) == list(found.items())
    assert list(lm_shapes(config).items()) == list(as_published(found).items())


@pytest.mark.parametrize(
    "config",
    [
        MimiConfig(),
        MimiConfig(dimension=64, n_filters=5, ratios=(12, 10, 8), codebook_dimension=16, codebooks=12, bins=30),
        MimiConfig(dimension=32, n_filters=2, ratios=(4, 5), num_layers=2, num_heads=4, dim_feedforward=40),
        MimiConfig(dimension=32, n_filters=2, ratios=(2, 2, 2, 2, 2, 2, 3, 5), codebooks=8, layer_scale=0.0),
    ],
)
def test_the_codecs_are_moshis_in_their_order(config: MimiConfig, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("codec") / "mimi.json"
    path.write_text(json.dumps(config.document()))
    assert read_mimi_config(path) == config, "a codec that is served"
    with torch.device("meta"):
        found = saved(loaders.get_mimi(None, config.document(), device="meta"))
    assert list(mimi_shapes(config, split=True).items()) == list(found.items())
    assert list(mimi_shapes(config).items()) == list(as_published(found).items())
