from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin

from server.auth import AccessPolicy
from server.transports.websocket import WebSocketLimits
from tests.server.conftest import Serve
from tests.server.fakes import FakeEngine, FakeSession, FakeTurns, error_event, fake_gateway
from tests.waiting import PATIENCE, settled, until

KEY = "a-key-of-many-characters"


async def heard(connection: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE):
        event = json.loads(await connection.recv())
    assert isinstance(event, dict)
    return event


async def say(connection: ClientConnection, **event: object) -> None:
    await connection.send(json.dumps(event))


async def closed_with(connection: ClientConnection) -> int:
    async with asyncio.timeout(PATIENCE):
        with contextlib.suppress(ConnectionClosed):
            async for _ in connection:
                pass
        await connection.wait_closed()
    assert connection.close_code is not None
    return connection.close_code


async def refused(url: str, **arguments: Any) -> tuple[int, dict[str, Any], float | None]:
    with pytest.raises(InvalidStatus) as raised:
        await connect(url, **arguments)
    response = raised.value.response
    error = json.loads(response.body)["error"]
    retry = response.headers.get("Retry-After")
    return response.status_code, error, float(retry) if retry else None


async def test_a_conversation(serve: Serve) -> None:
    async with serve(fake_gateway()) as server, connect(server.ws) as client:
        assert (await heard(client))["type"] == "session.created"
        await say(client, type="response.create")
        assert [(await heard(client))["type"] for _ in range(2)] == ["response.created", "response.done"]
        assert server.count("muse_frames_total", direction="out") == 3
        assert server.count("muse_frames_total", direction="in") == 1


async def test_compression_is_declined(serve: Serve) -> None:
    async with serve(fake_gateway()) as server, connect(server.ws, compression="deflate") as client:
        assert client.response is not None
        assert "Sec-WebSocket-Extensions" not in client.response.headers


@pytest.mark.parametrize(
    ("subprotocols", "answered"),
    [(["realtime"], "realtime"), (["realtime", f"openai-insecure-api-key.{KEY}"], "realtime"), (None, None)],
)
async def test_subprotocols(serve: Serve, subprotocols: Any, answered: str | None) -> None:
    async with serve(fake_gateway()) as server, connect(server.ws, subprotocols=subprotocols) as client:
        assert client.subprotocol == answered


async def test_the_key_is_asked_for_before_the_upgrade(serve: Serve) -> None:
    async with serve(fake_gateway(), access=AccessPolicy(api_key=KEY)) as server:
        status, error, _ = await refused(server.ws)
        assert (status, error["code"], error["type"]) == (401, "missing_api_key", "authentication_error")
        status, error, _ = await refused(server.ws, additional_headers={"Authorization": "Bearer wrong"})
        assert (status, error["code"]) == (401, "invalid_api_key")
        async with connect(server.ws, additional_headers={"Authorization": f"Bearer {KEY}"}) as client:
            assert (await heard(client))["type"] == "session.created"
        offered: Any = ["realtime", f"openai-insecure-api-key.{KEY}"]
        async with connect(server.ws, subprotocols=offered) as client:
            assert (await heard(client))["type"] == "session.created"
        assert server.count("muse_connections_refused_total", reason="missing_api_key") == 1


async def test_foreign_pages_are_refused(serve: Serve) -> None:
    async with serve(fake_gateway()) as server:
        status, error, _ = await refused(server.ws, origin=Origin("http://evil.example"))
        assert (status, error["code"]) == (403, "origin_not_allowed")
        async with connect(server.ws, origin=Origin(server.http)) as client:
            assert (await heard(client))["type"] == "session.created"


