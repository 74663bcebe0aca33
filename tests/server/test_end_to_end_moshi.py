"""Moshi's wire over the real server and a real socket, to the real session and the echo engine."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any, cast

import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from clients.errors import DisconnectedError, RefusedError
from clients.moshi import MoshiClient, MoshiTurn
from server.transports.websocket import MessageSocket, Payload
from streaming.engine import Samples
from streaming.opus import OpusDecoder
from streaming.wire.moshi import Frame, Message, Metadata, OggOpus, Pcm, Text, WireError, decode, encode
from streaming.wire.moshi_query import AudioCoding, ChatQuery
from tests.server.conftest import Running, Serve
from tests.server.test_end_to_end import echo_gateway
from tests.waiting import PATIENCE

RATE = 24_000
QUIET = 2.0
"""Seconds of silence after an answer that a machine which is busy does not put into it."""


def url(server: Running) -> str:
    return f"ws://127.0.0.1:{server.port}/api/chat"


def words(seconds: float = 0.8, pitch: float = 300.0) -> Samples:
    at = np.arange(int(seconds * RATE)) / RATE
    tone = 0.3 * np.sin(2 * np.pi * pitch * at * (1 + 0.2 * at))
    return np.concatenate([tone, np.zeros(RATE // 5)]).astype(np.float32)


def found_in(part: Samples, whole: Samples) -> float:
    """The best correlation of `part` with any stretch of `whole`."""
    size = 2 ** int(np.ceil(np.log2(len(part) + len(whole))))
    product = np.fft.irfft(np.fft.rfft(whole, size) * np.conj(np.fft.rfft(part, size)), size)
    lag = int(np.argmax(product[: len(whole)]))
    stretch = whole[lag : lag + len(part)]
    return float(np.corrcoef(stretch, part[: len(stretch)])[0, 1])


async def say(server: Running, said: Samples, coding: AudioCoding, **options: Any) -> MoshiTurn:
    async with MoshiClient.connect(url(server), query=ChatQuery(audio=coding)) as client:
        return await client.turn(said, quiet=QUIET, patience=PATIENCE, **options)


class NotedClock:
    """Knows what it said last: the time by which a session acts, however late the machine is in acting."""

    def __init__(self) -> None:
        self.last = 0

    def __call__(self) -> int:
        self.last = time.monotonic_ns()
        return self.last


async def test_a_stock_client_s_turns_are_answered_with_their_echoes(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, decoder = NotedClock(), OpusDecoder()
    sent: list[tuple[float, int]] = []
    texts: list[str] = []

    class Tapped(MessageSocket):
        def send(self, message: Payload) -> None:
            assert isinstance(message, bytes)
            if isinstance(said := decode(message), OggOpus):
                sent.append((clock.last / 1e9, len(decoder.push(said.data))))
            super().send(message)

    def note(message: Message) -> None:
        if isinstance(message, Text):
            texts.append(message.text)

    monkeypatch.setattr("server.transports.moshi_websocket.MessageSocket", Tapped)
    gateway = echo_gateway(frame_ms=200, clock=clock)
    async with serve(gateway) as server, MoshiClient.connect(url(server)) as client:
        for pitch in (300.0, 400.0):
            sent.clear()
            said = words(pitch=pitch)
            turn = await client.turn(said, quiet=QUIET, patience=PATIENCE, watch=note)
            assert turn.text == "echo"
            assert found_in(said[: int(0.7 * RATE)], turn.audio) > 0.95
            assert turn.wait is not None
            assert 0 < turn.wait < PATIENCE
            assert most_held(sent) <= 0.1  # the stock page throws away what it holds beyond that
        assert server.count("muse_bad_client_events_total") == 0
    assert "".join(texts) == "echo echo"


async def test_a_turn_in_pcm_is_answered_with_its_echo(serve: Serve) -> None:
    said = words()
    async with serve(echo_gateway()) as server:
        turn = await say(server, said, "pcm")
    assert turn.text == "echo"
    assert found_in(said[: int(0.7 * RATE)], turn.audio) > 0.999


def most_held(sent: list[tuple[float, int]]) -> float:
    """Seconds that a listener holds at most who plays what is sent from the first of it on."""
    began, samples, most = sent[0][0], 0, 0.0
    for at, count in sent:
        samples += count
        most = max(most, samples / RATE - (at - began))
    return most


async def test_a_client_that_asked_for_pcm_hears_of_an_interruption(serve: Serve) -> None:
    async with (
        serve(echo_gateway()) as server,
        MoshiClient.connect(url(server), query=ChatQuery(audio="pcm")) as client,
    ):
        assert client.session["engine"]["model"] == "muse-echo"
        assert client.session["engine"]["duplex"] is True
        interrupted = asyncio.Event()
        speaking = asyncio.Event()

        async def listen() -> None:
            async for message in client:
                if isinstance(message, Frame):
                    speaking.set()
                if message == Metadata(values={"type": "interrupted"}):
                    interrupted.set()

        listening = asyncio.create_task(listen())
        await client.say(words(5.0))
        silence = asyncio.create_task(client.keep_silent())
        async with asyncio.timeout(PATIENCE):
            await speaking.wait()
            silence.cancel()
            await client.say(words(1.0))
            await interrupted.wait()
        listening.cancel()
        await asyncio.gather(listening, silence, return_exceptions=True)


async def test_the_query_becomes_the_session_s_settings(serve: Serve) -> None:
    query = ChatQuery(text_prompt="Be kind.", voice_prompt="NATF2.pt", audio="pcm")
    async with serve(echo_gateway()) as server, MoshiClient.connect(url(server), query=query) as client:
        await client.append(np.zeros(480, np.float32))
        async with asyncio.timeout(PATIENCE):
            refusal = await anext(client)
        assert isinstance(refusal, WireError)
        assert "NATF2.pt" in refusal.message
        assert "echo" in refusal.message  # the voices that there are


# --- neighbours


async def garbage(
    server: Running, coding: AudioCoding, sent: list[bytes | str], *, complaints: int | None = None
) -> int | None:
    """Sends it all; returns how the connection ended, None where it goes on after so many `complaints`."""
    async with connect(f"{url(server)}?audio={coding}") as client, asyncio.timeout(PATIENCE):
        told = 0
        with contextlib.suppress(ConnectionClosed):
            for payload in sent:
                await client.send(payload)
            while told != complaints:
                told += isinstance(decode(cast(bytes, await client.recv())), WireError)
        return client.close_code


async def flood(server: Running) -> None:
    async with connect(f"{url(server)}?audio=pcm", max_queue=1) as client:  # and reads nothing
        second = encode(Pcm(audio=np.zeros(RATE, np.float32)))
        with contextlib.suppress(ConnectionClosed, TimeoutError):
            async with asyncio.timeout(2):
                while True:
                    await client.send(second)
        client.transport.abort()


async def test_a_neighbour_s_garbage_changes_nothing(serve: Serve) -> None:
    said = words()
    async with serve(echo_gateway()) as server:
        alone = await say(server, said, "pcm")
        talking = asyncio.create_task(say(server, said, "pcm"))
        nan = encode(Pcm(audio=np.full(480, np.nan, np.float32)))
        codes = await asyncio.gather(
            garbage(server, "opus", [encode(OggOpus(data=b"garbage" * 20))]),
            garbage(server, "pcm", [nan]),
            garbage(server, "pcm", ["text"]),
            garbage(server, "pcm", [b"\x10" + bytes(600_000)]),
            garbage(server, "pcm", [b"\x11" + bytes(16), b"\xff", b"\x06", b"\x20{}"] * 50, complaints=100),
        )
        await flood(server)
        beside = await talking
    assert list(codes) == [1007, 1007, 1003, 1009, None]
    assert np.array_equal(sounding(beside.audio), sounding(alone.audio))
    assert beside.text == alone.text == "echo"


def sounding(audio: Samples) -> Samples:
    """From the first sound to the last."""
    loud = np.flatnonzero(np.abs(audio) > 0.01)
    return audio[loud[0] : loud[-1] + 1]


# --- the way in


async def test_what_is_refused_before_the_upgrade(serve: Serve) -> None:
    async with serve(echo_gateway()) as server:
        with pytest.raises(RefusedError, match="text_topk: expected an integer") as caught:
            async with MoshiClient.connect(f"{url(server)}?text_topk=many"):
                pass
        assert caught.value.status == 400
        with pytest.raises(RefusedError, match="nonesuch") as caught:
            async with MoshiClient.connect(url(server), model="nonesuch"):
                pass
        assert caught.value.status == 404
        assert server.gateway.active == 0


async def test_a_broken_opus_stream_ends_the_conversation_with_a_reason(serve: Serve) -> None:
    async with serve(echo_gateway()) as server, MoshiClient.connect(url(server)) as client:
        await client.send(OggOpus(data=b"RIFF" + bytes(100)))
        reason = await anext(client)
        assert isinstance(reason, WireError)
        assert reason.code == "invalid_audio"
        assert "OggS" in reason.message
        with pytest.raises(DisconnectedError) as caught:
            await anext(client)
        assert caught.value.code == 1007
