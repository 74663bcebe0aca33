import asyncio
import threading
from collections.abc import Mapping
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.http11 import Request, Response

from models.worker import server
from models.worker.batch import SlotOptions, Step
from models.worker.echo import EchoBatch
from streaming.engine import Samples
from streaming.errors import EngineError, PeerError
from streaming.wire.moshi import Frame, FrameCodes, Metadata, Pcm, Text, encode
from tests.models.worker.loopback import (
    PATIENCE,
    begin,
    body,
    ending,
    messages,
    session_of,
    speech,
    until_ready,
    worker,
)

KEY = "0123456789abcdef"


async def test_a_conversation_greets_gets_ready_and_answers_each_frame() -> None:
    async with worker() as host, host.talk("audio=pcm&codes=1") as client:
        session = await session_of(client)
        assert [slot["session"] for slot in await host.slots() if slot["state"] == "opening"] == [session]
        await begin(client, instructions="Be kind.", voice="echo")
        await until_ready(client)
        for frame in speech(3).reshape(3, -1):
            await client.send(encode(Pcm(audio=frame)))
        seen = []
        async for message in messages(client):
            seen.append(message)
            if isinstance(message, Frame) and message.number == 2:
                break
        kinds = [type(message) for message in seen]
        assert kinds == [FrameCodes, Frame, Text, FrameCodes, Frame, FrameCodes, Frame]
        frames = [message for message in seen if isinstance(message, Frame)]
        assert [frame.heard for frame in frames] == [1, 2, 3]
        assert [frame.audio.size for frame in frames] == [0, 1920, 1920]
        assert all(frame.times.queue >= 0 for frame in frames)
        slot = (await host.slots())[0]
        assert (slot["state"], slot["heard"], slot["said"], slot["dropped"]) == ("talking", 3, 3, 0)


async def test_a_full_worker_says_so_before_the_upgrade_and_a_slot_that_is_left_is_free() -> None:
    async with worker(slots=2) as host:
        async with host.talk() as one, host.talk() as two:
            await asyncio.gather(begin(one), begin(two))
            with pytest.raises(InvalidStatus) as refused:
                async with host.talk():
                    pass
            response = refused.value.response
            assert response.status_code == 503
            assert body(response)["code"] == "full"
            assert int(response.headers["Retry-After"]) > 0
            assert (await host.get("/health")).json()["free"] == 0
        await host.until(lambda slots: all(slot["state"] == "free" for slot in slots))
        async with host.talk() as again:
            await begin(again)
            await until_ready(again)


async def test_a_slot_is_not_given_away_before_it_is_cleared() -> None:
    clearing = threading.Event()

    class SlowToClear(EchoBatch):
        def leave(self, slot: int) -> None:
            assert clearing.wait(PATIENCE)
            super().leave(slot)

    async with worker(batch=lambda: SlowToClear(1), slots=1) as host:
        async with host.talk() as client:
            await begin(client)
            await until_ready(client)
        await host.until(lambda slots: slots[0]["state"] == "leaving")
        with pytest.raises(InvalidStatus) as refused:
            async with host.talk():
                pass
        assert body(refused.value.response)["code"] == "full"
        clearing.set()
        await host.until(lambda slots: slots[0]["state"] == "free")
        async with host.talk() as client:
            await begin(client)
            await until_ready(client)


async def test_a_slot_whose_client_is_gone_before_it_talks_is_free_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_CLAIM_SECONDS", 0.1)
    gone: Any = object()  # whose connection breaks between the answer to it and its first task
    async with worker(slots=1) as host:
        request = Request("/api/chat?audio=pcm", Headers())
        assert host.server._reserve(gone, request, Response(101, "Switching Protocols", Headers())) is None
        assert not host.server._slots.free
        await host.until(lambda slots: slots[0]["state"] == "free")


async def test_codes_that_clients_make_up_are_counted_as_one() -> None:
    async with worker() as host:
        for code in (1000, 3000, 4001, 4999):
            async with host.talk() as client:
                await session_of(client)
                await client.close(code)
        await host.until(lambda slots: all(slot["state"] == "free" for slot in slots))
        await host.until_counted('closed_total{code="private"} 3.0')
        await host.until_counted('closed_total{code="1000"} 1.0')
        assert "4001" not in (await host.get("/metrics")).text


async def test_messages_are_not_compressed_even_where_the_client_offers_it() -> None:
    async with worker() as host:
        address = f"{host.url}/api/chat?audio=pcm"
        async with connect(address, proxy=None, compression="deflate") as client:
            assert client.response is not None
            assert "Sec-WebSocket-Extensions" not in client.response.headers


async def test_callers_at_the_same_moment_never_share_a_slot() -> None:
    all_answered = asyncio.Barrier(10)
    async with worker(slots=3) as host:

        async def call() -> str | None:
            try:
                async with host.talk() as client:
                    session = await session_of(client)
                    await all_answered.wait()
                    return session
            except InvalidStatus:
                await all_answered.wait()
                return None

        sessions = await asyncio.gather(*(call() for _ in range(10)))
        assert len({session for session in sessions if session}) == 3
        assert sessions.count(None) == 7


async def test_a_value_of_the_address_that_cannot_be_taken_is_named() -> None:
    async with worker() as host:
        with pytest.raises(InvalidStatus) as refused:
            async with host.talk("audio=pcm&text_topk=many"):
                pass
        assert refused.value.response.status_code == 400
        assert body(refused.value.response)["message"] == "text_topk: expected an integer from 0 to 1000000, got 'many'"
        assert (await host.get("/health")).json()["free"] == 4


