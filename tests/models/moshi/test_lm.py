"""The batched language model against moshi's own LMGen: joins, leaves, missed frames, and calls past the window."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from moshi.models.lm import LMGen
from moshi.utils.compile import no_compile
from torch import Tensor

from models.moshi.checkpoint import load_lm
from models.moshi.files import read_checkpoint
from models.moshi.lm import FREE, SlotLm
from models.worker.batch import SlotOptions

pytestmark = pytest.mark.timeout(600)  # hundreds of steps of a model, on one thread

Tokens = npt.NDArray[np.int64]

GREEDY = SlotOptions(text_temperature=0, audio_temperature=0)
SAMPLED = SlotOptions(seed=11, text_temperature=1, text_top_k=0, audio_temperature=0.9, audio_top_k=40)
WINDOW = 16


@pytest.fixture(scope="module")
def load(tiny_moshi: Path) -> Callable[[], Any]:
    return lambda: load_lm(read_checkpoint(tiny_moshi), device="cpu", window=WINDOW)


def heard(seed: int, frames: int = 70) -> Tensor:
    """The user's codes, int64 [frames, 8]."""
    return torch.randint(0, 512, (frames, 8), generator=torch.Generator().manual_seed(seed))


def stock(lm: Any, codes: Tensor) -> Tokens:
    """What moshi's own LMGen says alone, the likeliest tokens; int64 [frames, 9]."""
    gen = LMGen(lm, use_sampling=False, support_out_of_sync=True)
    with gen.streaming(1), no_compile():
        said = [gen.step(frame[None, :, None]) for frame in codes]
        return torch.cat([one[:, :, 0] for one in said if one is not None]).numpy()


class Hall:
    """A batch whose slots are given frames one at a time, and what each of them said."""

    def __init__(self, lm: Any, slots: int) -> None:
        self.batch = SlotLm(lm, slots=slots)
        self.said: dict[int, list[Tokens]] = {slot: [] for slot in range(slots)}

    def join(self, slot: int, options: SlotOptions) -> None:
        self.batch.join(slot, options)
        self.said[slot] = []

    def leave(self, slot: int) -> Tokens:
        self.batch.leave(slot)
        return np.array(self.said[slot])

    def tick(self, frames: dict[int, Tensor]) -> None:
        codes = torch.randint(0, 512, (self.batch.slots, 8))  # what stands in the rows that sit out must not matter
        executes = torch.zeros(self.batch.slots, dtype=torch.bool)
        for slot, frame in frames.items():
            codes[slot] = frame
            executes[slot] = True
        tokens, sound = self.batch.step(codes, executes)
        assert sound[executes].all()
        assert (tokens[~executes] == -2).all()
        for slot in frames:
            self.said[slot].append(tokens[slot].numpy().copy())

    def run(self, slot: int, frames: Iterable[Tensor]) -> Tokens:
        for frame in frames:
            self.tick({slot: frame})
        return np.array(self.said[slot])


def test_each_slot_says_what_stock_moshi_says_through_joins_leaves_and_missed_frames(load: Callable[[], Any]) -> None:
    calls = [heard(seed) for seed in range(4)]
    alone = [stock(load(), call) for call in calls]
    hall, done = Hall(load(), 3), {}
    at = dict.fromkeys(range(4), 0)
    place: dict[int, int] = {}
    arrivals = {0: (0, 0), 7: (1, 1), 45: (2, 1), 50: (3, 2)}  # tick: (call, slot); call 2 takes call 1's slot
    for tick in range(90):
        if tick == 40:
            done[1] = hall.leave(place.pop(1))
        if tick in arrivals:
            call, place[call] = arrivals[tick]
            hall.join(place[call], GREEDY)
        present = [call for call in place if at[call] < 70 and (call == 0 or (tick + call) % 3)]
        hall.tick({place[call]: calls[call][at[call]] for call in present})
        for call in present:
            at[call] += 1
    done |= {call: np.array(hall.said[slot]) for call, slot in place.items()}
    assert len(done[0]) == 70  # more than four windows long
    for call, said in done.items():
        assert len(said) > 20
        np.testing.assert_array_equal(said, alone[call][: len(said)])


def test_a_call_has_no_end(load: Callable[[], Any]) -> None:
    """Fifteen windows long: the ring has wrapped as often, and positions go on."""
    call = heard(0, 15 * WINDOW)
    said = stock(load(), call)
    hall = Hall(load(), 1)
    hall.join(0, GREEDY)
    np.testing.assert_array_equal(hall.run(0, call), said)
    assert hall.batch.offsets() == [15 * WINDOW]
    assert (said[0] == -2).all()
    assert all(len(np.unique(said[1:, codebook])) > 5 for codebook in range(9))


