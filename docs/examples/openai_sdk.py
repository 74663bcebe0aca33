"""`python -m docs.examples.openai_sdk question.wav`: ask Muse a spoken question through the openai package.

The recording is sent in real time, as a microphone would send it. What was understood, what was answered and how long
the first sound of the answer took is printed; `--out` saves what was heard. With `--interrupt other.wav` a second
recording is spoken over the answer, and it is shown what becomes of that. There is no loudspeaker: the answer counts as
played in real time from its first sound.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from openai import AsyncOpenAI, OpenAIError
from openai.resources.realtime.realtime import AsyncRealtimeConnection
from openai.types.realtime import (
    ConversationItemInputAudioTranscriptionCompletedEvent,
    InputAudioBufferCommittedEvent,
    InputAudioBufferSpeechStartedEvent,
    RealtimeConversationItemAssistantMessage,
    RealtimeErrorEvent,
    RealtimeServerEvent,
    ResponseAudioDeltaEvent,
    ResponseAudioTranscriptDoneEvent,
    ResponseDoneEvent,
)
from openai.types.realtime.realtime_server_event import ConversationItemRetrieved
from websockets.exceptions import WebSocketException

from clients.audio_files import read_wav, speech_end, write_wav
from clients.errors import ClientError
from streaming.audio import AudioFormat
from streaming.engine import Samples

RATE = 24_000
CHUNK = RATE // 50  # 20 ms
PCM = AudioFormat("pcm16", RATE)
SOFT = 0.3
"""A ducked reply is softer than this share of its loudest: Muse ducks to 0.2."""


class Microphone:
    """Speaks recordings in real time, and is silent in between: the audio of a call never pauses."""

    def __init__(self, connection: AsyncRealtimeConnection) -> None:
        self._connection = connection
        self._unsaid: Samples = np.zeros(0, np.float32)
        self._due = now()

    def say(self, recording: Samples) -> float:
        """Speak, after what is being spoken; returns when (seconds) the recording begins."""
        begins = self._due + len(self._unsaid) / RATE
        self._unsaid = np.concatenate([self._unsaid, recording])
        return begins

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            chunk, self._unsaid = self._unsaid[:CHUNK], self._unsaid[CHUNK:]
            audio = PCM.encode(np.pad(chunk, (0, CHUNK - len(chunk))))
            self._due += CHUNK / RATE
            await self._connection.input_audio_buffer.append(audio=base64.b64encode(audio).decode())
            await asyncio.sleep(max(0.0, self._due - now()))


@dataclass(slots=True, kw_only=True)
class Answer:
    """One reply as it came: its pieces of audio, and when (seconds) each did."""

    response_id: str
    item_id: str
    pieces: list[Samples] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """How much audio came."""
        return sum(map(len, self.pieces)) / RATE

    def played(self, at: float) -> float:
        """How many seconds of it a loudspeaker had played by then, which began with the first piece."""
        return min(self.seconds, at - self.times[0])

    def ducked_at(self, since: float) -> float | None:
        """When it became soft, to stay so to its end; None where it did not.

        A client of OpenAI's protocol is told nothing of it: the audio that it plays is softer.
        """
        levels = [float(np.sqrt(np.mean(np.square(piece)))) for piece in self.pieces]
        loudest = max((level for level, at in zip(levels, self.times, strict=True) if at < since), default=0.0)
        ducked = None
        for level, at in zip(reversed(levels), reversed(self.times), strict=True):
            if at < since or level > SOFT * loudest:
                break
            ducked = at
        return ducked


class Call:
    """One question, its answer and, where there is one, the interruption of it."""

    def __init__(self, connection: AsyncRealtimeConnection, interruption: Samples | None, after: float) -> None:
        self._connection = connection
        self._microphone = Microphone(connection)
        self._interruption = interruption
        self._after = after
        self._asked = 0.0
        self._spoke: float | None = None
        self._decided: float | None = None
        self._untold: set[str] = set()
        self._answered = False
        self._retrieving = False
        self.answers: list[Answer] = []
        self.failed = False

    async def hold(self, question: Samples) -> None:
        """Ask, and print what happens until all is answered."""
        await self._connection.session.update(
            session={"type": "realtime", "audio": {"input": {"transcription": {"model": "whisper-1"}}}}
        )
        self._asked = self._microphone.say(question) + speech_end(question, rate=RATE) / RATE
        speaking = asyncio.create_task(self._microphone.run())
        try:
            async for event in self._connection:
                await self._on(event)
                if self.failed or (self._answered and not (self._retrieving or self._untold)):
                    return
        finally:
            speaking.cancel()
            await asyncio.gather(speaking, return_exceptions=True)

    async def _on(self, event: RealtimeServerEvent) -> None:
        match event:
            case InputAudioBufferSpeechStartedEvent() if self._spoke is not None and self._decided is None:
                self._decided = now()
                await self._stop_playing()
            case InputAudioBufferCommittedEvent():
                self._untold.add(event.item_id)
            case ConversationItemInputAudioTranscriptionCompletedEvent():
                self._untold.discard(event.item_id)
                print(f"you:  {event.transcript}")
            case ResponseAudioDeltaEvent():
                self._hear(event)
            case ResponseAudioTranscriptDoneEvent():
                print(f"Muse: {event.transcript}")
            case ResponseDoneEvent():
                await self._on_done(event)
            case ConversationItemRetrieved(item=RealtimeConversationItemAssistantMessage() as message):
                self._show_kept(message)
            case RealtimeErrorEvent():
                self._fail(event.error.message)

    def _hear(self, event: ResponseAudioDeltaEvent) -> None:
        if not self.answers or self.answers[-1].item_id != event.item_id:
            self.answers.append(Answer(response_id=event.response_id, item_id=event.item_id))
            if len(self.answers) == 1:
                print(f"first audio {milliseconds(now() - self._asked)} after the end of the question")
                self._interrupt()
        self.answers[-1].pieces.append(PCM.decode(base64.b64decode(event.delta)))
        self.answers[-1].times.append(now())

    def _interrupt(self) -> None:
        if self._interruption is None:
            return
        wait = np.zeros(int(self._after * RATE), np.float32)
        loud = np.abs(self._interruption) > 0.1 * np.abs(self._interruption).max()
        self._spoke = self._microphone.say(np.concatenate([wait, self._interruption]))
        self._spoke += self._after + int(np.argmax(loud)) / RATE

    async def _stop_playing(self) -> None:
        """A real client empties its loudspeaker's buffer here; and it says how much of the answer was heard."""
        heard = self.answers[0].played(now())
        await self._connection.conversation.item.truncate(
            item_id=self.answers[0].item_id, content_index=0, audio_end_ms=int(heard * 1000)
        )

    async def _on_done(self, event: ResponseDoneEvent) -> None:
        status = event.response.status
        talked_over = self._spoke is not None and event.response.id == self.answers[0].response_id
        if status == "failed":
            self._fail("the reply has failed")
        elif status == "cancelled":
            # A reply that is cancelled before its first sound: the user had not finished, and another will come.
            if talked_over:
                self._show_interruption(self.answers[0])
                self._retrieving = True
                await self._connection.conversation.item.retrieve(item_id=self.answers[0].item_id)
        elif talked_over:
            self._fail("the reply was over, or the speech over it no interruption")
        else:
            self._answered = True

    def _fail(self, why: str) -> None:
        print(f"error: {why}", file=sys.stderr)
        self.failed = True

    def _show_interruption(self, answer: Answer) -> None:
        spoke = self._spoke or 0.0
        moments = {
            "ducked, to judge by its loudness": answer.ducked_at(spoke),
            "taken for an interruption": self._decided,
            "last audio": answer.times[-1],
        }
        print("after the first sound of the interruption:")
        for name, at in moments.items():
            print(f"  {name}: {'never' if at is None else milliseconds(at - spoke)}")

    def _show_kept(self, message: RealtimeConversationItemAssistantMessage) -> None:
        self._retrieving = False
        kept = message.content[0]
        seconds = len(base64.b64decode(kept.audio or "")) / 2 / RATE
        print(f"kept in the conversation: {seconds:.2f} s of the {self.answers[0].seconds:.2f} s sent")
        print(f"  {kept.transcript or '(no whole word)'}")


