"""The models of the demo leaderboard, and those that are not on it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

Json = dict[str, Any]


def hotkey(seed: str) -> str:
    """Looks like an ss58 address, and is none."""
    alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
    digest = hashlib.sha512(seed.encode()).digest()
    return "5" + "".join(alphabet[byte % 58] for byte in digest[:47])


BADGES: Mapping[str, Json] = {
    "top": {"id": "top", "title": "Leads", "about": "First in the ranking"},
    "fast": {"id": "fast", "title": "Fastest", "about": "The shortest median response gap in calls here"},
    "loved": {"id": "loved", "title": "Best loved", "about": "The highest mean of people's ratings"},
    "duel": {"id": "duel", "title": "Duel champion", "about": "The highest rating whose interval clears the next"},
    "streak": {"id": "streak", "title": "On a streak", "about": "Ten or more scorings in a row above the baseline"},
    "rising": {"id": "rising", "title": "Rising", "about": "Its score rose the most in the last seven days"},
    "new": {"id": "new", "title": "New", "about": "Committed in the last seven days"},
}


def _entry(model: str, uid: int, score: float | None, **rest: Any) -> Json:
    plain: Json = {"why": None, "languages": ["en"], "mode": "duplex", "badges": (), "drift": 0.0, "samples": 84}
    return plain | {"model": model, "uid": uid, "score": score, "age_days": 40.0} | rest


MODELS: Sequence[Json] = (
    _entry(
        "omega/moshi-aria",
        3,
        0.648,
        status="serving",
        why="it leads the ranking",
        share=0.95,
        incentive=0.412,
        miner=(0.41, 0.83, 14, 1.0, None),
        badges=("top", "streak", "loved"),
        drift=0.0011,
        turns=3120,
        live=(296.0, 418.0, 0.0006, 0.001),
        rating=(1561.0, 24.0, 211),
        feedback=(164, 4.4),
    ),
    _entry(
        "northwind/duplex-7b",
        17,
        0.669,
        status="candidate",
        why="it is on its way in: canary, 5 % of new calls",
        share=0.05,
        incentive=0.238,
        miner=(0.26, 0.61, 6, 1.0, None),
        badges=("rising", "new"),
        age_days=6.0,
        drift=0.0093,
        samples=37,
        turns=163,
        live=(308.0, 431.0, 0.0011, 0.0),
        rating=(1548.0, 61.0, 34),
        feedback=(9, 4.3),
    ),
    _entry(
        "kestrel/moshi-ft-2",
        42,
        0.631,
        status="ready",
        why="on a worker, two ranks below the incumbent",
        languages=["en", "fr"],
        incentive=0.141,
        miner=(0.13, 0.77, 9, 1.0, None),
        badges=("fast",),
        drift=-0.0004,
        turns=890,
        live=(254.0, 402.0, 0.0009, 0.004),
        rating=(1527.0, 31.0, 138),
        feedback=(51, 4.1),
    ),
    _entry(
        "aurora-lab/halo-voice",
        8,
        0.612,
        status="waiting",
        why="wanted by nobody yet: two models are kept on workers",
        incentive=0.093,
        miner=(0.09, 0.58, 3, 0.86, 0.4),
        drift=-0.0021,
        rating=(1503.0, 45.0, 66),
        feedback=(22, 3.9),
    ),
    _entry(
        "tidepool/speak-mini",
        25,
        0.587,
        status="waiting",
        mode="turn_based",
        languages=["en", "de", "es"],
        incentive=0.054,
        miner=(0.05, 0.52, 1, 1.0, None),
        drift=0.0018,
        rating=(1488.0, 52.0, 49),
    ),
    _entry(
        "mirador/echo-large",
        31,
        0.571,
        status="barred",
        why="rolled back: its p95 gap was 1.9 times the incumbent's; may try again in 38 min",
        incentive=0.038,
        miner=(0.04, 0.49, -2, 0.93, 0.1),
        drift=-0.0008,
        turns=61,
        live=(512.0, 803.0, 0.041, 0.016),
        rating=(1462.0, 70.0, 23),
        feedback=(7, 3.1),
    ),
    _entry(
        "pelagic/whisper-duo",
        56,
        0.498,
        status="failed",
        why="a worker could not load it: model.safetensors has a tensor of the wrong shape",
        incentive=0.024,
        failure="no audio within 30 s",
        miner=(0.01, 0.31, -5, 0.72, 0.0),
        drift=-0.0062,
        samples=58,
    ),
    _entry(
        "quill/first-light",
        60,
        None,
        status="waiting",
        why="nobody has scored it yet",
        incentive=0.0,
        miner=(None, 0.5, 0, None, None),
        badges=("new",),
        age_days=0.4,
    ),
)

EXCLUDED: Sequence[Json] = (
    {
        "uid": 9,
        "hotkey": hotkey("copycat"),
        "model": "copycat/moshi-aria",
        "code": "reused_hash",
        "reason": "the same hash as omega/moshi-aria, which was committed 11,204 blocks before",
    },
    {
        "uid": 71,
        "hotkey": hotkey("foreign"),
        "model": None,
        "code": "foreign",
        "reason": "not in this subnet's grammar: 'sn21-model:v1:...'",
    },
    {
        "uid": 90,
        "hotkey": hotkey("early"),
        "model": "early/bird",
        "code": "future_block",
        "reason": "committed at block 5,213,990, which is 588 blocks ahead",
    },
    {
        "uid": 0,
        "hotkey": hotkey("burn"),
        "model": None,
        "code": "burn_uid",
        "reason": "the uid whose incentive is burnt",
    },
)