async def test_what_is_beside_the_conversations() -> None:
    async with worker() as host:
        health = await host.get("/health")
        assert health.status_code == 200
        assert health.json()["engine"]["model"] == "muse-echo-duplex"
        assert (health.json()["slots"], health.json()["status"]) == (4, "ok")
        metrics = (await host.get("/metrics")).text
        assert 'muse_worker_slots{state="free"} 4.0' in metrics
        assert (await host.get("/elsewhere")).status_code == 404
        assert (await host.get("/api/chat?audio=pcm")).status_code in (400, 426)  # not an upgrade
        assert (await host.get("/health")).json()["free"] == 4


async def test_with_a_key_only_health_is_told_without_it() -> None:
    async with worker(key=KEY) as host:
        assert (await host.get("/health")).status_code == 200
        for path in ("/slots", "/metrics", "/api/chat"):
            assert (await host.get(path)).status_code == 401
            assert (await host.get(path, Authorization="Bearer no")).status_code == 401
        assert (await host.get("/slots", Authorization=f"Bearer {KEY}")).status_code == 200
        async with host.talk(additional_headers={"Authorization": f"Bearer {KEY}"}) as client:
            assert await session_of(client)


async def test_a_page_of_a_foreign_origin_is_refused_unless_it_is_allowed() -> None:
    async with worker(allowed_origins="https://talk.example") as host:
        with pytest.raises(InvalidStatus) as refused:
            async with host.talk(origin="https://evil.example"):
                pass
        assert refused.value.response.status_code == 403
        async with host.talk(origin="https://talk.example") as client:
            assert await session_of(client)


async def test_a_voice_that_the_model_has_not_is_refused_by_name() -> None:
    async with worker() as host, host.talk() as client:
        await begin(client, voice="alto")
        assert await ending(client) == (1008, "invalid_value")


async def test_a_conversation_that_no_memory_is_left_for_fails_alone() -> None:
    class Full(EchoBatch):
        def join(self, slot: int, options: SlotOptions) -> None:
            super().join(slot, options)
            if options.instructions:
                raise MemoryError("CUDA out of memory")

    async with worker(batch=lambda: Full(4)) as host, host.talk() as good:
        await begin(good)
        await until_ready(good)
        async with host.talk() as bad:
            await begin(bad, instructions="a long one")
            assert await ending(bad) == (1011, "engine_failed")
        await host.until(lambda slots: sum(slot["state"] == "free" for slot in slots) == 3)
        await good.send(encode(Pcm(audio=speech(1))))
        async for message in messages(good):
            if isinstance(message, Frame):
                break
        assert (await host.get("/health")).json()["status"] == "ok"


async def test_a_broken_model_ends_every_conversation_and_shows_at_health() -> None:
    class Broken(EchoBatch):
        def step(self, frames: Mapping[int, Samples]) -> Step:
            raise RuntimeError("CUDA error")

    async with worker(batch=lambda: Broken(4)) as host, host.talk() as one, host.talk() as two:
        for client in (one, two):
            await begin(client)
            await until_ready(client)
        await one.send(encode(Pcm(audio=speech(1))))
        for client in (one, two):
            assert await ending(client) == (1011, "engine_failed")
        with pytest.raises(EngineError, match="the model has failed"):
            await host.running
        health = await host.get("/health")
        assert (health.status_code, health.json()["status"]) == (503, "failed")
        with pytest.raises(InvalidStatus) as refused:
            async with host.talk():
                pass
        assert body(refused.value.response)["code"] == "failed"


async def test_draining_refuses_callers_lets_talkers_go_on_and_then_ends_them() -> None:
    async with worker() as host, host.talk() as client:
        await begin(client)
        await until_ready(client)
        draining = asyncio.create_task(host.server.drain(3600))
        health = await host.get("/health")
        assert (health.status_code, health.json()["status"]) == (503, "draining")
        with pytest.raises(InvalidStatus) as refused:
            async with host.talk():
                pass
        assert body(refused.value.response)["code"] == "draining"
        await client.send(encode(Pcm(audio=speech(1))))
        async for message in messages(client):
            if isinstance(message, Frame):
                break
        draining.cancel()
        end, _ = await asyncio.gather(ending(client), host.server.drain(0.1))
        assert end == (1012, "draining")


async def test_draining_an_empty_worker_takes_no_time() -> None:
    async with worker() as host:
        async with asyncio.timeout(PATIENCE):
            await host.server.drain(3600)


async def test_a_begin_that_comes_twice_or_after_audio_is_refused() -> None:
    async with worker() as host:
        async with host.talk() as client:
            await begin(client)
            await begin(client)
            assert await ending(client) == (1008, "unexpected_message")
        async with host.talk() as client:
            await client.send(encode(Pcm(audio=speech(1))))
            await begin(client)
            assert await ending(client) == (1008, "unexpected_message")


async def test_what_a_later_version_may_send_is_passed_over() -> None:
    async with worker() as host, host.talk() as client:
        await client.send(b"\x7fwhatever")
        await client.send(encode(Metadata(values={"type": "later"})))
        await begin(client)
        await until_ready(client)


async def test_a_prompt_that_is_never_taken_in_ends_the_conversation() -> None:
    class Endless(EchoBatch):
        def prepare(self) -> bool:
            return True

    async with worker(batch=lambda: Endless(4), prepare_seconds=0.3) as host, host.talk() as client:
        await begin(client)
        assert await ending(client) == (1011, "engine_failed")


async def test_refusing_a_join_is_told_with_the_models_own_words() -> None:
    class Monoglot(EchoBatch):
        def join(self, slot: int, options: SlotOptions) -> None:
            raise PeerError("the model speaks English only", code="unsupported_language", param="language")

    async with worker(batch=lambda: Monoglot(4)) as host, host.talk() as client:
        await begin(client)
        assert await ending(client) == (1008, "unsupported_language")
