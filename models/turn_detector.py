"""End-of-turn detection by sound: smart-turn v3 on ONNX Runtime, one thread."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor

import numpy as np

from models.features import FRAMES_PER_SECOND, SAMPLE_RATE, log_mel
from models.onnx import single_threaded_session
from models.weights import Weights
from streaming.engine import Samples
from streaming.errors import EngineError

_SECONDS = 8
_SHORTEST = SAMPLE_RATE // 10


class SmartTurn:
    """Whether a speaker has finished, from the sound of the last 8 s of the turn.

    The model runs in `executor`, which is closed with it. Raises EngineError where its file is missing or altered.
    """

    def __init__(self, weights: Weights, executor: Executor) -> None:
        self._session = single_threaded_session(weights.read("smart-turn", "smart-turn-v3.2-cpu.onnx"))
        self._executor = executor

    async def probability(self, audio: Samples) -> float:
        """Probability that the turn in `audio` (mono at DETECTOR_RATE) is complete; 0 for less than 0.1 s.

        Raises EngineError where the model fails.
        """
        if audio.size < _SHORTEST:
            return 0.0
        return await asyncio.get_running_loop().run_in_executor(self._executor, self.predict, audio)

    async def close(self) -> None:
        """See `streaming.engine.TurnDetector`. Waits for the answer that is being found, if one is."""
        await asyncio.to_thread(self._executor.shutdown)

    def predict(self, audio: Samples) -> float:
        """The same, on this thread."""
        features = log_mel(_last_seconds(audio), _SECONDS * FRAMES_PER_SECOND)
        try:
            (probabilities,) = self._session.run(None, {"input_features": features[np.newaxis]})
        except Exception as error:  # ONNX Runtime's errors have no base class of their own
            raise EngineError(f"end-of-turn detection failed: {type(error).__name__}") from error
        return float(np.clip(probabilities[0, 0], 0.0, 1.0))


def _last_seconds(audio: Samples) -> Samples:
    """The end of the turn as the model was trained on it: silence in front where it is short, then normalised."""
    audio = np.nan_to_num(np.asarray(audio[-_SECONDS * SAMPLE_RATE :], dtype=np.float32), posinf=0.0, neginf=0.0)
    padded = np.pad(audio, (_SECONDS * SAMPLE_RATE - audio.size, 0))
    centred = padded - padded.mean()
    return np.asarray(centred / np.sqrt(np.mean(np.square(centred)) + 1e-7), dtype=np.float32)
