"""What some tests need beyond the code: where it is absent they are skipped. In CI, where all must be, they fail."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import pytest

from benchmarks import recordings
from models import weights

ROOT = Path(__file__).parents[1]
MODELS = ROOT / weights.DEFAULT_DIRECTORY
RECORDINGS = ROOT / recordings.DIRECTORY
WORKER_PYTHON = ROOT / ".venv-moshi" / "bin" / "python"


def absent(what: str) -> NoReturn:
    """Skip the test, or fail it in CI."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} (CI)", pytrace=False)
    pytest.skip(what)


def require_models() -> None:
    """The files of every model that the embedded engine uses by default."""
    needed = (model for model in weights.read_manifest().values() if not model.optional)
    missing = [file.path for model in needed for file in model.files.values() if not (MODELS / file.path).is_file()]
    if missing:
        absent(f"no model file {missing[0]}: run `python -m models fetch`")


def require_recordings() -> None:
    """The recordings of people."""
    if not (RECORDINGS / recordings.INDEX).is_file():
        absent("no recordings of people: run `python -m benchmarks.fetch_recordings`")


def require_worker() -> None:
    """The Moshi worker's environment, whole: Muse itself is installed into it last."""
    if not any(WORKER_PYTHON.parents[1].glob("lib/*/site-packages/muse_voice-*.dist-info")):
        absent("the Moshi worker is not installed: run `make worker-moshi`")


def require_ray() -> None:
    """Ray."""
    if find_spec("ray") is None:
        absent("ray is not installed: pip install 'muse-voice[ray]'")


def require_gpu() -> None:
    """A CUDA device; CI has none, so that its absence is never a failure."""
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
