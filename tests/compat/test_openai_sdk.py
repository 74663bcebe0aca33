"""The unmodified openai SDK talks to the server; every event it receives is held against the SDK's own types."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from openai import AsyncOpenAI
from openai.resources.realtime.realtime import AsyncRealtimeConnection
from openai.types.realtime import RealtimeServerEvent, RealtimeSessionCreateRequestParam
from pydantic import TypeAdapter

from clients.audio_files import read_wav
from streaming.audio import AudioFormat

pytestmark = [pytest.mark.models, pytest.mark.timeout(600)]

RATE = 24_000
FRAME = RATE // 25  # 40 ms
PCM = AudioFormat("pcm16", RATE)
PATIENCE = 120.0
"""Seconds that only a hang takes."""

server_event: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)


class Caller:
    """One SDK connection, and all that has been received on it."""

    def __init__(self, connection: AsyncRealtimeConnection) -> None:
        self.connection = connection
        self.seen: list[Any] = []

    async def receive(self) -> Any:
        raw = await asyncio.wait_for(self.connection.recv_bytes(), PATIENCE)
        server_event.validate_json(raw)
        self.seen.append(self.connection.parse_event(raw))
        return self.seen[-1]

    async def until(self, kind: str, matches: Callable[[Any], bool] = lambda event: True) -> Any:
        while (event := await self.receive()).type != kind or not matches(event):
            pass
        return event

    async def update(self, session: RealtimeSessionCreateRequestParam) -> Any:
        await self.connection.session.update(session=session)
        return (await self.until("session.updated")).session

    async def say(self, audio: np.ndarray[Any, np.dtype[np.float32]]) -> None:
        """Speak in real time, and be silent until cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        silence = np.zeros(FRAME, np.float32)
        position = 0
        while True:
            frame = audio[position : position + FRAME] if position < len(audio) else silence
            await self.append(frame)
            position += FRAME
            due += FRAME / RATE
            await asyncio.sleep(max(0.0, due - loop.time()))

    async def append(self, audio: np.ndarray[Any, np.dtype[np.float32]]) -> None:
        await self.connection.input_audio_buffer.append(audio=base64.b64encode(PCM.encode(audio)).decode())

    async def write(self, text: str, item_id: str) -> None:
        await self.connection.conversation.item.create(
            item={"type": "message", "role": "user", "id": item_id, "content": [{"type": "input_text", "text": text}]}
        )
        await self.until("conversation.item.done", lambda event: event.item.id == item_id)

    def types(self) -> list[str]:
        """Kinds of event in the order of their first coming."""
        return list(dict.fromkeys(event.type for event in self.seen))

    def all(self, kind: str) -> list[Any]:
        return [event for event in self.seen if event.type == kind]


@asynccontextmanager
async def call(server: str) -> AsyncIterator[Caller]:
    client = AsyncOpenAI(base_url=f"{server}/v1", api_key="any")
    async with client, client.realtime.connect(model="auto") as connection:
        caller = Caller(connection)
        assert (await caller.receive()).type == "session.created"
        yield caller


@asynccontextmanager
async def speaking(caller: Caller, audio: np.ndarray[Any, np.dtype[np.float32]]) -> AsyncIterator[None]:
    task = asyncio.create_task(caller.say(audio))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def in_order(types: list[str], *expected: str) -> bool:
    """Whether all of `expected` are among `types`, in this order."""
    rest = iter(types)
    return all(kind in rest for kind in expected)


REPLY = (
    "response.created",
    "response.output_item.added",
    "conversation.item.added",
    "response.content_part.added",
)


