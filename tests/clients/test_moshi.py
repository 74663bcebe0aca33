from __future__ import annotations

import asyncio
from http import HTTPStatus
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from websockets.http11 import Request, Response

from clients.audio_files import read_wav, write_wav
from clients.cli import main
from clients.errors import ClientError, DisconnectedError, NoReplyError, RefusedError, UnreachableError
from clients.moshi import MoshiClient
from streaming.wire.moshi import (
    Frame,
    Handshake,
    Metadata,
    Pcm,
    Ping,
    Text,
    WireError,
    encode,
)
from streaming.wire.moshi_query import ChatQuery
from tests.clients.moshi_peer import ENGINE, PCM, RATE, SESSION, WORDS, Ear, Peer, answer, server, tone

# --- the conversation


@pytest.mark.parametrize("query", [ChatQuery(), PCM], ids=["opus", "pcm"])
async def test_a_turn(query: ChatQuery) -> None:
    async with server(answer) as (url, peers), MoshiClient.connect(url, query=query, api_key="key") as client:
        ear = Ear()
        turn = await client.turn(tone(WORDS), quiet=0.3, watch=ear)
        assert peers[0].headers["Authorization"] == "Bearer key"
        said = np.concatenate(peers[0].heard)
    assert turn.text == "Hello there."
    ear.assert_waited(turn, peers[0])
    assert 0.2 < np.abs(turn.audio).max() < 0.45
    assert all(isinstance(message, Frame | Text) for message in ear.seen)
    loud = np.abs(said) > 0.05
    assert 0.3 * RATE < loud.sum() < 0.5 * RATE


@pytest.mark.parametrize("silences", [True, False])
async def test_an_answer_to_a_recording_that_ends_in_silence(silences: bool) -> None:
    """It begins 0.1 s after the last word and is over before the recording is."""

    async def reply(peer: Peer) -> None:
        heard = 0
        while True:
            heard += len(await peer.hear())
            if silences or 12_000 < heard < 24_000:
                await peer.say(tone(0.04) if 12_000 < heard < 24_000 else np.zeros(960, np.float32))

    recording = np.concatenate([tone(WORDS), np.zeros(int(0.8 * RATE), np.float32)])
    async with server(reply) as (url, peers), MoshiClient.connect(url, query=PCM) as client:
        ear = Ear()
        async with asyncio.timeout(30):
            turn = await client.turn(recording, quiet=0.3, watch=ear)
    ear.assert_waited(turn, peers[0])


async def test_frames_of_an_opus_stream_are_numbered_here() -> None:
    async def speak(peer: Peer) -> None:
        for _ in range(3):
            await peer.send(Ping())
            await peer.send_raw(b"\xfe of a later version")
            await peer.say(tone(0.04))
        await peer.close(1000)

    async with server(speak) as (url, _), MoshiClient.connect(url) as client:
        frames = [message async for message in client]
    assert [(frame.number, len(frame.audio)) for frame in frames if isinstance(frame, Frame)] == [
        (0, 960),
        (1, 960),
        (2, 960),
    ]
    assert len(frames) == 3


async def test_a_pcm_server_s_frames_come_as_they_are() -> None:
    async def speak(peer: Peer) -> None:
        await peer.say(tone(0.08))
        await peer.close(1001)

    async with server(speak) as (url, _), MoshiClient.connect(url, query=PCM) as client:
        assert client.session == SESSION
        [frame] = [message async for message in client]
    assert isinstance(frame, Frame)
    assert (frame.number, frame.heard, frame.times.model) == (7, 3, 100_000)
    np.testing.assert_array_equal(frame.audio, tone(0.08))


async def test_what_is_asked_for_travels_in_the_query() -> None:
    query = ChatQuery(text_prompt="Be kind & brief.", text_seed=7, text_top_k=3)
    async with server(Peer.idle) as (url, peers), MoshiClient.connect(f"{url}?x=1", query=query, model="m"):
        parameters = parse_qs(urlsplit(peers[0].path).query)
    assert parameters == {
        "x": ["1"],
        "text_prompt": ["Be kind & brief."],
        "text_seed": ["7"],
        "text_topk": ["3"],
        "model": ["m"],
    }