async def test_an_unknown_model_is_refused_with_the_names_there_are(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve(fake_gateway()) as server:
        status, error, _ = await refused(f"ws://127.0.0.1:{server.port}/v1/realtime?model=nonesuch")
        assert (status, error["code"], error["param"]) == (404, "model_not_found", "model")
        assert "auto, fake" in error["message"]
    assert not [record for record in caplog.records if record.levelname == "ERROR"]  # it is nobody's defect


@pytest.mark.parametrize("path", ["/v1/realtime", "/api/chat"])
async def test_needs_that_are_not_known_are_refused_by_name(serve: Serve, path: str) -> None:
    async with serve(fake_gateway()) as server:
        for query, name in (("mode=half", "mode"), ("latency=fast", "latency"), ("language=!", "language")):
            status, error, _ = await refused(f"ws://127.0.0.1:{server.port}{path}?{query}")
            assert (status, error["code"], error["param"]) == (400, "invalid_value", name)
            assert error["message"].startswith(f"{name}: expected ")


@pytest.mark.parametrize("path", ["/v1/realtime", "/api/chat"])
async def test_needs_that_no_model_meets_are_refused(serve: Serve, path: str) -> None:
    async with serve(fake_gateway()) as server:
        status, error, _ = await refused(f"ws://127.0.0.1:{server.port}{path}?mode=duplex")
        assert (status, error["code"]) == (404, "model_not_found")
        async with connect(f"ws://127.0.0.1:{server.port}{path}?mode=turn_based&language=en-GB&latency=interactive"):
            assert server.gateway.active == 1


async def test_another_path_is_404(serve: Serve) -> None:
    async with serve(fake_gateway()) as server:
        status, error, _ = await refused(f"ws://127.0.0.1:{server.port}/v2/realtime")
        assert (status, error["code"]) == (404, "not_found")


async def test_ten_callers_too_many_are_refused_and_the_others_go_on(serve: Serve) -> None:
    async with serve(fake_gateway(max_sessions=2)) as server, connect(server.ws) as one, connect(server.ws) as two:
        async with asyncio.timeout(PATIENCE):
            answers = await asyncio.gather(*(refused(server.ws) for _ in range(10)))
        assert {(status, error["code"], retry) for status, error, retry in answers} == {(429, "too_many_sessions", 5)}
        for client in (one, two):
            assert (await heard(client))["type"] == "session.created"
        assert server.gateway.active == 2


async def test_a_full_engine_is_503(serve: Serve) -> None:
    async with serve(fake_gateway(FakeEngine(slots=0))) as server:
        status, error, retry = await refused(server.ws)
        assert (status, error["code"], retry) == (503, "engine_busy", 3)
        assert server.gateway.active == 0


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{", "invalid_json"),
        ("[]", "invalid_json"),
        ('{"type": "nonesuch", "event_id": "mine"}', None),
        ('{"type": "input_audio_buffer.append", "audio": "?", "event_id": "mine"}', None),
    ],
)
async def test_a_bad_event_is_an_error_and_the_session_stays(serve: Serve, message: str, code: str | None) -> None:
    async with serve(fake_gateway()) as server, connect(server.ws) as client:
        await heard(client)
        await client.send(message)
        event = await heard(client)
        assert event["type"] == "error"
        assert event["error"]["type"] == "invalid_request_error"
        if code is not None:
            assert event["error"]["code"] == code
        assert event["error"]["event_id"] == ("mine" if "mine" in message else None)
        await say(client, type="response.create")
        assert (await heard(client))["type"] == "response.created"


async def test_binary_is_1003(serve: Serve) -> None:
    async with serve(fake_gateway()) as server, connect(server.ws) as client:
        await client.send(b"\0\0")
        assert await closed_with(client) == 1003
        await until(lambda: server.gateway.active == 0)


@pytest.mark.parametrize("fragmented", [False, True])
async def test_too_big_is_1009(serve: Serve, fragmented: bool) -> None:
    async with serve(fake_gateway(), max_message_bytes=100_000) as server, connect(server.ws) as client:
        await client.send(["x" * 60_000] * 2 if fragmented else "x" * 100_001)
        assert await closed_with(client) == 1009
        await until(lambda: server.gateway.active == 0)


async def test_a_client_that_says_nothing_is_closed(serve: Serve) -> None:
    async with serve(fake_gateway(first_event=0.1)) as server, connect(server.ws) as client:
        assert await closed_with(client) == 1008


async def test_a_session_can_close(serve: Serve) -> None:
    async with serve(fake_gateway()) as server, connect(server.ws) as client:
        await say(client, type="session.update", session={"type": "close"})
        assert await closed_with(client) == 1000
        await until(lambda: server.count("muse_sessions_closed_total", code="1000") == 1)


async def test_a_defect_closes_one_conversation_and_tells_nothing(serve: Serve) -> None:
    async with serve(fake_gateway()) as server, connect(server.ws) as client, connect(server.ws) as other:
        await say(client, type="session.update", session={"type": "defect"})
        assert await closed_with(client) == 1011
        assert client.close_reason == "Internal error."
        assert (await heard(other))["type"] == "session.created"


async def test_a_reset_in_mid_reply_frees_the_slot(serve: Serve) -> None:
    engine = FakeEngine(hold=True)
    async with serve(fake_gateway(engine)) as server:
        client = await connect(server.ws)
        await say(client, type="response.create")
        await until(lambda: bool(engine.sessions and engine.sessions[0].commands))
        raw = client.transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.transport.abort()
        await until(lambda: engine.open_now == 0 and server.gateway.active == 0)


