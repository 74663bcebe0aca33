from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from routing.duels.duels import LIFETIME, MOST_DUELS
from server.api import duels as api
from streaming.core import SECOND
from tests.routing.fakes import FakeFleet
from tests.server.conftest import Serve
from tests.server.people import ALPHA, BETA, Away, Place, models, serving


async def talk_to_both(place: Place, duel: dict[str, Any]) -> None:
    for side in duel["sides"]:
        await place.turn(side["model"])


def code_of(answer: Any) -> str:
    return str(answer.json()["error"]["code"])


async def test_a_duel_tells_nothing_of_its_models(serve: Serve, tmp_path: Path) -> None:
    async with serving(serve, tmp_path) as place:
        began = time.time()
        answer = await place.http.post("/v1/duels", json={})
        duel = answer.json()
        assert answer.status_code == 201
        assert set(duel) == {"object", "id", "sides", "expires_at"}
        assert duel["object"] == "duel"
        assert duel["id"].startswith("duel_")
        assert [side["label"] for side in duel["sides"]] == ["A", "B"]
        assert all(set(side) == {"label", "model"} for side in duel["sides"])
        assert all(side["model"].startswith("duel:") for side in duel["sides"])
        assert began <= duel["expires_at"] - 1800 <= time.time()
        for name in ("omega", "alpha", "beta", "fake"):
            assert name not in answer.text


async def test_a_vote_reveals_them(serve: Serve, tmp_path: Path) -> None:
    async with serving(serve, tmp_path) as place:
        duel = await place.open_duel()
        await talk_to_both(place, duel)
        answer = await place.vote(duel["id"], "B")
        voted = answer.json()
        assert (answer.status_code, voted["object"], voted["winner"]) == (200, "vote", "B")
        assert [side["label"] for side in voted["sides"]] == ["A", "B"]
        assert {(side["model"], side["version"]) for side in voted["sides"]} == {
            ("omega/alpha", ALPHA),
            ("omega/beta", BETA),
        }
        assert voted["ratings"] == {ALPHA: None, BETA: None}  # too few votes yet
        (tally,) = await place.opinions._votes.tallies()
        assert [tally.version_a, tally.version_b] == [side["version"] for side in voted["sides"]]
        assert (tally.winner, tally.votes) == ("B", 1)


async def test_the_sides_are_those_that_were_talked_to(serve: Serve, tmp_path: Path) -> None:
    async with serving(serve, tmp_path) as place:
        duel = await place.open_duel()
        served = []
        for side in duel["sides"]:
            before = [len(engine.sessions) for engine in place.engines]
            await place.turn(side["model"])
            after = [len(engine.sessions) for engine in place.engines]
            served.append([ALPHA, BETA][[now - then for now, then in zip(after, before, strict=True)].index(1)])
        voted = (await place.vote(duel["id"])).json()
        assert [side["version"] for side in voted["sides"]] == served


async def test_ratings_follow_the_votes(serve: Serve, tmp_path: Path) -> None:
    async with serving(serve, tmp_path) as place:
        for _ in range(12):
            duel = await place.open_duel()
            sides = place.opinions.duels._open.duels[duel["id"]].sides
            await talk_to_both(place, duel)
            winner = next(side.label for side in sides if side.contender.version == ALPHA)
            voted = (await place.vote(duel["id"], winner)).json()
        ratings = voted["ratings"]
        assert set(ratings[ALPHA]) == {"value", "low", "high", "votes"}
        assert ratings[ALPHA]["votes"] == 12
        assert ratings[ALPHA]["value"] > 1500 > ratings[BETA]["value"]
        assert {key: rating.votes for key, rating in (await place.opinions.ratings()).items()} == {ALPHA: 12, BETA: 12}


async def test_one_votes_once(serve: Serve, tmp_path: Path) -> None:
    async with serving(serve, tmp_path) as place:
        duel = await place.open_duel()
        await talk_to_both(place, duel)
        assert (await place.vote(duel["id"], "tie")).status_code == 200
        again = await place.vote(duel["id"], "A")
        assert (again.status_code, code_of(again)) == (409, "already_voted")
        assert sum(tally.votes for tally in await place.opinions._votes.tallies()) == 1


@pytest.mark.parametrize("sides", [0, 1])
async def test_both_sides_must_have_answered(serve: Serve, tmp_path: Path, sides: int) -> None:
    async with serving(serve, tmp_path) as place:
        duel = await place.open_duel()
        for side in duel["sides"][:sides]:
            await place.turn(side["model"])
        for side in duel["sides"][sides:]:
            async with place.talking(side["model"]):
                pass  # let in, and asked nothing
        answer = await place.vote(duel["id"])
        assert (answer.status_code, code_of(answer)) == (409, "not_answered")
        assert "omega" not in answer.text


