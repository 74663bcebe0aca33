import pytest

from models.access import is_loopback
from server.auth import AccessPolicy, offered_subprotocol
from server.errors import Refused

KEY = "a-key"


@pytest.mark.parametrize(
    ("headers", "subprotocols"),
    [
        ({"authorization": "Bearer a-key"}, []),
        ({"authorization": "bearer  a-key "}, []),
        ({}, ["realtime", "openai-insecure-api-key.a-key"]),
    ],
)
def test_the_key_opens(headers: dict[str, str], subprotocols: list[str]) -> None:
    AccessPolicy(api_key=KEY).check_key(headers, subprotocols)


@pytest.mark.parametrize(
    ("headers", "subprotocols", "code"),
    [
        ({}, [], "missing_api_key"),
        ({"authorization": "Basic a-key"}, [], "missing_api_key"),
        ({"authorization": "Bearer"}, [], "missing_api_key"),
        ({"authorization": "Bearer other"}, [], "invalid_api_key"),
        ({"authorization": "Bearer schl\u00fcssel"}, [], "invalid_api_key"),
        ({}, ["openai-insecure-api-key.other"], "invalid_api_key"),
        ({}, ["realtime", "a-key"], "missing_api_key"),
    ],
)
def test_anything_else_is_401(headers: dict[str, str], subprotocols: list[str], code: str) -> None:
    with pytest.raises(Refused) as raised:
        AccessPolicy(api_key=KEY).check_key(headers, subprotocols)
    assert (raised.value.status, raised.value.code) == (401, code)
    assert "a-key" not in raised.value.message


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer whatever"}])
def test_without_a_key_everyone_is_admitted(headers: dict[str, str]) -> None:
    AccessPolicy().check_key(headers)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        (None, "localhost:8000"),
        ("http://localhost:8000", "localhost:8000"),
        ("http://127.0.0.1:8000", "127.0.0.1:8000"),
        ("http://[::1]:8000", "[::1]:8000"),
        ("http://localhost", "localhost:80"),
        ("https://listed.example", "anything"),
    ],
)
def test_allowed_origins(origin: str | None, host: str) -> None:
    policy = AccessPolicy(allowed_origins=frozenset({"https://listed.example"}))
    policy.check_origin({"host": host} | ({"origin": origin} if origin else {}))


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://evil.example", "localhost:8000"),
        ("http://localhost:9000", "localhost:8000"),
        ("null", "localhost:8000"),
        ("", "localhost:8000"),
        ("http://localhost:port", "localhost:8000"),
        ("http://[::1", "localhost:8000"),
        ("http://listed.example", "localhost:8000"),
    ],
)
def test_foreign_origins_are_403(origin: str, host: str) -> None:
    policy = AccessPolicy(allowed_origins=frozenset({"https://listed.example"}))
    with pytest.raises(Refused) as raised:
        policy.check_origin({"origin": origin, "host": host})
    assert raised.value.status == 403


def test_a_name_that_was_rebound_to_loopback_is_foreign_to_an_open_server() -> None:
    headers = {"origin": "http://evil.example:8000", "host": "evil.example:8000"}
    with pytest.raises(Refused):
        AccessPolicy(local=True).check_origin(headers)
    AccessPolicy(local=True, api_key=KEY).check_origin(headers)
    AccessPolicy(local=False).check_origin(headers)


def test_any_origin_where_the_operator_says_so() -> None:
    AccessPolicy(allowed_origins=frozenset({"*"})).check_origin({"origin": "null", "host": "localhost"})


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("10.0.0.1", False), ("muse", False)],
)
def test_loopback(host: str, local: bool) -> None:
    assert is_loopback(host) is local


def test_the_key_is_never_the_answered_subprotocol() -> None:
    assert offered_subprotocol(["realtime", "openai-insecure-api-key.k"]) == "realtime"
    assert offered_subprotocol(["openai-insecure-api-key.k"]) is None
