"""What a client of a blind conversation can see of its model, over a real socket."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from routing.duels.duels import LIFETIME
from streaming.engine import EngineInfo, EngineLost
from streaming.errors import EngineError
from tests.routing.fakes import FakeFleet
from tests.server.conftest import Serve
from tests.server.fakes import FakeEngine
from tests.server.people import ALPHA, DAY, Place, ask, models, serving, until

NAMES = ("omega", "alpha", "beta", "aaaa", "bbbb", "voice-of", "fake")


def unnamed(*shown: object) -> None:
    """Nothing of a model in all this."""
    text = repr(shown)
    assert [name for name in NAMES if name in text] == []


async def refused(url: str) -> tuple[int, str, str]:
    """Status, headers that a client could tell cases apart by, and body."""
    with pytest.raises(InvalidStatus) as raised:
        await connect(url)
    response = raised.value.response
    headers = {name: value for name, value in response.headers.raw_items() if name.lower() not in ("date",)}
    return response.status_code, repr(sorted(headers.items())), bytes(response.body or b"").decode()


async def closing(connection: ClientConnection) -> AsyncIterator[str | bytes]:
    """What comes until the connection is closed, however it is."""
    with contextlib.suppress(ConnectionClosed):
        async for message in connection:
            yield message


async def test_a_session_shows_its_label_and_no_more(serve: Serve, tmp_path: Path) -> None:
    async with serving(serve, tmp_path) as place:
        duel = await place.open_duel()
        for side in duel["sides"]:
            created, done = await place.turn(side["model"])
            session = created["session"]
            assert session["model"] == side["label"]
            assert session["metadata"] is None
            assert session["audio"]["output"]["voice"] == ""
            assert done["metadata"] == {"mine": "yes"}
            assert done["usage"] is None
            unnamed(created, done)


async def test_both_sides_show_the_same(serve: Serve, tmp_path: Path) -> None:
    async with serving(serve, tmp_path) as place:
        duel = await place.open_duel()
        shown = []
        for side in duel["sides"]:
            created, _ = await place.turn(side["model"])
            shown.append({**created["session"], "id": "", "model": ""})
        assert shown[0] == shown[1]


async def test_nor_does_the_leaderboard_tell_who_answered(serve: Serve, tmp_path: Path) -> None:
    """What changes there while one is talked to: no turn of a duel is counted, or can be rated."""
    async with serving(serve, tmp_path) as place:
        duel = await place.open_duel()
        for side in duel["sides"]:
            _, response = await place.turn(side["model"])
            answer = await place.rate(response_id=response["id"], rating=4)
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "turn_not_found")
        assert await place.opinions._feedback.since(DAY) == ()
        assert not place.router.timings()
        _, response = await place.turn(ALPHA)
        assert (await place.rate(response_id=response["id"], rating=4)).status_code == 201
        assert place.router.timings()


async def test_an_open_session_is_told_all_of_it(serve: Serve, tmp_path: Path) -> None:
    """Against which the others are seen to hide something."""
    async with serving(serve, tmp_path) as place:
        created, done = await place.turn(ALPHA)
        assert created["session"]["model"] == ALPHA
        assert created["session"]["metadata"]["muse.model"] == ALPHA
        assert created["session"]["audio"]["output"]["voice"] == "voice-of-omega/alpha"
        assert "muse.latency" in done["metadata"]
        assert done["usage"] is not None


async def test_nor_do_mistakes_name_it(serve: Serve, tmp_path: Path) -> None:
    changes: list[dict[str, Any]] = [
        {"audio": {"input": {"transcription": {"language": "xx"}}}},
        {"tools": [{"type": "function", "name": "f"}]},
        {"output_modalities": ["audio", "text"]},
        {"model": "whoever"},
        {"audio": {"output": {"voice": "robot"}}},
    ]
    async with serving(serve, tmp_path) as place:
        duel = await place.open_duel()
        async with place.talking(duel["sides"][0]["model"]) as connection:
            shown = [await until(connection, "session.created")]
            for change in changes:
                session = {"type": "realtime", **change}
                await connection.send(json.dumps({"type": "session.update", "session": session}))
                shown.append(json.loads(await connection.recv()))
        assert [event["type"] for event in shown[1:]] == [
            "error",
            "error",
            "error",
            "session.updated",
            "session.updated",
        ]
        unnamed(shown)


async def test_an_engine_that_is_lost_is_not_quoted(serve: Serve, tmp_path: Path) -> None:
    async with serving(serve, tmp_path) as place:
        for engine in place.engines:
            engine.hold = True
        duel = await place.open_duel()
        async with place.talking(duel["sides"][0]["model"]) as connection:
            await until(connection, "session.created")
            await ask(connection)
            await until(connection, "response.created")
            (session,) = [session for engine in place.engines for session in engine.sessions]
            session.queue.put_nowait(EngineLost(message="the worker of omega/alpha is gone"))
            shown = [json.loads(message) async for message in closing(connection)]
            unnamed(shown, connection.close_reason)
            assert connection.close_code == 1011
            assert "error" in [event["type"] for event in shown]


async def test_a_token_lets_one_conversation_in(serve: Serve, tmp_path: Path) -> None:
    async with serving(serve, tmp_path) as place:
        model = (await place.open_duel())["sides"][0]["model"]
        async with place.talking(model) as connection:
            await until(connection, "session.created")
            assert (await refused(place.url(model)))[0] == 404
        assert (await refused(place.url(model)))[0] == 404


async def test_wrong_used_and_old_tokens_are_refused_alike(serve: Serve, tmp_path: Path) -> None:
    now = 0
    async with serving(serve, tmp_path, clock=lambda: now) as place:
        duel = await place.open_duel()
        used, old = (side["model"] for side in duel["sides"])
        await place.turn(used)
        answers = [
            await refused(place.url(model)) for model in (used, "duel:wrong", "duel:", "duel:%00%F0", duel["id"])
        ]
        assert len({(status, headers) for status, headers, _ in answers[:4]}) == 1
        assert len({body for _, _, body in answers[:4]}) == 1
        assert {status for status, _, _ in answers} == {404}
        assert {json.loads(body)["error"]["code"] for _, _, body in answers} == {"model_not_found"}
        now = LIFETIME
        assert await refused(place.url(old)) == answers[0]
        assert place.running.count("muse_connections_refused_total", reason="model_not_found") == 6


async def test_what_else_is_asked_for_tells_nothing(serve: Serve, tmp_path: Path) -> None:
    """Were the needs looked at, `mode=duplex` would be refused for one side and not for the other."""
    async with serving(serve, tmp_path) as place:
        duel = await place.open_duel()
        for side in duel["sides"]:
            created, _ = await place.turn(f"{side['model']}&mode=duplex&language=xx&latency=interactive")
            assert created["session"]["model"] == side["label"]


async def test_a_side_that_is_full_is_not_named_and_may_be_tried_again(serve: Serve, tmp_path: Path) -> None:
    async with serving(serve, tmp_path) as place:
        model = (await place.open_duel())["sides"][0]["model"]
        for engine in place.engines:
            engine.slots = 0
        status, headers, body = await refused(place.url(model))
        assert (status, json.loads(body)["error"]["code"]) == (503, "engine_busy")
        unnamed(headers, body)
        for engine in place.engines:
            engine.slots = 1
        created, _ = await place.turn(model)
        assert created["session"]["model"] == "A"


async def test_nor_is_one_that_is_gone(serve: Serve, tmp_path: Path) -> None:
    async with serving(serve, tmp_path) as place:
        model = (await place.open_duel())["sides"][0]["model"]
        fleet = place.router.fleet
        assert isinstance(fleet, FakeFleet)
        found, fleet.found = fleet.found, {}
        status, headers, body = await refused(place.url(model))
        assert status == 503
        unnamed(headers, body)
        fleet.found = found
        await place.turn(model)


async def test_nor_one_that_fails(serve: Serve, tmp_path: Path) -> None:
    class Broken(FakeEngine):
        async def open(self, session_id: str) -> Any:
            raise EngineError("omega/alpha cannot", code="alpha_broken")

    broken = tuple(Broken() for _ in range(2))
    for engine, name in zip(broken, ("omega/alpha", "omega/beta"), strict=True):
        engine.info = replace(engine.info, model=name)
    async with serving(serve, tmp_path, engines=broken) as place:
        for side in (await place.open_duel())["sides"]:
            status, headers, body = await refused(place.url(side["model"]))
            assert status == 503
            unnamed(headers, body)


async def test_on_moshis_wire_too(serve: Serve, tmp_path: Path) -> None:
    async with serving(serve, tmp_path) as place:
        model = (await place.open_duel())["sides"][0]["model"]
        url = f"{place.running.ws.partition('/v1')[0]}/api/chat"
        async with connect(f"{url}?model={model}&audio=pcm") as connection:
            shown = [await connection.recv() for _ in range(2)]
        unnamed(shown)
        assert (await refused(f"{url}?model={model}"))[0] == 404


async def test_a_conversation_that_the_transport_refuses_leaves_the_token(serve: Serve, tmp_path: Path) -> None:
    async with serving(serve, tmp_path) as place:
        model = (await place.open_duel())["sides"][0]["model"]
        url = f"{place.running.ws.partition('/v1')[0]}/api/chat?model={model}&audio=nonsense"
        assert (await refused(url))[0] == 400
        await place.turn(model)


async def test_duels_are_a_role_of_their_own(serve: Serve, tmp_path: Path) -> None:
    async with serving(serve, tmp_path) as place:
        duel = await place.open_duel()
        for side in duel["sides"]:
            await place.turn(side["model"])
        await place.turn(ALPHA)
        roles = {role: count for (role, _), count in counted(place).items()}
        assert roles == {"duel": 1, "requested": 1}
        assert sum(counted(place).values()) == 3


def counted(place: Place) -> dict[tuple[str, str], int]:
    return dict(place.router.decisions)


def test_the_engine_of_the_tests_has_what_is_to_be_hidden() -> None:
    info: EngineInfo = models(ALPHA)[0].info
    assert info.voices
    assert info.model in ALPHA
