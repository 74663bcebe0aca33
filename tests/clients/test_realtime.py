"""The async client and the command line against a scripted server on a loopback socket."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from clients.audio_files import read_wav, write_wav
from clients.cli import main
from clients.errors import ClientError, DisconnectedError, NoReplyError, RefusedError, UnreachableError
from clients.realtime import RealtimeClient
from streaming import client_events as said
from streaming import server_events as events
from streaming.audio import NS
from streaming.client_events import ClientEvent
from streaming.config import SessionConfig
from streaming.items import InputText, Message
from streaming.merge_patch import merge_patch
from streaming.schema import from_json, to_json
from streaming.server_events import ServerEvent
from streaming.wire.openai_realtime import decode_client, encode_server

TONE = (0.5 * np.sin(np.arange(2400) / 5)).astype(np.float32)  # 100 ms
REPLY = np.int16(1000).tobytes() * 960  # 40 ms
LATENCY = {"total_ms": 420.5, "endpointing_ms": 300.0, "voice_ms": 120.5}


class Peer:
    """The server's side of one connection."""

    def __init__(self, connection: ServerConnection) -> None:
        self.path = connection.request.path if connection.request else ""
        self.headers = connection.request.headers if connection.request else {}
        self.received: list[ClientEvent] = []
        self.cleared = asyncio.Event()
        self._connection = connection

    async def send(self, *sent: ServerEvent) -> None:
        for event in sent:
            await self._connection.send(encode_server(event))

    async def send_text(self, text: str) -> None:
        await self._connection.send(text)

    async def expect(self, kind: type[ClientEvent]) -> None:
        while True:
            event = decode_client(await self._connection.recv())
            self.received.append(event)
            if isinstance(event, said.ClearAudio):
                self.cleared.set()
            if isinstance(event, said.UpdateSession) and kind is not said.UpdateSession:
                config = from_json(SessionConfig, merge_patch(to_json(SessionConfig()), event.session))
                await self.send(events.SessionUpdated(session=config, event_id="u"))
            if isinstance(event, kind):
                return

    async def close(self, code: int, reason: str) -> None:
        await self._connection.close(code, reason)


def response(status: events.ResponseStatus = "completed", message: str | None = None) -> events.Response:
    error = events.ErrorDetail(type="server_error", message=message) if message else None
    details = events.StatusDetails(type="failed", error=error) if error else None
    metadata = {"muse.latency": json.dumps(LATENCY)}
    return events.Response(id="r", status=status, status_details=details, metadata=metadata)


CREATED = events.ResponseCreated(response=events.Response(id="r", status="in_progress"), event_id="c")
DONE = events.ResponseDone(response=response(), event_id="d")


def audio(data: bytes = REPLY) -> events.AudioDelta:
    return events.AudioDelta(response_id="r", item_id="i", output_index=0, content_index=0, delta=data, event_id="a")


def words(text: str) -> events.AudioTranscriptDone:
    return events.AudioTranscriptDone(
        response_id="r", item_id="i", output_index=0, content_index=0, transcript=text, event_id="w"
    )


async def answer_speech(peer: Peer) -> None:
    await peer.expect(said.AppendAudio)
    await peer.send(
        events.SpeechStarted(audio_start_ms=0, item_id="u", event_id="1"),
        events.SpeechStopped(audio_end_ms=100, item_id="u", event_id="2"),
        events.AudioCommitted(item_id="u", previous_item_id=None, event_id="3"),
        events.TranscriptionCompleted(
            item_id="u", content_index=0, transcript="hello", usage=events.DurationUsage(seconds=0.1), event_id="4"
        ),
        CREATED,
        audio(),
        audio(),
        words("Hi there."),
        DONE,
    )
    await peer.expect(said.ClearAudio)


async def answer_text(peer: Peer) -> None:
    await peer.expect(said.CreateResponse)
    await peer.send(CREATED, words("Written back."), DONE)
    await peer.expect(said.ClearAudio)


