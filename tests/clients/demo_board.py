"""A leaderboard as it might be on a good day, in the shapes of docs/protocols/leaderboard.md.

Everything follows from the seed and from `now`, so that two pictures of it are the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from routing.scores.metrics import METRICS as KNOWN

Json = dict[str, Any]

BLOCK = 5_213_402
DAY = 86_400.0
TREND_POINTS = 32

METRICS: tuple[Json, ...] = tuple(
    {"id": one.id, "title": one.title, "unit": one.unit, "better": one.better, "about": one.about}
    for one in (KNOWN[name] for name in ("total", "mimi", "wer", "pesq", "spoof", "pause_tor", "turn_latency"))
)
VALIDATORS: tuple[tuple[str, float, float], ...] = (
    ("opentensor", 412_000.0, 1.0),
    ("taostats", 268_000.0, 0.985),
    ("rizzo", 121_500.0, 0.97),
    ("yuma", 64_200.0, 0.81),
)
"""A seed of the hotkey, stake, agreement."""

BASE: Mapping[str, float] = {
    "total": 0.0,
    "pesq": -0.04,
    "wer": 0.16,
    "mimi": -0.27,
    "spoof": 0.05,
    "pause_tor": -0.45,
}
SPREAD = 0.022


def hotkey(seed: str) -> str:
    """Looks like an ss58 address, and is none."""
    alphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
    digest = hashlib.sha512(seed.encode()).digest()
    return "5" + "".join(alphabet[byte % 58] for byte in digest[:47])


def commit(seed: str) -> str:
    """40 hex digits."""
    return hashlib.sha1(seed.encode(), usedforsecurity=False).hexdigest()


def version(model: str) -> str:
    return f"{model}@{commit(model)}"


def demo_board(now: float) -> Json:
    """Eight models: one serves, one is a canary, one fails, one is barred, and the rest wait."""
    return {
        "object": "leaderboard",
        "source": "chain",
        "network": "finney",
        "netuid": 21,
        "competition": "v1",
        "block": BLOCK,
        "taken_at": now - 41,
        "age_seconds": 41.0,
        "stale": False,
        "problem": None,
        "metrics": list(METRICS),
        "models": [_model(rank, one, now) for rank, one in enumerate(_MODELS, start=1)],
        "excluded": _EXCLUDED,
        "validators": _validators(now),
        "rollout": {
            "stage": "canary",
            "incumbent": version("omega/moshi-aria"),
            "candidate": version("northwind/duplex-7b"),
            "share": 0.05,
            "since": now - 1560,
            "reason": {
                "code": "canary",
                "text": "it has led by 0.021 for 26 minutes and answers within 12 ms of the incumbent; 23 of 40 turns",
            },
        },
    }


def embedded_board(now: float) -> Json:
    """What a fresh checkout shows: the model that comes with Muse, and nothing measured."""
    model = _nobody_scored("muse-embedded", "muse-embedded") | {
        "rank": 1,
        "status": "serving",
        "status_reason": "it leads the ranking",
        "share": 1.0,
        "mode": "turn_based",
        "languages": ["en"],
        "incentive": 1.0,
    }
    board = demo_board(now)
    settled = {
        "stage": "settled",
        "incumbent": "muse-embedded",
        "candidate": None,
        "share": 0.0,
        "since": now - 7300,
        "reason": {"code": "only", "text": "it is the only model"},
    }
    alone = {"source": "file", "network": "none", "netuid": 0, "competition": None, "block": 0, "models": [model]}
    return board | alone | {"excluded": [], "validators": [], "rollout": settled}


def empty_board(now: float, problem: str) -> Json:
    """Nothing has been read yet."""
    nothing: Json = {"models": [], "excluded": [], "validators": [], "block": 0, "taken_at": None, "age_seconds": None}
    rollout = embedded_board(now)["rollout"] | {"incumbent": None}
    return demo_board(now) | nothing | {"problem": problem, "rollout": rollout}


def demo_history(model: str, metric: str, days: int, now: float) -> Json:
    """Every validator's scores of a model of `demo_board`."""
    named = next(one for one in _MODELS if one["model"] == model.partition("@")[0])
    points = []
    for name, _, agreement in VALIDATORS:
        rng = np.random.default_rng([len(model), len(metric), len(name)])
        for at in np.arange(now - min(days, named["age_days"]) * DAY, now, 11.3 * 3600):
            drift = (at - now) / DAY * named["drift"]
            value = _level(named, metric) + drift + rng.normal(0, SPREAD * (2.2 - 1.4 * agreement)) * _unit(metric)
            block = BLOCK - int((now - at) / 12)
            points.append({"at": float(at), "value": float(value), "validator": hotkey(name), "block": block})
    points.sort(key=lambda point: point["at"])
    return {"object": "history", "version": model, "metric": metric, "points": points[-1000:]}


def demo_models() -> list[Json]:
    """The list of GET /v1/models that goes with `demo_board`."""
    auto = {"id": "auto", "object": "model", "created": 0, "owned_by": "muse"}
    served = [one for one in _MODELS if one["status"] in ("serving", "candidate", "ready")]
    return [auto, *(_listed(one, rank) for rank, one in enumerate(served, start=1))]


