"""What a validator sends: `POST /v1/scores` (docs/protocols/leaderboard.md). Read strictly, and whole or not at all."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from routing.leaderboard import Snapshot
from routing.scores.errors import NotListedError
from routing.scores.metrics import METRICS
from routing.scores.standings import TOTAL, MinerStanding
from streaming.errors import PeerError
from streaming.schema import Within, from_json

MOST_BYTES = 256 * 1024
MOST_SCORES = 256
"""As many as a subnet has neurons."""

MOST_VERSION = 192  # characters

BLOCK_SECONDS = 12.0
BLOCKS_AHEAD = 25
"""How far a validator's chain may be ahead of the one that the snapshot was taken from: five minutes."""

_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._+-]{0,63}")
_MOST_REASON = 200  # characters
_MOST_BLOCK = 2**53
_MOST_STREAK = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Miner:
    """What the validator gives and holds against the miner; see `standings.MinerStanding`."""

    emission: Annotated[float, Within(0, 1)] | None = None
    reputation: Annotated[float, Within(0, 1)] | None = None
    streak: Annotated[int, Within(-_MOST_STREAK, _MOST_STREAK)] | None = None
    decay: Annotated[float, Within(0, 1)] | None = None
    recovery: Annotated[float, Within(0, 1)] | None = None

    def standing(self) -> MinerStanding:
        """The same, as it is kept."""
        return MinerStanding(
            emission=self.emission,
            reputation=self.reputation,
            streak=self.streak,
            decay=self.decay,
            recovery=self.recovery,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One version's: `metrics` with at least the total where it is "ok", `reason` where it "failed"."""

    version: str
    status: Literal["ok", "failed"]
    metrics: Mapping[str, float] | None = None
    reason: str | None = None
    miner: Miner | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """Scores of one run. `profile` names how they were made; `block` is the chain's when they were."""

    profile: str
    validator_version: str
    block: Annotated[int, Within(0, _MOST_BLOCK)]
    scores: tuple[Score, ...]


def parse_submission(body: bytes) -> Submission:
    """The submission in a request's body, all of whose values are in range.

    Raises PeerError whose `param` is the path of what is wrong, such as `scores[0].metrics.wer`.
    """
    if len(body) > MOST_BYTES:
        raise PeerError(f"a submission has at most {MOST_BYTES} bytes, got {len(body)}", code="too_large")
    try:
        value = json.loads(body, object_pairs_hook=_unambiguous)
    except (ValueError, RecursionError):
        raise PeerError("the body is not JSON", code="invalid_json") from None
    submission = from_json(Submission, value, path="")
    for name in ("profile", "validator_version"):
        if not _NAME.fullmatch(getattr(submission, name)):
            raise _wrong(name, "expected at most 64 letters, digits and . _ + -")
    if not 1 <= len(submission.scores) <= MOST_SCORES:
        raise _wrong("scores", f"expected 1 to {MOST_SCORES} of them, got {len(submission.scores)}")
    seen: set[str] = set()
    for index, score in enumerate(submission.scores):
        path = f"scores[{index}]"
        if len(score.version) > MOST_VERSION:
            raise _wrong(f"{path}.version", f"expected at most {MOST_VERSION} characters")
        if score.version in seen:
            raise _wrong(f"{path}.version", "the same version is there twice")
        seen.add(score.version)
        _check(score, path)
    return submission


def check_listed(submission: Submission, snapshot: Snapshot, *, now: float) -> None:
    """Hold a submission against the leaderboard at `now` (Unix time, s).

    Raises NotListedError for a version that is not on it, PeerError for a block in the future.
    """
    passed = max(now - snapshot.taken_at, 0.0) / BLOCK_SECONDS
    if submission.block > snapshot.block + passed + BLOCKS_AHEAD:
        raise _wrong("block", f"{submission.block} is in the future: the chain is near {int(snapshot.block + passed)}")
    listed = snapshot.by_key()
    for index, score in enumerate(submission.scores):
        if score.version not in listed:
            param = f"scores[{index}].version"
            raise NotListedError(
                f"{param}: that version is not on the leaderboard of block {snapshot.block}",
                code="version_not_found",
                param=param,
            )


def _check(score: Score, path: str) -> None:
    if score.status == "failed":
        if score.metrics is not None:
            raise _wrong(f"{path}.metrics", "a failed scoring has none")
        if not score.reason or len(score.reason) > _MOST_REASON or not score.reason.isprintable():
            raise _wrong(f"{path}.reason", f"expected 1 to {_MOST_REASON} printable characters")
        return
    if score.reason is not None:
        raise _wrong(f"{path}.reason", "only a failed scoring has one")
    if score.metrics is None or TOTAL not in score.metrics:
        raise _wrong(f"{path}.metrics.{TOTAL}", "it is missing", code="missing_required_parameter")
    for name, value in score.metrics.items():
        metric = METRICS.get(name)
        if metric is None:
            raise _wrong(
                f"{path}.metrics.{name[:60]}", f"no such metric; there are {', '.join(METRICS)}", code="unknown_metric"
            )
        if not metric.low <= value <= metric.high:
            expected = f"a number from {metric.low:g} to {metric.high:g}"
            raise _wrong(f"{path}.metrics.{name}", f"expected {expected}, got {value:g}")


def _wrong(param: str, message: str, *, code: str = "invalid_value") -> PeerError:
    return PeerError(f"{param}: {message}", code=code, param=param)


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise PeerError("the body has an object with the same key twice", code="invalid_json")
    return fields
