"""Moshi's `/api/chat` over a WebSocket: a stock Moshi page or client talks to whichever engine there is.

Binary messages (`streaming.wire.moshi`); `docs/protocols/moshi.md` specifies the conversation. Its session is the same
as behind the OpenAI Realtime route, and of its replies the client gets what this wire can say.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import replace

from fastapi import APIRouter, WebSocket

from server.auth import AccessPolicy
from server.driver import ConnectionOverError, SlowConsumerError
from server.duel_door import DuelDoor
from server.errors import Refused
from server.gateway import Call, Gateway
from server.metrics import Metrics
from server.transports.moshi_voice import UNEXPECTED, OpusVoice, PcmVoice, Voice
from server.transports.websocket import KeepAlive, MessageSocket, WebSocketLimits, admit
from streaming import server_events as events
from streaming.audio import AudioFormat
from streaming.client_events import AppendAudio, ClientEvent, UpdateSession
from streaming.config import PcmFormat, SessionConfig
from streaming.core import MS
from streaming.engine import EngineInfo
from streaming.errors import PeerError
from streaming.observations import CloseSession
from streaming.schema import to_json
from streaming.wire.moshi import (
    RATE,
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
from streaming.wire.moshi_query import ChatQuery, read_query

PROTOCOL = 1
"""The version of Muse's additions to the wire."""

STOCK_LEAD = 40 * MS
"""How far ahead of real time (ns) a stock client is sent a reply. Its page throws away what it holds beyond 100 ms,
and no stock client can be told to forget a reply that was interrupted: what it has been sent will be heard."""

MOST_BYTES = 512 * 1024
"""The largest message from a client: more than any kind that it may send can hold."""

STOCK_SEND_BUFFER = 64 * 1024
"""Bytes queued for a client of opus before it counts as too slow: some 15 s of speech."""

_PING = KeepAlive(message=encode(Ping()), seconds=1.0)
_FORMAT = AudioFormat.of(PcmFormat())
_SERVERS_OWN = frozenset(b"\x02\x05\x11\x12\x20\x21")  # kinds that a gateway or a worker sends


