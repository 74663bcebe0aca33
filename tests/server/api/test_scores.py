from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import httpx
import pytest
from bittensor import http_auth
from bittensor.sp_core import Keypair
from fastapi import FastAPI

from routing.scores.intake import Intake
from routing.scores.nonces import NonceStore
from routing.scores.queries import StoreRules
from routing.scores.store import ScoreStore
from routing.scores.submission import MOST_BYTES, Submission
from routing.scores.submit import submit
from routing.settings import RoutingSettings
from routing.storage.database import Database, open_database
from server.api import bodies
from server.api.errors import add_error_handlers
from server.api.scores import scores_router
from server.listener import Server, bind
from streaming.errors import EngineBusyError, EngineError, PeerError
from streaming.schema import to_json
from tests.routing.scores.scoring import ALICE, BOB, CHARLIE, NOW, SERVER, A, B, leaderboard, submission
from tests.server.fakes import fake_gateway

URL = "http://muse.test"
GOOD = submission({A: 0.61, B: None})


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(f"sqlite:///{tmp_path}/muse.db")
    yield opened
    opened.close()


def open_intake(
    database: Database, *, hotkey: str | None = SERVER.ss58_address, rules: StoreRules | None = None
) -> Intake:
    settings = RoutingSettings(hotkey=hotkey, min_stake=1000)
    return Intake(settings, ScoreStore(database, rules), NonceStore(database), leaderboard)


def app_of(intake: Intake | None, *, now: float = NOW) -> FastAPI:
    app = FastAPI()
    add_error_handlers(app)
    app.include_router(scores_router(intake, clock=lambda: now))
    return app


def connect(intake: Intake | None, *, now: float = NOW) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app_of(intake, now=now)), base_url=URL)


def body_of(scores: Submission) -> bytes:
    return json.dumps(to_json(scores, omit_none=True)).encode()


def signed(body: bytes, *, target: str = "/v1/scores", at: float = NOW, by: Keypair = ALICE) -> Mapping[str, str]:
    return http_auth.sign(
        by,
        method="POST",
        path=target,
        body=body,
        receiver_ss58=SERVER.ss58_address,
        nonce_ns=round(at * 1e9),
    )


def error_of(response: httpx.Response) -> tuple[int, str, str | None]:
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return response.status_code, error["code"], error["param"]


async def test_scores_are_taken_once(database: Database) -> None:
    body = body_of(GOOD)
    async with connect(open_intake(database)) as http:
        response = await http.post("/v1/scores", content=body, headers=signed(body))
        assert response.status_code == 201
        assert response.json() == {"object": "submission", "id": response.json()["id"], "accepted": 2}
        again = await http.post("/v1/scores", content=body, headers=signed(body))
        assert error_of(again) == (401, "replayed_request", None)
        assert again.headers["WWW-Authenticate"] == "btauth/1"
    assert set((await ScoreStore(database).scoreboard(now=NOW)).models) == {A, B}


async def test_what_is_signed_is_the_target_as_it_was_sent(database: Database) -> None:
    body = body_of(GOOD)
    async with connect(open_intake(database)) as http:
        for number, target in enumerate(("/v1/scores?run=7", "/v1/%73cores")):
            response = await http.post(target, content=body, headers=signed(body))
            assert error_of(response) == (401, "invalid_signature", None)
            response = await http.post(target, content=body, headers=signed(body, target=target, at=NOW + number))
            assert response.status_code == 201, target


@pytest.mark.parametrize(
    ("scores", "answer"),
    [
        (submission({A: float("nan")}), (422, "invalid_value", "scores[0].metrics.total")),
        (submission({A: 1e9}), (422, "invalid_value", "scores[0].metrics.total")),
        (submission({A: 0.5}, charm=0.5), (422, "unknown_metric", "scores[0].metrics.charm")),
        (submission({A: 0.5}, block=6_000_000), (422, "invalid_value", "block")),
        (submission({"omega/unlisted@0": 0.5}), (404, "version_not_found", "scores[0].version")),
        (submission({}), (422, "invalid_value", "scores")),
    ],
)
async def test_what_cannot_be_taken_is_named(
    database: Database, scores: Submission, answer: tuple[int, str, str]
) -> None:
    body = body_of(scores)
    async with connect(open_intake(database)) as http:
        assert error_of(await http.post("/v1/scores", content=body, headers=signed(body))) == answer


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"\\ud800": 1}', b'{"scores": [{"metrics": {"\\ud800": 1}}]}', b"[" * 9999]
)
async def test_garbage_is_refused(database: Database, body: bytes) -> None:
    async with connect(open_intake(database)) as http:
        response = await http.post("/v1/scores", content=body, headers=signed(body))
        assert response.status_code == 422


