from __future__ import annotations

import gzip
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from routing.leaderboard import Dropped, Entry, Snapshot
from routing.opening import Routing, open_routing
from routing.policy.contract import SessionNeeds
from routing.scores.submission import Score, Submission
from routing.settings import RoutingSettings
from routing.snapshot_file import write
from server import board as board_module
from server.app import create_app
from server.auth import AccessPolicy
from server.opinions import Opinions
from server.routing_metrics import MOST_MODELS, register
from streaming.errors import EngineError
from streaming.timeline import TurnLatency
from tests.routing.fakes import FakeEngine
from tests.server.fakes import fake_gateway

KEY = "a-key-of-many-characters"
BEST, OTHER = f"acme/best@{'a' * 40}", f"acme/other@{'b' * 40}"
ENGINES = {"echo": BEST, "scripted": OTHER}
"""What stands at addresses that need no socket."""


class Site:
    """A server's HTTP side over its own routing."""

    def __init__(self, routing: Routing, http: httpx.AsyncClient, registry: CollectorRegistry) -> None:
        self.routing = routing
        self.http = http
        self.registry = registry

    async def get(self, path: str, **query: str) -> Any:
        response = await self.http.get(path, params=query)
        assert response.status_code == 200, response.text
        return response.json()

    async def refused(self, path: str, **query: str) -> tuple[int, str, str | None]:
        response = await self.http.get(path, params=query)
        error = response.json()["error"]
        return response.status_code, error["code"], error["param"]


VALIDATOR = "5" * 48


def entry(uid: int, key: str, incentive: float) -> Entry:
    model, _, commit = key.partition("@")
    return Entry(uid=uid, hotkey=None, model=model, commit=commit, block=uid, competition=None, incentive=incentive)


@asynccontextmanager
async def served(directory: Path, *, snapshot: bool = True) -> AsyncIterator[Site]:
    dropped = Dropped(uid=9, hotkey="5Dropped", code="reused_hash", reason="its hash is another's")
    file = directory / "board.json"
    if snapshot:
        entries = (entry(1, BEST, 0.6), entry(2, OTHER, 0.3))
        write(
            file,
            Snapshot(
                source="file",
                network="local",
                netuid=0,
                competition=None,
                block=1,
                taken_at=0.0,
                entries=entries,
                dropped=(dropped,),
            ),
        )
    settings = RoutingSettings.model_validate(
        {
            "database": f"sqlite:///{directory}/muse.db",
            "snapshot": file,
            "validators": (VALIDATOR,),
            "control_seconds": 3600,  # what is looked at, and when, is the test's to say
        }
    )
    routing = await open_routing(
        settings,
        engines=tuple(ENGINES),
        engine_key="",
        build=lambda address: FakeEngine(ENGINES[address]),
        on_error=lambda _: None,
    )
    opinions = Opinions(routing.database)
    gateway = fake_gateway(router=routing.router, on_turn=(opinions.on_turn,))
    try:
        await gateway.start()
        await routing.control.start()
        await routing.control.look()  # where the start has not waited for its end
        await routing.control.decide()
        app = create_app(gateway, access=AccessPolicy(api_key=KEY), routing=routing, opinions=opinions)
        register(gateway.metrics.registry, routing.router, routing.control)
        headers = {"Authorization": f"Bearer {KEY}"}
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://muse", headers=headers) as http:
            yield Site(routing, http, gateway.metrics.registry)
    finally:
        await routing.close()
        await gateway.close()


def scores(value: float) -> Submission:
    return Submission(
        profile="p1",
        validator_version="1.0",
        block=1,
        scores=(Score(version=BEST, status="ok", metrics={"total": value, "wer": 0.8}),),
    )


async def test_the_leaderboard_tells_how_the_models_stand(tmp_path: Path) -> None:
    async with served(tmp_path) as site:
        await site.routing.scores.add(scores(0.61), validator=VALIDATOR, now=time.time())
        await site.routing.scores.add(scores(0.01), validator="5Stranger", now=time.time())
        site.routing.control._scored_at = None  # the scores are due
        await site.routing.control.look()
        board = await site.get("/v1/leaderboard")
        assert (board["object"], board["source"], board["stale"], board["problem"]) == (
            "leaderboard",
            "file",
            False,
            None,
        )
        best, other = board["models"]
        assert (best["version"], best["rank"], best["status"], best["share"]) == (BEST, 1, "serving", 1.0)
        assert (best["metrics"]["total"]["average"], list(best["metrics"])) == (0.61, ["total", "wer"])
        assert (other["version"], other["status"], other["metrics"]) == (OTHER, "ready", {})
        assert [one["code"] for one in board["excluded"]] == ["reused_hash"]
        assert [one["hotkey"] for one in board["validators"]] == [VALIDATOR]
        assert board["rollout"]["incumbent"] == BEST
        assert [metric["id"] for metric in board["metrics"]] == ["total", "wer"]


