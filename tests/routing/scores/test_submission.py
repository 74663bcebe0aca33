from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.leaderboard import Entry, Snapshot
from routing.scores.errors import NotListedError
from routing.scores.submission import MOST_BYTES, MOST_SCORES, Miner, Score, Submission, check_listed, parse_submission
from streaming.errors import PeerError
from streaming.schema import to_json

COMMIT = "0123456789abcdef0123456789abcdef01234567"
A, B = f"omega/moshi-a@{COMMIT}", f"omega/moshi-b@{COMMIT}"

GOOD: dict[str, Any] = {
    "profile": "sn21-v1-2025-02",
    "validator_version": "0.1.0",
    "block": 4999900,
    "scores": [
        {
            "version": A,
            "status": "ok",
            "metrics": {"total": 0.61, "wer": 1},
            "miner": {"emission": 0.31, "reputation": 0.62, "streak": -4, "decay": 1.0, "recovery": None},
        },
        {"version": B, "status": "failed", "reason": "no audio within 30 s"},
    ],
}


MANY = [{"version": f"v{n}", "status": "failed", "reason": "x"} for n in range(MOST_SCORES + 1)]


def test_what_is_sent_is_read() -> None:
    read = parse_submission(json.dumps(GOOD).encode())
    assert read == Submission(
        profile="sn21-v1-2025-02",
        validator_version="0.1.0",
        block=4999900,
        scores=(
            Score(
                version=A,
                status="ok",
                metrics={"total": 0.61, "wer": 1.0},
                miner=Miner(emission=0.31, reputation=0.62, streak=-4, decay=1.0),
            ),
            Score(version=B, status="failed", reason="no audio within 30 s"),
        ),
    )
    assert parse_submission(json.dumps(to_json(read, omit_none=True)).encode()) == read


def changed(path: str, value: Any) -> bytes:
    """The good submission with one thing changed, at a path such as `scores.0.metrics.total`; `...` takes it away."""
    whole = copy.deepcopy(GOOD)
    inner: Any = whole
    *names, last = [int(name) if name.isdecimal() else name for name in path.split(".")]
    for name in names:
        inner = inner[name]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return json.dumps(whole).encode()


@pytest.mark.parametrize(
    ("path", "value", "param", "code"),
    [
        *(
            ("scores.0.metrics.total", value, "scores[0].metrics.total", "invalid_value")
            for value in (math.nan, math.inf, -math.inf, 1e9, 10**400, 1.001, -0.001, "0.6", True, None, [0.6])
        ),
        ("scores.0.metrics.total", ..., "scores[0].metrics.total", "missing_required_parameter"),
        ("scores.0.metrics", ..., "scores[0].metrics.total", "missing_required_parameter"),
        ("scores.0.metrics", {"total": 0.5, "charm": 0.5}, "scores[0].metrics.charm", "unknown_metric"),
        ("scores.0.metrics", {"total": 0.5, "response_gap": 1e9}, "scores[0].metrics.response_gap", "invalid_value"),
        ("scores.0.metrics", [0.5], "scores[0].metrics", "invalid_value"),
        ("scores.0.reason", "but why", "scores[0].reason", "invalid_value"),
        ("scores.0.status", "fine", "scores[0].status", "invalid_value"),
        ("scores.0.status", ..., "scores[0].status", "missing_required_parameter"),
        ("scores.0.version", ..., "scores[0].version", "missing_required_parameter"),
        ("scores.0.version", "x" * 200, "scores[0].version", "invalid_value"),
        ("scores.1.version", A, "scores[1].version", "invalid_value"),
        ("scores.1.metrics", {"total": 0.5}, "scores[1].metrics", "invalid_value"),
        ("scores.1.reason", ..., "scores[1].reason", "invalid_value"),
        ("scores.1.reason", "", "scores[1].reason", "invalid_value"),
        ("scores.1.reason", "x" * 201, "scores[1].reason", "invalid_value"),
        ("scores.1.reason", "a\x1b[31m", "scores[1].reason", "invalid_value"),
        ("scores.1.reason", "\ud800", "scores[1].reason", "invalid_value"),
        ("scores.0.comment", "hello", "scores[0].comment", "unknown_parameter"),
        ("scores.0.miner.emission", 1.5, "scores[0].miner.emission", "invalid_value"),
        ("scores.0.miner.emission", math.nan, "scores[0].miner.emission", "invalid_value"),
        ("scores.0.miner.streak", 1.5, "scores[0].miner.streak", "invalid_value"),
        ("scores.0.miner.streak", 10**9, "scores[0].miner.streak", "invalid_value"),
        ("scores.0.miner.luck", 1, "scores[0].miner.luck", "unknown_parameter"),
        ("scores", [], "scores", "invalid_value"),
        ("scores", ..., "scores", "missing_required_parameter"),
        ("scores", MANY, "scores", "invalid_value"),
        ("block", -1, "block", "invalid_value"),
        ("block", 1.5, "block", "invalid_value"),
        ("block", 10**30, "block", "invalid_value"),
        ("profile", "", "profile", "invalid_value"),
        ("profile", "two words", "profile", "invalid_value"),
        ("validator_version", "x" * 65, "validator_version", "invalid_value"),
        ("comment", "hello", "comment", "unknown_parameter"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(path: str, value: Any, param: str, code: str) -> None:
    with pytest.raises(PeerError) as refused:
        parse_submission(changed(path, value))
    assert (refused.value.param, refused.value.code) == (param, code)
    assert refused.value.message.startswith(f"{param}: ")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"\xff\xfe", "invalid_json"),
        (b"{" * 5, "invalid_json"),
        (b"[" * 200_000, "invalid_json"),
        (b"1" * 10_000, "invalid_json"),
        (b'{"block": 1, "block": 2}', "invalid_json"),
        (b"null", "invalid_value"),
        (b"[]", "invalid_value"),
        (b" " * (MOST_BYTES + 1), "too_large"),
    ],
)
def test_what_is_no_submission_at_all(body: bytes, code: str) -> None:
    with pytest.raises(PeerError) as refused:
        parse_submission(body)
    assert refused.value.code == code


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
PATHS = [
    "profile",
    "block",
    "scores",
    "scores.0",
    "scores.0.version",
    "scores.0.metrics",
    "scores.0.miner",
    "scores.1.reason",
]


