"""Tests of routing.settings: what an operator mistypes is named."""

from __future__ import annotations

import pytest

from routing.scores.queries import StoreRules
from routing.settings import read_settings
from streaming.errors import EngineError

DAY = 86400.0


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("MUSE_ROUTING_SOURCE", "Chain", "MUSE_ROUTING_SOURCE: Input should be 'file' or 'chain'"),
        ("MUSE_ROUTING_NETUID", "70000", "MUSE_ROUTING_NETUID: Input should be less than or equal to 65535"),
        ("MUSE_ROUTING_CANARY_STEPS", "0.5,0.25", "MUSE_ROUTING_CANARY_STEPS: expected rising shares"),
        ("MUSE_ROUTING_HOTKEY", "5Grwva", "MUSE_ROUTING_HOTKEY: expected an ss58 address, got '5Grwva'"),
        ("MUSE_ROUTING_VALIDATORS", "alice", "MUSE_ROUTING_VALIDATORS: expected an ss58 address, got 'alice'"),
        ("MUSE_ROUTING_RETENTION_DAYS", "20", "MUSE_ROUTING_RETENTION_DAYS: expected at least 8 times"),
    ],
)
def test_a_wrong_value_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, fault: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(EngineError, match=fault):
        read_settings()


def test_how_often_validators_score_says_how_scores_age(monkeypatch: pytest.MonkeyPatch) -> None:
    assert StoreRules.of(read_settings()) == StoreRules()
    monkeypatch.setenv("MUSE_ROUTING_RESCORING_DAYS", "2")
    monkeypatch.setenv("MUSE_ROUTING_SCORER_PROFILE", "live-1")
    monkeypatch.setenv("MUSE_ROUTING_RETENTION_DAYS", "30")
    rules = StoreRules.of(read_settings())
    assert (rules.averages.half_life, rules.averages.oldest) == (2 * DAY, 4 * DAY)
    assert (rules.profile, rules.retention) == ("live-1", 30 * DAY)
