from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from models.hub.settings import HubSettings
from routing.chain.grammar import parse
from routing.inspection import NO_COMMIT, Candidate, inspect
from tests.models.hub.files import HOTKEY
from tests.models.tiny_checkpoint import LM, MIMI, TOKENIZER, write_checkpoint


@pytest.fixture
def candidate(tmp_path: Path) -> Candidate:
    write_checkpoint(tmp_path / "model", hotkey=HOTKEY)
    return Candidate(directory=tmp_path / "model", repository="alice/moshi", epoch="1", competition="v1", hotkey=HOTKEY)


@pytest.fixture
def settings(tmp_path: Path) -> HubSettings:
    return HubSettings(cache=tmp_path / "cache")


def test_a_sound_model_and_its_commitment(candidate: Candidate, settings: HubSettings) -> None:
    found = inspect(candidate, settings)
    assert found.problems == ()
    assert found.weights is not None
    assert set(found.weights.files) == {"config.json", "hotkey.txt", "mimi.json", LM, MIMI, TOKENIZER}
    assert found.commitment is not None
    commitment = parse(found.commitment.replace("<commit>", NO_COMMIT))
    assert (commitment.model, commitment.competition) == ("alice/moshi", "v1")


def truncate(root: Path) -> None:
    (root / LM).write_bytes((root / LM).read_bytes()[:-2])


def reshape(root: Path) -> None:
    config = json.loads((root / "config.json").read_text())
    (root / "config.json").write_text(json.dumps(config | {"depformer_num_layers": 2}))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda root: (root / "hotkey.txt").write_text(HOTKEY[:-1] + "Z"), "hotkey.txt: names "),
        (lambda root: (root / "hotkey.txt").unlink(), "hotkey.txt: missing; the hotkey 5Grw"),
        (lambda root: (root / "old.pt").touch(), "old.pt: a pickle by its name"),
        (lambda root: (root / "extra.txt").write_bytes(b"\x80\x04."), "extra.txt: a pickle by its first bytes"),
        (lambda root: (root / "modeling.py").touch(), "modeling.py: code by its name"),
        (lambda root: (root / TOKENIZER).unlink(), f"{TOKENIZER} is missing in "),
        (lambda root: (root / MIMI).unlink(), f"{MIMI} is missing in "),
        (truncate, f"{LM}: truncated: "),
        (reshape, f"{LM}: not the tensors of this model: missing: depformer.layers.1."),
        (lambda root: (root / "voices").symlink_to("/"), "voices: a symlink out of the directory"),
    ],
)
def test_each_fault_is_named_once(
    candidate: Candidate, settings: HubSettings, spoil: Callable[[Path], object], said: str
) -> None:
    spoil(candidate.directory)
    [problem] = inspect(candidate, settings).problems
    assert problem.startswith(said)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"repository": "alice/" + "m" * 40}, ["commitment: its repository 'alice/mmm"]),
        ({"repository": f"alice/moshi@{'1' * 40}"}, ["--repository: 'alice/moshi@111"]),
        ({"repository": "alice"}, ["--repository: 'alice'; expected namespace/name"]),
        (
            {"epoch": "a b", "competition": "c:d"},
            ["commitment: its epoch is 'a b'", "commitment: its competition is 'c:d'"],
        ),
        (
            {"repository": f"{'a' * 18}/{'b' * 19}", "epoch": "e" * 16, "competition": "c" * 16},
            ["commitment: is longer than 128 bytes"],
        ),
        ({"directory": Path("/nowhere/at/all")}, ["/nowhere/at/all: there is no such directory"]),
        ({"hotkey": "somebody"}, ["somebody: not an ss58 address"]),
    ],
)
def test_what_is_asked_for_is_checked_too(
    candidate: Candidate, settings: HubSettings, changed: dict[str, object], said: list[str]
) -> None:
    problems = inspect(replace(candidate, **changed), settings).problems  # type: ignore[arg-type]
    assert len(problems) == len(said)
    assert all(problem.startswith(start) for problem, start in zip(problems, said, strict=True)), problems


def test_all_faults_are_told_at_once(candidate: Candidate, settings: HubSettings) -> None:
    truncate(candidate.directory)
    (candidate.directory / "modeling.py").touch()
    (candidate.directory / TOKENIZER).unlink()
    (candidate.directory / "hotkey.txt").unlink()
    problems = inspect(replace(candidate, epoch="a b"), settings).problems
    assert [problem.split()[0] for problem in problems] == [
        "modeling.py:", f"{LM}:", "hotkey.txt:", TOKENIZER, "commitment:"
    ]  # fmt: skip


def test_without_a_wallet_the_rest_is_told_all_the_same(candidate: Candidate, settings: HubSettings) -> None:
    (candidate.directory / "hotkey.txt").unlink()
    assert inspect(replace(candidate, hotkey=None), settings).problems == ()