async def test_a_spoken_turn(server: str, recording: Path) -> None:
    audio = read_wav(recording, rate=RATE)
    async with call(server) as caller:
        session = await caller.update(
            {
                "type": "realtime",
                "instructions": "Answer in one sentence.",
                "audio": {
                    "input": {
                        "transcription": {"model": "gpt-4o-mini-transcribe", "language": "en"},
                        "turn_detection": {"type": "server_vad", "silence_duration_ms": 400},
                    }
                },
            }
        )
        assert session.instructions == "Answer in one sentence."
        assert session.audio.input.turn_detection.silence_duration_ms == 400
        async with speaking(caller, audio):
            done = await caller.until("response.done")
        types = caller.types()
        transcribed = "conversation.item.input_audio_transcription.completed"
        assert in_order(
            types,
            "input_audio_buffer.speech_started",
            "input_audio_buffer.speech_stopped",
            "input_audio_buffer.committed",
            *REPLY[:2],
            "response.content_part.added",
            "response.output_audio.delta",
            "response.output_audio.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.done",
        )
        assert transcribed in types
        stopped = caller.all("input_audio_buffer.speech_stopped")[0]
        seconds = len(audio) / RATE
        assert 0.3 * seconds * 1000 < stopped.audio_end_ms < seconds * 1000 + 400
        assert caller.all(transcribed)[0].item_id == caller.all("input_audio_buffer.committed")[0].item_id
        spoken = b"".join(base64.b64decode(delta.delta) for delta in caller.all("response.output_audio.delta"))
        assert np.abs(PCM.decode(spoken)).max() > 0.01
        words = "".join(delta.delta for delta in caller.all("response.output_audio_transcript.delta"))
        assert words == caller.all("response.output_audio_transcript.done")[0].transcript
        assert words.strip()
        response = done.response
        assert response.status == "completed"
        assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
        assert [part.transcript for item in response.output for part in item.content] == [words]
        latency = json.loads(response.metadata["muse.latency"])
        assert sum(latency.values()) - latency["total_ms"] == pytest.approx(latency["total_ms"], abs=0.5)
        assert not caller.all("error")


async def test_a_turn_committed_by_hand(server: str, recording: Path) -> None:
    audio = read_wav(recording, rate=RATE)
    async with call(server) as caller:
        session = await caller.update({"type": "realtime", "audio": {"input": {"turn_detection": None}}})
        assert session.audio.input.turn_detection is None
        await caller.append(audio)
        await caller.connection.input_audio_buffer.commit()
        committed = await caller.until("input_audio_buffer.committed")
        await caller.connection.response.create()
        assert (await caller.until("response.done")).response.status == "completed"
        assert caller.all("conversation.item.added")[0].item.id == committed.item_id
        await caller.append(audio)
        await caller.connection.input_audio_buffer.clear()
        await caller.until("input_audio_buffer.cleared")
        await caller.connection.input_audio_buffer.commit(event_id="empty")
        error = (await caller.until("error")).error
        assert (error.code, error.event_id) == ("input_audio_buffer_commit_empty", "empty")


async def test_a_written_reply(server: str) -> None:
    async with call(server) as caller:
        await caller.write("Hello", "item_hello")
        await caller.connection.response.create(
            response={"output_modalities": ["text"], "instructions": "Be brief.", "metadata": {"for": "test"}}
        )
        done = await caller.until("response.done")
        assert in_order(
            caller.types(),
            *REPLY[:2],
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.done",
        )
        words = "".join(delta.delta for delta in caller.all("response.output_text.delta"))
        assert words == caller.all("response.output_text.done")[0].text
        assert [part.text for item in done.response.output for part in item.content] == [words]
        assert done.response.output_modalities == ["text"]
        assert done.response.metadata["for"] == "test"
        assert not caller.all("response.output_audio.delta")


async def test_a_reply_is_cancelled(talkative: str) -> None:
    async with call(talkative) as caller:
        await caller.write("Tell me a long story", "item_story")
        await caller.connection.response.create()
        await caller.until("response.output_audio.delta")
        await caller.connection.response.cancel()
        done = await caller.until("response.done")
        assert (done.response.status, done.response.status_details.reason) == ("cancelled", "client_cancelled")
        await caller.connection.response.cancel(event_id="again")
        error = await caller.until("error")
        assert (error.error.code, error.error.event_id) == ("response_cancel_not_active", "again")
        after = caller.seen[caller.seen.index(done) + 1 :]
        assert [event.type for event in after] == ["error"]


