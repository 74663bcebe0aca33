"""A conversation in virtual time: a session between a client, detectors and an engine that are all scripted."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from streaming.audio import AudioFormat
from streaming.client_events import AppendAudio, ClientEvent, CreateItem, RetrieveItem
from streaming.config import AudioConfig, AudioInput, SessionConfig, Transcription
from streaming.core import MS, Output, SessionOptions
from streaming.duplex import SETTLING
from streaming.engine import (
    CancelReply,
    ConfirmReply,
    DetectVoice,
    EngineEvent,
    EngineInfo,
    FrameTimes,
    HearAudio,
    PredictTurnEnd,
    ReplyAudio,
    ReplyEnded,
    ReplyText,
    Samples,
    Speech,
    StartReply,
    Transcribe,
    Transcript,
    TurnEndProbability,
    VoiceProbability,
)
from streaming.items import InputAudio, InputText, Message, OutputAudio
from streaming.server_events import AudioDelta, ErrorEvent, ItemRetrieved, NoticeCode, ResponseDone
from streaming.session import Input, Session

T = TypeVar("T")
PCM = AudioFormat("pcm16", 24_000)
ENGINE = EngineInfo(model="scripted", input_rate=16_000, output_rate=24_000, voices=("joe",))
DUPLEX = EngineInfo(
    model="scripted-duplex",
    input_rate=24_000,
    output_rate=24_000,
    duplex=True,
    transcribes=False,
    voices=("joe", "ann"),
)
CHUNK_MS = 20
FRAME = 1920
"""Samples in a duplex engine's frame: 80 ms."""
CAPTIONS = SessionConfig(audio=AudioConfig(input=AudioInput(transcription=Transcription(model="any"))))
MANUAL = SessionConfig(audio=AudioConfig(input=AudioInput(turn_detection=None)))


@dataclass
class Script:
    """What the other sides do. Delays in ms."""

    words: str = "what time is it"
    reply: str = "It is noon. Time for lunch and a walk."
    seconds: float = 2.0
    turn_end: float = 0.97
    transcribe_ms: int = 120
    first_audio_ms: int = 100
    chunk_seconds: float = 0.25


FRAME_TIMES = FrameTimes(queue=4 * MS, encode=5 * MS, model=15 * MS, decode=6 * MS)