async def test_it_is_made_once_for_many_and_sent_once_to_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board_module, "FRESH_SECONDS", 3600.0)
    async with served(tmp_path) as site:
        first = await site.http.get("/v1/leaderboard", headers={"Accept-Encoding": "identity"})
        async with site.http.stream("GET", "/v1/leaderboard", headers={"Accept-Encoding": "br, gzip"}) as second:
            packed = b"".join([part async for part in second.aiter_raw()])
        assert second.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(packed) == first.content
        tag = first.headers["ETag"]
        again = await site.http.get("/v1/leaderboard", headers={"If-None-Match": tag})
        assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", tag)
    monkeypatch.setattr(board_module, "FRESH_SECONDS", 0.0)
    async with served(tmp_path) as site:
        serving = (await site.get("/v1/leaderboard"))["models"][0]["live"]
        async with site.routing.router.place(SessionNeeds(), session_id="s") as placement:
            site.routing.router.turn(placement, TurnLatency(total=300_000_000, parts=()))
        live = (await site.get("/v1/leaderboard"))["models"][0]["live"]
        assert serving is None
        assert (live["turns"], live["gap_p95_ms"]) == (1, 300.0)


async def test_new_scores_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board_module, "FRESH_SECONDS", 0.0)
    async with served(tmp_path) as site:
        shown = []
        for value in (0.6, 0.6, 0.9):
            await site.routing.scores.add(scores(value), validator=VALIDATOR, now=time.time())
            site.routing.control._scored_at = None
            await site.routing.control.look()
            metric = (await site.get("/v1/leaderboard"))["models"][0]["metrics"]["total"]
            shown.append((metric["latest"], metric["samples"]))
        assert shown == [(0.6, 1), (0.6, 2), (0.9, 3)]


async def test_an_empty_one_says_why(tmp_path: Path) -> None:
    async with served(tmp_path, snapshot=False) as site:
        board = await site.get("/v1/leaderboard")
        assert "cannot be read" in board["problem"]
        assert str(tmp_path) not in board["problem"]
        assert (board["source"], board["stale"], board["taken_at"]) == (None, True, None)
        assert [model["status"] for model in board["models"]] == ["serving", "ready"]


async def test_history_is_of_a_model_or_of_one_version(tmp_path: Path) -> None:
    async with served(tmp_path) as site:
        await site.routing.scores.add(scores(0.61), validator=VALIDATOR, now=time.time() - 40 * 86400)
        await site.routing.scores.add(scores(0.62), validator=VALIDATOR, now=time.time())
        await site.routing.scores.scoreboard(now=time.time())  # whose scores count, it shows
        history = await site.get("/v1/leaderboard/history", model="acme/best")
        assert (history["object"], history["version"], history["metric"]) == ("history", BEST, "total")
        assert [(point["value"], point["validator"], point["block"]) for point in history["points"]] == [
            (0.62, VALIDATOR, 1)
        ]
        longer = await site.get("/v1/leaderboard/history", model=BEST, metric="total", days="90")
        assert [point["value"] for point in longer["points"]] == [0.61, 0.62]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, (404, "model_not_found", "model")),
        ({"model": "nonesuch"}, (404, "model_not_found", "model")),
        ({"model": "acme/best", "metric": "nonesuch"}, (400, "invalid_value", "metric")),
        ({"model": "acme/best", "days": "0"}, (400, "invalid_value", "days")),
        ({"model": "acme/best", "days": "x"}, (400, "invalid_value", "days")),
        ({"model": "acme/best", "days": "99999"}, (400, "invalid_value", "days")),
    ],
)
async def test_a_history_that_cannot_be_is_named(
    tmp_path: Path, query: dict[str, str], expected: tuple[int, str, str]
) -> None:
    async with served(tmp_path) as site:
        assert await site.refused("/v1/leaderboard/history", **query) == expected


