"""Doubles for the server's tests: a session that records and obeys, models that answer at once, a linked connection."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import numpy as np

from models.catalogue import Detectors
from routing.router import Router
from server.driver import ConnectionOverError, SlowConsumerError
from server.gateway import Gateway, OnTurn
from server.metrics import Metrics
from streaming.client_events import ClientEvent, CommitAudio, CreateResponse, RetrieveItem, UpdateSession
from streaming.config import SessionConfig
from streaming.core import Output
from streaming.engine import (
    EngineCommand,
    EngineEvent,
    EngineInfo,
    ReplyEnded,
    ReplyText,
    Samples,
    StartReply,
)
from streaming.errors import EngineBusyError, PeerError
from streaming.items import InputAudio, Message
from streaming.observations import CloseSession
from streaming.server_events import (
    AudioDelta,
    ErrorDetail,
    ErrorEvent,
    ItemRetrieved,
    Notice,
    NoticeCode,
    Response,
    ResponseCreated,
    ResponseDone,
    ServerEvent,
    SessionCreated,
    SessionUpdated,
)
from streaming.session import Input
from tests.routing.fakes import router_for

SILENCE: Samples = np.zeros(512, np.float32)
INFO = EngineInfo(model="fake", input_rate=16_000, output_rate=24_000)


class FakeSession:
    """Says `session.created`, records its inputs, and puts out what `script` or a test gives it.

    `response.create` starts a reply on the engine; the reply's end ends the response; a flood of audio is asked for by
    a commit, a spoken item of 6 MB by retrieving it.
    """

    def __init__(self, *, session_id: str = "sess", script: Callable[[Input], list[Output]] | None = None) -> None:
        self.received: list[Input] = []
        self.timeouts: list[int] = []
        self.due: int | None = None
        self.backlog = 0.0
        self.busy = False
        self.outputs: deque[Output] = deque()
        self._script = script or self._obey
        self.outputs.append(SessionCreated(session=SessionConfig(id=session_id), event_id="event_1"))

    def receive(self, event: Input, *, now: int) -> None:
        self.received.append(event)
        self.outputs.extend(self._script(event))

    def refuse(self, error: PeerError, *, now: int) -> None:
        detail = ErrorDetail(
            type="invalid_request_error",
            message=error.message,
            code=error.code,
            param=error.param,
            event_id=error.event_id,
        )
        self.outputs.append(ErrorEvent(error=detail, event_id="event_e"))

    def notify(self, code: NoticeCode, message: str) -> None:
        self.outputs.append(Notice(code=code, message=message, event_id="event_n"))

    def next_timeout(self) -> int | None:
        return self.due

    def handle_timeout(self, *, now: int) -> None:
        if self.due is not None and now >= self.due:
            self.timeouts.append(now)
            self.due = None

    def poll(self) -> Output | None:
        return self.outputs.popleft() if self.outputs else None

    def _obey(self, event: Input) -> list[Output]:
        match event:
            case UpdateSession(session={"type": "realtime"}):
                return [SessionUpdated(session=SessionConfig(), event_id="event_2")]
            case UpdateSession(session={"type": "close"}):
                return [CloseSession(code=1000, reason="asked for")]
            case UpdateSession(session={"type": "defect"}):
                raise RuntimeError("a defect with a secret in it")
            case CreateResponse():
                self.busy = True
                created = ResponseCreated(response=Response(id="r1", status="in_progress"), event_id="event_3")
                start = StartReply(response_id="r1", instructions="", messages=(), speaks=False, voice="")
                return [created, start]
            case ReplyEnded(response_id=response_id):
                self.busy = False
                done = Response(id=response_id, status="completed")
                return [ResponseDone(response=done, event_id="event_4")]
            case CommitAudio():
                return [audio_delta(bytes(48_000)) for _ in range(200)]
        return [spoken_item(event.item_id)] if isinstance(event, RetrieveItem) else []


def spoken_item(item_id: str) -> ItemRetrieved:
    spoken = InputAudio(audio=bytes(6_000_000))
    return ItemRetrieved(item=Message(id=item_id, role="user", content=(spoken,)), event_id="event_5")


def audio_delta(audio: bytes) -> AudioDelta:
    return AudioDelta(
        response_id="r1", item_id="i1", output_index=0, content_index=0, delta=audio, event_id="event_audio"
    )


def error_event(message: str) -> ErrorEvent:
    return ErrorEvent(error=ErrorDetail(type="server_error", message=message), event_id="event_e")


class FakeEngineSession:
    """Records commands; its events are those that a test emits. A started reply ends when `hold` is unset."""

    def __init__(self, *, hold: bool = False) -> None:
        self.commands: list[EngineCommand] = []
        self.closed = 0
        self.read = 0
        self.hold = hold
        self.queue: asyncio.Queue[EngineEvent | Exception | None] = asyncio.Queue()

    def send(self, command: EngineCommand) -> None:
        self.commands.append(command)
        if isinstance(command, StartReply) and not self.hold:
            self.finish(command.response_id)

    def finish(self, response_id: str) -> None:
        self.queue.put_nowait(ReplyText(response_id=response_id, text="Hello."))
        ended = ReplyEnded(response_id=response_id, reason="completed", input_tokens=1, output_tokens=1)
        self.queue.put_nowait(ended)

    async def events(self) -> AsyncIterator[EngineEvent]:
        while (event := await self.queue.get()) is not None:
            if isinstance(event, Exception):
                raise event
            self.read += 1
            yield event

    async def close(self) -> None:
        self.closed += 1


class FakeEngine:
    """Opens FakeEngineSessions, `slots` at once."""

    def __init__(self, *, slots: int = 1000, hold: bool = False) -> None:
        self.info = INFO
        self.sessions: list[FakeEngineSession] = []
        self.slots = slots
        self.hold = hold
        self.started = 0
        self.closed = 0

    async def start(self) -> None:
        self.started += 1

    async def open(self, session_id: str) -> FakeEngineSession:
        if self.open_now >= self.slots:
            raise EngineBusyError("The engine is full.", retry_after=3)
        session = FakeEngineSession(hold=self.hold)
        self.sessions.append(session)
        return session

    @property
    def open_now(self) -> int:
        return sum(not session.closed for session in self.sessions)

    async def close(self) -> None:
        self.closed += 1


class FakeVoice:
    """Counts frames; each takes a turn of the loop, or until `gate` is set."""

    def __init__(self) -> None:
        self.frames = 0
        self.gate: asyncio.Event | None = None

    def open(self) -> FakeVoice:
        return self

    async def probability(self, frame: Samples) -> float:
        await asyncio.sleep(0)
        if self.gate is not None:
            await self.gate.wait()
        self.frames += 1
        return self.frames / 1000


class FakeTurns:
    """Answers when told to; counts how many questions are open at once."""

    def __init__(self) -> None:
        self.answers: asyncio.Queue[float | Exception] = asyncio.Queue()
        self.asked: list[int] = []
        self.open = 0
        self.most_open = 0
        self.closed = 0

    async def probability(self, audio: Samples) -> float:
        self.asked.append(len(audio))
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            answer = await self.answers.get()
        finally:
            self.open -= 1
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def close(self) -> None:
        self.closed += 1


class FakeConnection:
    """A client in memory: `say` puts an event in, `heard` holds what came out. Full after `room` events."""

    def __init__(self, room: int = 10_000) -> None:
        self.heard: list[ServerEvent] = []
        self.room = room
        self._said: asyncio.Queue[ClientEvent | Exception] = asyncio.Queue()

    def say(self, event: ClientEvent | PeerError | ConnectionOverError) -> None:
        self._said.put_nowait(event)

    @property
    def unread(self) -> int:
        return self._said.qsize()

    async def receive(self) -> ClientEvent:
        said = await self._said.get()
        if isinstance(said, Exception):
            raise said
        return said

    def send(self, event: ServerEvent) -> None:
        if len(self.heard) >= self.room:
            raise SlowConsumerError
        self.heard.append(event)


def fake_gateway(
    engine: FakeEngine | None = None,
    *,
    turns: FakeTurns | None = None,
    metrics: Metrics | None = None,
    max_sessions: int = 1000,
    first_event: float = 30.0,
    sessions: list[FakeSession] | None = None,
    router: Router | None = None,
    on_turn: Sequence[OnTurn] = (),
) -> Gateway:
    """A gateway whose sessions are FakeSessions; they are appended to `sessions`."""

    def new_session(
        *,
        session_id: str,
        model: str,
        engine: EngineInfo,
        extensions: bool,
        lead: int | None = None,
        metadata: Mapping[str, str] | None = None,
        now: int,
    ) -> FakeSession:
        session = FakeSession(session_id=session_id)
        if sessions is not None:
            sessions.append(session)
        return session

    return Gateway(
        router=router or router_for(engine or FakeEngine()),
        detectors=Detectors(voice=FakeVoice(), turns=turns or FakeTurns()),
        new_session=new_session,
        metrics=metrics or Metrics(),
        max_sessions=max_sessions,
        first_event=first_event,
        on_turn=on_turn,
    )
