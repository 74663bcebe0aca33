from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import prerequisites
from tests.prerequisites import require_models, require_recordings, require_worker


@pytest.mark.parametrize("require", [require_models, require_recordings, require_worker])
@pytest.mark.parametrize(("ci", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)])
def test_what_is_absent_is_named_and_fails_in_ci(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    require: Callable[[], None],
    ci: str,
    outcome: type[BaseException],
) -> None:
    monkeypatch.setattr(prerequisites, "MODELS", tmp_path)
    monkeypatch.setattr(prerequisites, "RECORDINGS", tmp_path)
    half_made = tmp_path / "environment" / "bin" / "python"
    half_made.parent.mkdir(parents=True)
    half_made.touch()
    monkeypatch.setattr(prerequisites, "WORKER_PYTHON", half_made)
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match=r"run `(python -m|make) "):
        require()
