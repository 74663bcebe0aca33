"""What a persona says to a model that was trained for one: frames that are forced before the conversation begins.

The convention is PersonaPlex's, read from the code that NVIDIA published with it (github.com/NVIDIA/personaplex,
`moshi/models/lm.py` and `moshi/server.py`). In order:

1. the voice: the codes of a recording of it as the model's own voice, text padding;
2. half a second of silence;
3. the text, one token a frame, `<system> ... <system>` around it, over silence of the model's own;
4. half a second of silence.

All the while the user's voice is a sine tone of 440 Hz, given by its codes. Where there is no voice or no text, that
part is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streaming.engine import Samples
from streaming.errors import PeerError
from streaming.wire.moshi import RATE, Codes

Frames = npt.NDArray[np.int64]
"""A prompt, shape (1 + 8 + 8, P): a column a frame, with its text token, own codes and the user's codes."""

CHUNK = 16
"""Columns in one pass."""

TEXT_PADDING = 3
_PAUSE = 6  # frames: half a second, rounded down as PersonaPlex does
_TAG = "<system>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tones:
    """What is heard while a prompt is taken in: the codes, shape (8,), of a frame of silence and one of a sine."""

    silence: Codes
    sine: Codes


PERSONAPLEX_TONES = Tones(
    silence=np.array([948, 243, 1178, 546, 1736, 1030, 1978, 2008], np.int32),
    sine=np.array([430, 1268, 381, 1611, 1095, 1495, 56, 472], np.int32),
)
"""The codes that PersonaPlex was trained with; they are the published Mimi's, which has 2,048 to a codebook."""


def most_prompt_frames(window: int) -> int:
    """The longest prompt that a model with this window takes: half of it, so that a conversation begins with all of it.

    Whole chunks have to fit into the window, since a ring that wraps within a chunk loses what its first columns see.
    """
    return (window // 2) // CHUNK * CHUNK


def sine_wave(seconds: float) -> Samples:
    """The tone that stands for the user: 440 Hz at half of full scale, float32 at 24 kHz."""
    at = np.arange(int(seconds * RATE), dtype=np.float64) / RATE
    return (0.5 * np.sin(2 * np.pi * 440.0 * at)).astype(np.float32)


def tagged(instructions: str) -> str:
    """`instructions` as the model was taught to read them; as they are where they have their tags already."""
    text = instructions.strip()
    if text.startswith(_TAG) and text.endswith(_TAG) and len(text) > len(_TAG):
        return text
    return f"{_TAG} {text} {_TAG}"


def prompt_frames(text_tokens: list[int], voice: Codes | None, *, tones: Tones, most: int) -> Frames:
    """The frames for a text, tokenized with its tags, and the codes of a voice, shape (8, n).

    `most`: how many frames the model can hold before a conversation. Raises PeerError where voice or text is too long.
    """
    voice = np.zeros((8, 0), np.int32) if voice is None else voice
    length = voice.shape[1] + len(text_tokens) + 2 * _PAUSE
    room = most - 2 * _PAUSE - voice.shape[1]
    if room < 0:
        raise PeerError(
            f"voice takes {voice.shape[1]} frames; expected at most {most - 2 * _PAUSE}",
            code="invalid_value",
            param="voice",
        )
    if len(text_tokens) > room:
        raise PeerError(
            f"instructions take {len(text_tokens)} tokens; expected at most {room}",
            code="invalid_value",
            param="instructions",
        )
    begin = voice.shape[1] + _PAUSE
    frames = np.empty((17, length), np.int64)
    frames[0] = TEXT_PADDING
    frames[0, begin : begin + len(text_tokens)] = text_tokens
    frames[1:9] = tones.silence[:, None]
    frames[1:9, : voice.shape[1]] = voice
    frames[9:] = tones.sine[:, None]
    return frames
