from __future__ import annotations

import pytest

from tests.prerequisites import require_models, require_recordings

_REQUIRED = {"models": require_models, "recordings": require_recordings}


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before any fixture: is there what the test's markers say that it needs?"""
    for marker, require in _REQUIRED.items():
        if item.get_closest_marker(marker):
            require()
