from dataclasses import replace

import pytest

from routing.policy.contract import Ranked, Reason, Rules
from routing.policy.gate import Gate
from routing.scores.standings import TOTAL, ModelScores
from tests.routing.policy.figures import HOUSE, key, ranking, total


def against(models: tuple[Ranked, ...], name: str, *, incumbent: str | None, rules: Rules | None = None) -> str | None:
    by_key = {model.key: model for model in models}
    reason = Gate.of(models, incumbent, rules or Rules()).against_promotion(by_key[name])
    return None if reason is None else reason.code


@pytest.mark.parametrize(("score", "code"), [(0.58, None), (0.571, None), (0.56, "low_score"), (None, "unscored")])
def test_a_share_of_the_incumbents_score_must_be_reached(score: float | None, code: str | None) -> None:
    models = ranking(("new", 0.5, score), ("old", 0.3, 0.6))
    assert against(models, key("new"), incumbent=key("old")) == code


def test_the_incumbents_score_counts_and_not_what_others_have() -> None:
    models = ranking(("new", 0.5, 0.5), ("best", 0.2, 0.9), ("good", 0.1, 0.8), ("old", 0.05, 0.5))
    assert against(models, key("new"), incumbent=key("old")) is None
    assert against(models, key("new"), incumbent=key("good")) == "low_score"


def test_a_score_that_may_be_luck_is_not_enough() -> None:
    new, old = ranking(("new", 0.5, 0.6), ("old", 0.3, 0.6))
    lucky = replace(new, scores=ModelScores(metrics={TOTAL: total(0.6, spread=0.1)}))
    assert against((lucky, old), key("new"), incumbent=key("old")) == "uncertain_score"


def test_where_the_incumbent_has_no_score_the_middle_of_all_is_the_bar() -> None:
    models = ranking(("liar", 0.9, 0.1), ("honest", 0.05, 0.6), own=[HOUSE])
    assert against(models, key("liar"), incumbent=HOUSE) == "low_score"
    assert against(models, key("honest"), incumbent=HOUSE) is None
    many = ranking(("top", 0.5, 0.6), ("best", 0.2, 0.9), ("mid", 0.1, 0.61), ("low", 0.05, 0.3), own=[HOUSE])
    assert against(many, key("top"), incumbent=HOUSE) is None
    assert against(many, key("top"), incumbent=None) is None
    assert against(many, key("low"), incumbent=HOUSE) == "low_score"


def test_an_incumbent_whose_score_is_old_is_no_bar() -> None:
    new, old = ranking(("new", 0.5, 0.4), ("old", 0.3, 0.9))
    stale = replace(old, unproven=Reason(code="stale_score", text="its newest score is 9 days old"))
    assert against((new, old), key("new"), incumbent=key("old")) == "low_score"
    assert against((new, stale), key("new"), incumbent=key("old")) is None


def test_an_incumbent_that_fails_is_no_bar() -> None:
    new, old = ranking(("new", 0.5, 0.4), ("old", 0.3, 0.9))
    failing = replace(old, rank=None, excluded=Reason(code="failing", text="it fails"))
    assert against((new, failing), key("new"), incumbent=key("old")) is None


def test_what_nobody_mined_passes() -> None:
    assert against(ranking(("ann", 0.5, 0.9), own=[HOUSE]), HOUSE, incumbent=key("ann")) is None


def test_an_operator_can_do_without_the_gate() -> None:
    rules = Rules(min_samples=0)
    models = ranking(("new", 0.5, 0.1), ("old", 0.3, 0.6), rules=rules)
    assert against(models, key("new"), incumbent=key("old"), rules=rules) is None


def test_where_nothing_was_measured_the_leaderboard_alone_serves_but_does_not_promote() -> None:
    models = ranking(("ann", 0.5, None), ("bob", 0.3, None))
    gate = Gate.of(models, None, Rules())
    assert gate.against_service(models[0]) is None
    assert gate.against_promotion(models[0]) is not None
