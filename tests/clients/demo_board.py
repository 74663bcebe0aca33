"""A leaderboard as it might be on a good day, in the shapes of docs/protocols/leaderboard.md.

Everything follows from the seed and from `now`, so that two pictures of it are the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from routing.scores.metrics import METRICS as KNOWN
from tests.clients.demo_entries import BADGES, EXCLUDED, MODELS, Json, hotkey

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
        "models": [_model(rank, one, now) for rank, one in enumerate(MODELS, start=1)],
        "excluded": [dict(one) for one in EXCLUDED],
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
    named = next(one for one in MODELS if one["model"] == model.partition("@")[0])
    points: list[Json] = []
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
    served = [one for one in MODELS if one["status"] in ("serving", "candidate", "ready")]
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
        "badges": [BADGES[name] for name in one["badges"]],
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
