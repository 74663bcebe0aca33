"""A worker whose weights are refused: one line that says which file and why, and it goes."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.server_process import ROOT
from tests.prerequisites import WORKER_PYTHON

pytestmark = [pytest.mark.worker, pytest.mark.timeout(600)]  # torch is imported each time

HOTKEY = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY"
LM = "model.safetensors"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tiny") / "moshi"
    command = [str(WORKER_PYTHON), "-m", "models", "tiny", str(directory)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (directory / "hotkey.txt").write_text(f"{HOTKEY}\n")
    return directory


def truncated(directory: Path) -> None:
    (directory / LM).write_bytes((directory / LM).read_bytes()[:-100])


def other_shapes(directory: Path) -> None:
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"dim": config["dim"] * 2}))


def without_tokenizer(directory: Path) -> None:
    (directory / "tokenizer_spm_32k_3.model").unlink()


def with_code(directory: Path) -> None:
    (directory / "modeling.py").write_text("print()")


def somebody_elses(directory: Path) -> None:
    (directory / "hotkey.txt").write_text(HOTKEY[:-1] + "Z")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (truncated, f"worker: {LM}: truncated"),
        (other_shapes, f"worker: {LM}: not the tensors of this model: "),
        (without_tokenizer, "worker: tokenizer_spm_32k_3.model is missing"),
        (with_code, "worker: modeling.py: code by its name"),
        (somebody_elses, "worker: hotkey.txt: names "),
    ],
)
def test_weights_that_are_refused_are_named_in_the_last_line(
    tiny: Path, tmp_path: Path, spoil: Callable[[Path], None], said: str
) -> None:
    directory = tmp_path / "model"
    shutil.copytree(tiny, directory)
    spoil(directory)
    command = [str(WORKER_PYTHON), "-m", "models", "worker", "--engine", "moshi", "--model", str(directory)]
    options = ["--hotkey", HOTKEY, "--device", "cpu", "--slots", "1", "--listen", "127.0.0.1:0"]
    result = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith(said), result.stderr
    assert "Traceback" not in result.stderr
