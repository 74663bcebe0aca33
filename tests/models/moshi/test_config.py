from __future__ import annotations

import json
import math
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from moshi.models import loaders

from models.moshi.config import LmConfig, MimiConfig, Sampling, read_mimi_config, read_model_config
from models.moshi.files import read_checkpoint
from models.moshi.tensors import expected_tensors
from streaming.errors import EngineError


def written(directory: Path, document: Any, name: str = "config.json") -> Path:
    path = directory / name
    path.write_text(json.dumps(document) if name.endswith("json") else yaml.safe_dump(document))
    return path


def test_without_a_configuration_it_is_moshi_7b() -> None:
    config = read_model_config(None)
    assert config.model_type == "moshi"
    assert config.lm == LmConfig()
    assert config.sampling == Sampling()
    assert (config.moshi_name, config.mimi_name, config.tokenizer_name) == (
        loaders.MOSHI_NAME,
        loaders.MIMI_NAME,
        loaders.TEXT_TOKENIZER_NAME,
    )


def test_the_defaults_are_those_of_moshi_itself() -> None:
    arguments = LmConfig().kwargs()
    assert arguments.pop("existing_text_end_padding_id") == 0
    assert arguments == loaders._lm_kwargs
    assert MimiConfig().document() == loaders._mimi_config


def test_personaplex_as_it_is_published_says_only_its_name(tmp_path: Path) -> None:
    config = read_model_config(written(tmp_path, {"model_type": "personaplex", "version": "7b-v1"}))
    assert config.model_type == "personaplex"
    assert config.lm == LmConfig(dep_q=16)


