from __future__ import annotations

import os
from importlib.util import find_spec

import pytest
from hypothesis import HealthCheck, settings

from tests.prerequisites import require_gpu, require_models, require_recordings, require_worker

_REQUIRED = {
    "models": require_models,
    "recordings": require_recordings,
    "worker": require_worker,
    "gpu": require_gpu,
}

_HAS_TORCH = find_spec("torch") is not None

# What imports torch is tested in the worker's environment: `make test-models`.
collect_ignore = [] if _HAS_TORCH else ["models/moshi"]


# How long an example takes, or making one, says more of what else the machine does than of the code.
settings.register_profile("muse", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# CI tries the same examples each time, so that what it says is of the change; everybody else goes on to search.
settings.register_profile("ci", settings.get_profile("muse"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "muse")


def pytest_report_header() -> str:
    return "" if _HAS_TORCH else "torch: not here, so tests/models/moshi are left to `make test-models`"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before any fixture: is there what the test's markers say that it needs?"""
    for marker, require in _REQUIRED.items():
        if item.get_closest_marker(marker):
            require()