async def test_speech_interrupts_a_reply(talkative: str, recording: Path) -> None:
    audio = read_wav(recording, rate=RATE)
    async with call(talkative) as caller:
        await caller.write("Tell me a long story", "item_story")
        await caller.connection.response.create()
        first = await caller.until("response.output_audio.delta")
        async with speaking(caller, audio):
            cut = await caller.until("response.done")
            assert (cut.response.id, cut.response.status) == (first.response_id, "cancelled")
            assert cut.response.status_details.reason == "turn_detected"
            answered = await caller.until("response.done")
        assert answered.response.status == "completed"
        last = max(index for index, event in enumerate(caller.seen) if _is_audio_of(event, first.response_id))
        assert last < caller.seen.index(cut)
        await caller.connection.conversation.item.retrieve(item_id=first.item_id)
        kept = (await caller.until("conversation.item.retrieved")).item.content[0]
        sent = sum(len(base64.b64decode(e.delta)) for e in caller.seen if _is_audio_of(e, first.response_id))
        assert kept.transcript == cut.response.output[0].content[0].transcript
        assert len(base64.b64decode(kept.audio or "")) <= sent


def _is_audio_of(event: Any, response_id: str) -> bool:
    return event.type == "response.output_audio.delta" and bool(event.response_id == response_id)


async def test_items_are_created_retrieved_truncated_and_deleted(server: str) -> None:
    async with call(server) as caller:
        item = caller.connection.conversation.item
        await caller.write("Hello", "item_a")
        await caller.write("Hello again", "item_b")
        assert caller.all("conversation.item.added")[1].previous_item_id == "item_a"
        await item.create(
            item={"type": "message", "role": "system", "content": [{"type": "input_text", "text": "Smile"}]},
            previous_item_id="root",
        )
        assert (await caller.until("conversation.item.done")).previous_item_id is None
        await item.retrieve(item_id="item_a")
        assert (await caller.until("conversation.item.retrieved")).item.content[0].text == "Hello"
        await item.delete(item_id="item_a")
        assert (await caller.until("conversation.item.deleted")).item_id == "item_a"
        await item.retrieve(item_id="item_a", event_id="gone")
        error = (await caller.until("error")).error
        assert (error.code, error.event_id) == ("item_retrieve_invalid_item_id", "gone")

        await caller.connection.response.create()
        reply = (await caller.until("response.done")).response.output[0]
        await item.truncate(item_id=reply.id or "", content_index=0, audio_end_ms=40)
        assert (await caller.until("conversation.item.truncated")).audio_end_ms == 40
        await item.retrieve(item_id=reply.id or "")
        kept = (await caller.until("conversation.item.retrieved")).item.content[0]
        assert len(base64.b64decode(kept.audio)) == 40 * RATE // 1000 * 2
        assert len(kept.transcript) < len(reply.content[0].transcript)
        await item.truncate(item_id=reply.id or "", content_index=0, audio_end_ms=3_600_000, event_id="beyond")
        error = (await caller.until("error")).error
        assert (error.event_id, error.param) == ("beyond", "audio_end_ms")


@pytest.mark.parametrize(
    ("message", "code", "param"),
    [
        ({"type": "session.begin"}, "invalid_value", "type"),
        ({"type": "input_audio_buffer.append", "audio": "?"}, "invalid_value", "audio"),
        ({"type": "input_audio_buffer.append", "audio": "AAAA"}, "invalid_audio", "audio"),
        ({"type": "conversation.item.retrieve"}, "missing_required_parameter", "item_id"),
        (
            {
                "type": "session.update",
                "session": {"audio": {"input": {"format": {"type": "audio/pcm", "rate": 8000}}}},
            },
            "invalid_value",
            "session.audio.input.format.rate",
        ),
        ({"type": "session.update", "session": {"colour": "red"}}, "unknown_parameter", "session.colour"),
    ],
)
async def test_a_mistake_is_answered_by_its_event_id(
    server: str, message: dict[str, object], code: str, param: str
) -> None:
    async with call(server) as caller:
        await caller.connection.send(message | {"event_id": "mistake"})  # type: ignore[arg-type]
        error = (await caller.until("error")).error
        assert (error.type, error.code, error.param, error.event_id) == (
            "invalid_request_error",
            code,
            param,
            "mistake",
        )
        assert (await caller.update({"type": "realtime", "instructions": "Go on."})).instructions == "Go on."