async def test_a_pcm_server_is_told_the_prompts_before_any_audio() -> None:
    query = ChatQuery(audio="pcm", text_prompt="Be kind." * 10_000, voice_prompt="ann")
    async with server(Peer.idle) as (url, peers), MoshiClient.connect(url, query=query):
        assert peers[0].begin == {"type": "begin", "instructions": "Be kind." * 10_000, "voice": "ann"}
        assert parse_qs(urlsplit(peers[0].path).query) == {"audio": ["pcm"]}


async def test_long_audio_goes_in_pieces() -> None:
    async with server(Peer.idle) as (url, peers), MoshiClient.connect(url, query=PCM) as client:
        await client.append(tone(2.5))
        async with asyncio.timeout(30):
            while sum(map(len, peers[0].heard)) < 60_000:  # noqa: ASYNC110 - the peer signals nothing
                await asyncio.sleep(0.01)
    assert [len(message.audio) for message in peers[0].received if isinstance(message, Pcm)] == [24_000, 24_000, 12_000]


async def test_an_error_is_a_message_and_the_conversation_goes_on() -> None:
    async def complain(peer: Peer) -> None:
        await peer.send(WireError(code="invalid_value", message="no such voice"), Text(text="Hi"))
        await peer.close(1000)

    async with server(complain) as (url, _), MoshiClient.connect(url) as client:
        assert [message async for message in client] == [
            WireError(code="invalid_value", message="no such voice"),
            Text(text="Hi"),
        ]


# --- what goes wrong


async def test_a_server_that_hangs_up() -> None:
    async def leave(peer: Peer) -> None:
        await peer.hear()
        await peer.close(1013, "try again later")

    async with server(leave) as (url, _), MoshiClient.connect(url) as client:
        with pytest.raises(DisconnectedError, match="try again later") as caught:
            await client.turn(tone(0.4))
        assert caught.value.code == 1013
        with pytest.raises(DisconnectedError):
            await client.send(Ping())


async def test_a_server_that_says_goodbye_instead_of_answering() -> None:
    async def leave(peer: Peer) -> None:
        await peer.hear()
        await peer.close(1000)

    async with server(leave) as (url, _), MoshiClient.connect(url) as client:
        with pytest.raises(DisconnectedError, match="goodbye"):
            await client.turn(tone(0.4))


async def test_a_model_that_never_stops() -> None:
    async def chatter(peer: Peer) -> None:
        while True:
            await peer.hear()
            await peer.say(tone(0.04))

    async with server(chatter) as (url, _), MoshiClient.connect(url, query=PCM) as client:
        ear = Ear()
        turn = await client.turn(tone(0.2), patience=2.0, watch=ear)
    assert turn.first_sound is not None
    assert len(turn.audio) == sum(len(message.audio) for message in ear.seen if isinstance(message, Frame)) > 0


async def test_no_answer_names_the_last_complaint() -> None:
    async def complain(peer: Peer) -> None:
        await peer.send(WireError(code="x", message="the model is asleep"))
        await peer.idle()

    async with server(complain) as (url, _), MoshiClient.connect(url) as client:
        with pytest.raises(NoReplyError, match="the model is asleep"):
            await client.turn(tone(0.1), patience=2.0)


@pytest.mark.parametrize("data", ["text", b"", b"\x01garbage", b"\x11abc", b"\x11" + bytes(16) + b"\0\0\xc0\x7f"])
async def test_what_cannot_be_read_is_an_error(data: bytes | str) -> None:
    async def garble(peer: Peer) -> None:
        await peer.send_raw(data)
        await peer.idle()

    async with server(garble) as (url, _), MoshiClient.connect(url) as client:
        with pytest.raises(ClientError, match="cannot be read"):
            await anext(client)


