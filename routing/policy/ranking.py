"""In which order the models stand. The chain proposes the order; what was measured can only take from it.

Models are ordered by incentive; where two earn the same, by their measured total, then by who was first. It is no
blend on purpose: in a blend, whoever moves either layer moves the order, by an amount that nobody foresees. Here the
on-chain leaderboard decides, and a lie in it (much incentive, a poor score of our own) gains a rank and nothing else:
the gate (`routing.policy.gate`) keeps such a model from being served, however it ranks.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from routing.leaderboard import Entry, Snapshot
from routing.policy.contract import Ranked, Reason, Rules
from routing.scores.standings import ModelScores, Scoreboard


def rank(
    snapshot: Snapshot | None, scoreboard: Scoreboard, *, served: Collection[str], rules: Rules, now: float
) -> tuple[Ranked, ...]:
    """All models, best first, those that are never served last. `now` is Unix time, s.

    `served`: the keys that workers serve. Those that are not on the leaderboard are the operator's own, and rank after
    all that are, in the order given.
    """
    entries = snapshot.entries if snapshot is not None else ()
    validators = {validator.hotkey for validator in snapshot.validators} if snapshot is not None else set()
    listed = {entry.key for entry in entries}
    found: list[tuple[str, Entry | None]] = [(entry.key, entry) for entry in entries]
    found += [(key, None) for key in dict.fromkeys(served) if key not in listed]
    judged = [
        _judge(key, entry, scoreboard.of(key), validators=validators, rules=rules, now=now) for key, entry in found
    ]
    kept = sorted((model for model in judged if model.excluded is None), key=_order)
    excluded = sorted((model for model in judged if model.excluded is not None), key=_order)
    return (*(replace(model, rank=place) for place, model in enumerate(kept, start=1)), *excluded)


def names(ranked: Ranked, wanted: Collection[str]) -> bool:
    """Whether the version, or the model that it is one of, is among the names."""
    return ranked.key in wanted or ranked.model in wanted


def brief(key: str) -> str:
    """A version's name for people: the commit cut short."""
    model, at, commit = key.partition("@")
    return f"{model}{at}{commit[:7]}"


def _judge(
    key: str, entry: Entry | None, scores: ModelScores, *, validators: Collection[str], rules: Rules, now: float
) -> Ranked:
    model = entry.model if entry is not None else key.partition("@")[0]
    ranked = Ranked(key=key, model=model, rank=None, entry=entry, scores=scores, reasons=_reasons(entry, scores))
    return replace(
        ranked,
        excluded=_exclusion(ranked, validators, rules),
        unproven=_unproven(scores, rules, now) if ranked.mined else None,
    )


def _exclusion(ranked: Ranked, validators: Collection[str], rules: Rules) -> Reason | None:
    """Why this model is never served, whatever it earns and scores."""
    entry = ranked.entry
    if entry is not None and entry.hotkey is not None and (outside := _outside(entry, validators, rules)) is not None:
        return outside
    if ranked.scores.failing:
        return Reason(code="failing", text=f"it fails: {ranked.scores.failure or 'its last scorings had no result'}")
    if names(ranked, rules.deny):
        return Reason(code="denied", text="the operator serves it to nobody")
    if rules.pin and not names(ranked, rules.pin):
        return Reason(code="not_pinned", text="the operator serves other models only")
    return None


def _outside(entry: Entry, validators: Collection[str], rules: Rules) -> Reason | None:
    """Why what a neuron committed is not in the running."""
    if entry.uid == rules.burn_uid:
        return Reason(code="burn_uid", text=f"what uid {entry.uid} earns is burnt")
    if entry.hotkey in validators:
        return Reason(code="validator", text="a validator's own model is not served")
    if rules.competition is not None and entry.competition != rules.competition:
        competition = entry.competition or "no competition"
        return Reason(code="wrong_competition", text=f"it competes in {competition}; served is {rules.competition}")
    return None


def _unproven(scores: ModelScores, rules: Rules, now: float) -> Reason | None:
    total = scores.total
    if rules.min_samples == 0:
        return None
    if total is None:
        return Reason(code="unscored", text="nobody has scored it yet")
    if total.samples < rules.min_samples:
        return Reason(code="few_scores", text=f"it has {total.samples} scorings; {rules.min_samples} are needed")
    if now - total.updated_at > rules.max_score_age:
        days = (now - total.updated_at) / 86400
        return Reason(code="stale_score", text=f"its newest score is {days:.0f} days old")
    return None


def _reasons(entry: Entry | None, scores: ModelScores) -> tuple[Reason, ...]:
    """What its place rests on."""
    if entry is None:
        place = Reason(code="unlisted", text="it is not on the leaderboard: the operator's own")
    else:
        place = Reason(code="incentive", text=f"it earns {entry.incentive:.1%} of the incentive")
    total = scores.total
    if total is None:
        return (place,)
    measured = f"it scores {total.average:.3f} ({total.low:.3f} to {total.high:.3f}) over {total.samples} scorings"
    return (place, Reason(code="scored", text=measured))


def _order(ranked: Ranked) -> tuple[bool, float, float, int, int]:
    entry, total = ranked.entry, ranked.scores.total
    if entry is None:
        return (True, 0.0, 0.0, 0, 0)
    measured = total.average if total is not None and ranked.unproven is None else 0.0
    return (False, -entry.incentive, -measured, entry.block, entry.uid)
