from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from models.embedded.engine import JOBS_PER_SESSION
from models.embedded.scheduler import Scheduler
from tests.prerequisites import MODELS


@pytest.fixture
def models_dir() -> Path:
    return MODELS


@pytest.fixture
async def scheduler() -> AsyncIterator[Scheduler]:
    shared = Scheduler(workers=2, max_sessions=4, jobs_per_session=JOBS_PER_SESSION)
    yield shared
    await shared.close()
