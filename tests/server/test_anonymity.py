"""Whose a rating or a vote is cannot be found in what is kept: neither in the database, byte by byte, nor in the log.

A real request over a real socket leaves all that a client brings: a session and a response, an address, a key, a user
agent, an origin, the time. Then all of the database is searched for each.
"""

from __future__ import annotations

import io
import logging
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from logging.handlers import QueueListener
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import inspect, text
from sqlalchemy.orm import Session

from routing.storage.database import Database
from server.auth import AccessPolicy
from server.logging import start_logging
from tests.routing.postgres import cluster
from tests.server.conftest import Serve
from tests.server.people import DAY, Place, serving

KEY = "a-key-of-many-characters"
AGENT = "SomebodysBrowser/7.3"
COMMENT = "It was slow, and my cat left."


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """None is a file of SQLite's."""
    if request.param == "sqlite":
        yield None
        return
    with cluster() as running:
        yield running.create()


class Log:
    def __init__(self, stream: io.StringIO, listener: QueueListener) -> None:
        self._stream = stream
        self._listener = listener

    def read(self) -> str:
        self._listener.stop()
        self._listener.start()
        return self._stream.getvalue()


@pytest.fixture
def log() -> Iterator[Log]:
    """All that is logged, at any level, as it is in production."""
    stream = io.StringIO()
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    listener = start_logging("debug", as_json=True, stream=stream)
    try:
        yield Log(stream, listener)
    finally:
        listener.stop()
        root.handlers[:] = handlers
        root.setLevel(level)


async def everything(place: Place) -> bytes:
    """The database: every row of every table, and where it is a file, the file and what lies beside it."""
    database: Database = place.opinions._votes._database

    def rows(session: Session) -> bytes:
        names = inspect(session.connection()).get_table_names()
        assert {"feedback", "votes"} <= set(names)
        found = [row for name in names for row in session.execute(text(f'SELECT * FROM "{name}"'))]
        return "\n".join(str(value) for row in found for value in row).encode()

    files = sorted(place.database.parent.glob("muse.db*"))
    return await database.read(rows) + b"".join(file.read_bytes() for file in files)


async def use(place: Place) -> dict[str, str]:
    """Rate a turn, vote in a duel; what must not be found."""
    headers = {"Authorization": f"Bearer {KEY}", "User-Agent": AGENT, "Origin": place.running.http}
    created, response = await place.turn("auto", additional_headers={"Authorization": f"Bearer {KEY}"})
    rating = {"response_id": response["id"], "rating": 2, "tags": ["slow"], "comment": COMMENT}
    answer = await place.http.post("/v1/feedback", json=rating, headers=headers)
    assert answer.status_code == 201
    duel = (await place.http.post("/v1/duels", json={}, headers=headers)).json()
    sessions = []
    for side in duel["sides"]:
        shown, _ = await place.turn(side["model"], additional_headers={"Authorization": f"Bearer {KEY}"})
        sessions.append(shown["session"]["id"])
    voted = await place.http.post(f"/v1/duels/{duel['id']}/vote", json={"winner": "A"}, headers=headers)
    assert voted.status_code == 200
    return {
        "response": response["id"],
        "session": created["session"]["id"],
        "session without its prefix": created["session"]["id"].partition("_")[2],
        "item": response["output"][0]["id"],
        "duel": duel["id"].partition("_")[2],
        "token A": duel["sides"][0]["model"].partition(":")[2],
        "token B": duel["sides"][1]["model"].partition(":")[2],
        "session A": sessions[0].partition("_")[2],
        "session B": sessions[1].partition("_")[2],
        "key": KEY,
        "agent": AGENT,
        "address": "127.0.0.1",
        "port": f":{place.running.port}",
        "scheme": place.running.http,
    }


async def test_no_identity_is_kept(serve: Serve, tmp_path: Path, url: str | None) -> None:
    async with serving(serve, tmp_path, access=AccessPolicy(api_key=KEY), url=url) as place:
        began = time.time()
        identities = await use(place)
        kept = await everything(place)
        assert COMMENT.encode() in kept  # so what is searched is where ratings are
        for what, identity in identities.items():
            assert identity.encode() not in kept, what
        for word in (b"sess_", b"resp_", b"duel_", b"item_"):
            assert word not in kept
        now = datetime.now(UTC)
        assert DAY.isoformat().encode() in kept
        for moment in (f"{now:%H:%M}", f"{int(began) // 100}"):  # to the minute, and to a hundred seconds
            assert moment.encode() not in kept


async def test_nothing_of_a_rating_is_logged(serve: Serve, tmp_path: Path, log: Log) -> None:
    async with serving(serve, tmp_path, access=AccessPolicy(api_key=KEY)) as place:
        identities = await use(place)
        for refused in (
            {"response_id": identities["response"], "rating": 2, "comment": COMMENT},
            {"response_id": "resp_unknown", "rating": 2, "comment": COMMENT},
            {"response_id": identities["response"], "rating": 99, "comment": COMMENT},
            {"comment": COMMENT},
        ):
            headers = {"Authorization": f"Bearer {KEY}"}
            answer = await place.http.post("/v1/feedback", json=refused, headers=headers)
            assert answer.status_code in (400, 404, 409)
    logged = log.read()
    assert identities["session"] in logged  # conversations are logged, so the log works
    for secret in (COMMENT, "my cat", KEY, AGENT, identities["duel"], identities["token A"], identities["token B"]):
        assert secret not in logged
    for about in ("rating", "feedback", "vote", "duel_"):
        assert not re.search(rf"\b{about}", without_placements(logged)), about


def without_placements(logged: str) -> str:
    """A conversation of a duel is logged with its role, as every other is."""
    return "\n".join(line for line in logged.splitlines() if '"placed"' not in line)


async def test_a_failure_to_keep_a_rating_does_not_log_it(
    serve: Serve, tmp_path: Path, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(serve, tmp_path) as place:
        _, response = await place.turn("auto")
        database: Any = place.opinions._feedback._database
        await database.run(lambda session: session.execute(text("DROP TABLE feedback")))
        answer = await place.rate(response_id=response["id"], rating=2, comment=COMMENT)
        assert answer.status_code == 503
        assert "my cat" not in answer.text
    assert "feedback" in log.read()
    assert "my cat" not in log.read()