@pytest.mark.parametrize(
    ("first", "query", "what"),
    [
        (encode(Text(text="hi")), ChatQuery(), "first message: Text"),
        (b"\x04{", ChatQuery(), "does not speak Moshi's protocol"),
        ("{}", ChatQuery(), "does not speak Moshi's protocol"),
        (encode(WireError(message="full")), ChatQuery(), "will not talk: full"),
    ],
)
async def test_a_server_that_is_none(first: bytes | str, query: ChatQuery, what: str) -> None:
    async def greet(peer: Peer) -> None:
        await peer.send_raw(first)
        await peer.idle()

    async with server(greet, greeting=False) as (url, _):
        with pytest.raises(ClientError, match=what):
            async with MoshiClient.connect(url, query=query):
                pass


async def test_a_stock_server_that_knows_no_pcm() -> None:
    async def greet(peer: Peer) -> None:
        await peer.send_raw(b"\0")
        await peer.send_raw(b"\x02words")
        await peer.idle()

    async with server(greet, greeting=False) as (url, _):
        with pytest.raises(ClientError, match="ask for opus"):
            async with MoshiClient.connect(url, query=PCM):
                pass


async def test_a_worker_that_takes_turns() -> None:
    async def greet(peer: Peer) -> None:
        await peer.send(Handshake(), Metadata(values=SESSION | {"engine": ENGINE | {"duplex": False}}))
        await peer.idle()

    async with server(greet, greeting=False) as (url, _):
        with pytest.raises(ClientError, match="through one"):
            async with MoshiClient.connect(url, query=PCM):
                pass


async def test_a_voice_that_the_model_lacks() -> None:
    async def greet(peer: Peer) -> None:
        await peer.send(Handshake(), Metadata(values=SESSION), WireError(message="there is no voice 'x'"))
        await peer.close(1008)

    async with server(greet, greeting=False) as (url, _):
        with pytest.raises(ClientError, match="no voice 'x'"):
            async with MoshiClient.connect(url, query=PCM):
                pass


@pytest.mark.parametrize(
    "body",
    [b'{"error":{"message":"All lines are taken."}}', b'{"code":"full","message":"All lines are taken."}'],
    ids=["gateway", "worker"],
)
async def test_a_server_that_refuses(body: bytes) -> None:
    def refuse(request: Request) -> Response:
        return Response(503, HTTPStatus(503).phrase, request.headers, body)

    async with server(Peer.idle, refuse=refuse) as (url, _):
        with pytest.raises(RefusedError, match=r"All lines are taken\.") as caught:
            async with MoshiClient.connect(url):
                pass
    assert caught.value.status == 503


async def test_no_server() -> None:
    with pytest.raises(UnreachableError):
        async with MoshiClient.connect("ws://127.0.0.1:1/api/chat"):
            pass


# --- the command line


@pytest.mark.parametrize("pcm", [False, True])
async def test_talk_prints_the_answer_and_writes_it(
    pcm: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_wav(tmp_path / "a.wav", tone(0.4), rate=RATE)
    out = tmp_path / "reply.wav"
    async with server(answer) as (url, peers):
        arguments = ["talk", "--moshi", url, str(tmp_path / "a.wav"), "--out", str(out), "--instructions", "Smile"]
        assert await asyncio.to_thread(main, arguments + ["--pcm"] * pcm) == 0
        parameters = parse_qs(urlsplit(peers[0].path).query)
        begin = peers[0].begin
    assert parameters == ({"audio": ["pcm"]} if pcm else {"text_prompt": ["Smile"]})
    assert begin.get("instructions") == ("Smile" if pcm else None)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == " muse Hello there."
    assert lines[1].strip().endswith("ms")
    assert np.abs(read_wav(out, rate=RATE)).max() > 0.2


@pytest.mark.parametrize(
    "arguments",
    [["--text", "Hi"], [], ["--pcm", "--url", "x", "a.wav"]],
)
def test_a_wrong_command_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    moshi = [] if "--url" in arguments else ["--moshi", "ws://127.0.0.1:1/api/chat"]
    with pytest.raises(SystemExit) as caught:
        main(["talk", *moshi, *arguments])
    assert caught.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_talk_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_wav(tmp_path / "a.wav", tone(0.1), rate=RATE)
    assert main(["talk", "--moshi", "ws://127.0.0.1:1/api/chat", str(tmp_path / "a.wav")]) == 1
    assert "no server answers" in capsys.readouterr().err
