"""The configuration of a Moshi-class checkpoint: which keys there are, and what each may be.

A model directory states it in `config.json` (Kyutai's own format) or `config.yaml` (the same keys). What is not stated
is as in Moshi 7B, so the empty configuration is Moshi 7B, and a directory without one holds it. A file is refused
where it asks for what is not served: nothing is guessed, and no key is passed over.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from models.moshi.config_file import Document, load
from streaming.wire.moshi import FRAME_SAMPLES, RATE

ModelType = Literal["moshi", "personaplex"]

FRAME_RATE = RATE / FRAME_SAMPLES
"""Frames in a second: 12.5."""

HEARD_CODEBOOKS = 8
"""Codebooks of each voice that are heard: the model's own come first among its inputs, then the user's."""


MOST_TOP_K = 256
"""The largest top-k: how many of the likeliest tokens are ranked. 0 leaves all of them."""


def _sized(default: int, least: int, most: int) -> Any:
    """A size and its bounds.

    Memory is taken by weights after their file has been seen to hold them, and by contexts, for which no file answers.
    """
    return field(default=default, metadata={"default": default, "least": least, "most": most})


@dataclass(frozen=True, slots=True, kw_only=True)
class LmConfig:
    """The shape of the language model; the defaults are Moshi 7B's. Names are those of `moshi.models.LMModel`."""

    dim: int = _sized(4096, 8, 16_384)
    num_heads: int = _sized(32, 1, 256)
    num_layers: int = _sized(32, 1, 256)
    hidden_scale: float = 4.125
    context: int = _sized(3000, 1, 100_000)
    max_period: int = _sized(10_000, 1, 1 << 30)
    text_card: int = _sized(32_000, 8, 1 << 20)
    existing_text_padding_id: int = _sized(3, 0, 1 << 20)
    existing_text_end_padding_id: int = _sized(0, 0, 1 << 20)
    card: int = _sized(2048, 2, 1 << 16)
    n_q: int = _sized(16, 16, 16)
    dep_q: int = _sized(8, 8, 16)
    delays: tuple[int, ...] = (0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1)
    depformer_dim: int = _sized(1024, 8, 16_384)
    depformer_dim_feedforward: int = _sized(4224, 8, 1 << 18)
    depformer_num_heads: int = _sized(16, 1, 256)
    depformer_num_layers: int = _sized(6, 1, 64)
    depformer_context: int = _sized(8, 1, 64)
    depformer_max_period: int = _sized(10_000, 1, 1 << 30)

    def kwargs(self) -> dict[str, Any]:
        """The arguments of `moshi.models.LMModel`."""
        chosen = {one.name: getattr(self, one.name) for one in fields(self)}
        return {**chosen, **_ONLY_AS, "delays": list(self.delays)}


_ONLY_AS: Mapping[str, Any] = {
    "causal": True,
    "layer_scale": None,
    "gating": "silu",
    "norm": "rms_norm_f32",
    "positional_embedding": "rope",
    "depformer_layer_scale": None,
    "depformer_multi_linear": True,
    "depformer_gating": "silu",
    "depformer_pos_emb": "none",
    "depformer_weights_per_step": True,
}
"""Keys of the language model that are served with one value only, and given to it."""

_LEFT_OUT: Mapping[str, tuple[Any, ...]] = {
    "depformer_causal": (True,),
    "norm_emb": (False,),
    "bias_proj": (False,),
    "kv_repeat": (1,),
    "cross_attention": (False,),
    "demux_second_stream": (False,),
    "demux_second_text_stream": (False,),
    "depformer_weights_per_step_schedule": (None,),
    "depformer_low_rank_embeddings": (None,),
    "depformer_norm": (None,),
    "extra_heads_num_heads": (0,),
    "gradient_checkpointing": (False,),
    "text_card_out": (None,),
    "quantize": (False,),
    "lora": (False,),
    "lora_name": (None,),
    "conditioners": ({}, None),
    "fuser": ({}, None),
    "tts_config": ({}, None),
    "stt_config": ({}, None),
}
"""Variants of the architecture that are not served: each key may only say that the variant is not used."""

_TOLD_ONLY = {"version", "model_id", "extra_heads_dim", "lora_rank", "lora_scaling"}
"""Keys that change nothing where they may stand."""