@asynccontextmanager
async def server(
    script: Callable[[Peer], Awaitable[None]], *, refuse: Callable[[Request], Response | None] = lambda request: None
) -> AsyncIterator[tuple[str, list[Peer]]]:
    """The address of a server that plays `script` to each connection, and its connections so far."""
    peers: list[Peer] = []

    async def handle(connection: ServerConnection) -> None:
        peer = Peer(connection)
        peers.append(peer)
        await peer.send(events.SessionCreated(session=SessionConfig(), event_id="s"))
        await script(peer)

    listener = await serve(handle, "127.0.0.1", 0, process_request=lambda _, request: refuse(request))
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        yield f"ws://127.0.0.1:{port}/v1/realtime", peers


# --- the client ------------------------------------------------------------------------------------------------------


async def test_a_spoken_turn() -> None:
    seen: list[str] = []
    async with server(answer_speech) as (url, peers):
        async with RealtimeClient.connect(url, api_key="key", model="m") as client:
            turn = await client.turn(TONE, watch=lambda event: seen.append(event.type))
        assert peers[0].path == "/v1/realtime?model=m&extensions=muse"
        assert peers[0].headers["Authorization"] == "Bearer key"
    assert (turn.user_transcript, turn.reply_transcript, turn.status) == ("hello", "Hi there.", "completed")
    assert turn.latency == LATENCY
    assert turn.rate == 24_000
    np.testing.assert_allclose(turn.reply_audio, np.full(1920, 1000 / 32768), atol=1e-6)
    assert turn.speech_ended is not None
    assert turn.first_audio is not None
    assert turn.first_audio <= turn.ended
    assert turn.wait == (turn.first_audio - turn.speech_ended) / 1e9
    assert seen[-1] == "response.done"


