from __future__ import annotations

import httpx
import pytest

from routing.policy.contract import Rollout
from server.auth import AccessPolicy
from tests.routing.fakes import FakeEngine as RoutedEngine
from tests.routing.fakes import router_for
from tests.server.conftest import Serve
from tests.server.fakes import fake_gateway

KEY = "a-key-of-many-characters"


async def test_health_and_readiness(serve: Serve) -> None:
    gateway = fake_gateway()
    async with serve(gateway) as server, httpx.AsyncClient(base_url=server.http) as http:
        assert (await http.get("/healthz")).status_code == 200
        assert (await http.get("/readyz")).status_code == 200
        await gateway.drain(0)
        assert (await http.get("/healthz")).status_code == 200
        response = await http.get("/readyz")
        assert response.status_code == 503
        assert int(response.headers["Retry-After"]) > 0


async def test_models(serve: Serve) -> None:
    async with serve(fake_gateway()) as server, httpx.AsyncClient(base_url=server.http) as http:
        listed = (await http.get("/v1/models")).json()
        assert listed["object"] == "list"
        assert [model["id"] for model in listed["data"]] == ["auto", "fake"]
        assert (await http.get("/v1/models/fake")).json() == listed["data"][1]
        response = await http.get("/v1/models/none/such")
        assert response.status_code == 404
        assert response.json()["error"]["code"] == "model_not_found"


async def test_of_a_models_versions_the_one_that_serves_is_listed_and_first(serve: Serve) -> None:
    router = router_for(*(RoutedEngine(key) for key in ("acme/m@1", "acme/other@1", "acme/m@2")))
    router.rollout = Rollout(incumbent="acme/m@2")
    async with serve(fake_gateway(router=router)) as server, httpx.AsyncClient(base_url=server.http) as http:
        data = (await http.get("/v1/models")).json()["data"]
        assert [model["id"] for model in data] == ["auto", "acme/m", "acme/other"]
        assert data[1]["muse"]["version"] == "acme/m@2"
        for name, version in {"acme/m": "acme/m@2", "acme%2Fm": "acme/m@2", "acme/m@1": "acme/m@1"}.items():
            assert (await http.get(f"/v1/models/{name}")).json()["muse"]["version"] == version
        assert (await http.get("/v1/models/auto")).json() == data[0]


async def test_the_key_is_needed_for_models_and_metrics_but_not_for_health(serve: Serve) -> None:
    access = AccessPolicy(api_key=KEY)
    async with serve(fake_gateway(), access=access) as server, httpx.AsyncClient(base_url=server.http) as http:
        for path in ("/v1/models", "/v1/models/fake", "/metrics"):
            response = await http.get(path)
            assert response.status_code == 401
            assert response.headers["WWW-Authenticate"] == "Bearer"
            assert (await http.get(path, headers={"Authorization": f"Bearer {KEY}"})).status_code == 200
        for path in ("/healthz", "/readyz", "/"):
            assert (await http.get(path)).status_code == 200


async def test_metrics_are_prometheus_text(serve: Serve) -> None:
    async with serve(fake_gateway()) as server, httpx.AsyncClient(base_url=server.http) as http:
        response = await http.get("/metrics")
        assert response.headers["Content-Type"].startswith("text/plain")
        for name in ("muse_turn_part_seconds", "muse_event_loop_stall_seconds", "muse_sessions_active 0.0"):
            assert name in response.text


@pytest.mark.parametrize("path", ["/", "/app.js", "/healthz", "/nowhere"])
async def test_every_answer_has_the_security_headers(serve: Serve, path: str) -> None:
    async with serve(fake_gateway()) as server, httpx.AsyncClient(base_url=server.http) as http:
        headers = (await http.get(path)).headers
        policy = headers["Content-Security-Policy"]
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
        assert "microphone=(self)" in headers["Permissions-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "server" not in headers


async def test_the_page_is_served_and_nothing_around_it(serve: Serve) -> None:
    async with serve(fake_gateway()) as server, httpx.AsyncClient(base_url=server.http) as http:
        assert "<title>Muse</title>" in (await http.get("/")).text
        assert (await http.get("/app.js")).headers["Content-Type"].startswith("text/javascript")
        for path in ("/../server/app.py", "/%2e%2e/server/app.py", "/..%2fserver/app.py"):
            assert (await http.get(path)).status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("POST", "/v1/models", 405, "method_not_allowed"),
        ("GET", "/docs", 404, "not_found"),
        ("GET", "/openapi.json", 404, "not_found"),
    ],
)
async def test_errors_have_openais_shape(serve: Serve, method: str, path: str, status: int, code: str) -> None:
    async with serve(fake_gateway()) as server, httpx.AsyncClient(base_url=server.http) as http:
        response = await http.request(method, path)
        assert response.status_code == status
        error = response.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert (error["type"], error["code"]) == ("invalid_request_error", code)