async def test_strangers_are_refused(database: Database) -> None:
    body = body_of(GOOD)
    async with connect(open_intake(database)) as http:
        assert error_of(await http.post("/v1/scores", content=body)) == (401, "missing_signature", None)
        response = await http.post("/v1/scores", content=body, headers=signed(body, by=CHARLIE))
        assert error_of(response) == (403, "not_a_validator", None)
        assert (await http.get("/v1/scores")).status_code == 405


async def test_a_body_is_bounded_whether_its_length_is_told_or_not(database: Database) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 10 * MOST_BYTES:
            sent += 4096
            yield b" " * 4096

    async with connect(open_intake(database)) as http:
        told = await http.post("/v1/scores", content=b" " * (MOST_BYTES + 1), headers=signed(b""))
        assert error_of(told) == (413, "too_large", None)
        told = await http.post(
            "/v1/scores", content=endless(), headers={**signed(b""), "Content-Length": str(MOST_BYTES + 1)}
        )
        assert error_of(told) == (413, "too_large", None)
        assert sent == 0
        untold = await http.post("/v1/scores", content=endless(), headers=signed(b""))
        assert error_of(untold) == (413, "too_large", None)


async def test_a_body_that_does_not_come_is_given_up(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    async def stuck() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(60)

    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.05)
    async with connect(open_intake(database)) as http:
        response = await http.post("/v1/scores", content=stuck(), headers=signed(b""))
        assert error_of(response) == (408, "too_slow", None)


async def test_a_flood_is_told_when_to_come_back(database: Database) -> None:
    async with connect(open_intake(database, rules=StoreRules(submissions=1))) as http:
        body = body_of(GOOD)
        assert (await http.post("/v1/scores", content=body, headers=signed(body))).status_code == 201
        response = await http.post("/v1/scores", content=body, headers=signed(body, at=NOW + 0.5))
        assert error_of(response) == (429, "rate_limit_exceeded", None)
        assert response.headers["Retry-After"] == "3600"


async def test_a_server_that_takes_no_scores_says_so(database: Database) -> None:
    body = body_of(GOOD)
    for intake in (None, open_intake(database, hotkey=None)):
        async with connect(intake) as http:
            response = await http.post("/v1/scores", content=body, headers=signed(body))
            assert error_of(response) == (503, "scores_not_taken", None)
            assert "Retry-After" not in response.headers
    database.close()
    async with connect(open_intake(database)) as http:
        response = await http.post("/v1/scores", content=body, headers=signed(body))
        assert response.status_code == 503
        assert response.headers["Retry-After"] == "30"


# --- the validators' side, over a socket ------------------------------------------------------------------------------


async def test_a_validator_submits_and_hears_what_became_of_it(database: Database) -> None:
    app = FastAPI()
    add_error_handlers(app)
    app.include_router(scores_router(open_intake(database, rules=StoreRules(submissions=2))))
    server = Server(app, fake_gateway(), max_message_bytes=65536, drain_seconds=1.0)
    listener = bind("127.0.0.1", 0)
    serving = asyncio.create_task(server.serve([listener]))
    while not server.started:  # noqa: ASYNC110 - uvicorn signals nothing
        await asyncio.sleep(0.005)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    receiver = SERVER.ss58_address
    try:
        async with httpx.AsyncClient() as http:
            assert (await submit(http, url, GOOD, wallet=ALICE, receiver=receiver)).startswith("sub_")
            board = await ScoreStore(database).scoreboard(now=time.time())
            assert set(board.models) == {A, B}

            with pytest.raises(PeerError) as refused:
                await submit(http, url + "/", submission({A: 2.0}), wallet=ALICE, receiver=receiver)
            assert (refused.value.code, refused.value.param) == ("invalid_value", "scores[0].metrics.total")
            with pytest.raises(PeerError) as refused:
                await submit(http, url, GOOD, wallet=ALICE, receiver=BOB.ss58_address)
            assert refused.value.code == "wrong_receiver"

            await submit(http, url, GOOD, wallet=ALICE, receiver=receiver)
            with pytest.raises(EngineBusyError) as busy:
                await submit(http, url, GOOD, wallet=ALICE, receiver=receiver)
            assert 3500 < busy.value.retry_after <= 3600
    finally:
        server.should_exit = True
        await serving
    async with httpx.AsyncClient() as http:
        with pytest.raises(EngineError) as unreachable:
            await submit(http, url, GOOD, wallet=ALICE, receiver=receiver)
        assert unreachable.value.code == "unreachable"


async def test_scores_that_json_cannot_hold_are_not_sent() -> None:
    async with httpx.AsyncClient() as http:
        with pytest.raises(ValueError, match="JSON"):
            await submit(http, URL, submission({A: float("nan")}), wallet=ALICE, receiver=SERVER.ss58_address)