async def test_a_recording_is_sent_whole_and_at_the_pace_of_speech(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[int] = []

    async def wait(due: int) -> None:
        waits.append(due)

    monkeypatch.setattr("clients.pacing.sleep_until", wait)
    async with server(answer_speech) as (url, peers), RealtimeClient.connect(url) as client:
        began = time.monotonic_ns()
        await client.say(TONE)
        assert waits[-1] - began >= 0.1 * NS
        assert np.diff(waits).tolist() == [0.04 * NS, 0.04 * NS]
        await client.say(TONE, realtime=False)
        await client.say(np.repeat(TONE, 2), rate=48_000, realtime=False)
        await client.send(said.ClearAudio())
        await peers[0].cleared.wait()
        assert len(waits) == 3, "only the pace of speech is waited for"
        sent = b"".join(event.audio for event in peers[0].received if isinstance(event, said.AppendAudio))
    assert sent[:4800] == sent[4800:9600]
    np.testing.assert_allclose(np.frombuffer(sent[:4800], "<i2") / 32768, TONE, atol=1e-4)
    assert abs(len(sent) - 3 * 4800) <= 8


async def test_a_written_turn() -> None:
    async with server(answer_text) as (url, peers), RealtimeClient.connect(url, extensions=False) as client:
        turn = await client.write("Hello")
        assert peers[0].received[0] == said.CreateItem(item=Message(role="user", content=(InputText(text="Hello"),)))
        assert "extensions" not in peers[0].path
    assert (turn.reply_transcript, turn.wait) == ("Written back.", None)


async def test_settings_are_in_force_on_return() -> None:
    async with server(answer_text) as (url, _), RealtimeClient.connect(url) as client:
        await client.update(instructions="Be brief.", audio={"input": {"format": {"type": "audio/pcmu"}}})
        assert client.session.instructions == "Be brief."
        assert (client.input_format.encoding, client.input_format.rate) == ("pcmu", 8000)


async def test_settings_that_are_refused() -> None:
    async def refuse(peer: Peer) -> None:
        await peer.expect(said.UpdateSession)
        event_id = peer.received[0].event_id
        detail = events.ErrorDetail(type="invalid_request_error", message="no such voice", event_id=event_id)
        await peer.send(events.ErrorEvent(error=detail, event_id="e"))
        await peer.expect(said.ClearAudio)

    async with server(refuse) as (url, _), RealtimeClient.connect(url) as client:
        with pytest.raises(ClientError, match="no such voice"):
            await client.update(audio={"output": {"voice": "x"}})


async def test_a_server_that_hangs_up_instead_of_taking_settings() -> None:
    async def leave(peer: Peer) -> None:
        await peer.expect(said.UpdateSession)
        await peer.close(1000, "")

    async with server(leave) as (url, _), RealtimeClient.connect(url) as client:
        with pytest.raises(DisconnectedError, match="settings"):
            await client.update(instructions="Be brief.")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The client's clock, which stands still at `now`, in ns."""
    stopped = SimpleNamespace(now=0)
    monkeypatch.setattr("clients.realtime.time", SimpleNamespace(monotonic_ns=lambda: stopped.now))
    return stopped


@pytest.mark.parametrize("extensions", [True, False])
async def test_an_interrupted_reply_is_cut_where_it_was_heard(extensions: bool, clock: SimpleNamespace) -> None:
    async def interrupt(peer: Peer) -> None:
        await peer.send(CREATED, *[audio()] * 10)
        await peer.expect(said.ClearAudio)
        if extensions:
            await peer.send(events.BargeInProgress(phase="decided", response_id="r", event_id="b"))
        else:
            await peer.send(events.SpeechStarted(audio_start_ms=0, item_id="u", event_id="b"))
        await peer.expect(said.TruncateItem)
        await peer.close(1000, "")

    async with server(interrupt) as (url, peers), RealtimeClient.connect(url, extensions=extensions) as client:
        for _ in range(11):
            await anext(client)
        clock.now += NS // 10
        await client.send(said.ClearAudio())
        async for _ in client:
            pass
        cut = peers[0].received[-1]
    assert isinstance(cut, said.TruncateItem)
    assert (cut.item_id, cut.content_index) == ("i", 0)
    assert cut.audio_end_ms == 100


@pytest.mark.parametrize("extensions", [True, False])
async def test_a_reply_that_was_sent_whole_is_cut_when_the_user_speaks(
    extensions: bool, clock: SimpleNamespace
) -> None:
    async def interrupt(peer: Peer) -> None:
        await peer.send(CREATED, *[audio()] * 10, DONE)
        await peer.send(events.SpeechStarted(audio_start_ms=0, item_id="u", event_id="b"))
        await peer.expect(said.TruncateItem)
        await peer.close(1000, "")

    async with server(interrupt) as (url, peers), RealtimeClient.connect(url, extensions=extensions) as client:
        async for _ in client:
            pass
        cut = peers[0].received[-1]
        assert client.playout.ends == 0
    assert isinstance(cut, said.TruncateItem)
    assert cut.audio_end_ms == 0


@pytest.mark.parametrize("interruptible", [True, False])
async def test_speech_alone_does_not_cut_a_reply_that_is_arriving_or_may_not_be_interrupted(
    interruptible: bool,
) -> None:
    async def speak(peer: Peer) -> None:
        detection = {"type": "server_vad", "interrupt_response": interruptible}
        session = from_json(SessionConfig, {"audio": {"input": {"turn_detection": detection}}})
        await peer.send(events.SessionUpdated(session=session, event_id="u"), CREATED, *[audio()] * 10)
        if not interruptible:
            await peer.send(DONE)
        await peer.send(events.SpeechStarted(audio_start_ms=0, item_id="u", event_id="b"))
        await peer.close(1000, "")

    async with server(speak) as (url, _), RealtimeClient.connect(url) as client:
        async for _ in client:
            pass
        assert client.playout.ends > 0


async def test_events_that_are_not_known_are_passed_on() -> None:
    async def script(peer: Peer) -> None:
        await peer.send_text('{"type":"rate_limits.updated","event_id":"e","rate_limits":[]}')
        await peer.close(1001, "going away")

    async with server(script) as (url, _), RealtimeClient.connect(url) as client:
        assert [event.type async for event in client] == ["rate_limits.updated"]


@pytest.mark.parametrize("text", ["nonsense", '{"type":"response.done"}'])
async def test_what_is_no_event_is_an_error(text: str) -> None:
    async with server(lambda peer: peer.send_text(text)) as (url, _), RealtimeClient.connect(url) as client:
        with pytest.raises(ClientError, match="no event"):
            await anext(aiter(client))


async def test_a_server_that_hangs_up() -> None:
    async def script(peer: Peer) -> None:
        await peer.expect(said.AppendAudio)
        await peer.close(1013, "try again later")

    async with server(script) as (url, _), RealtimeClient.connect(url) as client:
        with pytest.raises(DisconnectedError, match="try again later") as caught:
            await client.turn(TONE)
        assert caught.value.code == 1013
        with pytest.raises(DisconnectedError):
            await client.append(b"\0\0")


async def test_a_server_that_does_not_answer() -> None:
    async with server(lambda peer: peer.expect(said.ClearAudio)) as (url, _), RealtimeClient.connect(url) as client:
        with pytest.raises(NoReplyError):
            await client.turn(TONE, patience=0.05)


async def test_a_server_that_refuses() -> None:
    def refuse(request: Request) -> Response:
        body = b'{"error":{"message":"All lines are taken; try again."}}'
        return Response(429, HTTPStatus(429).phrase, request.headers, body)

    async with server(answer_text, refuse=refuse) as (url, _):
        with pytest.raises(RefusedError, match="All lines are taken") as caught:
            async with RealtimeClient.connect(url):
                pass
    assert caught.value.status == 429


@pytest.mark.parametrize("url", ["ws://127.0.0.1:1/v1/realtime", "http://127.0.0.1:1/", "nowhere"])
async def test_no_server(url: str) -> None:
    with pytest.raises(UnreachableError):
        async with RealtimeClient.connect(url):
            pass


# --- the command line ------------------------------------------------------------------------------------------------


async def test_talk_prints_both_sides_and_writes_the_reply(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_wav(tmp_path / "a.wav", TONE, rate=24_000)
    reply = tmp_path / "reply.wav"
    async with server(answer_speech) as (url, peers):
        arguments = ["talk", str(tmp_path / "a.wav"), "--url", url, "--out", str(reply), "--instructions", "Smile"]
        assert await asyncio.to_thread(main, arguments) == 0
        update = peers[0].received[0]
    assert isinstance(update, said.UpdateSession)
    assert update.session["instructions"] == "Smile"
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["  you hello", " muse Hi there.", "      420 ms: endpointing 300 · voice 120"]
    assert len(read_wav(reply, rate=24_000)) == 1920


async def test_talk_fails_when_the_reply_does(capsys: pytest.CaptureFixture[str]) -> None:
    async def fail(peer: Peer) -> None:
        await peer.expect(said.CreateResponse)
        await peer.send(CREATED, events.ResponseDone(response=response("failed", "model lost"), event_id="d"))
        await peer.expect(said.ClearAudio)

    async with server(fail) as (url, _):
        assert await asyncio.to_thread(main, ["talk", "--text", "Hello", "--url", url]) == 1
    assert "error model lost" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["talk", "--text", "Hi", "--url", "ws://127.0.0.1:1/"], 1, "no server answers at 127.0.0.1:1"),
        (["talk", "pyproject.toml", "--url", "ws://127.0.0.1:1/"], 1, "not a WAV file"),
    ],
)
def test_talk_says_what_is_wrong(
    arguments: list[str], status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == status
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["talk"], ["talk", "--mic", "a.wav"], ["talk", "--mic", "--out", "b.wav"], []])
def test_a_wrong_command_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage" in capsys.readouterr().err
