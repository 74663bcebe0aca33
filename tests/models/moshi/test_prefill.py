"""Prompts taken in beside the batch equal the same frames fed through it one by one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from moshi.utils.compile import no_compile

from models.moshi.checkpoint import load_lm
from models.moshi.files import read_checkpoint
from models.moshi.lm import FREE, SlotLm, TakenIn
from models.moshi.prefill import Prefill
from models.moshi.prompt import CHUNK, Frames, most_prompt_frames
from models.worker.batch import SlotOptions

pytestmark = pytest.mark.timeout(600)  # hundreds of steps of a model, on one thread

OPTIONS = SlotOptions(seed=5, text_temperature=0.8, audio_temperature=0.8, audio_top_k=30)
WINDOW = 96


@pytest.fixture
def lm(tiny_personaplex: Path) -> Any:
    return load_lm(read_checkpoint(tiny_personaplex), device="cpu", window=WINDOW)


def frames_of(length: int, seed: int = 0) -> Frames:
    return np.random.default_rng(seed).integers(4, 500, (17, length))


def take(prefill: Prefill, key: bytes, frames: Frames) -> TakenIn:
    prefill.ask(key, frames)
    passes = 0
    while (done := prefill.advance()) is None:
        passes += 1
    assert passes == max(-(-(frames.shape[1] - 1) // CHUNK) - 1, 0)
    assert done[0] == key
    return done[1]


def continue_with(batch: SlotLm, first: torch.Tensor, heard: torch.Tensor) -> npt.NDArray[np.int64]:
    """What slot 1 says to `first`, and then to what it hears."""
    said = []
    for frame in (first, *heard):
        tokens, _ = batch.step(torch.stack([frame] * batch.slots), torch.arange(batch.slots) == 1)
        said.append(tokens[1].numpy().copy())
    return np.array(said)


def feed(batch: SlotLm, slot: int, frames: Frames) -> None:
    """All frames but the last through the batch, one a tick, each with its tokens forced."""
    given = torch.from_numpy(frames)
    delays = batch.lm.delays[: 1 + batch.lm.dep_q]
    for at in range(frames.shape[1]):
        column = [
            int(given[k, at + 1 - d]) if 0 <= at + 1 - d < frames.shape[1] else FREE for k, d in enumerate(delays)
        ]
        batch.force(slot, at=at, tokens=torch.tensor(column))
        if at < frames.shape[1] - 1:
            batch.step(torch.stack([given[9:, at]] * batch.slots), torch.arange(batch.slots) == slot)


@pytest.mark.parametrize("length", [2, CHUNK + 1, CHUNK + 2, most_prompt_frames(WINDOW)])
def test_a_prompt_equals_its_frames_fed_one_by_one(lm: Any, length: int) -> None:
    frames = frames_of(length)
    heard = torch.randint(0, 512, (60, 8), generator=torch.Generator().manual_seed(1))
    last = torch.from_numpy(frames[9:, -1])

    batch = SlotLm(lm, slots=2)
    prefill = Prefill(lm, cache_bytes=1 << 30)
    batch.join(1, OPTIONS)
    feed(batch, 1, frames)
    rings = [layer.self_attn._streaming_state.kv_cache.cache for layer in lm.transformer.layers]
    one_by_one = [ring[:, 1, :, : length - 1].clone() for ring in rings]
    said_one_by_one = continue_with(batch, last, heard)
    batch.leave(1)

    taken = take(prefill, b"key", frames)
    assert taken.columns == length - 1
    for ring, expected in zip(taken.keys_values, one_by_one, strict=True):
        torch.testing.assert_close(ring, expected, rtol=1e-4, atol=1e-5)
    batch.join(1, OPTIONS)
    batch.take_in(1, taken)
    assert batch.offsets() == [0, length - 1]
    said = continue_with(batch, taken.user, heard)
    np.testing.assert_array_equal(said, said_one_by_one)
    if length > 2:
        np.testing.assert_array_equal(said[0], frames[:9, -1])  # the prompt's last frame comes out first
    assert len(np.unique(said[1:, 1])) > 5


def test_a_conversation_after_a_prompt_is_one_sequence_with_it(lm: Any) -> None:
    """Against the definition: columns of delayed tokens, all of them through the transformer again for each frame."""
    frames = torch.from_numpy(frames_of(20))
    heard = torch.randint(0, 512, (12, 8), generator=torch.Generator().manual_seed(3))
    user = torch.cat([frames[9:], heard.T], dim=1)
    sequence: Any = lm._get_initial_token()[0].repeat(1, user.shape[1] + 1)
    for codebook, delay in enumerate(lm.delays):
        given = frames[codebook] if codebook < 9 else user[codebook - 9]
        columns = range(delay + 1, min(len(given) + delay, sequence.shape[1]))
        sequence[codebook, list(columns)] = given[[column - delay for column in columns]]
    with torch.no_grad(), no_compile():
        for column in range(20, sequence.shape[1]):
            hidden, text = lm.forward_text(sequence[None, :, :column])
            sequence[0, column] = text[0, 0, -1].argmax()
            with lm.depformer.streaming(1):
                previous = sequence[0, column]
                for codebook in range(8):
                    logits = lm.forward_depformer(codebook, previous[None, None, None], hidden[:, -1:])
                    if column > 20 or lm.delays[1 + codebook] == 0:
                        sequence[1 + codebook, column] = logits.argmax()
                    previous = sequence[1 + codebook, column]

    batch = SlotLm(lm, slots=2)
    batch.join(1, SlotOptions(text_temperature=0, audio_temperature=0))
    taken = take(Prefill(lm, cache_bytes=0), b"key", frames.numpy())
    batch.take_in(1, taken)
    said = continue_with(batch, taken.user, heard)
    for codebook, delay in enumerate(lm.delays[:9]):
        expected = sequence[codebook, 19 + delay : 19 + delay + len(said)]
        np.testing.assert_array_equal(said[: len(expected), codebook], expected)


def test_taking_in_leaves_a_running_conversation_as_it_is(lm: Any) -> None:
    heard = torch.randint(0, 512, (60, 8), generator=torch.Generator().manual_seed(2))
    batch = SlotLm(lm, slots=2)
    prefill = Prefill(lm, cache_bytes=1 << 30)
    said: list[list[list[int]]] = []
    for beside in (False, True):
        said.append([])
        batch.join(0, OPTIONS)
        for number, frame in enumerate(heard):
            if beside and number == 10:
                prefill.ask(b"key", frames_of(40))
            if beside and (done := prefill.advance()):
                batch.join(1, replace(OPTIONS, seed=9))
                batch.take_in(1, done[1])
            tokens, _ = batch.step(torch.stack([frame] * 2), torch.tensor([True, batch.offsets()[1] > 0]))
            said[-1].append(tokens[0].tolist())
        assert bool(batch.offsets()[1]) == beside
        for slot in (0, 1):
            batch.leave(slot)
    assert said[1] == said[0]


def test_prompts_are_kept_up_to_a_number_of_bytes_the_latest_used_last(lm: Any) -> None:
    SlotLm(lm, slots=1)
    probe = Prefill(lm, cache_bytes=0)
    size = take(probe, b"probe", frames_of(20)).nbytes
    assert probe.find(b"probe") is None  # nothing fits

    prefill = Prefill(lm, cache_bytes=2 * size)
    for key in (b"a", b"b"):
        take(prefill, key, frames_of(20))
    assert prefill.find(b"a") is not None
    take(prefill, b"c", frames_of(20))
    assert prefill.find(b"b") is None
    assert prefill.find(b"a") is not None
    assert prefill.find(b"c") is not None


def test_a_prompt_is_queued_once_and_can_be_withdrawn_half_done(lm: Any) -> None:
    SlotLm(lm, slots=1)
    prefill = Prefill(lm, cache_bytes=1 << 30)
    expected = take(prefill, b"other", frames_of(40, seed=2)).keys_values
    for _ in range(2):
        prefill.ask(b"gone", frames_of(40, seed=1))
    for _ in range(2):
        prefill.ask(b"next", frames_of(40, seed=2))
    assert prefill.advance() is None
    prefill.withdraw(b"gone")
    done = None
    while done is None:
        done = prefill.advance()
    assert done[0] == b"next"
    assert torch.equal(done[1].keys_values, expected)
    assert prefill.idle
    assert prefill.advance() is None
