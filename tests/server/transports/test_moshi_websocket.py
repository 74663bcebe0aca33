from __future__ import annotations

import asyncio
import contextlib
import json
import struct
import time
from typing import Any, cast

import numpy as np
import pytest
from fastapi import WebSocket
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Origin

from server.auth import AccessPolicy
from server.metrics import Metrics
from server.transports.moshi_websocket import MOST_BYTES, STOCK_LEAD, STOCK_SEND_BUFFER, MoshiConnection
from server.transports.websocket import KeepAlive, MessageSocket, WebSocketLimits
from streaming.client_events import AppendAudio, UpdateSession
from streaming.engine import FrameTimes, StartReply
from streaming.opus import OpusDecoder, OpusEncoder
from streaming.server_events import (
    AudioTranscriptDelta,
    ErrorDetail,
    Response,
    ResponseCreated,
    ResponseDone,
    ServerEvent,
    StatusDetails,
    TextDelta,
)
from streaming.session import Input
from streaming.wire.moshi import (
    Command,
    Control,
    Frame,
    Handshake,
    Message,
    Metadata,
    OggOpus,
    Pcm,
    Ping,
    Text,
    WireError,
    decode,
    encode,
)
from streaming.wire.moshi_query import ChatQuery
from tests.server.conftest import Running, Serve
from tests.server.fakes import FakeEngine, FakeSession, audio_delta, fake_gateway
from tests.server.transports.test_openai_websocket import closed_with, refused
from tests.waiting import PATIENCE, until

KEY = "a-key-of-many-characters"
TONE = (0.3 * np.sin(2 * np.pi * 300 * np.arange(960) / 24_000)).astype(np.float32)
PCM16 = (TONE * 32768).round().astype("<i2").tobytes()


def url(server: Running, query: str = "") -> str:
    return f"ws://127.0.0.1:{server.port}/api/chat?{query}"


async def next_heard(client: ClientConnection) -> Message:
    async with asyncio.timeout(PATIENCE):
        data = await client.recv()
    assert isinstance(data, bytes)
    message = decode(data)
    assert message is not None
    return message


async def heard(client: ClientConnection) -> Message:
    """The next message but for pings: they come by the clock."""
    while (message := await next_heard(client)) == Ping():
        pass
    return message


async def greeted(client: ClientConnection) -> Message:
    assert await heard(client) == Handshake()
    return await heard(client) if client.request and "audio=pcm" in client.request.path else Handshake()


async def received(session: FakeSession, kind: type[Input]) -> list[Any]:
    await until(lambda: any(isinstance(event, kind) for event in session.received))
    return [event for event in session.received if isinstance(event, kind)]


def noted(made: list[dict[str, Any]]) -> type[MessageSocket]:
    """Sockets that note what they are made with."""

    class Noted(MessageSocket):
        def __init__(self, socket: WebSocket, **options: Any) -> None:
            made.append(options)
            super().__init__(socket, **options)

    return Noted


class Talk:
    """A gateway with fake sessions, and a way to make one put something out: a session speaks when it is spoken to."""

    def __init__(self, **options: Any) -> None:
        self.sessions: list[FakeSession] = []
        self.gateway = fake_gateway(sessions=self.sessions, **options)

    async def put(self, client: ClientConnection, *outputs: ServerEvent) -> None:
        await until(lambda: bool(self.sessions))
        self.sessions[-1].outputs.extend(outputs)
        await client.send(encode(Pcm(audio=TONE)))


# --- what goes out


async def test_a_stock_client_is_greeted_first(serve: Serve) -> None:
    async with serve(fake_gateway()) as server, connect(url(server)) as client:
        async with asyncio.timeout(PATIENCE):
            first = await client.recv()
        assert isinstance(first, bytes)
        assert first[0] == 0


async def test_a_client_that_asked_for_pcm_learns_what_it_talks_to(serve: Serve) -> None:
    async with serve(fake_gateway()) as server, connect(url(server, "audio=pcm")) as client:
        session = await greeted(client)
        assert isinstance(session, Metadata)
        assert (session.values["type"], session.values["protocol"]) == ("session", 1)
        assert str(session.values["session"]).startswith("sess_")
        assert session.values["engine"]["input_rate"] == session.values["engine"]["output_rate"] == 24_000


