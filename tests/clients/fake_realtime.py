"""A small scripted realtime server for the page: it hears loudness, not words, and speaks recordings.

It serves the real page with the real headers. Turns are found by loudness alone; what the user "said" and what the
reply says come from the script.
"""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI, WebSocket
from starlette.responses import JSONResponse
from starlette.websockets import WebSocketDisconnect

from server.api.page import SecurityHeaders, add_page
from tests.clients.fake_routing import Asked, RoutingScript, routes
from tests.clients.waiting import PATIENCE, until

RATE = 24_000
FRAME = RATE * 2 // 25
"""Bytes in 40 ms of the wire's PCM."""
LEAD_SECONDS = 0.4
ROUND_TRIP_SECONDS = 0.025
"""How far away the server pretends to be."""
LOUD = 0.02
ONSET_SECONDS = 0.1
DECISION_SECONDS = 0.4
SILENCE_SECONDS = 0.5

LATENCY: Mapping[str, float] = {
    "endpointing_ms": 212.4,
    "queue_ms": 0.2,
    "transcribe_ms": 31.7,
    "think_ms": 84.1,
    "write_ms": 22.6,
    "voice_ms": 57.3,
    "encode_ms": 0.0,
    "model_ms": 0.0,
    "decode_ms": 0.0,
    "send_ms": 0.6,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One exchange. `voice` is 16-bit PCM at 24 kHz."""

    user: str
    reply: str
    voice: bytes
    latency: Mapping[str, float] = field(default_factory=lambda: LATENCY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """How the server behaves. `late_frames` are sent of a reply that has been interrupted.

    A `duplex` one finds no words, and is silent after the user's turns. `at_once`: a reply's audio comes in one piece,
    so that nothing can make it run out.
    """

    turns: tuple[Turn, ...]
    key: str | None = None
    busy: bool = False
    late_frames: int = 0
    duplex: bool = False
    at_once: bool = False


class FakeServer:
    """Runs in a thread. `events` is what the clients of all connections sent, `announced` what they were told.

    `asked` is what came by plain HTTP, `routing` how that is answered.
    """

    def __init__(self, script: Script, listener: socket.socket) -> None:
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        config = uvicorn.Config(_app(self), log_level="error", ws="websockets-sansio", timeout_graceful_shutdown=1)
        self.server = uvicorn.Server(config)
        self.begin_anew(script)

    def begin_anew(self, script: Script) -> None:
        """As if it had just been started. Who is still there has to go first: it would be taken for somebody new."""
        until(lambda: not self.server.server_state.connections and not self.server.server_state.tasks)
        self.script = script
        self.routing = RoutingScript()
        self.asked = Asked()
        self.events: list[dict[str, Any]] = []
        self.announced: list[dict[str, Any]] = []
        self.queries: list[str] = []
        self.conversations: list[Conversation] = []

    def hears_all(self) -> None:
        """Wait until every conversation is over, and so all has been heard that was ever said in them."""
        until(lambda: self.conversations and all(one.over for one in self.conversations))

    def of_type(self, name: str) -> list[dict[str, Any]]:
        """The client events of one type."""
        return [event for event in self.events if event["type"] == name]

    def hang_up(self, code: int, conversation: Conversation | None = None) -> None:
        """Close a conversation, or the newest one."""
        chosen = conversation or self.conversations[-1]
        asyncio.run_coroutine_threadsafe(chosen.websocket.close(code), chosen.loop).result(PATIENCE)

    def tell(self, event: dict[str, Any]) -> None:
        """Send an event in the newest conversation."""
        newest = self.conversations[-1]
        asyncio.run_coroutine_threadsafe(newest.send(event), newest.loop).result(PATIENCE)

    def refuses(self, key: str | None) -> bool:
        """Whether this key does not open it."""
        return self.script.key is not None and key != self.script.key


@contextmanager
def running(script: Script) -> Iterator[FakeServer]:
    """A fake server on a free loopback port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fake = FakeServer(script, listener)
        thread = threading.Thread(target=fake.server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            yield fake
        finally:
            fake.server.should_exit = True
            thread.join(PATIENCE)


def _app(fake: FakeServer) -> FastAPI:
    app = FastAPI()
    app.add_middleware(SecurityHeaders)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        await asyncio.sleep(ROUND_TRIP_SECONDS)
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz() -> JSONResponse:
        if fake.script.busy:
            return JSONResponse({"status": "busy"}, 503, {"Retry-After": "7"})
        return JSONResponse({"status": "ready"})

    @app.websocket("/v1/realtime")
    async def realtime(websocket: WebSocket) -> None:
        offered = websocket.scope["subprotocols"]
        keys = [name.removeprefix("openai-insecure-api-key.") for name in offered if name.startswith("openai-")]
        if fake.script.busy or fake.refuses(keys[0] if keys else None):
            await websocket.send_denial_response(JSONResponse({}, 503 if fake.script.busy else 401))
            return
        if fake.routing.refuses_call(websocket.query_params.get("model", "")):
            await websocket.send_denial_response(JSONResponse({}, 404))
            return
        fake.queries.append(websocket.url.query)
        await websocket.accept("realtime")
        conversation = Conversation(websocket, fake)
        fake.conversations.append(conversation)
        with suppress(WebSocketDisconnect, RuntimeError):
            await conversation.run()

    app.include_router(routes(fake))
    add_page(app, recording=False)
    return app


class Conversation:
    """One client: loudness in, scripted turns out. `heard` are the events that carried its voice.

    `over`: it has gone, and nothing more can come of it.
    """

    def __init__(self, websocket: WebSocket, fake: FakeServer) -> None:
        self.websocket = websocket
        self.loop = asyncio.get_running_loop()
        self._fake = fake
        model = websocket.query_params.get("model", "")
        self._blind = model.startswith("duel:")
        self.heard: list[dict[str, Any]] = []
        self.over = False
        self.silent = self._blind and model[-1:] == fake.routing.silent_side
        self._turns = islice(cycle(fake.script.turns), int(model.endswith("B")), None)
        self._number = 0
        self._loud = 0.0
        self._quiet = 0.0
        self._speaking = False
        self._overlap: str | None = None
        self._reply: asyncio.Task[None] | None = None
        self._response_id = ""

    async def run(self) -> None:
        metadata = {} if self._blind else dict(self._fake.routing.metadata)
        await self.send({"type": "session.created", "session": {"metadata": metadata}})
        try:
            while True:
                event = json.loads(await self.websocket.receive_text())
                self._fake.events.append(event)
                await self._receive(event)
        finally:
            if self._reply is not None:
                self._reply.cancel()
            self.over = True

    async def send(self, event: dict[str, Any]) -> None:
        self._fake.announced.append(event)
        await self.websocket.send_text(json.dumps({"event_id": "e", **event}))

    async def _receive(self, event: dict[str, Any]) -> None:
        kind = event["type"]
        if kind == "session.update":
            await self.send({"type": "session.updated", "session": self._in_effect(event["session"])})
        elif kind == "input_audio_buffer.append":
            self.heard.append(event)
            await self._hear(base64.b64decode(event["audio"], validate=True))
        elif kind == "conversation.item.create":
            item = {**event["item"], "id": self._name("item")}
            await self.send({"type": "conversation.item.added", "item": item, "previous_item_id": None})
        elif kind == "response.create":
            self._respond(next(self._turns))
        elif kind == "response.cancel":
            await self._cancel("client_cancelled")

    def _in_effect(self, session: dict[str, Any]) -> dict[str, Any]:
        if not self._fake.script.duplex:
            return session
        heard = session["audio"]["input"]
        turns = heard["turn_detection"] | {"create_response": False, "interrupt_response": False}
        heard = heard | {"transcription": None, "turn_detection": turns}
        return session | {"audio": session["audio"] | {"input": heard}}

    @property
    def _replying(self) -> bool:
        return self._reply is not None and not self._reply.done()

    def _name(self, kind: str) -> str:
        self._number += 1
        return f"{kind}_{id(self):x}_{self._number}"

    # --- the user's voice

    async def _hear(self, pcm: bytes) -> None:
        samples = np.frombuffer(pcm, "<i2").astype(np.float32) / 32768
        seconds = len(samples) / RATE
        if float(np.sqrt(np.mean(samples**2))) > LOUD:
            self._loud += seconds
            self._quiet = 0.0
        else:
            self._quiet += seconds
        if self._replying:
            await self._judge_overlap()
        elif not self._speaking and self._loud >= ONSET_SECONDS:
            await self._start_turn()
        elif self._speaking and self._quiet >= SILENCE_SECONDS:
            await self._end_turn()
        if not self._speaking and self._quiet >= SILENCE_SECONDS:
            self._loud = 0.0

    async def _judge_overlap(self) -> None:
        phase = None
        if self._overlap is None and self._loud >= ONSET_SECONDS:
            self._overlap = phase = "onset"
        elif self._overlap and self._quiet >= SILENCE_SECONDS:
            self._overlap, phase = None, "dismissed"
        elif self._overlap and self._loud >= DECISION_SECONDS:
            self._overlap, phase = None, "decided"
        if phase is not None:
            await self.send({"type": "muse.barge_in", "phase": phase, "response_id": self._response_id})
        if phase == "decided":
            await self._cancel("turn_detected")
            await self._start_turn()

    async def _start_turn(self) -> None:
        self._speaking = True
        await self.send({"type": "input_audio_buffer.speech_started", "audio_start_ms": 0, "item_id": "item"})

    async def _end_turn(self) -> None:
        self._speaking, self._loud = False, 0.0
        turn, item_id = next(self._turns), self._name("item")
        await self.send({"type": "input_audio_buffer.speech_stopped", "audio_end_ms": 0, "item_id": item_id})
        item = {"id": item_id, "type": "message", "role": "user", "content": [{"type": "input_audio"}]}
        await self.send({"type": "conversation.item.added", "item": item, "previous_item_id": None})
        if self._fake.script.duplex or self.silent:
            return
        kind = "conversation.item.input_audio_transcription"
        await self.send({"type": f"{kind}.completed", "item_id": item_id, "content_index": 0, "transcript": turn.user})
        self._respond(turn)

    # --- the reply

    def _respond(self, turn: Turn) -> None:
        self._overlap = None
        self._reply = asyncio.create_task(self._speak(turn))

    async def _speak(self, turn: Turn) -> None:
        self._response_id = response_id = self._name("resp")
        await self.send({"type": "response.created", "response": {"id": response_id, "status": "in_progress"}})
        place = {"response_id": response_id, "item_id": self._name("item"), "output_index": 0, "content_index": 0}
        size = len(turn.voice) if self._fake.script.at_once else FRAME
        words, frames = turn.reply.split(), [turn.voice[at : at + size] for at in range(0, len(turn.voice), size)]
        start, said = self.loop.time(), 0
        for index, frame in enumerate(frames):
            upto = -(-len(words) * (index + 1) // len(frames))
            if upto > said:
                delta = (" " if said else "") + " ".join(words[said:upto])
                said = upto
                await self.send({"type": "response.output_audio_transcript.delta", "delta": delta, **place})
            await self._send_frame(frame, place)
            await asyncio.sleep(max(0.0, start + index * 0.04 - LEAD_SECONDS - self.loop.time()))
        await self.send({"type": "response.output_audio.done", **place})
        await self.send({"type": "response.output_audio_transcript.done", "transcript": turn.reply, **place})
        await self._done(response_id, "completed", turn.latency)

    async def _send_frame(self, frame: bytes, place: Mapping[str, object]) -> None:
        delta = base64.b64encode(frame).decode()
        await self.send({"type": "response.output_audio.delta", "delta": delta, **place})

    async def _cancel(self, reason: str) -> None:
        if self._reply is None or self._reply.done():
            return
        self._reply.cancel()
        await asyncio.gather(self._reply, return_exceptions=True)
        place = {"response_id": self._response_id, "item_id": "late", "output_index": 0, "content_index": 0}
        await self._done(self._response_id, "cancelled", LATENCY, reason)
        for _ in range(self._fake.script.late_frames):
            await self._send_frame(b"\x00\x40" * (FRAME // 2), place)

    async def _done(self, response_id: str, status: str, latency: Mapping[str, float], reason: str = "") -> None:
        measured = {"total_ms": round(sum(latency.values()), 1), **latency}
        response = {
            "id": response_id,
            "status": status,
            "status_details": {"type": status, "reason": reason},
            "metadata": {"muse.latency": json.dumps(measured)},
        }
        await self.send({"type": "response.done", "response": response})
