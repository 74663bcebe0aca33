from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.leaderboard import ValidatorEntry
from routing.policy.contract import Ranked, Rules
from routing.policy.ranking import rank
from routing.scores.standings import TOTAL, ModelScores, Scoreboard
from tests.routing.policy.figures import HOUSE, NOW, entry, house, key, ranking, scored, snapshot, total


def order(ranked: tuple[Ranked, ...]) -> list[str]:
    return [model.key for model in ranked if model.rank is not None]


def exclusion(rules: Rules, scores: ModelScores | None = None) -> str | None:
    """Why the one model of a leaderboard, uid 7 of competition v1, is excluded."""
    validators = [ValidatorEntry(uid=8, hotkey="hotkey-watcher", stake=1.0, last_update=1)]
    listed = snapshot(entry("ann", 0.5, uid=7), entry("watcher", 0.1, uid=8), validators=validators)
    scoreboard = Scoreboard(models={} if scores is None else {key("ann"): scores})
    found = {model.key: model for model in rank(listed, scoreboard, served=(), rules=rules, now=NOW)}
    excluded = found[key("ann")].excluded
    assert (found[key("ann")].rank is None) == (excluded is not None)
    return None if excluded is None else excluded.code


def test_incentive_decides_and_scores_only_where_it_is_equal() -> None:
    found = ranking(("low", 0.1, 0.9), ("high", 0.5, 0.1), ("tied", 0.1, 0.95))
    assert order(found) == [key("high"), key("tied"), key("low")]
    assert [model.rank for model in found] == [1, 2, 3]


def test_of_equals_who_was_first_leads() -> None:
    entries = (entry("late", 0.2, block=9), entry("early", 0.2, block=3))
    assert order(rank(snapshot(*entries), Scoreboard(), served=(), rules=Rules(), now=NOW))[0] == key("early")


def test_a_score_that_cannot_be_gone_by_breaks_no_tie() -> None:
    scores = {
        key("stale"): ModelScores(metrics={TOTAL: total(0.9, age=8 * 86400)}),
        key("fresh"): scored(0.2),
    }
    listed = snapshot(entry("stale", 0.2, block=1), entry("fresh", 0.2, block=2))
    assert order(rank(listed, Scoreboard(models=scores), served=(), rules=Rules(), now=NOW))[0] == key("fresh")


def test_the_operators_own_models_rank_after_all_listed_in_the_order_given() -> None:
    found = ranking(("ann", 0.0, None), own=["zoe/own", key("ann"), "bob/own", "zoe/own"])
    assert order(found) == [key("ann"), "zoe/own", "bob/own"]
    assert [reason.code for reason in found[1].reasons] == ["unlisted"]
    assert not found[1].mined
    assert not found[1].deployable


def test_what_comes_with_muse_may_be_listed() -> None:
    (found,) = rank(snapshot(house(1.0)), Scoreboard(), served=[HOUSE], rules=Rules(burn_uid=0), now=NOW)
    assert (found.key, found.rank, found.mined, found.deployable) == (HOUSE, 1, False, False)
    assert found.unproven is None


def test_without_a_leaderboard_what_is_served_ranks() -> None:
    assert order(rank(None, Scoreboard(), served=["b", "a"], rules=Rules(), now=NOW)) == ["b", "a"]
    assert rank(None, Scoreboard(), served=(), rules=Rules(), now=NOW) == ()


@pytest.mark.parametrize(
    ("rules", "code"),
    [
        (Rules(), None),
        (Rules(burn_uid=7), "burn_uid"),
        (Rules(burn_uid=9), None),
        (Rules(competition="v2"), "wrong_competition"),
        (Rules(competition="v1"), None),
        (Rules(deny=("ann/voice",)), "denied"),
        (Rules(deny=(key("ann"),)), "denied"),
        (Rules(deny=("bob/voice",)), None),
        (Rules(pin=("bob/voice",)), "not_pinned"),
        (Rules(pin=("ann/voice",)), None),
    ],
)
def test_what_is_never_served(rules: Rules, code: str | None) -> None:
    assert exclusion(rules) == code


def test_a_model_that_fails_is_out_whatever_it_earns_and_scored_before() -> None:
    assert exclusion(Rules(), scored(0.9)) is None
    assert exclusion(Rules(), replace(scored(0.9), failing=True, failure="no audio")) == "failing"


def test_validators_are_out() -> None:
    validators = [ValidatorEntry(uid=1, hotkey="hotkey-ann", stake=1.0, last_update=1)]
    (found,) = rank(snapshot(entry("ann", 0.5), validators=validators), Scoreboard(), served=(), rules=Rules(), now=NOW)
    assert found.excluded is not None
    assert found.excluded.code == "validator"


def test_a_failure_is_told_in_its_words() -> None:
    scores = Scoreboard(models={key("ann"): scored(0.5, failing=True, failure="no audio within 30 s")})
    (found,) = rank(snapshot(entry("ann", 0.5)), scores, served=(), rules=Rules(), now=NOW)
    assert found.excluded is not None
    assert found.excluded.text == "it fails: no audio within 30 s"


@pytest.mark.parametrize(
    ("scores", "rules", "code"),
    [
        (scored(0.5), Rules(), None),
        (scored(None), Rules(), "unscored"),
        (scored(None), Rules(min_samples=0), None),
        (ModelScores(metrics={TOTAL: total(0.5, samples=2)}), Rules(), "few_scores"),
        (ModelScores(metrics={TOTAL: total(0.5, samples=2)}), Rules(min_samples=2), None),
        (ModelScores(metrics={TOTAL: total(0.5, age=8 * 86400)}), Rules(), "stale_score"),
        (ModelScores(metrics={TOTAL: total(0.5, age=8 * 86400)}), Rules(max_score_age=9 * 86400), None),
    ],
)
def test_what_is_too_little_to_go_by(scores: ModelScores, rules: Rules, code: str | None) -> None:
    scoreboard = Scoreboard(models={key("ann"): scores})
    (found,) = rank(snapshot(entry("ann", 0.5)), scoreboard, served=(), rules=rules, now=NOW)
    assert (found.unproven.code if found.unproven else None) == code
    assert found.rank == 1


models = st.lists(st.tuples(st.floats(0, 1), st.none() | st.floats(0, 1), st.booleans()), min_size=1, max_size=12)


@given(models)
def test_ranks_count_from_one_without_gaps_and_incentive_never_rises(
    drawn: list[tuple[float, float | None, bool]],
) -> None:
    entries = [entry(f"m{uid}", incentive, uid=uid) for uid, (incentive, _, _) in enumerate(drawn)]
    scores = {key(f"m{uid}"): scored(average, failing=failing) for uid, (_, average, failing) in enumerate(drawn)}
    found = rank(snapshot(*entries), Scoreboard(models=scores), served=(), rules=Rules(), now=NOW)
    assert len(found) == len(drawn)
    kept = [model for model in found if model.excluded is None]
    assert [model.rank for model in found] == [*range(1, len(kept) + 1), *[None] * (len(found) - len(kept))]
    incentives = [model.entry.incentive for model in kept if model.entry]
    assert incentives == sorted(incentives, reverse=True)
