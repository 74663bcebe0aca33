"""One duplex conversation: its client's messages in, its frames out. No sockets and no waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from models.worker.audio import AudioCodec
from models.worker.batch import FrameOut, SlotOptions
from models.worker.ending import Ending, failed
from models.worker.intake import HeardFrame, Intake
from models.worker.metrics import WorkerMetrics
from models.worker.opening import Opening
from streaming.engine import EngineInfo, FrameTimes
from streaming.errors import PeerError
from streaming.schema import to_json
from streaming.wire.moshi import (
    Control,
    Frame,
    FrameCodes,
    Handshake,
    Message,
    Metadata,
    OggOpus,
    Pcm,
    Ping,
    Text,
    decode,
    encode,
)

PROTOCOL = 1

_MESSAGES_PER_SECOND = 100
_MESSAGES_AT_ONCE = 400
"""Messages of 20 ms come at 50 a second, and after a delay many at once. More would take time from the others."""


class Conversation:
    """A `Seat` of the tick loop. `send` must not block; `over` is called once or more when it cannot go on."""

    def __init__(
        self,
        session: str,
        opening: Opening,
        codec: AudioCodec,
        *,
        info: EngineInfo,
        send: Callable[[bytes], None],
        over: Callable[[Ending], None],
        clock: Callable[[], int],
        metrics: WorkerMetrics,
    ) -> None:
        self._session = session
        self._opening = opening
        self._codec = codec
        self._info = info
        self._send = send
        self._over = over
        self._clock = clock
        self._metrics = metrics
        self._intake = Intake()
        self._counted = 0  # of the frames dropped, those that the metrics know of
        self._frames = 0
        self._spoke = False
        self._extended = opening.audio == "pcm"
        # A stock client says all that it has to say in the address.
        self._options: SlotOptions | None = None if self._extended else opening.options
        self._last_sign = self._last_message = clock()
        self.awaited = self._extended
        """Whether it could speak and has not begun."""
        self.listening = asyncio.Event()
        self._allowance = float(_MESSAGES_AT_ONCE)

    @property
    def options(self) -> SlotOptions | None:
        """How to join; None while the client may still say."""
        return self._options

    @property
    def numbers(self) -> Mapping[str, int]:
        """Its counts, in frames."""
        intake = self._intake
        return {"heard": intake.taken, "said": self._frames, "dropped": intake.dropped, "waiting": intake.depth}

    @property
    def silence(self) -> float:
        """Seconds since there was a sign of it: any message until it begins, then audio."""
        return (self._clock() - self._last_sign) / 1e9

    def greet(self) -> None:
        """The first messages. A stock client takes the handshake for a sign that the model listens, so it gets none."""
        if self._extended:
            self._put(Handshake())
            identity = {"type": "session", "protocol": PROTOCOL, "session": self._session}
            self._put(Metadata(values=identity | {"engine": to_json(self._info)}))

    def receive(self, data: bytes) -> None:
        """A message. Raises PeerError for one that cannot be read, or that a client does not send."""
        self._limit_rate()
        if self.awaited:
            self._last_sign = self._last_message
        match message := decode(data):
            case Pcm() | OggOpus():
                self._hear(message)
            case Metadata(values={"type": "begin"} as values) if self._extended:
                self._begin(values)
            case Metadata(values={"session": str(session)}) if session != self._session:
                raise PeerError("that is another session", code="invalid_session", param="session")
            case None | Handshake() | Control() | Metadata() | Ping():
                pass  # of a later version, or of a stock client: there is one kind of turn here
            case _:
                kind = type(message).__name__
                raise PeerError(f"a client does not send {kind} (kind {data[0]:#04x})", code="unexpected_message")

    # --- the seat ------------------------------------------------------------------------------------------------

    def take(self) -> HeardFrame | None:
        """See `Seat.take`."""
        frame = self._intake.take()
        self._count_drops("standing")
        return frame

    def listen(self) -> None:
        """See `Seat.listen`."""
        self._count_drops("early")
        self._intake.listen()
        self.listening.set()
        if self._extended:
            self._put(Metadata(values={"type": "ready"}))
        else:
            self._put(Handshake())
            self.awaited, self._last_sign = not self._spoke, self._clock()

    def deliver(self, out: FrameOut, times: FrameTimes) -> None:
        """See `Seat.deliver`."""
        if out.text:
            self._put(Text(text=out.text))
        if self._opening.codes:
            self._put(FrameCodes(number=self._frames, text=out.text_token, own=out.own, heard=out.heard))
        # Those that were dropped lie behind the client as much as those that were heard.
        heard = self._intake.taken + self._intake.dropped
        for message in self._codec.said(Frame(number=self._frames, heard=heard, times=times, audio=out.audio)):
            self._put(message)
        self._frames += 1

    def fail(self, message: str) -> None:
        """See `Seat.fail`."""
        self._over(failed(message))

    # --- in ------------------------------------------------------------------------------------------------------

    def _limit_rate(self) -> None:
        now = self._clock()
        self._allowance += (now - self._last_message) / 1e9 * _MESSAGES_PER_SECOND
        self._allowance = min(self._allowance, _MESSAGES_AT_ONCE) - 1
        self._last_message = now
        if self._allowance < 0:
            raise PeerError(f"more than {_MESSAGES_PER_SECOND} messages a second", code="too_many_messages")

    def _begin(self, values: Mapping[str, Any]) -> None:
        if self._options is not None:
            raise PeerError("begin comes once, before any audio", code="unexpected_message", param="type")
        if values.get("session", self._session) != self._session:
            raise PeerError("that is another session", code="invalid_session", param="session")
        for name in ("instructions", "voice"):
            if not isinstance(values.get(name, ""), str):
                raise PeerError(f"{name}: expected a string", code="invalid_value", param=name)
        self.awaited = False
        default = self._opening.options
        self._options = replace(
            default,
            instructions=values.get("instructions") or default.instructions,
            voice=values.get("voice") or default.voice,
        )

    def _hear(self, message: Pcm | OggOpus) -> None:
        if self._options is None:
            self._options = self._opening.options
        now = self._clock()
        self._intake.put(self._codec.heard(message), now)
        self.awaited, self._spoke, self._last_sign = False, True, now

    def _count_drops(self, reason: str) -> None:
        if new := self._intake.dropped - self._counted:
            self._metrics.dropped.labels(reason).inc(new)
            self._counted = self._intake.dropped

    def _put(self, message: Message) -> None:
        self._send(encode(message))
