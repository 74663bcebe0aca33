"""What is said of a checkpoint where there is no torch (`models.moshi.check`), as on a miner's machine."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.moshi.check import checkpoint_faults
from models.moshi.files import configured
from models.moshi.tensors import expected_tensors
from tests.models.tiny_checkpoint import LM, MIMI, TOKENIZER, write_checkpoint, write_zeros


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    root = tmp_path / "model"
    write_checkpoint(root)
    return root


def told(directory: Path) -> list[str]:
    return [fault.message for fault in checkpoint_faults(directory)]


def test_a_sound_one_has_no_faults(directory: Path) -> None:
    assert told(directory) == []


def test_it_is_told_without_torch(directory: Path) -> None:
    code = (
        "import sys, pathlib; from models.moshi.check import checkpoint_faults\n"
        f"assert checkpoint_faults(pathlib.Path({str(directory)!r})) == []\n"
        "assert not {'torch', 'moshi', 'safetensors'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def configure(directory: Path, **values: Any) -> None:
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def other_tensors(directory: Path) -> None:
    tensors = expected_tensors(configured(directory))[directory / LM]
    del tensors["out_norm.alpha"]
    write_zeros(directory / LM, tensors)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda root: (root / LM).unlink(), f"{LM} is missing in"),
        (lambda root: (root / TOKENIZER).unlink(), f"{TOKENIZER} is missing in"),
        (lambda root: (root / "mimi.json").unlink(), "mimi.json is missing in"),
        (lambda root: (root / TOKENIZER).write_bytes(b"text"), f"{TOKENIZER} is not a SentencePiece model"),
        (lambda root: (root / MIMI).write_bytes((root / MIMI).read_bytes()[:-1]), f"{MIMI}: truncated"),
        (other_tensors, f"{LM}: not the tensors of this model: missing: out_norm.alpha"),
        (lambda root: configure(root, depformer_num_layers=2), f"{LM}: not the tensors of this model: missing: "),
        (
            lambda root: configure(root, card=32),
            "the codec has 16 codes a codebook and the language model's card is 32",
        ),
        (lambda root: configure(root, quantize=True), "config.json has quantize = True"),
        (lambda root: configure(root, colour=1), "config.json has keys that are not known: colour"),
        (lambda root: configure(root, lm_gen_config={"top_k": 300}), "lm_gen_config has a top_k above 256"),
        (lambda root: configure(root, model_type="personaplex", dep_q=8), "window is 20; a persona needs at least 32"),
    ],
)
def test_a_fault_is_told_in_the_workers_words(directory: Path, spoil: Callable[[Path], object], said: str) -> None:
    spoil(directory)
    [fault] = told(directory)
    assert fault.startswith(said)


def test_all_faults_are_told(directory: Path) -> None:
    other_tensors(directory)
    (directory / MIMI).unlink()
    (directory / TOKENIZER).write_bytes(b"text")
    configure(directory, model_type="personaplex", dep_q=8, context=40)
    (directory / "voices").mkdir()
    (directory / "voices" / "alto.wav").write_bytes(b"RIFF")
    assert [fault.split()[0] for fault in told(directory)] == [f"{LM}:", MIMI, TOKENIZER, "voice"]
