"""Voice activity detection: Silero on ONNX Runtime, batched across sessions, behind a cheap gate.

Most of a call is silence, in which WebRTC's detector (0.01 ms a frame) finds nothing, and Silero (0.1 ms) is not
asked. The gate opens on anything that might be speech; whether it is, Silero says.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import webrtcvad

from models.onnx import single_threaded_session
from models.weights import Weights
from streaming.engine import DETECTOR_RATE, VOICE_FRAME, Samples
from streaming.errors import EngineError

_CONTEXT = 64  # samples of the frame before that Silero wants in front of each
_HIDDEN = 128
_RATE = np.array(DETECTOR_RATE, dtype=np.int64)

_GATE_BLOCK = DETECTOR_RATE // 100
_GATE_MODE = 2
_GATE_GAIN = 16.0  # WebRTC's detector takes quiet speech for silence; Silero does not
_GATE_HOLD = 16  # frames (0.5 s) that the gate stays open after the last sign of voice
_WARM_UP = 12  # frames from before the gate opened that Silero hears too: without them it finds the onset late


@dataclass(slots=True)
class SileroState:
    """What Silero remembers of one stream: its recurrent state, and the end of the last frame."""

    hidden: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros((2, _HIDDEN), dtype=np.float32))
    context: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(_CONTEXT, dtype=np.float32))


class Silero:
    """The Silero model. Raises EngineError where its file is missing or altered."""

    def __init__(self, weights: Weights) -> None:
        self._session = single_threaded_session(weights.read("silero-vad", "silero_vad.onnx"))

    def step(self, frames: Sequence[Samples], states: Sequence[SileroState]) -> list[float]:
        """Each frame's probability of speech; each stream's state moves on by its frame.

        A frame has VOICE_FRAME samples; `frames` and `states` are of the same length and no state comes twice.
        """
        audio = np.stack([np.concatenate((state.context, frame)) for frame, state in zip(frames, states, strict=True)])
        hidden = np.stack([state.hidden for state in states], axis=1)
        probabilities, hidden = self._session.run(None, {"input": audio, "state": hidden, "sr": _RATE})
        for row, state in enumerate(states):
            state.hidden = hidden[:, row]
            state.context = audio[row, -_CONTEXT:]
        return [float(probability) for probability in probabilities[:, 0]]


class VoiceGate:
    """Whether there might be speech: open from the first sign of it until half a second after the last."""

    def __init__(self) -> None:
        self._detector = webrtcvad.Vad(_GATE_MODE)
        self._rest = b""
        self._hold = 0

    def is_open(self, frame: Samples) -> bool:
        """Hear the next frame, VOICE_FRAME samples at DETECTOR_RATE."""
        pcm = self._rest + (np.clip(frame * _GATE_GAIN, -1.0, 1.0) * 32767.0).astype("<i2").tobytes()
        step = 2 * _GATE_BLOCK
        end = len(pcm) - len(pcm) % step
        self._rest = pcm[end:]
        # Every block is heard, also after a voiced one: the detector follows the noise from block to block.
        voiced = [self._detector.is_speech(pcm[at : at + step], DETECTOR_RATE) for at in range(0, end, step)]
        if any(voiced):
            self._hold = _GATE_HOLD + 1
        self._hold = max(0, self._hold - 1)
        return self._hold > 0


class SileroDetector:
    """The voice activity detector of a process: frames that become due together go through the model together.

    It runs on the event loop's own thread: one frame costs less than handing it to another thread would, and sixteen
    take under a millisecond in every 32.
    """

    def __init__(self, weights: Weights) -> None:
        self._model = Silero(weights)
        self._due: list[SileroStream] = []

    def open(self) -> SileroStream:
        """A fresh stream."""
        return SileroStream(self)

    def schedule(self, stream: SileroStream) -> None:
        """Run what `stream` has waiting, with all that other streams have by then, in the loop's next iteration."""
        if not self._due:
            asyncio.get_running_loop().call_soon(self._run)
        if stream not in self._due:
            self._due.append(stream)

    def _run(self) -> None:
        streams, self._due = self._due, []
        try:
            while streams:
                self._step(streams)
                streams = [stream for stream in streams if stream.waiting]
        except Exception as error:  # ONNX Runtime's errors have no base class of their own
            for stream in streams:
                stream.fail(EngineError(f"voice activity detection failed: {type(error).__name__}"))

    def _step(self, streams: Sequence[SileroStream]) -> None:
        """One frame of each stream."""
        frames = [stream.waiting[0].frame for stream in streams]
        probabilities = self._model.step(frames, [stream.state for stream in streams])
        for stream, probability in zip(streams, probabilities, strict=True):
            answer = stream.waiting.popleft().answer
            if answer is not None and not answer.done():
                answer.set_result(probability)


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A frame that waits for the model; one from before the gate opened wants no answer."""

    frame: Samples
    answer: asyncio.Future[float] | None


class SileroStream:
    """One session's voice activity detection."""

    def __init__(self, detector: SileroDetector) -> None:
        self._detector = detector
        self._gate = VoiceGate()
        self._recent: deque[Samples] = deque(maxlen=_WARM_UP)
        self._was_open = False
        self.state = SileroState()
        self.waiting: deque[_Waiting] = deque()

    async def probability(self, frame: Samples) -> float:
        """Probability of speech in the next frame of VOICE_FRAME samples at DETECTOR_RATE; frames are heard in order.

        Raises ValueError for a frame of another size, EngineError where the model fails.
        """
        if frame.shape != (VOICE_FRAME,):
            raise ValueError(f"a frame has shape {(VOICE_FRAME,)}, not {frame.shape}")
        frame = np.nan_to_num(frame.astype(np.float32, copy=False), posinf=0.0, neginf=0.0)
        is_open, was_open = self._gate.is_open(frame), self._was_open
        self._was_open = is_open
        if not is_open:
            self._recent.append(frame)
            return 0.0
        if not was_open:
            self.waiting.extend(_Waiting(earlier, None) for earlier in self._recent)
            self._recent.clear()
        answer: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self.waiting.append(_Waiting(frame, answer))
        self._detector.schedule(self)
        return await answer

    def fail(self, error: EngineError) -> None:
        """Answer all that waits with `error`, and start again from silence."""
        for entry in self.waiting:
            if entry.answer is not None and not entry.answer.done():
                entry.answer.set_exception(error)
        self.waiting.clear()
        self.state = SileroState()
