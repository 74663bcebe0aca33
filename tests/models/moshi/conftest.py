from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models.moshi.tiny import write_tiny_checkpoint


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_moshi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a tiny Moshi; tests that change it copy it first."""
    directory = tmp_path_factory.mktemp("tiny") / "moshi"
    write_tiny_checkpoint(directory)
    return directory


@pytest.fixture(scope="session")
def tiny_personaplex(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a tiny PersonaPlex, with the voices "alto" and "bass"; tests that change it copy it first."""
    directory = tmp_path_factory.mktemp("tiny") / "personaplex"
    write_tiny_checkpoint(directory, personaplex=True)
    return directory