async def test_a_slow_consumer_is_dropped_and_its_neighbour_is_not(serve: Serve) -> None:
    limits = WebSocketLimits(send_buffer=200_000)
    async with (
        serve(fake_gateway(), limits=limits) as server,
        connect(server.ws, max_queue=1) as slow,
        connect(server.ws) as other,
    ):
        await heard(other)
        for _ in range(3):  # 12 MB of audio each, never read
            await say(slow, type="input_audio_buffer.commit")
        await until(lambda: server.count("muse_slow_consumer_drops_total") == 1)
        await until(lambda: server.gateway.active == 1)
        await say(other, type="response.create")
        assert (await heard(other))["type"] == "response.created"
        slow.transport.abort()


async def test_large_items_that_are_asked_for_are_sent_one_at_a_time(serve: Serve) -> None:
    limits = WebSocketLimits(send_buffer=200_000)
    sessions: list[FakeSession] = []
    async with (
        serve(fake_gateway(sessions=sessions), limits=limits) as server,
        connect(server.ws, max_queue=1, max_size=None) as client,
    ):
        await heard(client)
        for number in range(16):  # 8 MB each: far more than the sockets and the client's queue hold
            await say(client, type="conversation.item.retrieve", item_id=f"item_{number}")
        (session,) = sessions
        await until(lambda: session.received)
        await settled(1000)
        assert len(session.received) < 16
        session.outputs.append(error_event("something small"))
        await say(client, type="response.create")
        answers = [(await heard(client))["type"] for _ in range(19)]
        assert answers.count("conversation.item.retrieved") == 16
        assert answers[-1] == "response.done"
        assert server.count("muse_slow_consumer_drops_total") == 0


async def test_a_client_that_resets_before_a_large_item_is_sent_frees_its_slot(serve: Serve) -> None:
    sessions: list[FakeSession] = []
    gateway = fake_gateway(sessions=sessions)
    async with serve(gateway, limits=WebSocketLimits(send_buffer=200_000)) as server:
        client = await connect(server.ws, max_queue=1)
        await heard(client)
        for number in range(6):
            await say(client, type="conversation.item.retrieve", item_id=f"item_{number}")
        await until(lambda: sessions[0].received)
        client.transport.abort()
        await until(lambda: server.gateway.active == 0)


async def test_draining_ends_idle_conversations_and_waits_for_replies(serve: Serve) -> None:
    engine, turns = FakeEngine(hold=True), FakeTurns()
    async with serve(fake_gateway(engine, turns=turns), drain_seconds=PATIENCE) as server:
        idle, busy = await connect(server.ws), await connect(server.ws)
        await heard(idle)
        await heard(busy)
        await say(busy, type="response.create")
        assert (await heard(busy))["type"] == "response.created"
        server.server.should_exit = True

        assert (await heard(idle))["code"] == "server_restarting"
        assert await closed_with(idle) == 1012
        assert (await heard(busy))["code"] == "server_restarting"
        status, error, retry = await refused(server.ws)
        assert (status, error["code"], retry) == (503, "not_ready", 10)

        engine.sessions[1].finish("r1")
        assert (await heard(busy))["type"] == "response.done"
        assert await closed_with(busy) == 1012
    assert engine.closed == 1
    assert turns.closed == 1


async def test_the_drain_has_a_deadline(serve: Serve) -> None:
    engine = FakeEngine(hold=True)
    async with serve(fake_gateway(engine), drain_seconds=0.2) as server:
        client = await connect(server.ws)
        await heard(client)
        await say(client, type="response.create")
        await heard(client)
        server.server.should_exit = True
        assert await closed_with(client) == 1012
    assert engine.open_now == 0


async def test_a_hundred_connects_and_closes_leave_nothing(serve: Serve) -> None:
    engine = FakeEngine()
    sessions: list[FakeSession] = []
    async with serve(fake_gateway(engine, sessions=sessions)) as server:
        async with connect(server.ws) as client:
            await heard(client)
        await until(lambda: server.gateway.active == 0)
        tasks = len(asyncio.all_tasks())
        for number in range(100):
            client = await connect(server.ws)
            if number % 2:
                client.transport.abort()
            await client.close()
        await until(lambda: server.gateway.active == 0)
        await until(lambda: len(asyncio.all_tasks()) <= tasks)
        assert len(sessions) == len(engine.sessions) == 101
        assert all(session.closed == 1 for session in engine.sessions)
        await until(lambda: not server.server.server_state.connections)