def now() -> float:
    """Seconds of the event loop's clock."""
    return asyncio.get_running_loop().time()


def milliseconds(seconds: float) -> str:
    """The same for people."""
    return f"{seconds * 1000:.0f} ms"


async def talk(options: argparse.Namespace) -> int:
    """Hold the call; returns the exit status."""
    question = read_wav(options.question, rate=RATE)
    interruption = read_wav(options.interrupt, rate=RATE) if options.interrupt else None
    client = AsyncOpenAI(base_url=options.url, api_key="none")
    async with client, client.realtime.connect(model="auto") as connection:
        call = Call(connection, interruption, options.after)
        await call.hold(question)
    if options.out and call.answers:
        heard = [piece for answer in call.answers for piece in answer.pieces]
        write_wav(options.out, np.concatenate(heard), rate=RATE)
    return int(call.failed)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example; returns the exit status."""
    parser = argparse.ArgumentParser(description="Ask Muse a spoken question through the openai package.")
    parser.add_argument("question", type=Path, help="a WAV file of a person asking, of any rate")
    parser.add_argument("--interrupt", type=Path, metavar="WAV", help="what is spoken over the answer")
    parser.add_argument(
        "--after", type=float, default=1.0, metavar="S", help="how far into it (default: %(default)s s)"
    )
    parser.add_argument("--out", type=Path, metavar="WAV", help="where to save what Muse says")
    parser.add_argument("--url", default="http://127.0.0.1:8000/v1", help="the server (default: %(default)s)")
    try:
        return asyncio.run(talk(parser.parse_args(arguments)))
    except (ClientError, OpenAIError, WebSocketException, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
