import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", ["benchmarks", "clients", "models", "routing", "server", "streaming"])
def test_every_package_is_the_checkout_s_own(name: str) -> None:
    """Flat names are common ones: a package of the same name in site-packages must not shadow ours."""
    package = importlib.import_module(name)
    assert package.__file__ is not None
    assert Path(package.__file__).is_relative_to(ROOT / name)