@dataclass
class DuplexModel:
    """A duplex engine: a frame heard is a frame said, `delay_ms` later; near-silent noise but for what it is told.

    What it is told to say is a constant level, each utterance's its own. `said` is all of it, as the wire has it.
    """

    times: FrameTimes = FRAME_TIMES
    delay_ms: int = 30
    noise: float = 1e-4
    said: bytearray = field(default_factory=bytearray)
    utterances: int = 0
    heard: int = 0

    def __post_init__(self) -> None:
        self._ahead: deque[tuple[float, str]] = deque()  # the frames to come: level and words
        self._random = np.random.default_rng(3)
        self._unframed = 0

    def say(self, words: str = "", *, ms: int = 1600, after_ms: int = 0, lead_ms: int = 160) -> None:
        """Speak for `ms` in `after_ms`, in whole frames. The words come `lead_ms` before their sound, one a frame."""
        self.utterances += 1
        level = 0.05 + 0.01 * (self.utterances % 20)
        pieces = words.replace(" ", "| ").split("|") if words else []
        frames = [(0.0, "")] * (after_ms // 80) + [(0.0, "")] * (lead_ms // 80 if pieces else 0)
        frames += [(level, "")] * (ms // 80)
        for index, piece in enumerate(pieces):
            at = after_ms // 80 + index
            frames += [(0.0, "")] * (at + 1 - len(frames))
            frames[at] = frames[at][0], piece
        self._ahead.extend(frames)

    def hush(self) -> None:
        """Stop at once: the model yields."""
        self._ahead.clear()

    def hear(self, audio: Samples) -> Iterator[Speech]:
        """What it says to the frames that `audio` completes."""
        self._unframed += len(audio)
        while self._unframed >= FRAME:
            self._unframed -= FRAME
            self.heard += FRAME
            level, text = self._ahead.popleft() if self._ahead else (0.0, "")
            noise = self._random.normal(0, self.noise, FRAME)
            sound = (level + noise).astype(np.float32)
            self.said += PCM.encode(sound)
            yield Speech(audio=sound, text=text, heard=self.heard, times=self.times)


@dataclass
class Simulation:
    """Drives a session as a driver would. Speech is noise, silence is zeros; the voice detector tells them apart."""

    config: SessionConfig = field(default_factory=SessionConfig)
    options: SessionOptions = field(default_factory=SessionOptions)
    script: Script = field(default_factory=Script)
    engine: EngineInfo = ENGINE
    make: Callable[..., Session] = Session
    model: DuplexModel = field(default_factory=DuplexModel)

    def __post_init__(self) -> None:
        self.now = 1_000_000_000_000
        self.outputs: list[tuple[int, Output]] = []
        self.session = self.make(
            session_id="sess_t", config=self.config, engine=self.engine, options=self.options, now=self.now
        )
        self._later: list[tuple[int, int, Input]] = []
        self._order = itertools.count()
        self._cancelled: set[str] = set()
        self._waiting: dict[str, tuple[StartReply, int]] = {}
        self._said_at = 0
        self._noise = np.random.default_rng(7)
        self._drain()
        if self.engine.duplex:
            self.now += SETTLING

    # --- the client

    def send(self, event: ClientEvent) -> None:
        self.inject(event)

    def notify(self, code: NoticeCode, message: str) -> None:
        self.session.notify(code, message)
        self._drain()

    def speak(self, ms: int) -> None:
        self._stream(ms, loud=True)

    def silence(self, ms: int) -> None:
        self._stream(ms, loud=False)

    def wait(self, ms: int) -> None:
        """Let time pass with nothing from the client."""
        self._run_until(self.now + ms * MS)

    def stall(self, ms: int) -> None:
        """The duplex engine says nothing for so long, and then all of it at once."""
        self._said_at = max(self._said_at, self.now + ms * MS)

    # --- what came out

    def of(self, kind: type[T]) -> list[T]:
        return [output for _, output in self.outputs if isinstance(output, kind)]

    def times(self, kind: type[T]) -> list[int]:
        return [at for at, output in self.outputs if isinstance(output, kind)]

    def types(self) -> list[str]:
        return [str(getattr(output, "type", type(output).__name__)) for _, output in self.outputs]

    def audio_of(self, response_id: str) -> bytes:
        return b"".join(delta.delta for delta in self.of(AudioDelta) if delta.response_id == response_id)

    def done(self) -> list[ResponseDone]:
        return self.of(ResponseDone)

    # --- inner workings

    def _stream(self, ms: int, *, loud: bool) -> None:
        samples = 24 * CHUNK_MS
        for _ in range(ms // CHUNK_MS):
            audio = self._noise.normal(0, 0.1, samples) if loud else np.zeros(samples)
            self._run_until(self.now + CHUNK_MS * MS)
            self.inject(AppendAudio(audio=PCM.encode(audio.astype(np.float32))))

    def _run_until(self, end: int) -> None:
        while True:
            timeout = self.session.next_timeout()
            event_at = self._later[0][0] if self._later else None
            due = [at for at in (timeout, event_at) if at is not None and at <= end]
            if not due:
                break
            self.now = max(self.now, min(due))
            if event_at is not None and event_at <= self.now:
                self.inject(heapq.heappop(self._later)[2])
            else:
                before = (self.session.next_timeout(), len(self.outputs))
                self.session.handle_timeout(now=self.now)
                self._drain()
                if before == (self.session.next_timeout(), len(self.outputs)) and (timeout or 0) <= self.now:
                    raise AssertionError(f"handle_timeout at {self.now} did nothing for the timeout at {timeout}")
        self.now = end

    def inject(self, event: Input) -> None:
        """Give the session an input of any kind, now."""
        self.session.receive(event, now=self.now)
        self._drain()

    def _drain(self) -> None:
        while (output := self.session.poll()) is not None:
            self.outputs.append((self.now, output))
            self._answer(output)

    def _answer(self, output: Output) -> None:
        match output:
            case DetectVoice():
                loud = float(np.sqrt(np.mean(output.audio**2))) > 0.02
                self._at(0, VoiceProbability(end=output.end, probability=0.95 if loud else 0.02))
            case PredictTurnEnd():
                self._at(40, TurnEndProbability(end=output.end, probability=self.script.turn_end))
            case Transcribe():
                answer = Transcript(item_id=output.item_id, revision=output.revision, text=self.script.words)
                self._at(self.script.transcribe_ms, answer)
            case StartReply():
                self._start(output)
            case ConfirmReply():
                start, ready = self._waiting.pop(output.response_id)
                self._speak(start, delay=max(0, (ready - self.now) // MS))
            case HearAudio():
                for speech in self.model.hear(output.audio):
                    self._said_at = max(self._said_at, self.now + self.model.delay_ms * MS)  # in order, however late
                    heapq.heappush(self._later, (self._said_at, next(self._order), speech))
            case CancelReply():
                self._cancelled.add(output.response_id)
            case _:
                pass

    def _start(self, start: StartReply) -> None:
        delay = self.script.first_audio_ms
        self._at(delay, ReplyText(response_id=start.response_id, text=self.script.reply))
        if start.provisional:
            self._waiting[start.response_id] = start, self.now + delay * MS
        else:
            self._speak(start, delay=delay)

    def _speak(self, start: StartReply, *, delay: int) -> None:
        for index, event in enumerate(self._reply_events(start)):
            self._at(delay + 10 * index, event)

    def _reply_events(self, start: StartReply) -> Iterator[EngineEvent]:
        if start.speaks:
            chunks = round(self.script.seconds / self.script.chunk_seconds)
            level = reply_level(start.response_id)
            for index in range(chunks):
                audio = np.full(int(24_000 * self.script.chunk_seconds), level, dtype=np.float32)
                text_end = len(self.script.reply) * (index + 1) // chunks
                yield ReplyAudio(response_id=start.response_id, audio=audio, text_end=text_end)
        yield ReplyEnded(response_id=start.response_id, reason="completed", input_tokens=20, output_tokens=9)

    def _at(self, delay_ms: int, event: Input) -> None:
        heapq.heappush(self._later, (self.now + delay_ms * MS, next(self._order), event))


def reply_level(response_id: str) -> float:
    """The constant sample value that a scripted reply is made of: each reply's audio is its own."""
    return 0.1 + 0.01 * int(response_id.rpartition("_")[2])


# --- what many tests do


def tone(ms: int) -> bytes:
    return PCM.encode(np.full(24 * ms, 0.1, dtype=np.float32))


def say(sim: Simulation, text: str, item_id: str = "mine") -> None:
    content = (InputText(text=text),)
    sim.send(CreateItem(item=Message(role="user", content=content, id=item_id)))


def errors(sim: Simulation) -> list[tuple[str | None, str | None, str | None]]:
    return [(e.error.code, e.error.param, e.error.event_id) for e in sim.of(ErrorEvent)]


def transcript(sim: Simulation, item_id: str | None) -> str:
    """The words of a spoken item, as the conversation has them."""
    sim.send(RetrieveItem(item_id=item_id or ""))
    item = sim.of(ItemRetrieved)[-1].item
    assert isinstance(item, Message)
    (part,) = item.content
    assert isinstance(part, OutputAudio | InputAudio)
    return part.transcript or ""


def turn(sim: Simulation, *, speech: int = 1000, silence: int = 700) -> None:
    sim.speak(speech)
    sim.silence(silence)


def reply_under_way(script: Script | None = None, options: SessionOptions | None = None) -> Simulation:
    sim = Simulation(script=script or Script(seconds=8.0), options=options or SessionOptions())
    turn(sim, silence=1500)
    assert sim.session.backlog > 2
    return sim
