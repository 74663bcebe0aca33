"""The contract of fleets on a fixed list and on processes of this machine; `test_ray.py` has the same on Ray."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.routing.fleet.contract import FleetContract, KeepingContract
from tests.routing.fleet.grounds import Ground, KeptGround, StaticGround


class TestStatic(FleetContract):
    @pytest.fixture
    async def ground(self, tmp_path: Path) -> AsyncIterator[Ground]:
        async with StaticGround(tmp_path) as ground:
            yield ground


class TestLocal(KeepingContract):
    @pytest.fixture
    async def ground(self, tmp_path: Path) -> AsyncIterator[Ground]:
        async with KeptGround(tmp_path, "local") as ground:
            yield ground
