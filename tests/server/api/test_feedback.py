from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from routing.feedback.turns import KEPT
from server.api import feedback as api
from streaming.core import SECOND
from tests.server.conftest import Serve
from tests.server.people import ALPHA, BETA, DAY, Away, serving

JSON = {"Content-Type": "application/json"}
RESPONSE = "resp_0123456789abcdef_1"


async def test_a_turn_is_rated_once(serve: Serve, tmp_path: Path) -> None:
    async with serving(serve, tmp_path) as place:
        _, response = await place.turn(BETA)
        answer = await place.rate(response_id=response["id"], rating=4, tags=["slow"], comment=" Fine.\n")
        assert (answer.status_code, answer.json()) == (201, {"object": "feedback"})
        (row,) = await place.opinions._feedback.since(DAY)
        assert (row.version, row.rating, row.tags, row.comment) == (BETA, 4, ("slow",), "Fine.")
        again = await place.rate(response_id=response["id"], rating=5)
        assert again.status_code == 409
        assert again.json()["error"]["code"] == "already_rated"
        assert len(await place.opinions._feedback.since(DAY)) == 1


async def test_each_turn_of_a_conversation_is_rated_for_itself(serve: Serve, tmp_path: Path) -> None:
    async with serving(serve, tmp_path) as place:
        for rating in (1, 5):
            _, response = await place.turn("auto")
            assert (await place.rate(response_id=response["id"], rating=rating)).status_code == 201
        assert {row.rating for row in await place.opinions._feedback.since(DAY)} == {1, 5}


async def test_a_turn_that_is_not_known_is_not_found(serve: Serve, tmp_path: Path) -> None:
    async with serving(serve, tmp_path) as place:
        answer = await place.rate(response_id=RESPONSE, rating=4)
        assert answer.status_code == 404
        assert answer.json()["error"] == {
            "message": "There is no such turn, or it is too old: a turn can be rated for an hour.",
            "type": "invalid_request_error",
            "param": "response_id",
            "code": "turn_not_found",
        }


async def test_a_turn_is_rated_for_an_hour(serve: Serve, tmp_path: Path) -> None:
    now = 0
    async with serving(serve, tmp_path, clock=lambda: now) as place:
        _, response = await place.turn("auto")
        now = KEPT
        assert (await place.rate(response_id=response["id"], rating=4)).status_code == 404


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "response_id"),
        ({"response_id": RESPONSE}, "rating"),
        ({"response_id": RESPONSE, "rating": 0}, "rating"),
        ({"response_id": RESPONSE, "rating": 2.5}, "rating"),
        ({"response_id": RESPONSE, "rating": 4, "tags": ["boring"]}, "tags[0]"),
        ({"response_id": RESPONSE, "rating": 4, "comment": "x" * 1001}, "comment"),
        ({"response_id": RESPONSE, "rating": 4, "session": "sess_1"}, "session"),
        ([1, 2], None),
        ("text", None),
        (None, None),
    ],
)
async def test_bad_input_is_named_and_kept_nowhere(serve: Serve, tmp_path: Path, body: Any, param: str | None) -> None:
    async with serving(serve, tmp_path) as place:
        answer = await place.http.post("/v1/feedback", content=json.dumps(body), headers=JSON)
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == param
        assert await place.opinions._feedback.since(DAY) == ()


@pytest.mark.parametrize("body", ['{"\\ud800": 1}', '{"response_id": "\\ud800", "rating": 4}'])
async def test_half_of_a_surrogate_pair_is_answered(serve: Serve, tmp_path: Path, body: str) -> None:
    async with serving(serve, tmp_path) as place:
        answer = await place.http.post("/v1/feedback", content=body, headers=JSON)
        assert answer.status_code in (400, 404)


async def test_a_refused_rating_leaves_the_turn_to_be_rated(serve: Serve, tmp_path: Path) -> None:
    async with serving(serve, tmp_path) as place:
        _, response = await place.turn("auto")
        assert (await place.rate(response_id=response["id"], rating=9)).status_code == 400
        assert (await place.rate(response_id=response["id"], rating=3)).status_code == 201


async def test_a_database_that_is_away_leaves_the_turn_to_be_rated(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(serve, tmp_path) as place:
        _, response = await place.turn("auto")
        with monkeypatch.context() as away:
            away.setattr(place.opinions._feedback, "_database", Away())
            answer = await place.rate(response_id=response["id"], rating=3)
            assert answer.status_code == 503
            assert answer.headers["Retry-After"] == "10"
            assert answer.json()["error"]["code"] == "database_unavailable"
        assert (await place.rate(response_id=response["id"], rating=3)).status_code == 201


async def test_ratings_have_their_pace(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "RATE", 1 / 1000)
    monkeypatch.setattr(api, "BURST", 2.0)
    async with serving(serve, tmp_path) as place:
        answers = [await place.rate(response_id=RESPONSE, rating=4) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [404, 404, 429]
        assert answers[-1].headers["Retry-After"] == "1000"


async def test_a_version_has_ratings_enough_for_a_day(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(serve, tmp_path) as place:
        monkeypatch.setattr(place.opinions._feedback, "_most_a_day", 1)
        answers = []
        for _ in range(2):
            _, response = await place.turn(ALPHA)
            answers.append(await place.rate(response_id=response["id"], rating=4))
        assert [answer.status_code for answer in answers] == [201, 429]
        assert answers[1].json()["error"]["code"] == "too_many_ratings"


async def test_means_are_known_once_there_are_ratings_enough(serve: Serve, tmp_path: Path) -> None:
    now = 0
    async with serving(serve, tmp_path, clock=lambda: now) as place:
        for number in range(5):
            now += 31 * SECOND
            assert await place.opinions.summary() == {}
            _, response = await place.turn(ALPHA)
            assert (await place.rate(response_id=response["id"], rating=5 - number % 2)).status_code == 201
            assert await place.opinions.summary() == {}  # a mean that changed with each rating would tell it
        now += 31 * SECOND
        summary = await place.opinions.summary()
        assert (summary[ALPHA].ratings, summary[ALPHA].mean) == (5, 4.6)