@pytest.mark.parametrize("name", ["config.json", "config.yaml"])
def test_what_is_said_is_taken(tmp_path: Path, name: str) -> None:
    document = {
        **loaders._lm_kwargs,
        "dim": 2048,
        "context": 750,
        "hidden_scale": 4,
        "max_period": 100000.0,
        "depformer_dim_feedforward": None,
        "depformer_causal": True,
        "model_type": "moshi",
        "moshi_name": "fine-tuned.safetensors",
        "quantize": False,
        "conditioners": {},
        "lm_gen_config": {"temp": 0.6, "temp_text": 0, "top_k": 100, "top_k_text": 10},
    }
    config = read_model_config(written(tmp_path, document, name))
    assert config.lm == LmConfig(
        dim=2048, context=750, hidden_scale=4.0, max_period=100_000, depformer_dim_feedforward=4096
    )
    assert config.moshi_name == "fine-tuned.safetensors"
    assert config.sampling == Sampling(audio_temperature=0.6, text_temperature=0.0, audio_top_k=100, text_top_k=10)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"dim": "4096"}, "config.json has dim = 4096; expected a whole number from 8 to 16384"),
        ({"dim": 4096.5}, "config.json has dim = 4096.5; expected a whole number"),
        ({"dim": True}, "config.json has dim = True; expected a whole number"),
        ({"dim": 1 << 40}, "has dim = 1099511627776; expected a whole number from 8 to 16384"),
        ({"context": 1 << 20}, "has context = 1048576; expected a whole number from 1 to 100000"),
        ({"dim": 4095}, "does not say num_heads; expected a number of heads that splits 4095 into even sizes"),
        ({"hidden_scale": float("nan")}, "has hidden_scale = nan; expected a number from 0.5 to 16"),
        ({"n_q": 32}, "has n_q = 32; expected 16"),
        ({"dep_q": 12}, "has dep_q = 12; expected 8, or 16"),
        ({"delays": [0, 1]}, "expected 17 numbers: the text's, then one for each codebook"),
        ({"delays": [0] * 16 + [99]}, "expected a list of whole numbers from 0 to 16"),
        ({"delays": "0011"}, "has delays = 0011; expected a list of whole numbers"),
        ({"text_card": 64, "existing_text_padding_id": 64}, "has existing_text_padding_id = 64; expected a text token"),
        ({"norm": "layer_norm"}, "has norm = layer_norm; expected 'rms_norm_f32': no other variant is served"),
        ({"causal": 1}, "has causal = 1; expected True"),
        ({"quantize": True}, "has quantize = True; expected False: no other variant is served"),
        ({"lora": True}, "has lora = True; expected False"),
        ({"lora_name": "lora.safetensors"}, "has lora_name = lora.safetensors; expected None"),
        ({"conditioners": {"cfg": {"type": "lut"}}}, "has conditioners = .*; expected {}: no other variant is served"),
        ({"extra_heads_num_heads": 4}, "has extra_heads_num_heads = 4; expected 0"),
        ({"model_type": "hibiki"}, "has model_type = hibiki; expected moshi or personaplex"),
        ({"dimm": 4096, "zeal": 1}, "has keys that are not known: dimm, zeal"),
        ({"lm_gen_config": {"top_p": 0.9}}, "config.json: lm_gen_config has keys that are not known: top_p"),
        ({"lm_gen_config": {"temp": -1}}, "config.json: lm_gen_config has temp = -1; expected a number from 0 to 10"),
        ({"lm_gen_config": {"cfg_coef": 2.0}}, "has cfg_coef = 2.0; expected 1.0"),
        ({"lm_gen_config": [1]}, "has lm_gen_config = .*; expected a mapping of names to values"),
        ({"moshi_name": "../other/model.safetensors"}, "expected the plain name of a file in the same directory"),
        ({"moshi_name": "hf://somebody/else/model.safetensors"}, "expected the plain name of a file"),
        ({"mimi_name": None}, "has mimi_name = None; expected the plain name of a file"),
        ({"tokenizer_name": ""}, "has tokenizer_name = ; expected the plain name of a file"),
        ([], "config.json is to hold one mapping of names to values"),
    ],
)
def test_what_cannot_be_taken_is_refused_by_name(tmp_path: Path, document: Any, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        read_model_config(written(tmp_path, document))


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("config.json", b"{", "config.json is not a JSON file"),
        ("config.json", b'{"dim": "\xff"}', "config.json is not a JSON file"),
        ("config.json", b"[" * 50_000, "config.json is not a JSON file"),
        ("config.json", b" " * (1 << 16) + b"{}", "config.json is larger than 65536 bytes"),
        ("config.yaml", b"dim: [", "config.yaml is not a YAML file"),
        ("config.yaml", b"!!python/object/apply:os.getcwd []", "config.yaml is not a YAML file"),
        ("config.yaml", b"1: 2", "config.yaml is to hold one mapping of names to values"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_by_name(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(EngineError, match=message):
        read_model_config(tmp_path / name)


BOMB = "\n".join(["a0: &a0 [1]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9))])
"""A list that is written in a line and printed in gigabytes."""


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (BOMB.replace("a8:", "delays:"), "config.yaml is not a YAML file: .*aliases are not taken"),
        ("a: &a [1]\ndelays: *a", "config.yaml is not a YAML file: .*aliases are not taken"),
        (f"dim: 0x{'f' * 5000}", "has dim = a number too long to show; expected a whole number from 8 to 16384"),
        (f"delays: [0x{'f' * 5000}]", "has delays = a number too long to show; expected a list"),
        ('model_type: "\\e[2J\\nmoshi"', r"has model_type = \\x1b\[2J\\nmoshi; expected moshi or personaplex"),
        ('"\\e[2J": 1', r"config.yaml has keys that are not known: \\x1b\[2J"),
        ("dim: 1\n\u202e: [", r"config.yaml is not a YAML file: "),
        (f"model_type: {'a' * 10_000}", "has model_type = a+...; expected moshi or personaplex"),
    ],
)
def test_what_a_stranger_wrote_is_told_in_one_short_line(tmp_path: Path, data: str, message: str) -> None:
    (tmp_path / "config.yaml").write_text(data, encoding="utf-8")
    with pytest.raises(EngineError, match=message) as refused:
        read_model_config(tmp_path / "config.yaml")
    assert refused.value.message.isprintable()
    assert len(refused.value.message) < 400


def test_the_largest_shape_that_is_taken_costs_neither_memory_nor_long_to_describe(tmp_path: Path) -> None:
    sizes = {one.name: one.metadata["most"] for one in fields(LmConfig) if one.metadata and "existing" not in one.name}
    sizes |= {"num_heads": 256, "depformer_num_heads": 256}
    codec = {one.name: one.metadata["most"] for one in fields(MimiConfig) if one.metadata}
    written(tmp_path, MimiConfig(**codec, ratios=(2,) * 7).document(), "mimi.json")
    config = read_model_config(written(tmp_path, {**sizes, "mimi_config_name": "mimi.json"}))
    for name in (config.moshi_name, config.mimi_name, config.tokenizer_name):
        (tmp_path / name).touch()
    began = time.process_time()
    tensors = expected_tensors(read_checkpoint(tmp_path))
    assert time.process_time() - began < 10
    assert sum(math.prod(spec.shape) for specs in tensors.values() for spec in specs.values()) > 1e12


def test_a_codec_reads_back(tmp_path: Path) -> None:
    config = MimiConfig(dimension=64, n_filters=4, ratios=(12, 10, 8), codebook_dimension=16, codebooks=12, bins=512)
    assert read_mimi_config(written(tmp_path, config.document(), "mimi.json")) == config


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        (None, {"sample_rate": 16_000}, "mimi.json has sample_rate = 16000; expected 24000"),
        (None, {"extra": 1}, "mimi.json has keys that are not known: extra"),
        ("seanet", {"ratios": [8, 6, 5, 3]}, "mimi.json: seanet has ratios = .*; expected at most 8, whose product"),
        ("seanet", {"ratios": [8, 6, 5, 8]}, "expected at most 8, whose product divides 1920 and is smaller than it"),
        ("seanet", {"n_filters": 1}, "mimi.json: seanet has n_filters = 1; expected a whole number from 2 to 512"),
        ("seanet", {"norm": "weight_norm"}, "mimi.json: seanet has norm = weight_norm; expected 'none'"),
        ("quantizer", {"n_q": 4}, "mimi.json: quantizer has n_q = 4; expected a whole number from 8 to 64"),
        ("quantizer", {"input_dimension": 3}, "mimi.json: quantizer has input_dimension = 3; expected 512"),
        ("transformer", {"num_heads": 7}, "mimi.json: transformer has num_heads = 7; expected a number of heads"),
        ("transformer", {"context": 4001}, "mimi.json: transformer has context = 4001; expected a whole number from 1"),
        ("transformer", {"gating": "silu"}, "mimi.json: transformer has gating = silu; expected 'none'"),
    ],
)
def test_a_codec_that_is_not_mimi_is_refused_by_name(
    tmp_path: Path, part: str | None, change: dict[str, Any], message: str
) -> None:
    document = MimiConfig().document()
    (document if part is None else document[part]).update(change)
    with pytest.raises(EngineError, match=message):
        read_mimi_config(written(tmp_path, document, "mimi.json"))
