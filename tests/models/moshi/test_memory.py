"""What fits into a device's memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.moshi import batch as module
from models.moshi.batch import MoshiBatch
from models.moshi.checkpoint import load_lm
from models.moshi.files import read_checkpoint
from models.moshi.lm import SlotLm
from models.moshi.memory import check_room, frame_bytes
from streaming.errors import EngineError

GIB = 1 << 30
FRAME = 512 << 10  # Moshi 7B in bfloat16


def test_what_fits_is_nothing_to_speak_of() -> None:
    check_room(65 * GIB, slots=64, window=2 * 1000, per_frame=FRAME // 1000, per_slot=0)
    check_room(None, slots=10**6, window=10**6, per_frame=FRAME, per_slot=0)


def test_what_would_fit_is_said_and_fits() -> None:
    free = 20 * GIB
    with pytest.raises(EngineError, match=r"32 slots with a window of 3000 frames need 51\.9 GB") as caught:
        check_room(free, slots=32, window=3000, per_frame=FRAME, per_slot=20 << 20)
    assert caught.value.code == "out_of_memory"
    assert "of which 20.4 GB are free; 12 slots or a window of 1179 frames would fit" in caught.value.message
    check_room(free, slots=32, window=1179, per_frame=FRAME, per_slot=20 << 20)
    with pytest.raises(EngineError):
        check_room(free, slots=32, window=1180, per_frame=FRAME, per_slot=20 << 20)
    check_room(free + 20 * (20 << 20), slots=12, window=3000, per_frame=FRAME, per_slot=20 << 20)
    with pytest.raises(EngineError):
        check_room(free + 19 * (20 << 20), slots=13, window=3000, per_frame=FRAME, per_slot=20 << 20)


def test_where_not_even_one_fits() -> None:
    with pytest.raises(EngineError, match=r"0\.0 GB are free; nothing of use would fit"):
        check_room(GIB // 2, slots=1, window=3000, per_frame=FRAME, per_slot=0)


def test_a_frame_takes_what_the_rings_grow_by(tiny_moshi: Path) -> None:
    sizes = []
    for window in (32, 64):
        lm = load_lm(read_checkpoint(tiny_moshi), device="cpu", window=window)
        sizes.append(SlotLm(lm, slots=2).state_bytes)
    assert frame_bytes(lm) == (sizes[1] - sizes[0]) // 32


def test_a_batch_that_does_not_fit_is_not_begun(tiny_moshi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "free_bytes", lambda device: GIB + (1 << 20))
    with pytest.raises(EngineError, match="would fit"):
        MoshiBatch(tiny_moshi, slots=2, device="cpu", window=90_000).load()


def test_kept_prompts_do_not_take_what_ticks_need(tiny_personaplex: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "free_bytes", lambda device: 2 * GIB)
    batch = MoshiBatch(tiny_personaplex, slots=1, device="cpu", window=128, prompt_bytes=8 * GIB)
    batch.load()
    assert batch._loaded.prefill._cache_bytes == GIB
    batch.close()