class MoshiConnection:
    """The driver's view of one client.

    The session learns what the client wants just before it hears the first of its audio.
    """

    def __init__(self, socket: MessageSocket, query: ChatQuery, *, metrics: Metrics) -> None:
        self._socket = socket
        self._metrics = metrics
        self._stock = query.audio == "opus"
        self._voice: Voice = OpusVoice() if self._stock else PcmVoice()
        self._wishes: dict[str, object] = {"instructions": query.text_prompt, "voice": query.voice_prompt}
        self._events: deque[ClientEvent] = deque()
        self._begun = False
        self._words_said = False

    async def receive(self) -> ClientEvent:
        """The next event. Raises PeerError for a message that has no place here, ConnectionOverError at the end."""
        while not self._events:
            self._take(await self._socket.receive())
            if not self._events:
                await asyncio.sleep(0)  # a client that floods with what is no event takes turns with the others
        return self._events.popleft()

    def send(self, event: events.ServerEvent) -> None:
        """Queue what the wire can say of an event. Raises SlowConsumerError when too much is queued already."""
        match event:
            case events.SessionCreated():
                self._greet(event.session)
            case events.AudioDelta():
                self._put_all(self._voice.say(_FORMAT.decode(event.delta)))
            case events.AudioTranscriptDelta() | events.TextDelta():
                self._put(Text(text=event.delta))
                self._words_said = True
            case events.ResponseCreated() if self._words_said:
                self._put(Text(text=" "))  # the words of two replies do not run together
                self._words_said = False
            case events.ResponseDone():
                self._finish(event.response)
            case events.ErrorEvent():
                self._complain(event.error)

    # --- what comes in

    def _take(self, payload: str | bytes) -> None:
        if isinstance(payload, str):
            raise self._over(1003, "invalid_message", "messages are binary")
        if len(payload) > MOST_BYTES:
            raise self._over(1009, "message_too_large", f"at most {MOST_BYTES} bytes, got {len(payload)}")
        if payload and payload[0] in _SERVERS_OWN:
            raise PeerError(f"a client sends no message of kind {payload[0]:#04x}", code=UNEXPECTED)
        try:
            self._hear(decode(payload))
        except PeerError as error:
            if error.code == UNEXPECTED:
                raise
            raise self._over(1007, error.code, error.message) from None

    def _hear(self, message: Message | None) -> None:
        match message:
            case OggOpus() | Pcm():
                audio = self._voice.hear(message)
                self._begun = True
                if len(audio):
                    self._give_wishes()
                    self._events.append(AppendAudio(audio=_FORMAT.encode(audio)))
            case Metadata(values=values) if values.get("type") == "begin":
                if self._begun:
                    raise PeerError("a conversation begins once, before any audio", code=UNEXPECTED)
                self._begun = True
                self._wishes |= {name: values[name] for name in ("instructions", "voice") if values.get(name)}
                self._put(Metadata(values={"type": "ready"}))

    def _give_wishes(self) -> None:
        """An event for each, so that a voice that is not to be had costs no instructions."""
        if instructions := self._wishes.pop("instructions", None):
            self._events.append(UpdateSession(session={"type": "realtime", "instructions": instructions}))
        if voice := self._wishes.pop("voice", None):
            self._events.append(UpdateSession(session={"type": "realtime", "audio": {"output": {"voice": voice}}}))

    def _over(self, code: int, name: str, message: str) -> ConnectionOverError:
        """Tell the client what was wrong, and end the conversation."""
        self._metrics.bad_events.inc()
        with contextlib.suppress(SlowConsumerError):
            self._put(WireError(code=name, message=message))
        return ConnectionOverError(CloseSession(code=code, reason="A message cannot be taken."))

    # --- what goes out

    def _greet(self, session: SessionConfig) -> None:
        self._put(Handshake())
        if not self._stock:
            # Seen through this wire, every engine hears and speaks when it will.
            engine = EngineInfo(model=session.model, input_rate=RATE, output_rate=RATE, duplex=True)
            values = {"type": "session", "protocol": PROTOCOL, "session": session.id, "engine": to_json(engine)}
            self._put(Metadata(values=values))

    def _finish(self, response: events.Response) -> None:
        self._put_all(self._voice.pause())
        if response.status == "cancelled" and not self._stock:
            self._put(Metadata(values={"type": "interrupted"}))
        if response.status_details is not None and response.status_details.error is not None:
            self._complain(response.status_details.error)

    def _complain(self, error: events.ErrorDetail) -> None:
        self._put(WireError(code=error.code or error.type, message=error.message))

    def _put_all(self, messages: Iterable[Message]) -> None:
        for message in messages:
            self._put(message)

    def _put(self, message: Message) -> None:
        self._socket.send(encode(message))


def moshi_router(
    gateway: Gateway, access: AccessPolicy, limits: WebSocketLimits, duels: DuelDoor | None = None
) -> APIRouter:
    """The route of the conversations on Moshi's wire."""
    router = APIRouter()

    @router.websocket("/api/chat")
    async def chat(socket: WebSocket) -> None:
        async def talk(call: Call) -> None:
            query = _query(socket.query_params)
            stock = query.audio == "opus"
            buffer = min(limits.send_buffer, STOCK_SEND_BUFFER) if stock else limits.send_buffer
            bounds = replace(limits, send_buffer=buffer)
            await socket.accept()
            async with MessageSocket(socket, limits=bounds, metrics=gateway.metrics, keep_alive=_PING) as messages:
                connection = MoshiConnection(messages, query, metrics=gateway.metrics)
                close = await gateway.converse(call, connection, lead=STOCK_LEAD if stock else None)
                if close is not None:
                    await messages.close(close)

        await admit(socket, gateway=gateway, access=access, duels=duels, talk=talk)

    return router


def _query(parameters: Mapping[str, str]) -> ChatQuery:
    try:
        return read_query(parameters)
    except PeerError as error:
        raise Refused(400, error.code, error.message) from None
