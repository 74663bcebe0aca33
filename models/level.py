"""Detectors without models, for engines without models: speech is what is loud, and a pause ends a turn."""

from __future__ import annotations

import numpy as np

from streaming.engine import Samples

_SPEECH_LEVEL = 0.01
"""Root mean square above which a frame is speech: -40 dBFS."""


class LevelDetector:
    """See `streaming.engine.VoiceActivityDetector`."""

    def open(self) -> LevelStream:
        """A fresh stream."""
        return LevelStream()


class LevelStream:
    """See `streaming.engine.VoiceStream`."""

    async def probability(self, frame: Samples) -> float:
        """1 for a loud frame, 0 for a quiet one."""
        return float(np.sqrt(np.mean(np.square(frame, dtype=np.float64))) > _SPEECH_LEVEL)


class PauseEndsTurn:
    """See `streaming.engine.TurnDetector`."""

    async def probability(self, audio: Samples) -> float:
        """Every pause is the end of the turn."""
        del audio
        return 1.0

    async def close(self) -> None:
        """There is nothing to release."""