_FILES = {
    "moshi_name": "model.safetensors",
    "mimi_name": "tokenizer-e351c8d8-checkpoint125.safetensors",
    "tokenizer_name": "tokenizer_spm_32k_3.model",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MimiConfig:
    """The shape of the codec; the defaults are the published Mimi's. Audio is mono, 24 kHz; frames are 80 ms."""

    dimension: int = _sized(512, 8, 4096)
    n_filters: int = _sized(64, 2, 512)  # a residual block has half as many
    ratios: tuple[int, ...] = (8, 6, 5, 4)
    codebook_dimension: int = _sized(256, 2, 4096)
    codebooks: int = _sized(32, HEARD_CODEBOOKS, 64)
    bins: int = _sized(2048, 2, 1 << 16)
    num_heads: int = _sized(8, 1, 256)
    num_layers: int = _sized(8, 1, 64)
    context: int = _sized(250, 1, 4_000)
    dim_feedforward: int = _sized(2048, 8, 1 << 16)
    layer_scale: float = 0.01

    @property
    def hop(self) -> int:
        """Samples for each step of the encoder, of which a frame has several."""
        return math.prod(self.ratios)

    def document(self) -> dict[str, Any]:
        """The file that `mimi_config_name` names, as `moshi.models.loaders.get_mimi` takes it."""
        return {
            "sample_rate": RATE,
            "channels": 1,
            "frame_rate": FRAME_RATE,
            "seanet": {
                **_SEANET_ONLY_AS,
                "dimension": self.dimension,
                "n_filters": self.n_filters,
                "ratios": list(self.ratios),
            },
            "quantizer": {
                "dimension": self.codebook_dimension,
                "n_q": self.codebooks,
                "bins": self.bins,
                "input_dimension": self.dimension,
                "output_dimension": self.dimension,
            },
            "transformer": {
                **_TRANSFORMER_ONLY_AS,
                "d_model": self.dimension,
                "num_heads": self.num_heads,
                "num_layers": self.num_layers,
                "layer_scale": self.layer_scale,
                "context": self.context,
                "dim_feedforward": self.dim_feedforward,
                "input_dimension": self.dimension,
                "output_dimensions": [self.dimension],
            },
        }


_SEANET_ONLY_AS: Mapping[str, Any] = {
    "channels": 1,
    "causal": True,
    "n_residual_layers": 1,
    "activation": "ELU",
    "compress": 2,
    "dilation_base": 2,
    "disable_norm_outer_blocks": 0,
    "kernel_size": 7,
    "residual_kernel_size": 3,
    "last_kernel_size": 3,
    "norm": "none",
    "pad_mode": "constant",
    "true_skip": True,
}

_TRANSFORMER_ONLY_AS: Mapping[str, Any] = {
    "causal": True,
    "conv_layout": True,
    "max_period": 10000,
    "gating": "none",
    "norm": "layer_norm",
    "positional_embedding": "rope",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How tokens are drawn where a conversation does not say: a temperature of 0 takes the likeliest."""

    text_temperature: float = 0.7
    text_top_k: int = 25
    audio_temperature: float = 0.8
    audio_top_k: int = 250


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """What a configuration file says; the names of files are relative to it."""

    model_type: ModelType
    lm: LmConfig
    sampling: Sampling
    moshi_name: str
    mimi_name: str
    tokenizer_name: str
    mimi_config_name: str | None


def read_model_config(path: Path | None) -> ModelConfig:
    """Read `config.json` or `config.yaml`; None is a directory without one, which holds Moshi 7B.

    Raises EngineError naming the file, the key and what is expected of it.
    """
    document = Document("config.json", {}) if path is None else load(path)
    model_type = document.one_of("model_type", ("moshi", "personaplex"), "moshi")
    names = {key: document.file_name(key, default) for key, default in _FILES.items()}
    mimi_config_name = document.file_name("mimi_config_name", None)
    sampling = _sampling(document)
    document.only_as({key: (value,) for key, value in _ONLY_AS.items()})
    document.only_as(_LEFT_OUT)
    lm = _lm_config(document, dep_q=16 if model_type == "personaplex" else 8)
    document.drop(_TOLD_ONLY)
    document.finish()
    return ModelConfig(
        model_type=model_type,  # type: ignore[arg-type]
        lm=lm,
        sampling=sampling,
        mimi_config_name=mimi_config_name,
        **names,  # type: ignore[arg-type]
    )


def read_mimi_config(path: Path) -> MimiConfig:
    """Read a codec's configuration file.

    Raises EngineError naming the file, the key and what is expected of it.
    """
    document = load(path)
    document.only_as({"sample_rate": (RATE,), "channels": (1,), "frame_rate": (FRAME_RATE,)})
    seanet, quantizer, transformer = (document.inner(name) for name in ("seanet", "quantizer", "transformer"))
    document.finish()
    seanet.only_as({key: (value,) for key, value in _SEANET_ONLY_AS.items()})
    transformer.only_as({key: (value,) for key, value in _TRANSFORMER_ONLY_AS.items()})
    config = MimiConfig(
        dimension=_size(seanet, "dimension", MimiConfig),
        n_filters=_size(seanet, "n_filters", MimiConfig),
        ratios=seanet.sizes("ratios", (8, 6, 5, 4), least=2, most=64),
        codebook_dimension=_size(quantizer, "dimension", MimiConfig, "codebook_dimension"),
        codebooks=_size(quantizer, "n_q", MimiConfig, "codebooks"),
        bins=_size(quantizer, "bins", MimiConfig),
        num_heads=_size(transformer, "num_heads", MimiConfig),
        num_layers=_size(transformer, "num_layers", MimiConfig),
        context=_size(transformer, "context", MimiConfig),
        dim_feedforward=_size(transformer, "dim_feedforward", MimiConfig),
        layer_scale=transformer.number("layer_scale", 0.01, least=0.0, most=10.0),
    )
    if len(config.ratios) > 8 or FRAME_SAMPLES % config.hop or config.hop == FRAME_SAMPLES:
        raise seanet.wrong("ratios", f"at most 8, whose product divides {FRAME_SAMPLES} and is smaller than it")
    for part, key in ((quantizer, "input_dimension"), (quantizer, "output_dimension"), (transformer, "d_model")):
        part.only_as({key: (config.dimension,)})
    transformer.only_as({"input_dimension": (config.dimension,), "output_dimensions": ([config.dimension],)})
    _check_heads(transformer, "num_heads", config.num_heads, config.dimension)
    for part in (seanet, quantizer, transformer):
        part.finish()
    return config


def _lm_config(document: Document, *, dep_q: int) -> LmConfig:
    default = LmConfig(dep_q=dep_q)
    derived = document.null("depformer_dim_feedforward")
    values: dict[str, Any] = {
        "hidden_scale": document.number("hidden_scale", default.hidden_scale, least=0.5, most=16.0),
        "delays": document.sizes("delays", default.delays, least=0, most=16),
        "dep_q": _size(document, "dep_q", LmConfig, default=dep_q),
    }
    for one in fields(LmConfig):
        if one.name not in values:
            values[one.name] = _size(document, one.name, LmConfig)
    if derived:
        values["depformer_dim_feedforward"] = int(values["hidden_scale"] * values["depformer_dim"])
    config = LmConfig(**values)
    if config.dep_q not in (8, 16):
        raise document.wrong("dep_q", "8, or 16 where the user's codes are predicted too")
    if len(config.delays) != config.n_q + 1:
        raise document.wrong("delays", f"{config.n_q + 1} numbers: the text's, then one for each codebook")
    for key in ("existing_text_padding_id", "existing_text_end_padding_id"):
        if getattr(config, key) >= config.text_card:
            raise document.wrong(key, f"a text token, below text_card ({config.text_card})")
    _check_heads(document, "num_heads", config.num_heads, config.dim)
    _check_heads(document, "depformer_num_heads", config.depformer_num_heads, config.depformer_dim)
    return config


def _size(
    document: Document,
    key: str,
    config: type[LmConfig | MimiConfig],
    attribute: str | None = None,
    default: int | None = None,
) -> int:
    """The whole number at `key`, within the bounds that `config` states for it."""
    stated = next(one for one in fields(config) if one.name == (attribute or key))
    bounds = stated.metadata
    return document.count(
        key, bounds["default"] if default is None else default, least=bounds["least"], most=bounds["most"]
    )


def _check_heads(document: Document, key: str, heads: int, dim: int) -> None:
    if dim % heads or (dim // heads) % 2:
        raise document.wrong(key, f"a number of heads that splits {dim} into even sizes")


def _sampling(document: Document) -> Sampling:
    inner = document.inner("lm_gen_config")
    inner.only_as({"use_sampling": (True,), "cfg_coef": (1.0,)})
    sampling = Sampling(
        text_temperature=inner.number("temp_text", 0.7, least=0.0, most=10.0),
        text_top_k=inner.count("top_k_text", 25, least=0, most=1 << 20),
        audio_temperature=inner.number("temp", 0.8, least=0.0, most=10.0),
        audio_top_k=inner.count("top_k", 250, least=0, most=1 << 20),
    )
    inner.finish()
    return sampling
