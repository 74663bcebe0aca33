"""What the score store does in its transactions."""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from sqlalchemy import Text, case, cast, delete, func, insert, null, select
from sqlalchemy.orm import Session

from routing.scores.aggregate import profile_in_force
from routing.scores.errors import TooManyScoresError
from routing.scores.series import AverageRules, Scoring
from routing.scores.standings import TOTAL, MinerStanding
from routing.scores.submission import Score, Submission
from routing.scores.tables import ScoredVersionRow, ScorerRow, ScoringRow, SubmissionRow
from routing.settings import RoutingSettings
from routing.storage import upsert

_HOUR = 3600.0
_FORGOTTEN_AT_ONCE = 50  # more than comes in meanwhile, and soon done


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRules:
    """`profile`: the scorer profile that counts; by default the one that most validators use. `retention`: seconds for
    which scores are kept. `series`: newest scorings of a version by one validator that its averages rest on.
    `submissions`, `scorings`: taken of one validator in an hour, at most. `history`: points in one answer, at most.
    """

    averages: AverageRules = field(default_factory=AverageRules)
    profile: str | None = None
    retention: float = 90 * 86400.0
    series: int = 64
    submissions: int = 120
    scorings: int = 1024
    history: int = 1000

    @classmethod
    def of(cls, settings: RoutingSettings) -> Self:
        """As the operator has them."""
        return cls(
            averages=AverageRules(rescoring=settings.rescoring_days * 86400),
            profile=settings.scorer_profile,
            retention=settings.retention_days * 86400,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryPoint:
    """One validator's value of one metric. `at` is Unix time (s), `block` the chain's when it was measured."""

    at: float
    value: float
    validator: str
    block: int


def add(session: Session, submission: Submission, validator: str, now: float, rules: StoreRules) -> str:
    """Keep a submission and return its id. Raises TooManyScoresError."""
    _note_scorer(session, submission, validator, now)  # which also keeps others of this validator's waiting
    _check_rate(session, len(submission.scores), validator, now, rules)
    row = SubmissionRow(
        id=f"sub_{secrets.token_hex(12)}",
        validator=validator,
        profile=submission.profile,
        validator_version=submission.validator_version,
        block=submission.block,
        received_at=now,
        scores=len(submission.scores),
    )
    session.add(row)
    session.flush()
    session.execute(insert(ScoringRow), [_scoring_values(row, score) for score in submission.scores])
    # In one order for everyone, so that two submissions never wait for each other.
    versions = sorted(score.version for score in submission.scores)
    note = upsert.insert(session, ScoredVersionRow).values(
        [{"version": version, "revision": 1, "scored_at": now} for version in versions]
    )
    session.execute(
        note.on_conflict_do_update(
            index_elements=[ScoredVersionRow.version],
            set_={"revision": ScoredVersionRow.revision + 1, "scored_at": note.excluded.scored_at},
        )
    )
    _forget(session, now - rules.retention)
    return row.id


def overview(session: Session, since: float) -> tuple[list[ScorerRow], dict[str, int]]:
    """The validators that have delivered scores since a time, by hotkey, and the versions that they scored, with
    their revisions.
    """
    scorers = session.scalars(select(ScorerRow).where(ScorerRow.last_run_at >= since).order_by(ScorerRow.validator))
    versions = session.execute(
        select(ScoredVersionRow.version, ScoredVersionRow.revision).where(ScoredVersionRow.scored_at >= since)
    )
    return list(scorers), dict(versions.all())


def newest_scorings(
    session: Session,
    versions: Sequence[str],
    *,
    profile: str,
    validators: Collection[str],
    since: float,
    series: int,
) -> Mapping[str, list[Scoring]]:
    """Of each version, the newest scorings by each of the validators, at most `series` of each, in one profile.

    What was told of the miner is there once for each validator: with its newest scoring that told any.
    """
    age = func.row_number().over(
        partition_by=(ScoringRow.version, ScoringRow.validator), order_by=(ScoringRow.at.desc(), ScoringRow.id.desc())
    )
    aged = (
        select(
            ScoringRow.version,
            ScoringRow.id,
            ScoringRow.validator,
            ScoringRow.at,
            cast(ScoringRow.metrics, Text).label("metrics"),
            ScoringRow.failure,
            cast(ScoringRow.miner, Text).label("miner"),
            age.label("age"),
        )
        .where(
            ScoringRow.version.in_(versions),
            ScoringRow.at >= since,
            ScoringRow.profile == profile,
            ScoringRow.validator.in_(validators),
        )
        .subquery()
    )
    newest = select(aged).where(aged.c.age <= series).order_by(aged.c.age)
    rows: dict[str, list[Any]] = {version: [] for version in versions}
    for row in session.execute(newest):
        rows[row[0]].append(row)
    return {version: _scorings(found) for version, found in rows.items()}


def _scorings(rows: Sequence[Any]) -> list[Scoring]:
    """Of one version, newest first. JSON is read all at once, which is cheaper by half; and of what is told of the
    miner only what each validator told last, for that alone counts.
    """
    found, told = [], set()
    all_metrics = json.loads(f"[{','.join(row.metrics for row in rows)}]")
    for (_, number, validator, at, _, failure, told_now, _), metrics in zip(rows, all_metrics, strict=True):
        miner = None
        if told_now is not None and validator not in told:
            told.add(validator)
            miner = MinerStanding(**json.loads(told_now))
        found.append(Scoring(id=number, validator=validator, at=at, metrics=metrics, failure=failure, miner=miner))
    return found


def history(
    session: Session,
    key: str,
    metric: str,
    *,
    since: float,
    in_force: tuple[str, Collection[str]] | None,
    rules: StoreRules,
) -> tuple[HistoryPoint, ...]:
    """See `ScoreStore.history`. `in_force`: a scorer profile, and validators."""
    if in_force is None:
        profiles = {scorer.validator: scorer.profile for scorer in overview(session, since)[0]}
        in_force = rules.profile or profile_in_force(profiles) or "", profiles.keys()
    profile, validators = in_force
    failed = 0.0 if metric == TOTAL else null()
    value = case((ScoringRow.failure.is_not(None), failed), else_=ScoringRow.metrics[metric].as_float())
    newest = session.execute(
        select(ScoringRow.at, value, ScoringRow.validator, ScoringRow.block)
        .where(
            ScoringRow.version == key,
            ScoringRow.at >= since,
            ScoringRow.profile == profile,
            ScoringRow.validator.in_(validators),
            value.is_not(None),
        )
        .order_by(ScoringRow.at.desc(), ScoringRow.id.desc())
        .limit(rules.history)
    ).all()
    return tuple(
        HistoryPoint(at=at, value=value, validator=validator, block=block)
        for at, value, validator, block in reversed(newest)
    )


def _note_scorer(session: Session, submission: Submission, validator: str, now: float) -> None:
    note = upsert.insert(session, ScorerRow).values(
        validator=validator,
        profile=submission.profile,
        validator_version=submission.validator_version,
        last_run_at=now,
        submissions=1,
    )
    newest = {name: note.excluded[name] for name in ("profile", "validator_version", "last_run_at")}
    session.execute(
        note.on_conflict_do_update(
            index_elements=[ScorerRow.validator], set_={**newest, "submissions": ScorerRow.submissions + 1}
        )
    )


def _check_rate(session: Session, scorings: int, validator: str, now: float, rules: StoreRules) -> None:
    count, kept, first = session.execute(
        select(
            func.count(), func.coalesce(func.sum(SubmissionRow.scores), 0), func.min(SubmissionRow.received_at)
        ).where(SubmissionRow.validator == validator, SubmissionRow.received_at > now - _HOUR)
    ).one()
    if count >= rules.submissions or kept + scorings > rules.scorings:
        raise TooManyScoresError(
            f"a validator may send {rules.submissions} submissions and {rules.scorings} scores an hour",
            retry_after=max(first + _HOUR - now, 1.0),
        )


def _scoring_values(row: SubmissionRow, score: Score) -> dict[str, object]:
    return {
        "submission": row.id,
        "version": score.version,
        "validator": row.validator,
        "profile": row.profile,
        "block": row.block,
        "at": row.received_at,
        "metrics": dict(score.metrics or {}),
        "failure": score.reason,
        "miner": None if score.miner is None else asdict(score.miner),
    }


def _forget(session: Session, before: float) -> None:
    """A few of what is older than that; what another process has in hand is left to it, so that nobody waits."""
    for key, at in (
        (SubmissionRow.id, SubmissionRow.received_at),
        (ScoredVersionRow.version, ScoredVersionRow.scored_at),
        (ScorerRow.validator, ScorerRow.last_run_at),
    ):
        old = select(key).where(at < before).order_by(at).limit(_FORGOTTEN_AT_ONCE).with_for_update(skip_locked=True)
        session.execute(delete(key.class_).where(key.in_(old)))