@settings(deadline=None)
@given(st.binary(max_size=200) | st.builds(changed, st.sampled_from(PATHS), JSON))
def test_it_is_refused_by_a_peer_error_or_it_is_sound(body: bytes) -> None:
    try:
        read = parse_submission(body)
    except PeerError:
        return
    for score in read.scores:
        assert all(math.isfinite(value) for value in (score.metrics or {}).values())
        assert (score.status == "ok") == (score.metrics is not None and "total" in score.metrics)
        assert (score.status == "failed") == (score.reason is not None)


# --- against the leaderboard ------------------------------------------------------------------------------------------

NOW = 1_790_000_000.0


def snapshot(*models: str, block: int = 5_000_000, taken_at: float = NOW) -> Snapshot:
    entries = tuple(
        Entry(uid=uid, hotkey=None, model=model, commit=COMMIT, block=1, competition=None, incentive=0.1)
        for uid, model in enumerate(models)
    )
    return Snapshot(
        source="chain", network="test", netuid=21, competition=None, block=block, taken_at=taken_at, entries=entries
    )


@pytest.fixture
def good() -> Submission:
    return parse_submission(json.dumps(GOOD).encode())


def test_versions_must_be_on_the_leaderboard(good: Submission) -> None:
    check_listed(good, snapshot("omega/moshi-a", "omega/moshi-b"), now=NOW)
    with pytest.raises(NotListedError) as refused:
        check_listed(good, snapshot("omega/moshi-a"), now=NOW)
    assert (refused.value.param, refused.value.code) == ("scores[1].version", "version_not_found")


@pytest.mark.parametrize(
    ("block", "age", "taken"),
    [
        (5_000_000, 0.0, True),
        (5_000_025, 0.0, True),
        (5_000_026, 0.0, False),
        (5_000_026, 60.0, True),
        (5_000_400, 3600.0, False),
        (5_000_000, -60.0, True),
    ],
)
def test_a_block_in_the_future_is_refused(block: int, age: float, taken: bool) -> None:
    """How far the chain has come since the snapshot was taken is known from its age: an outage is no reason."""
    submission = parse_submission(changed("block", block))
    check: Callable[[], None] = lambda: check_listed(  # noqa: E731
        submission, snapshot("omega/moshi-a", "omega/moshi-b", taken_at=NOW - age), now=NOW
    )
    if taken:
        check()
    else:
        with pytest.raises(PeerError, match="in the future") as refused:
            check()
        assert refused.value.param == "block"
