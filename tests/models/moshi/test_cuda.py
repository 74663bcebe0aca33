"""On a GPU: what is baked into CUDA's graphs, and what must not be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from moshi.models.lm import LMGen
from moshi.utils.compile import no_cuda_graph

from models.moshi.batch import MoshiBatch
from models.moshi.checkpoint import load_lm
from models.moshi.files import read_checkpoint
from models.moshi.lm import SlotLm
from models.worker.batch import FrameOut, SlotOptions
from streaming.engine import Samples

pytestmark = pytest.mark.gpu

SAMPLED = SlotOptions(seed=3)


@pytest.fixture(scope="module")
def batch(tiny_personaplex: Path) -> Iterator[MoshiBatch]:
    batch = MoshiBatch(tiny_personaplex, slots=4, device="cuda", dtype="float32", window=128)
    batch.load()
    yield batch
    batch.close()


def recording(seed: int, frames: int = 40) -> Samples:
    return (0.1 * np.random.default_rng(seed).standard_normal((frames, 1920))).astype(np.float32)


def converse(batch: MoshiBatch, slot: int, options: SlotOptions, audio: Samples) -> list[FrameOut]:
    batch.join(slot, options)
    while batch.prepare():
        pass
    said = [batch.step({slot: frame}).frames[slot] for frame in audio]
    batch.leave(slot)
    return said


def codes(said: list[FrameOut]) -> list[list[int]]:
    return [[one.text_token, *one.own] for one in said]


def test_the_graphs_say_what_stock_moshi_says(tiny_moshi: Path) -> None:
    checkpoint = read_checkpoint(tiny_moshi)
    heard = torch.randint(0, 512, (60, 1, 8), generator=torch.Generator().manual_seed(0)).cuda()
    gen = LMGen(load_lm(checkpoint, device="cuda", dtype=torch.float32), use_sampling=False, support_out_of_sync=True)
    expected = []
    with gen.streaming(1):
        for frame in heard:
            tokens: Any = gen.step(frame[:, :, None])
            expected.append(tokens[0, :, 0].tolist())
    slots = SlotLm(load_lm(checkpoint, device="cuda", dtype=torch.float32), slots=1)
    slots.join(0, SlotOptions(text_temperature=0, audio_temperature=0))
    everyone = torch.ones(1, dtype=torch.bool, device="cuda")
    assert [slots.step(frame, everyone)[0][0].tolist() for frame in heard] == expected


def test_sampling_inside_the_graphs_equals_sampling_without_them(tiny_moshi: Path) -> None:
    checkpoint = read_checkpoint(tiny_moshi)
    heard = torch.randint(0, 512, (40, 2, 8), generator=torch.Generator().manual_seed(0)).cuda()
    said = []
    for graphs in (True, False):
        slots = SlotLm(load_lm(checkpoint, device="cuda", dtype=torch.float32), slots=2)
        everyone = torch.ones(2, dtype=torch.bool, device="cuda")
        for slot in range(2):
            slots.join(slot, replace(SAMPLED, seed=slot))
        if graphs:
            said.append([slots.step(frame, everyone)[0].tolist() for frame in heard])
        else:
            with no_cuda_graph():
                said.append([slots.step(frame, everyone)[0].tolist() for frame in heard])
    assert said[0] == said[1]


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": 4},
        {"text_temperature": 0.0},
        {"audio_temperature": 2.0},
        {"audio_top_k": 1},
        {"text_top_k": 0, "text_temperature": 3.0},
        {"voice": "alto"},
        {"instructions": "Be brief."},
    ],
)
def test_each_setting_still_counts_after_the_graphs_were_captured(batch: MoshiBatch, changed: dict[str, Any]) -> None:
    audio = recording(0)
    plain = codes(converse(batch, 1, SAMPLED, audio))
    assert codes(converse(batch, 1, replace(SAMPLED, **changed), audio)) != plain
    assert codes(converse(batch, 1, SAMPLED, audio)) == plain


def test_neighbours_that_come_and_go_change_nothing(batch: MoshiBatch) -> None:
    audio, others = recording(1), recording(2)
    alone = converse(batch, 1, SAMPLED, audio)
    batch.join(0, replace(SAMPLED, seed=8))
    while batch.prepare():
        pass
    batch.join(1, SAMPLED)
    said = []
    for number, (frame, other) in enumerate(zip(audio, others, strict=True)):
        if number == 10:
            batch.join(2, replace(SAMPLED, instructions="You sell boats.", voice="bass"))
        batch.prepare()
        if number == 30:
            batch.leave(0)
        batch.step({slot: other for slot in (0, 2) if not (slot == 0 and number >= 30) and _ready(batch, slot, number)})
        said.append(batch.step({1: frame}).frames[1])
    batch.leave(1)
    batch.leave(2)
    assert codes(said) == codes(alone)
    for one, expected in zip(said, alone, strict=True):
        np.testing.assert_array_equal(one.audio, expected.audio)


def _ready(batch: MoshiBatch, slot: int, number: int) -> bool:
    return (slot == 0 or number >= 10) and batch.ready(slot)


def test_what_is_not_finite_fails_its_slot_alone(batch: MoshiBatch) -> None:
    audio = recording(3, 12)
    alone = codes(converse(batch, 1, SAMPLED, audio))
    for slot in (0, 1):
        batch.join(slot, SAMPLED)
    while batch.prepare():
        pass
    steps = []
    for number, frame in enumerate(audio):
        poison = {0: np.full(1920, np.nan, np.float32)} if number == 5 else {}
        steps.append(batch.step({1: frame} | poison))
    batch.leave(0)
    batch.leave(1)
    assert [list(step.failed) for step in steps if step.failed] == [[0]]
    assert codes([step.frames[1] for step in steps]) == alone
    assert codes(converse(batch, 0, SAMPLED, audio)) == alone


def test_the_parts_of_a_step_are_timed_on_the_device(batch: MoshiBatch) -> None:
    batch.join(0, SAMPLED)
    while batch.prepare():
        pass
    step = batch.step({0: recording(0, 1)[0]})
    batch.leave(0)
    assert min(step.encode, step.model, step.decode) > 10_000
    assert max(step.encode, step.model, step.decode) < 10**9