async def test_a_duel_that_is_not_known_or_over_is_not_found(serve: Serve, tmp_path: Path) -> None:
    now = 0
    async with serving(serve, tmp_path, clock=lambda: now) as place:
        duel = await place.open_duel()
        await talk_to_both(place, duel)
        now = LIFETIME
        for duel_id in (duel["id"], "duel_x", "%00", "x" * 1000):
            answer = await place.vote(duel_id)
            assert (answer.status_code, code_of(answer)) == (404, "duel_not_found")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "winner"),
        ({"winner": "C"}, "winner"),
        ({"winner": "a"}, "winner"),
        ({"winner": None}, "winner"),
        ({"winner": ["A"]}, "winner"),
        ({"winner": "A", "why": "x"}, "why"),
        ([], None),
    ],
)
async def test_a_vote_that_cannot_be_read_is_no_vote(
    serve: Serve, tmp_path: Path, body: Any, param: str | None
) -> None:
    async with serving(serve, tmp_path) as place:
        duel = await place.open_duel()
        await talk_to_both(place, duel)
        answer = await place.http.post(f"/v1/duels/{duel['id']}/vote", json=body)
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == param
        assert (await place.vote(duel["id"])).status_code == 200


@pytest.mark.parametrize("body", [{"models": ["a", "b"]}, [], None, "x"])
async def test_a_duel_is_asked_for_with_an_empty_object(serve: Serve, tmp_path: Path, body: Any) -> None:
    async with serving(serve, tmp_path) as place:
        headers = {"Content-Type": "application/json"}
        answer = await place.http.post("/v1/duels", content=json.dumps(body), headers=headers)
        assert answer.status_code == 400
        assert len(place.opinions.duels) == 0


@pytest.mark.parametrize("names", [(), (ALPHA,)])
async def test_a_duel_needs_two_models(serve: Serve, tmp_path: Path, names: tuple[str, ...]) -> None:
    async with serving(serve, tmp_path, engines=models(*names)) as place:
        answer = await place.http.post("/v1/duels", json={})
        assert (answer.status_code, code_of(answer)) == (409, "not_enough_models")


async def test_models_that_cannot_answer_now_are_not_chosen(serve: Serve, tmp_path: Path) -> None:
    async with serving(serve, tmp_path, engines=models(ALPHA, BETA, "omega/gamma")) as place:
        fleet = place.router.fleet
        assert isinstance(fleet, FakeFleet)
        fleet.found["1"] = replace(fleet.found["1"], state="lost")
        for _ in range(6):
            duel = await place.open_duel()
            sides = place.opinions.duels._open.duels[duel["id"]].sides
            assert {side.contender.version for side in sides} == {ALPHA, "omega/gamma"}
        fleet.found["2"] = replace(fleet.found["2"], free=0)
        assert (await place.http.post("/v1/duels", json={})).status_code == 409


async def test_duels_have_their_pace(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "DUEL_BURST", 2.0)
    monkeypatch.setattr(api, "DUEL_RATE", 1 / 1000)
    async with serving(serve, tmp_path) as place:
        answers = [await place.http.post("/v1/duels", json={}) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [201, 201, 429]
        assert answers[-1].headers["Retry-After"] == "1000"


def test_half_an_hour_of_duels_fits() -> None:
    assert api.DUEL_BURST + api.DUEL_RATE * LIFETIME / SECOND < MOST_DUELS


async def test_two_versions_have_votes_enough_for_a_day(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(serve, tmp_path) as place:
        monkeypatch.setattr(place.opinions._votes, "_most_a_day", 0)
        duel = await place.open_duel()
        await talk_to_both(place, duel)
        answer = await place.vote(duel["id"])
        assert (answer.status_code, code_of(answer)) == (429, "too_many_votes")
        assert "omega" not in answer.text


async def test_a_vote_that_cannot_be_kept_may_be_given_again(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(serve, tmp_path) as place:
        duel = await place.open_duel()
        await talk_to_both(place, duel)
        with monkeypatch.context() as away:
            away.setattr(place.opinions._votes, "_database", Away())
            answer = await place.vote(duel["id"])
            assert answer.status_code == 503
            assert "omega" not in answer.text
        assert (await place.vote(duel["id"])).status_code == 200