def test_a_seed_gives_the_same_tokens_whatever_the_neighbours_do(load: Callable[[], Any]) -> None:
    call = heard(5)
    hall = Hall(load(), 3)
    hall.join(1, SAMPLED)
    alone = hall.run(1, call)
    hall.leave(1)

    hall.join(0, replace(SAMPLED, seed=77, audio_temperature=2))
    hall.join(2, SAMPLED)
    for frame in heard(6, 30):
        hall.tick({0: frame, 2: frame})
    same_seed = hall.leave(2)
    hall.join(2, GREEDY)
    hall.join(1, SAMPLED)
    neighbours = heard(7)
    for number, frame in enumerate(call):
        hall.tick({1: frame} | ({0: neighbours[number]} if number % 4 else {}))
        hall.tick({2: neighbours[number]})  # ticks that the slot itself sits out
        if number == 30:
            hall.leave(0)
            hall.join(0, replace(SAMPLED, text_top_k=1))
    np.testing.assert_array_equal(np.array(hall.said[1]), alone)
    assert not np.array_equal(same_seed, alone[:30])  # it heard something else


def test_seeds_differ_and_repeat(load: Callable[[], Any]) -> None:
    call = heard(1, 20)
    hall = Hall(load(), 3)
    for slot, seed in enumerate((1, 2, 1)):
        hall.join(slot, replace(SAMPLED, seed=seed))
    for frame in call:
        hall.tick(dict.fromkeys(range(3), frame))
    first, other, again = (np.array(hall.said[slot]) for slot in range(3))
    np.testing.assert_array_equal(first, again)
    assert (first[2:] != other[2:]).mean() > 0.5


def test_a_slot_that_is_left_holds_nothing(load: Callable[[], Any]) -> None:
    hall = Hall(load(), 2)
    hall.join(0, SAMPLED)
    hall.run(0, heard(3, 40))
    hall.leave(0)
    assert hall.batch.offsets() == [0, 0]
    for state in hall.batch.lm.get_streaming_state().values():
        if getattr(state, "kv_cache", None) is not None:
            assert not state.kv_cache.cache[:, 0].any()
            assert not state.kv_cache.end_offset[0]


def test_a_poisoned_slot_is_told_of_and_the_next_conversation_in_it_is_sound(load: Callable[[], Any]) -> None:
    call = heard(2, 40)
    hall = Hall(load(), 2)
    hall.join(0, GREEDY)
    hall.join(1, GREEDY)
    expected = stock(load(), call)
    for number, frame in enumerate(call[:30]):
        if number == 20:
            for state in hall.batch.lm.get_streaming_state().values():
                if getattr(state, "kv_cache", None) is not None:
                    state.kv_cache.cache[:, 0] = torch.nan
            _, sound = hall.batch.step(torch.stack([frame, frame]), torch.tensor([True, False]))
            assert sound.tolist() == [False, True]
        hall.tick({1: frame})
    np.testing.assert_array_equal(np.array(hall.said[1]), expected[:30])
    hall.leave(0)
    hall.join(0, GREEDY)
    np.testing.assert_array_equal(hall.run(0, call), expected)


def test_forced_tokens_are_chosen_at_their_column_and_only_there(load: Callable[[], Any]) -> None:
    call = heard(4, 12)
    hall = Hall(load(), 2)
    for slot in range(2):
        hall.join(slot, GREEDY)
    tokens = torch.tensor([100, FREE, 7, FREE, FREE, FREE, FREE, FREE, 9])
    hall.batch.force(0, at=5, tokens=tokens)
    for frame in call:
        hall.tick({0: frame, 1: frame})
    forced, free = (np.array(hall.said[slot]) for slot in range(2))
    np.testing.assert_array_equal(forced[:4], free[:4])
    assert (forced[6, 0], forced[5, 2], forced[5, 8]) == (100, 7, 9)  # the text comes out with its audio, a frame later
    assert free[6, 0] != 100
    assert forced[7, 0] != 100


def test_what_was_to_be_forced_is_forgotten_with_the_conversation(load: Callable[[], Any]) -> None:
    call = heard(4, 12)
    hall = Hall(load(), 1)
    hall.join(0, GREEDY)
    hall.batch.force(0, at=5, tokens=torch.full((9,), 7))
    hall.run(0, call[:3])
    hall.leave(0)
    hall.join(0, GREEDY)
    np.testing.assert_array_equal(hall.run(0, call), stock(load(), call))


def test_the_state_is_as_large_as_the_window(tiny_moshi: Path) -> None:
    checkpoint = read_checkpoint(tiny_moshi)
    sizes = {}
    for window in (32, 64):
        lm = load_lm(checkpoint, device="cpu", window=window)
        sizes[window] = SlotLm(lm, slots=2).state_bytes
    rows = 2 * checkpoint.lm.num_layers * checkpoint.lm.dim * 4  # keys and values of a frame, float32
    assert sizes[64] - sizes[32] == 32 * rows
    assert sizes[32] - 32 * rows < 2000


def test_the_first_eight_depth_steps_are_those_of_all_sixteen(tiny_personaplex: Path) -> None:
    checkpoint = read_checkpoint(tiny_personaplex)
    generator = torch.Generator().manual_seed(0)
    text = torch.randint(0, 512, (5,), generator=generator)
    hidden = torch.randn(5, 1, checkpoint.lm.dim, generator=generator)
    chosen = []
    for steps in (16, 8):
        lm = load_lm(checkpoint, device="cpu", heard_codebooks=steps)
        assert lm.dep_q == steps
        with torch.no_grad(), no_compile():
            chosen.append(LMGen(lm, use_sampling=False).depformer_step(text, hidden))
    assert chosen[0].shape == (5, 16)
    assert torch.equal(chosen[0][:, :8], chosen[1])