async def test_a_history_without_a_database_is_503(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(tmp_path) as site:

        async def history(*_: object, **__: object) -> None:
            raise EngineError("it is down, and this is a secret", code="database_unavailable")

        monkeypatch.setattr(site.routing.scores, "history", history)
        response = await site.http.get("/v1/leaderboard/history", params={"model": "acme/best"})
        assert (response.status_code, response.json()["error"]["code"]) == (503, "database_unavailable")
        assert "secret" not in response.text


async def test_a_decision_is_explained(tmp_path: Path) -> None:
    async with served(tmp_path) as site:
        decision = await site.get("/v1/leaderboard/explain", session="sess_1", model="acme/other")
        assert (decision["object"], decision["version"], decision["role"]) == ("decision", OTHER, "requested")
        assert (decision["worker"], decision["shadow"], decision["passed_over"]) == ("scripted", None, [])
        assert decision["reasons"][0]["code"] == "requested"
        auto = await site.get("/v1/leaderboard/explain")
        assert (auto["version"], auto["role"]) == (BEST, "incumbent")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"model": "nonesuch"}, (404, "model_not_found", "model")),
        ({"mode": "half"}, (400, "invalid_value", "mode")),
        ({"session": "s" * 300}, (400, "invalid_value", "session")),
    ],
)
async def test_what_cannot_be_explained_is_named(
    tmp_path: Path, query: dict[str, str], expected: tuple[int, str, str]
) -> None:
    async with served(tmp_path) as site:
        assert await site.refused("/v1/leaderboard/explain", **query) == expected


async def test_models_are_listed_with_what_they_are(tmp_path: Path) -> None:
    async with served(tmp_path) as site:
        auto, best, other = (await site.get("/v1/models"))["data"]
        assert auto == {"id": "auto", "object": "model", "created": 0, "owned_by": "muse"}
        assert (best["id"], best["object"], best["owned_by"]) == ("acme/best", "model", "muse")
        assert best["muse"] == {
            "version": BEST,
            "rank": 1,
            "status": "serving",
            "mode": "turn_based",
            "languages": ["en"],
            "voices": [],
        }
        assert other["muse"]["status"] == "ready"
        assert await site.get("/v1/models/acme/best") == best
        assert await site.get(f"/v1/models/{BEST}") == best
        assert await site.get("/v1/models/auto") == auto
        assert (await site.refused("/v1/models/acme/none"))[:2] == (404, "model_not_found")


@pytest.mark.parametrize("path", ["/v1/leaderboard", "/v1/leaderboard/history", "/v1/leaderboard/explain"])
async def test_the_key_is_needed(tmp_path: Path, path: str) -> None:
    async with served(tmp_path) as site:
        response = await site.http.get(path, headers={"Authorization": ""})
        assert response.status_code == 401


async def test_the_router_s_figures_are_in_the_metrics(tmp_path: Path) -> None:
    async with served(tmp_path) as site:
        router = site.routing.router
        async with router.place(SessionNeeds(), session_id="s") as placement:
            router.turn(placement, TurnLatency(total=300_000_000, parts=()))
        for number in range(MOST_MODELS + 10):
            router.decisions["requested", f"model-{number}"] += 1
        site.routing.control.rollbacks = 2
        site.routing.control.troubles.note("the scores", "away")

        def value(name: str, **labels: str) -> float | None:
            return site.registry.get_sample_value(name, labels)

        assert value("muse_leaderboard_stale") == 0
        assert value("muse_leaderboard_age_seconds") is not None
        assert value("muse_leaderboard_failures") == 0
        assert value("muse_leaderboard_dropped", code="reused_hash") == 1
        assert value("muse_leaderboard_dropped", code="malformed") == 0
        assert value("muse_routing_decisions_total", role="incumbent", model="acme/best") == 1
        assert value("muse_routing_decisions_total", role="requested", model="other") == 11
        assert value("muse_routing_rollbacks_total") == 2
        assert value("muse_routing_stage", stage="settled") == 1
        assert value("muse_routing_troubles", what="the scores") == 1
        assert value("muse_workers", state="ready") == 2
        assert value("muse_live_gap_seconds", version=BEST, quantile="0.95") == 0.3
        assert value("muse_live_errors", version=BEST) == 0
        text = (await site.http.get("/metrics")).text
        assert text.count("muse_routing_decisions_total{") == MOST_MODELS + 1


async def test_a_database_that_goes_down_ends_no_call(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with served(tmp_path) as site:
        router, control = site.routing.router, site.routing.control
        async with router.place(SessionNeeds(), session_id="s") as placement:
            site.routing.database.close()
            control._scored_at = None
            with caplog.at_level(logging.WARNING):
                await control.look()
                await control.decide()
                await control.share()
            assert set(control.troubles.open) == {"the scores", "the rollout's state"}
            assert not placement.engine.failed
            async with router.place(SessionNeeds(), session_id="t") as other:
                assert other.worker.key == BEST
        board = json.loads((await site.http.get("/v1/leaderboard")).content)
        assert board["models"][0]["status"] == "serving"
