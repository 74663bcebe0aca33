"""The gate: what was measured of a model decides whether it may be served, whatever the leaderboard says.

A model that a miner made must have been scored often and lately enough, and not be clearly under the bar. The bar is
the incumbent's measured total; where it has none to go by, the middle of all that were measured, which no single model
can move. What nobody mined is the operator's own choice and passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from routing.policy.contract import Ranked, Reason, Rules
from routing.scores.standings import MetricStanding


@dataclass(frozen=True, slots=True)
class Gate:
    """`bar`: the total that must nearly be reached; None where nothing was measured of any model."""

    bar: MetricStanding | None
    rules: Rules

    @classmethod
    def of(cls, ranking: Sequence[Ranked], incumbent: str | None, rules: Rules) -> Gate:
        """The gate while this version is the incumbent; None for no incumbent."""
        proven = {
            ranked.key: ranked.scores.total
            for ranked in ranking
            if ranked.excluded is None and ranked.unproven is None and ranked.scores.total is not None
        }
        if incumbent in proven:
            return cls(proven[incumbent], rules)
        ordered = sorted(proven.values(), key=lambda total: total.average)
        return cls(ordered[len(ordered) // 2] if ordered else None, rules)

    def against_promotion(self, ranked: Ranked) -> Reason | None:
        """Why this model may not become the incumbent, if so.

        Both ends count: its average must reach `Rules.gate` of the bar's, and the low end of its interval that of the
        bar's low end. So luck in few scorings does not carry a model through, and one that is known as well as the
        incumbent is asked for no more than it.
        """
        if not ranked.mined or self.rules.min_samples == 0:
            return None
        if ranked.unproven is not None:
            return ranked.unproven
        total, bar, gate = ranked.scores.total, self.bar, self.rules.gate
        if total is None or bar is None:
            return None
        if total.average < gate * bar.average:
            return Reason(code="low_score", text=f"it scores {total.average:.3f}; {gate * bar.average:.3f} are needed")
        if total.low < gate * bar.low:
            return Reason(
                code="uncertain_score",
                text=f"its score may be as low as {total.low:.3f}; {gate * bar.low:.3f} must be sure",
            )
        return None

    def against_service(self, ranked: Ranked) -> Reason | None:
        """Why a session that named no model may not get this one, if so.

        As for a promotion; but where nothing was measured of any model, the leaderboard alone decides.
        """
        return None if self.bar is None else self.against_promotion(ranked)
