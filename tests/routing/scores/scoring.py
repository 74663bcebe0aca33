"""Submissions, a leaderboard and keys for the tests of the scores."""

from __future__ import annotations

from collections.abc import Mapping

from bittensor.sp_core import Keypair

from routing.leaderboard import Entry, Snapshot, ValidatorEntry
from routing.scores.submission import Miner, Score, Submission

COMMIT = "0123456789abcdef0123456789abcdef01234567"
A, B = f"omega/moshi-a@{COMMIT}", f"omega/moshi-b@{COMMIT}"
NOW = 1_790_000_000.0
PROFILE = "sn21-v1-2025-02"

ALICE, BOB, CHARLIE, SERVER = (Keypair.create_from_uri(f"//{name}") for name in ("Alice", "Bob", "Charlie", "Muse"))


def submission(
    totals: Mapping[str, float | None], *, block: int = 4_999_900, profile: str = PROFILE, **metrics: float
) -> Submission:
    """The totals of versions, None for one that failed, and further metrics of each."""
    return Submission(
        profile=profile,
        validator_version="0.1.0",
        block=block,
        scores=tuple(
            Score(version=version, status="failed", reason="no audio within 30 s")
            if total is None
            else Score(version=version, status="ok", metrics={"total": total, **metrics}, miner=Miner(emission=0.2))
            for version, total in totals.items()
        ),
    )


def leaderboard(*, stakes: Mapping[str, float] | None = None, taken_at: float = NOW) -> Snapshot:
    """Models A and B, and validators by hotkey; Alice and Bob with much stake, Charlie with little, by default."""
    if stakes is None:
        stakes = {ALICE.ss58_address: 5000.0, BOB.ss58_address: 1000.0, CHARLIE.ss58_address: 999.0}
    return Snapshot(
        source="chain",
        network="test",
        netuid=21,
        competition=None,
        block=5_000_000,
        taken_at=taken_at,
        entries=tuple(
            Entry(uid=uid, hotkey=None, model=model, commit=COMMIT, block=1, competition=None, incentive=0.1)
            for uid, model in enumerate(("omega/moshi-a", "omega/moshi-b"))
        ),
        validators=tuple(
            ValidatorEntry(uid=uid, hotkey=hotkey, stake=stake, last_update=4_999_000)
            for uid, (hotkey, stake) in enumerate(stakes.items())
        ),
    )
