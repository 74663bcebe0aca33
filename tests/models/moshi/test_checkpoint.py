from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from moshi.models import loaders
from moshi.utils.compile import no_compile
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from models.moshi.batch import MoshiBatch
from models.moshi.checkpoint import load_lm, load_mimi
from models.moshi.config import LmConfig, MimiConfig, Sampling
from models.moshi.files import Checkpoint, load_tokenizer, read_checkpoint
from models.moshi.tensors import check_lm_weights, check_mimi_weights, expected_tensors
from streaming.errors import EngineError

Tensors = dict[str, torch.Tensor]


@pytest.fixture
def changed(tiny_personaplex: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the tiny PersonaPlex whose configuration, or weights, are changed."""

    def change(config: dict[str, Any] | None = None, **weights: Callable[[Tensors], Any]) -> Path:
        directory = tmp_path / "model"
        shutil.copytree(tiny_personaplex, directory)
        path = directory / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **(config or {})}))
        for name, edit in weights.items():
            file = directory / {"lm": loaders.MOSHI_NAME, "mimi": loaders.MIMI_NAME}[name]
            tensors = load_file(file)
            edit(tensors)
            save_file(tensors, file)
        return directory

    return change


def published(model_type: str, lm: LmConfig) -> Checkpoint:
    """A checkpoint of the real size, of which there are no files."""
    return Checkpoint(
        model_type="personaplex" if model_type == "personaplex" else "moshi",
        lm_weights=Path("lm"),
        mimi_weights=Path("mimi"),
        text_tokenizer=Path("text"),
        voices=None,
        lm=lm,
        mimi=MimiConfig(),
        sampling=Sampling(),
    )


# --- reading a directory ----------------------------------------------------------------------------------------------


def test_a_directory_is_read(tiny_moshi: Path, tiny_personaplex: Path) -> None:
    moshi, personaplex = read_checkpoint(tiny_moshi), read_checkpoint(tiny_personaplex)
    assert (moshi.model_type, moshi.lm.dep_q, moshi.voices) == ("moshi", 8, None)
    assert (personaplex.model_type, personaplex.lm.dep_q) == ("personaplex", 16)
    assert personaplex.voices == tiny_personaplex / "voices"
    assert moshi.lm_weights == tiny_moshi / "model.safetensors"


def test_a_directory_with_yaml_and_a_hotkey_is_read(tiny_moshi: Path, tmp_path: Path) -> None:
    directory = tmp_path / "submitted"
    shutil.copytree(tiny_moshi, directory)
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").unlink()
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    (directory / "hotkey.txt").write_text("5F" + "x" * 46)
    assert read_checkpoint(directory).lm == read_checkpoint(tiny_moshi).lm


def test_a_directory_without_a_configuration_is_moshi_7b(tmp_path: Path) -> None:
    for name in (loaders.MOSHI_NAME, loaders.MIMI_NAME, loaders.TEXT_TOKENIZER_NAME):
        (tmp_path / name).touch()
    checkpoint = read_checkpoint(tmp_path)
    assert (checkpoint.lm, checkpoint.mimi) == (LmConfig(), MimiConfig())


@pytest.mark.parametrize("name", [loaders.MOSHI_NAME, loaders.MIMI_NAME, loaders.TEXT_TOKENIZER_NAME, "mimi.json"])
def test_a_missing_file_is_named(changed: Callable[..., Path], name: str) -> None:
    directory = changed()
    (directory / name).unlink()
    with pytest.raises(EngineError, match=f"{name} is missing in"):
        read_checkpoint(directory)


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"there is no directory .*nothing"):
        read_checkpoint(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("key", "name"), [("moshi_name", "model.pt"), ("mimi_name", "mimi.bin"), ("tokenizer_name", "text.pkl")]
)
def test_a_pickle_is_refused_unopened(changed: Callable[..., Path], key: str, name: str) -> None:
    with pytest.raises(EngineError, match=f"{name} is not a .* file, and no other is opened"):
        read_checkpoint(changed({key: name}))


def test_a_codec_with_other_codes_is_refused(changed: Callable[..., Path]) -> None:
    with pytest.raises(EngineError, match="the codec has 512 codes a codebook and the language model's card is 2048"):
        read_checkpoint(changed({"card": 2048}))


# --- the official format ----------------------------------------------------------------------------------------------


PERSONAPLEX_BYTES = 16_742_874_000
"""Size of `model.safetensors` in nvidia/personaplex-7b-v1."""

MIMI_BYTES = 384_644_900
"""Size of `tokenizer-e351c8d8-checkpoint125.safetensors` in kyutai/moshiko-pytorch-bf16."""


@pytest.mark.parametrize(
    ("model_type", "steps", "file_size"), [("moshi", 8, None), ("personaplex", 16, PERSONAPLEX_BYTES)]
)
def test_the_expected_tensors_are_those_of_the_published_files(
    model_type: str, steps: int, file_size: int | None
) -> None:
    tensors = expected_tensors(published(model_type, LmConfig(dep_q=steps)))
    lm, mimi = tensors[Path("lm")], tensors[Path("mimi")]
    assert lm["depformer.layers.0.self_attn.in_proj_weight"].shape == (steps * 3 * 1024, 1024)
    assert lm["depformer.layers.5.self_attn.out_proj.weight"].shape == (steps * 1024, 1024)
    assert lm[f"depformer.layers.0.gating.{steps - 1}.linear_out.weight"].shape == (1024, 2816)
    assert lm["transformer.layers.31.self_attn.in_proj_weight"].shape == (3 * 4096, 4096)
    assert lm["out_norm.alpha"].shape == (1, 1, 4096)
    assert lm["depformer_text_emb.weight"].shape == (32_001, 1024)
    assert not any("in_projs" in name or "out_projs" in name for name in (*lm, *mimi))
    assert mimi["encoder_transformer.transformer.layers.7.self_attn.in_proj_weight"].shape == (1536, 512)
    assert mimi["quantizer.rvq_rest.vq.layers.30._codebook.embedding_sum"].shape == (2048, 256)
    assert mimi["upsample.convtr.convtr.convtr.weight"].shape == (512, 1, 4)
    for size, width, specs in ((file_size, 2, lm), (MIMI_BYTES, 4, mimi)):
        if size is not None:
            header = size - width * sum(math.prod(spec.shape) for spec in specs.values())
            assert 80 * len(specs) < header < 160 * len(specs)


@pytest.mark.parametrize("directory", ["tiny_moshi", "tiny_personaplex"])
def test_the_tiny_files_hold_what_is_expected(directory: str, request: pytest.FixtureRequest) -> None:
    for path, expected in expected_tensors(read_checkpoint(request.getfixturevalue(directory))).items():
        with safe_open(path, framework="pt") as file:
            found = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        assert {name: tuple(tensor.get_shape()) for name, tensor in found.items()} == {
            name: spec.shape for name, spec in expected.items()
        }
        assert all(tensor.get_dtype() in expected[name].dtypes for name, tensor in found.items())


# --- loading ----------------------------------------------------------------------------------------------------------


def test_it_loads_what_moshi_itself_loads(tiny_moshi: Path) -> None:
    checkpoint = read_checkpoint(tiny_moshi)
    theirs = loaders.get_moshi_lm(checkpoint.lm_weights, checkpoint.lm.kwargs(), "cpu", torch.float32)
    ours = load_lm(checkpoint, device="cpu")
    codec = loaders.get_mimi(checkpoint.mimi_weights, checkpoint.mimi.document(), "cpu", 8)
    assert not ours.training
    for one, other in ((ours, theirs), (load_mimi(checkpoint, "cpu"), codec)):
        expected = other.state_dict()
        assert one.state_dict().keys() == expected.keys()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in one.state_dict().items())
        assert not any(parameter.requires_grad for parameter in one.parameters())


def test_only_the_heard_half_of_the_depth_steps_is_loaded(tiny_personaplex: Path) -> None:
    checkpoint = read_checkpoint(tiny_personaplex)
    half, whole = load_lm(checkpoint, device="cpu"), load_lm(checkpoint, device="cpu", heard_codebooks=16)
    assert (half.dep_q, whole.dep_q) == (8, 16)
    assert not any(f".{step}." in name for step in range(8, 16) for name in half.state_dict() if "dep" in name)
    frames = torch.randint(0, checkpoint.lm.card, (3, 17, 1), generator=torch.Generator().manual_seed(0))
    logits: dict[int, list[torch.Tensor]] = {8: [], 16: []}
    with torch.no_grad(), no_compile():
        for model in (half, whole):
            state, text = model.forward_text(frames)
            token = text[:, 0, 0].argmax(-1)
            with model.depformer.streaming(3):
                for step in range(8):
                    out = model.forward_depformer(step, token[:, None, None], state)
                    logits[model.dep_q].append(out)
                    token = out[:, 0, 0].argmax(-1)
    assert torch.stack(logits[8]).std() > 0.5
    torch.testing.assert_close(logits[8], logits[16], rtol=1e-5, atol=1e-5)
    assert all(torch.equal(one.argmax(-1), other.argmax(-1)) for one, other in zip(logits[8], logits[16], strict=True))


def test_a_file_that_moshi_has_saved_is_taken_as_well(changed: Callable[..., Path], tiny_personaplex: Path) -> None:
    whole = load_lm(read_checkpoint(tiny_personaplex), device="cpu", dtype=torch.bfloat16, heard_codebooks=16)

    def replace(tensors: Tensors) -> None:
        tensors.clear()
        tensors.update(whole.state_dict())

    directory = changed(lm=replace)
    assert "depformer.layers.0.self_attn.in_projs.15.weight" in load_file(directory / loaders.MOSHI_NAME)
    assert check_lm_weights(read_checkpoint(directory))
    expected = load_lm(read_checkpoint(tiny_personaplex), device="cpu").state_dict()
    found = load_lm(read_checkpoint(directory), device="cpu").state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())
    batch = MoshiBatch(directory, slots=1, device="cpu")
    batch.load()
    batch.close()


def test_the_window_and_the_type_are_the_callers(tiny_moshi: Path) -> None:
    checkpoint = read_checkpoint(tiny_moshi)
    model = load_lm(checkpoint, device="cpu", dtype=torch.bfloat16, window=20)
    assert {layer.self_attn.context for layer in model.transformer.layers} == {20}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert load_lm(checkpoint, device="cpu").context == checkpoint.lm.context


def drop(name: str) -> Callable[[Tensors], Any]:
    return lambda tensors: tensors.pop(name)


def put(name: str, tensor: torch.Tensor) -> Callable[[Tensors], Any]:
    return lambda tensors: tensors.update({name: tensor})


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (drop("out_norm.alpha"), r"model.safetensors: not the tensors of this model: missing: out_norm.alpha"),
        (drop("linears.12.weight"), r"missing: linears.12.weight"),
        (put("lora.weight", torch.zeros(1)), r"not expected: lora.weight"),
        (put("out_norm.alpha", torch.zeros(128)), r"out_norm.alpha \[128\] where \[1, 1, 128\] is expected"),
        (
            put("out_norm.alpha", torch.zeros(1, 1, 128, dtype=torch.int8)),
            r"out_norm.alpha I8 where BF16 or F16 or F32",
        ),
        (
            put("depformer.layers.0.self_attn.out_proj.weight", torch.zeros(8 * 64, 64)),
            r"depformer.layers.0.self_attn.out_proj.weight \[512, 64\] where \[1024, 64\] is expected",
        ),
    ],
)
def test_other_weights_are_refused_by_name(
    changed: Callable[..., Path], edit: Callable[[Tensors], Any], message: str
) -> None:
    checkpoint = read_checkpoint(changed(lm=edit))
    for load in (check_lm_weights, partial(load_lm, device="cpu")):
        with pytest.raises(EngineError, match=message):
            load(checkpoint)


def test_another_codec_is_refused_by_name(changed: Callable[..., Path]) -> None:
    checkpoint = read_checkpoint(changed(mimi=drop("downsample.conv.conv.conv.weight")))
    for load in (check_mimi_weights, partial(load_mimi, device="cpu")):
        with pytest.raises(
            EngineError, match=r"checkpoint125.safetensors: .* missing: downsample.conv.conv.conv.weight"
        ):
            load(checkpoint)


@pytest.mark.parametrize("spoil", [lambda data: data[:-100], lambda data: b"\x80\x04" + data, lambda data: b""])
def test_a_file_that_is_no_safetensors_is_refused_by_name(
    changed: Callable[..., Path], spoil: Callable[[bytes], bytes]
) -> None:
    checkpoint = read_checkpoint(changed())
    checkpoint.lm_weights.write_bytes(spoil(checkpoint.lm_weights.read_bytes()))
    with pytest.raises(EngineError, match=r"model.safetensors: "):
        load_lm(checkpoint, device="cpu")


def test_the_tokenizer_is_loaded(tiny_moshi: Path) -> None:
    tokenizer = load_tokenizer(read_checkpoint(tiny_moshi))
    assert (tokenizer.unk_id(), tokenizer.pad_id()) == (0, 3)
    for text in ("Where is the station?", "Ça va, 你好"):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_a_tokenizer_whose_pieces_are_no_text_is_refused_when_it_is_loaded(changed: Callable[..., Path]) -> None:
    """Or a conversation would find out, at the first such word that the model says."""
    checkpoint = read_checkpoint(changed())
    whole = checkpoint.text_tokenizer.read_bytes()
    assert "▁how".encode() in whole
    checkpoint.text_tokenizer.write_bytes(whole.replace("▁how".encode(), b"\xff\xff\xffhow", 1))
    with pytest.raises(EngineError, match=r"tokenizer_spm_32k_3.model has pieces that are not UTF-8"):
        load_tokenizer(checkpoint)


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"not a model", "is not a SentencePiece model"), (None, "has 512 pieces; expected text_card")],
)
def test_another_tokenizer_is_refused_by_name(changed: Callable[..., Path], data: bytes | None, message: str) -> None:
    checkpoint = read_checkpoint(changed({"text_card": 500} if data is None else {}))
    if data is not None:
        checkpoint.text_tokenizer.write_bytes(data)
    with pytest.raises(EngineError, match=f"tokenizer_spm_32k_3.model {message}"):
        load_tokenizer(checkpoint)
