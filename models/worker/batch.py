"""The seam between the worker's tick loop and a batched duplex model.

Every 80 ms the loop hands the frames that have come to `DuplexBatch.step`; a slot without a frame sits out, and its
state stays as it was. All calls come from one thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from streaming.engine import EngineInfo, Samples
from streaming.wire.moshi import Codes


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotOptions:
    """How one conversation is to be held.

    `instructions` and `voice` are the persona, empty for the model's own. Sampling: None is the model's own default, a
    temperature of 0 takes the likeliest, `top_k` 0 leaves all. A session's tokens depend on its own `seed` and on what
    it heard, only.
    """

    instructions: str = ""
    voice: str = ""
    seed: int = 0
    text_temperature: float | None = None
    text_top_k: int | None = None
    audio_temperature: float | None = None
    audio_top_k: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameOut:
    """What one slot said in one frame.

    `audio`: float32, shape (1920,) at 24 kHz, or (0,) for the first frames, which the model's delays take. `text`:
    words that begin in it. `own` and `heard`: codes, shape (8,); -1 where there is none.
    """

    audio: Samples
    text: str
    text_token: int
    own: Codes
    heard: Codes


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One tick's results by slot, and how long its parts took (ns).

    `failed`: slots whose output is not sound (not finite, say), with a message that is safe to show; they are to be
    closed, and the others have not been touched.
    """

    frames: Mapping[int, FrameOut]
    failed: Mapping[int, str]
    encode: int
    model: int
    decode: int


class DuplexBatch(Protocol):
    """A full-duplex model that holds `slots` conversations in lockstep."""

    @property
    def info(self) -> EngineInfo:
        """What it is; fixed once `load` has returned."""

    @property
    def slots(self) -> int:
        """Conversations at once."""

    def load(self) -> None:
        """Load and warm up. Raises EngineError naming what is missing or wrong."""

    def join(self, slot: int, options: SlotOptions) -> None:
        """Begin a conversation in a free slot. Raises PeerError naming an option that the model cannot take."""

    def leave(self, slot: int) -> None:
        """Free the slot; nothing of the conversation is left in it."""

    def prepare(self) -> bool:
        """Do one bounded piece, a few ms long, of what joining slots still need (their prompts); is more left?"""

    def ready(self, slot: int) -> bool:
        """Whether the slot's prompt has been taken in, so that it can hear."""

    def step(self, frames: Mapping[int, Samples]) -> Step:
        """Advance each slot in `frames` by its frame, shape (1920,), finite; the other slots stay as they are."""

    def close(self) -> None:
        """Release the model."""