def _listed(one: Json, rank: int) -> Json:
    details = {
        "version": version(one["model"]),
        "rank": rank,
        "status": one["status"],
        "mode": one["mode"],
        "languages": one["languages"],
        "voices": ["default"],
    }
    owner = hotkey(one["model"])
    return {"id": one["model"], "object": "model", "created": 0, "owned_by": owner, "muse": details}


def _nobody_scored(model: str, key: str) -> Json:
    return {
        "id": model,
        "version": key,
        "rank": None,
        "uid": 0,
        "hotkey": None,
        "block": 0,
        "incentive": 0.0,
        "emission": 0.0,
        "status": "waiting",
        "status_reason": None,
        "mode": "duplex",
        "languages": [],
        "share": 0.0,
        "metrics": {},
        "failing": False,
        "failure": None,
        "live": None,
        "rating": None,
        "feedback": None,
        "miner": {"emission": None, "reputation": None, "streak": None, "decay": None, "recovery": None},
        "badges": [],
    }


def _model(rank: int, one: Json, now: float) -> Json:
    shown = _nobody_scored(one["model"], version(one["model"])) | {
        "rank": rank,
        "uid": one["uid"],
        "hotkey": hotkey(one["model"]),
        "block": BLOCK - int(one["age_days"] * DAY / 12),
        "incentive": one["incentive"],
        "emission": round(one["incentive"] * 148.0, 3),
        "status": one["status"],
        "status_reason": one["why"],
        "mode": one["mode"],
        "languages": one["languages"],
        "share": one.get("share", 0.0),
        "failing": "failure" in one,
        "failure": one.get("failure"),
        "miner": dict(zip(("emission", "reputation", "streak", "decay", "recovery"), one["miner"], strict=True)),
        "badges": [_BADGES[name] for name in one["badges"]],
    }
    if one["score"] is not None:
        measured = METRICS if one["samples"] > 20 else METRICS[:5]
        shown["metrics"] = {metric["id"]: _standing(one, metric["id"], now) for metric in measured}
    if one.get("turns"):
        p50, p95, misses, errors = one["live"]
        shown["live"] = {
            "turns": one["turns"],
            "gap_p50_ms": p50,
            "gap_p95_ms": p95,
            "frames": one["turns"] * 212,
            "misses": misses,
            "sessions": one["turns"] // 7 + 1,
            "errors": errors,
        }
    if "rating" in one:
        value, half, votes = one["rating"]
        shown["rating"] = {"value": value, "low": value - half, "high": value + half, "votes": votes}
    if "feedback" in one:
        ratings, mean = one["feedback"]
        shown["feedback"] = {"ratings": ratings, "mean": mean}
    return shown


def _unit(metric: str) -> float:
    """How large a step of the metric is, in scores."""
    return 900.0 if metric == "turn_latency" else 1.0


def _level(one: Json, metric: str) -> float:
    if metric == "turn_latency":
        return float(690 - 620 * one["score"] + 3 * one["uid"] % 40)
    twist = 0.0 if metric == "total" else 0.03 * np.sin(one["uid"] * (1 + len(metric)))
    return float(np.clip(one["score"] + BASE[metric] + twist, 0.02, 0.98))


def _standing(one: Json, metric: str, now: float) -> Json:
    rng = np.random.default_rng([one["uid"], len(metric), ord(metric[0])])
    average = _level(one, metric)
    half = 1.96 * SPREAD * _unit(metric) / np.sqrt(one["samples"] / 4)
    days = min(21.0, one["age_days"])
    at = np.linspace(now - days * DAY, now - 900, TREND_POINTS)
    noise = np.convolve(rng.normal(0, 0.011, TREND_POINTS + 4), np.ones(5) / 5, "valid") * _unit(metric)
    values = average + (at - now) / DAY * one["drift"] * _unit(metric) + noise - noise[-1]
    trend = [[round(float(x), 1), round(float(y), 4)] for x, y in zip(at, values, strict=True)]
    return {
        "average": round(average, 4),
        "low": round(average - half, 4),
        "high": round(average + half, 4),
        "latest": round(average + float(rng.normal(0, 0.6 * half)), 4),
        "samples": one["samples"],
        "validators": 4 if one["samples"] > 20 else 2,
        "agreement": 1.0 if one["uid"] % 3 else 0.75,
        "updated_at": now - 60.0 * (4 + one["uid"] % 37),
        "trend": trend,
    }


def _validators(now: float) -> list[Json]:
    return [
        {
            "hotkey": hotkey(name),
            "uid": uid,
            "stake": stake,
            "last_update": BLOCK - 40 * (uid + 1) - uid * 13,
            "last_run_at": now - 340.0 * (uid + 1) ** 2,
            "version": "0.1.0" if agreement > 0.9 else "0.0.9",
            "profile": "sn21-v1-2025-02",
            "submissions": 190 - 37 * uid,
            "agreement": agreement,
        }
        for uid, (name, stake, agreement) in enumerate(VALIDATORS)
    ]


_BADGES: Mapping[str, Json] = {
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


_MODELS: Sequence[Json] = (
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

_EXCLUDED: Sequence[Json] = (
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
