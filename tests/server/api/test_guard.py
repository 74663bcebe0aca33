"""What guards the endpoints that keep something."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx
import pytest

from server.api import bodies, guard
from server.auth import AccessPolicy
from tests.server.conftest import Serve
from tests.server.people import Place, serving
from tests.waiting import PATIENCE

KEY = "a-key-of-many-characters"
PATH = "/v1/feedback"
JSON = {"Content-Type": "application/json"}

everywhere = pytest.mark.parametrize("path", [PATH, "/v1/duels", "/v1/duels/duel_x/vote"])


def refusal(answer: httpx.Response) -> tuple[int, str]:
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return answer.status_code, error["code"]


@everywhere
async def test_the_key_is_needed(serve: Serve, tmp_path: Path, path: str) -> None:
    async with serving(serve, tmp_path, access=AccessPolicy(api_key=KEY)) as place:
        assert refusal(await place.http.post(path, json={})) == (401, "missing_api_key")
        wrong = await place.http.post(path, json={}, headers={"Authorization": "Bearer wrong"})
        assert refusal(wrong) == (401, "invalid_api_key")
        right = await place.http.post(path, json={}, headers={"Authorization": f"Bearer {KEY}"})
        assert right.status_code in (201, 400)


@everywhere
async def test_pages_of_foreign_origins_are_refused(serve: Serve, tmp_path: Path, path: str) -> None:
    async with serving(serve, tmp_path) as place:
        for origin in ("https://evil.example", "null", "http://127.0.0.1:1", "file://", "http://rebound.example"):
            answer = await place.http.post(path, json={}, headers={"Origin": origin})
            assert refusal(answer) == (403, "origin_not_allowed")
        own = await place.http.post(path, json={}, headers={"Origin": place.running.http})
        assert own.status_code in (201, 400)


@everywhere
async def test_what_a_form_can_send_is_refused(serve: Serve, tmp_path: Path, path: str) -> None:
    async with serving(serve, tmp_path) as place:
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "application/jsonp"):
            answer = await place.http.post(path, content=b"{}", headers={"Content-Type": kind})
            assert refusal(answer) == (415, "unsupported_media_type")
        headers = {"Content-Type": "Application/JSON; charset=utf-8"}
        assert (await place.http.post(path, content=b"{}", headers=headers)).status_code in (201, 400)
        assert (await place.http.get(path)).status_code in (404, 405)


async def test_what_is_not_json_is_refused(serve: Serve, tmp_path: Path) -> None:
    bodies = [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"rating": NaN}',
        b'{"rating": Infinity}',
        b"[" * 10_000,
        b"9" * 10_000,
        b"{}{}",
    ]
    async with serving(serve, tmp_path) as place:
        for body in bodies:
            assert refusal(await place.http.post(PATH, content=body, headers=JSON)) == (400, "invalid_json")


async def test_a_large_body_is_refused(serve: Serve, tmp_path: Path) -> None:
    async with serving(serve, tmp_path) as place:
        answer = await place.http.post(PATH, content=b" " * (guard.MOST_BYTES + 1), headers=JSON)
        assert refusal(answer) == (413, "too_large")
        longest = json.dumps({"response_id": "resp_1", "rating": 4, "comment": "👩" * 1000})
        assert refusal(await place.http.post(PATH, content=longest, headers=JSON)) == (404, "turn_not_found")


async def test_one_that_does_not_say_how_large_it_is_is_not_read_to_its_end(serve: Serve, tmp_path: Path) -> None:
    async with serving(serve, tmp_path) as place:
        half = b" " * (guard.MOST_BYTES // 2 + 1)
        assert await status_of_unfinished(place, half, half) == 413


async def test_a_body_that_does_not_come_is_not_waited_for(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.05)
    async with serving(serve, tmp_path) as place:
        assert await status_of_unfinished(place, b"{") == 408


async def status_of_unfinished(place: Place, *chunks: bytes) -> int:
    """The status of the answer to a body of which more was to come."""
    reader, writer = await asyncio.open_connection("127.0.0.1", place.running.port)
    try:
        head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        for chunk in chunks:
            writer.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
        await writer.drain()
        async with asyncio.timeout(PATIENCE):
            return int((await reader.readline()).split()[1])
    finally:
        writer.close()
