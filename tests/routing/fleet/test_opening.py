from __future__ import annotations

import pytest

from routing.fleet.opening import open_fleet
from routing.fleet.pool import EnginePool
from routing.settings import RoutingSettings
from streaming.errors import EngineError
from tests.routing.fleet.fake_engine import Place


@pytest.mark.parametrize("key", ["a key of fünf words", "a key\r\nX-Other: 1"])
def test_a_key_that_cannot_be_sent_is_told_at_the_start(key: str) -> None:
    with pytest.raises(EngineError, match="MUSE_ENGINE_KEY: expected plain ASCII characters"):
        open_fleet(RoutingSettings(), ["ws://a:1"], EnginePool(lambda _: Place().build()), key=key)


def test_a_key_that_no_worker_would_take_is_told_at_the_start() -> None:
    pool = EnginePool(lambda _: Place().build())
    with pytest.raises(EngineError, match="MUSE_ENGINE_KEY: a key has at least 16 characters"):
        open_fleet(RoutingSettings(fleet="local"), [], pool, key="short")
    open_fleet(RoutingSettings(), ["ws://a:1"], pool, key="short")