async def test_a_client_that_hears_nothing_is_pinged_every_second(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[dict[str, Any]] = []
    monkeypatch.setattr("server.transports.moshi_websocket.MessageSocket", noted(made))
    began = time.monotonic()
    async with serve(fake_gateway()) as server, connect(url(server)) as client:
        await greeted(client)
        assert [await next_heard(client) for _ in range(2)] == [Ping(), Ping()]
        assert time.monotonic() - began > 1.99
    assert [options["keep_alive"] for options in made] == [KeepAlive(message=encode(Ping()), seconds=1.0)]


async def test_a_reply_s_audio_and_words(serve: Serve) -> None:
    talk = Talk()
    words = AudioTranscriptDelta(response_id="r", item_id="i", output_index=0, content_index=0, delta="Hi")
    written = TextDelta(response_id="r", item_id="i", output_index=0, content_index=0, delta="!")
    again = ResponseCreated(response=Response(id="r2", status="in_progress"))
    async with serve(talk.gateway) as server, connect(url(server, "audio=pcm")) as client:
        await greeted(client)
        await client.send(encode(Pcm(audio=np.zeros(4000, np.float32))))
        await talk.put(client, words, audio_delta(PCM16), written, audio_delta(PCM16[:100]), again, again, words)
        said = [await heard(client) for _ in range(6)]
    texts = [message.text for message in said if isinstance(message, Text)]
    frames = [message for message in said if isinstance(message, Frame)]
    assert texts == ["Hi", "!", " ", "Hi"]
    assert [(frame.number, frame.heard, len(frame.audio)) for frame in frames] == [(0, 2, 960), (1, 2, 50)]
    assert frames[0].times == FrameTimes()
    np.testing.assert_allclose(frames[0].audio, TONE, atol=1 / 32768)


@pytest.mark.parametrize("whole", [True, False])
async def test_a_reply_as_opus(serve: Serve, whole: bool) -> None:
    talk = Talk()
    done = ResponseDone(response=Response(id="r", status="completed"))
    audio = [audio_delta(PCM16)] * 10 + ([] if whole else [audio_delta(PCM16[:200])])
    async with serve(talk.gateway) as server, connect(url(server)) as client:
        await greeted(client)
        await until(lambda: bool(talk.sessions))
        talk.sessions[-1].outputs.extend([*audio, done])
        await client.send(encode(OggOpus(data=OpusEncoder().push(TONE))))
        decoder = OpusDecoder()
        samples = 0
        while samples < 960 * (10 if whole else 11):  # what is left of a page at the end is not held back
            message = await heard(client)
            assert isinstance(message, OggOpus)
            samples += len(decoder.push(message.data))
        assert await next_heard(client) == Ping()


async def test_what_goes_wrong_is_told(serve: Serve) -> None:
    talk = Talk()
    error = ErrorDetail(type="server_error", code="engine_lost", message="The engine is gone.")
    failed = Response(id="r", status="failed", status_details=StatusDetails(type="failed", error=error))
    cancelled = Response(id="r", status="cancelled", status_details=StatusDetails(type="cancelled"))
    async with serve(talk.gateway) as server, connect(url(server, "audio=pcm")) as client:
        await greeted(client)
        await talk.put(client, ResponseDone(response=failed), ResponseDone(response=cancelled))
        assert await heard(client) == WireError(code="engine_lost", message="The engine is gone.")
        assert await heard(client) == Metadata(values={"type": "interrupted"})


async def test_only_a_client_that_holds_little_is_sent_little_ahead(serve: Serve) -> None:
    leads: list[int | None] = []
    gateway = fake_gateway()
    inner = gateway.converse

    async def note(*arguments: Any, lead: int | None = None, **rest: Any) -> Any:
        leads.append(lead)
        return await inner(*arguments, lead=lead, **rest)

    gateway.converse = note  # type: ignore[method-assign]
    async with serve(gateway) as server:
        for query in ("", "audio=pcm"):
            async with connect(url(server, query)) as client:
                await greeted(client)
    assert leads == [STOCK_LEAD, None]


# --- what comes in


@pytest.mark.parametrize("coding", ["opus", "pcm"])
async def test_what_is_said_reaches_the_session_as_24_khz_pcm16(serve: Serve, coding: str) -> None:
    talk = Talk()
    said = np.tile(TONE, 10)
    async with serve(talk.gateway) as server, connect(url(server, f"audio={coding}")) as client:
        await greeted(client)
        if coding == "pcm":
            await client.send(encode(Pcm(audio=said[:1])))
            await client.send(encode(Pcm(audio=said[1:])))
        else:
            data = OpusEncoder().push(said)
            for start in range(0, len(data), 77):
                await client.send(encode(OggOpus(data=data[start : start + 77])))
        session = talk.sessions[0]
        await until(lambda: sum(len(event.audio) for event in session.received if hasattr(event, "audio")) == 19_200)
        appended = await received(session, AppendAudio)
    got = np.frombuffer(b"".join(event.audio for event in appended), "<i2") / 32768
    assert all(event.audio for event in appended)
    if coding == "pcm":
        np.testing.assert_allclose(got, said, atol=1 / 32768)
    else:
        assert 0.1 < np.abs(got[2000:]).max() < 0.5


async def test_the_query_s_prompts_come_before_the_audio(serve: Serve) -> None:
    talk = Talk()
    query = "audio=pcm&text_prompt=Be%20kind.&voice_prompt=ann&pad_mult=0&nonesuch=1"
    async with serve(talk.gateway) as server, connect(url(server, query)) as client:
        await greeted(client)
        assert talk.sessions[0].received == []
        await client.send(encode(Pcm(audio=TONE)))
        await received(talk.sessions[0], AppendAudio)
    assert talk.sessions[0].received == [
        UpdateSession(session={"type": "realtime", "instructions": "Be kind."}),
        UpdateSession(session={"type": "realtime", "audio": {"output": {"voice": "ann"}}}),
        AppendAudio(audio=PCM16),
    ]


async def test_what_the_client_says_at_the_beginning_replaces_the_query(serve: Serve) -> None:
    talk = Talk()
    begin = Metadata(values={"type": "begin", "instructions": "Be brief."})
    query = "audio=pcm&text_prompt=Be%20kind.&voice_prompt=ann"
    async with serve(talk.gateway) as server, connect(url(server, query)) as client:
        await greeted(client)
        await client.send(encode(begin))
        assert await heard(client) == Metadata(values={"type": "ready"})
        await client.send(encode(Pcm(audio=TONE)))
        await received(talk.sessions[0], AppendAudio)
    assert talk.sessions[0].received == [
        UpdateSession(session={"type": "realtime", "instructions": "Be brief."}),
        UpdateSession(session={"type": "realtime", "audio": {"output": {"voice": "ann"}}}),
        AppendAudio(audio=PCM16),
    ]


@pytest.mark.parametrize("first", [Metadata(values={"type": "begin"}), Pcm(audio=TONE)])
async def test_a_conversation_begins_once(serve: Serve, first: Message) -> None:
    async with serve(fake_gateway()) as server, connect(url(server, "audio=pcm")) as client:
        await greeted(client)
        await client.send(encode(first))
        await client.send(encode(Metadata(values={"type": "begin", "voice": "ann"})))
        refusal = await heard(client)
        if isinstance(first, Metadata):
            assert refusal == Metadata(values={"type": "ready"})
            refusal = await heard(client)
        assert isinstance(refusal, WireError)
        assert refusal.code == "unexpected_message"


@pytest.mark.parametrize("message", [Ping(), Control(action="start"), Metadata(values={"type": "x"}), Handshake()])
async def test_what_has_no_meaning_here_is_passed_over(serve: Serve, message: Message) -> None:
    talk = Talk()
    async with serve(talk.gateway) as server, connect(url(server, "audio=pcm")) as client:
        await greeted(client)
        await client.send(encode(message))
        await client.send(b"\xfe of a later version")
        await client.send(encode(Pcm(audio=TONE)))
        await received(talk.sessions[0], AppendAudio)
        assert len(talk.sessions[0].received) == 1
        assert server.count("muse_bad_client_events_total") == 0


WRONG: list[Message] = [
    Text(text="hello"),
    WireError(message="no"),
    Frame(number=0, heard=0, times=FrameTimes(), audio=TONE),
    Command(command=StartReply(response_id="r", instructions="", messages=(), speaks=True, voice="")),
    OggOpus(data=b"OggS"),
]


@pytest.mark.parametrize("message", WRONG, ids=lambda message: type(message).__name__)
async def test_the_wrong_kind_is_an_error_and_the_conversation_goes_on(serve: Serve, message: Message) -> None:
    talk = Talk()
    async with serve(talk.gateway) as server, connect(url(server, "audio=pcm")) as client:
        await greeted(client)
        await client.send(encode(message))
        refusal = await heard(client)
        assert isinstance(refusal, WireError)
        assert refusal.code == "unexpected_message"
        await client.send(encode(Pcm(audio=TONE)))
        assert await received(talk.sessions[0], AppendAudio) == [AppendAudio(audio=PCM16)]


@pytest.mark.parametrize(
    ("query", "payload", "code", "name"),
    [
        ("audio=pcm", "text", 1003, "invalid_message"),
        ("", "text", 1003, "invalid_message"),
        ("audio=pcm", b"", 1007, "empty_message"),
        ("audio=pcm", b"\x03\x09", 1007, "invalid_message"),
        ("audio=pcm", b"\x04{", 1007, "invalid_message"),
        ("audio=pcm", b"\x10abc", 1007, "invalid_audio"),
        ("audio=pcm", b"\x10" + struct.pack("<f", float("nan")), 1007, "invalid_audio"),
        ("audio=pcm", b"\x10" + bytes(4 * 24_001), 1007, "invalid_audio"),
        ("audio=pcm", b"\x10" + bytes(MOST_BYTES), 1009, "message_too_large"),
        ("", b"\x01garbage", 1007, "invalid_audio"),
        ("", b"\x01" + bytes(300_000), 1007, "invalid_audio"),
    ],
)
async def test_what_cannot_be_read_ends_the_conversation(
    serve: Serve, query: str, payload: str | bytes, code: int, name: str
) -> None:
    async with serve(fake_gateway()) as server, connect(url(server, query)) as client:
        await greeted(client)
        await client.send(payload)
        reason = await heard(client)
        assert isinstance(reason, WireError)
        assert reason.code == name
        assert await closed_with(client) == code
        await until(lambda: server.gateway.active == 0)
        assert server.count("muse_bad_client_events_total") == 1


async def test_larger_than_any_message_is_1009(serve: Serve) -> None:
    async with serve(fake_gateway(), max_message_bytes=2**20) as server, connect(url(server)) as client:
        await client.send(bytes(2**20 + 1))
        assert await closed_with(client) == 1009


# --- guards


async def test_the_key_and_the_origin(serve: Serve) -> None:
    async with serve(fake_gateway(), access=AccessPolicy(api_key=KEY)) as server:
        status, error, _ = await refused(url(server))
        assert (status, error["code"]) == (401, "missing_api_key")
        headers = {"Authorization": f"Bearer {KEY}"}
        status, error, _ = await refused(url(server), origin=Origin("http://evil.example"), additional_headers=headers)
        assert (status, error["code"]) == (403, "origin_not_allowed")
        async with connect(url(server), additional_headers=headers) as client:
            await greeted(client)
        assert server.count("muse_connections_refused_total", reason="missing_api_key") == 1


@pytest.mark.parametrize("query", ["text_topk=many", "audio_temperature=nan", "audio=mp3", "text_seed=-2"])
async def test_a_value_that_cannot_be_taken_is_refused_by_name(serve: Serve, query: str) -> None:
    async with serve(fake_gateway()) as server:
        status, error, _ = await refused(url(server, query))
        assert (status, error["code"]) == (400, "invalid_value")
        assert error["message"].startswith(query.partition("=")[0])
        assert server.gateway.active == 0


async def test_both_wires_share_the_lines(serve: Serve) -> None:
    async with serve(fake_gateway(max_sessions=2)) as server, connect(url(server)), connect(server.ws):
        status, error, retry = await refused(url(server))
        assert (status, error["code"], retry) == (429, "too_many_sessions", 5)


async def test_a_full_engine_is_503(serve: Serve) -> None:
    async with serve(fake_gateway(FakeEngine(slots=0))) as server:
        status, error, retry = await refused(url(server))
        assert (status, error["code"], retry) == (503, "engine_busy", 3)


@pytest.mark.parametrize("query", ["", "text_prompt=Be+kind."])
async def test_a_client_that_says_nothing_is_closed(serve: Serve, query: str) -> None:
    async with serve(fake_gateway(first_event=0.3)) as server, connect(url(server, query)) as client:
        with contextlib.suppress(ConnectionClosed):
            for _ in range(3):
                await client.send(encode(Ping()))
        assert await closed_with(client) == 1008


async def test_a_client_that_never_reads_is_dropped_and_its_neighbour_is_not(serve: Serve) -> None:
    talk = Talk()
    async with (
        serve(talk.gateway, limits=WebSocketLimits(send_buffer=200_000)) as server,
        connect(url(server, "audio=pcm"), max_queue=1) as slow,
        connect(server.ws) as other,
    ):
        json.loads(await other.recv())
        flood = [audio_delta(bytes(48_000)) for _ in range(200)]  # 19 MB as float32
        slow_session = next(one for one in talk.sessions if one is not talk.sessions[-1])
        slow_session.outputs.extend(flood)
        await slow.send(encode(Pcm(audio=TONE)))
        await until(lambda: server.count("muse_slow_consumer_drops_total") == 1)
        await until(lambda: server.gateway.active == 1)
        await other.send(json.dumps({"type": "response.create"}))
        assert json.loads(await other.recv())["type"] == "response.created"
        slow.transport.abort()


@pytest.mark.parametrize("payload", [b"\x06", b"\x01", b"\x10", b"\x02x"])
async def test_a_flood_of_nothing_holds_nobody_up(serve: Serve, payload: bytes) -> None:
    query = "audio=pcm" if payload == b"\x10" else ""
    async with serve(fake_gateway()) as server, connect(url(server, query)) as flooding, connect(server.ws) as other:
        json.loads(await other.recv())

        async def flood() -> None:
            with contextlib.suppress(ConnectionClosed):
                for _ in range(300):
                    for _ in range(20):
                        await flooding.send(payload)
                    await asyncio.sleep(0)

        task = asyncio.create_task(flood())
        waits = []  # messages of both that the server reads while `other` waits for its answer
        while not task.done():
            before = server.count("muse_frames_total", direction="in")
            await other.send(json.dumps({"type": "response.create"}))
            while json.loads(await other.recv())["type"] != "response.done":
                pass
            waits.append(server.count("muse_frames_total", direction="in") - before)
        assert len(waits) > 10
        assert max(waits) < 50
        flooding.transport.abort()


async def test_messages_that_are_no_events_take_turns_with_other_work() -> None:
    """Even where all of them have come, so that no read has to wait."""

    class Flood:
        left = 100

        async def receive(self) -> bytes:
            self.left -= 1
            return encode(Ping()) if self.left else encode(Pcm(audio=TONE))

    turns = 0

    async def work() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    worker = asyncio.create_task(work())
    connection = MoshiConnection(cast(MessageSocket, Flood()), ChatQuery(audio="pcm"), metrics=Metrics())
    assert isinstance(await connection.receive(), AppendAudio)
    worker.cancel()
    assert turns >= 99


@pytest.mark.parametrize(("query", "most"), [("", STOCK_SEND_BUFFER), ("audio=pcm", WebSocketLimits().send_buffer)])
async def test_seconds_of_audio_may_wait_for_a_client_in_either_coding(
    serve: Serve, query: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[dict[str, Any]] = []
    monkeypatch.setattr("server.transports.moshi_websocket.MessageSocket", noted(made))
    async with serve(fake_gateway()) as server, connect(url(server, query)) as client:
        await greeted(client)
    assert [options["limits"].send_buffer for options in made] == [most]


async def test_draining_ends_it_with_1012(serve: Serve) -> None:
    async with serve(fake_gateway(), drain_seconds=PATIENCE) as server, connect(url(server)) as client:
        await greeted(client)
        server.server.should_exit = True
        assert await closed_with(client) == 1012
