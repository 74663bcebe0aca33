from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from moshi.models.compression import MimiModel

from models.mimi import MimiBatch, audio_of, codes_of
from models.moshi.checkpoint import load_mimi
from models.moshi.files import read_checkpoint
from streaming.wire.moshi import FRAME_SAMPLES

SLOTS = 4
FRAMES = 40  # longer than the tiny Mimi's attention reaches: 25 frames

Load = Callable[[], MimiModel]

ON_CUDA = (
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),  # from the compiler's own imports
)


@pytest.fixture(scope="session", params=["cpu", pytest.param("cuda", marks=ON_CUDA)])
def load(request: pytest.FixtureRequest, tiny_moshi: Path) -> Iterator[Load]:
    """A function that loads a fresh tiny Mimi. Full precision: TF32 is not what these tests are about."""
    checkpoint = read_checkpoint(tiny_moshi)
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield lambda: load_mimi(checkpoint, request.param)
    torch.backends.cudnn.allow_tf32 = allowed


@pytest.fixture(scope="session")
def offline(load: Load) -> MimiModel:
    return load()


@pytest.fixture(scope="session")
def batch_of_four(load: Load) -> MimiBatch:
    return MimiBatch(load(), SLOTS)


@pytest.fixture
def batch(batch_of_four: MimiBatch) -> MimiBatch:
    """A batch of SLOTS rows, at the start."""
    batch_of_four.reset(torch.ones(SLOTS, dtype=torch.bool))
    return batch_of_four


def recording(seed: int, frames: int = FRAMES) -> torch.Tensor:
    """Noise whose loudness and pitch wander, shape (frames, 1920)."""
    generator = torch.Generator().manual_seed(seed)
    at = torch.arange(frames * FRAME_SAMPLES) / 24_000
    rate, phase, swell = torch.rand(3, generator=generator)
    tone = torch.sin(2 * torch.pi * (150 + 300 * rate) * at + phase) * torch.sin(3 * swell * at)
    return (0.2 * tone + 0.05 * torch.randn(frames * FRAME_SAMPLES, generator=generator)).view(frames, FRAME_SAMPLES)


@dataclass
class Heard:
    """What a conversation got out of the batch: (n, 8) codes, and (n, 1920) audio of those codes."""

    codes: list[torch.Tensor] = field(default_factory=list)
    audio: list[torch.Tensor] = field(default_factory=list)

    def all_codes(self) -> torch.Tensor:
        return torch.stack(self.codes)

    def all_audio(self) -> torch.Tensor:
        return torch.stack(self.audio)


def run(batch: MimiBatch, ticks: Sequence[Mapping[int, torch.Tensor]], *, others: float = 0.0) -> dict[int, Heard]:
    """Each tick, encode each slot's frame of (1920,) and decode its codes; the rows that sit out hold `others`."""
    heard: dict[int, Heard] = {}
    for frames in ticks:
        execute = torch.zeros(batch.slots, dtype=torch.bool)
        audio = torch.full((batch.slots, 1, FRAME_SAMPLES), others)
        for slot, frame in frames.items():
            execute[slot] = True
            audio[slot, 0] = frame
        codes = batch.encode(audio, execute).clone()
        spoken = batch.decode(codes, execute)
        for slot in frames:
            one = heard.setdefault(slot, Heard())
            one.codes.append(codes[slot].cpu())
            one.audio.append(spoken[slot].cpu())
    return heard


def slot_mask(*slots: int) -> torch.Tensor:
    return torch.tensor([slot in slots for slot in range(SLOTS)])


def alone(frames: torch.Tensor, slot: int = 1) -> list[dict[int, torch.Tensor]]:
    return [{slot: frame} for frame in frames]


# --- streamed and offline ---------------------------------------------------------------------------------------------


def test_streamed_codes_are_the_offline_ones(batch: MimiBatch, offline: MimiModel) -> None:
    frames = recording(1)
    heard = run(batch, alone(frames))[1]
    wave = frames.view(1, 1, -1).to(next(offline.parameters()).device)
    with torch.no_grad():
        expected = offline.encode(wave)[0].T.cpu()
    assert len(expected.unique()) > 50
    assert torch.equal(heard.all_codes(), expected)


def test_streamed_audio_is_the_offline_audio(batch: MimiBatch, offline: MimiModel) -> None:
    heard = run(batch, alone(recording(2)))[1]
    codes = heard.all_codes().T[None].to(next(offline.parameters()).device)
    with torch.no_grad():
        expected = offline.decode(codes)[0, 0].cpu()
    assert expected.abs().max() > 0.1
    assert (heard.all_audio().flatten() - expected).abs().max() <= 1e-5


def test_the_offline_functions_do_the_same_in_pieces(batch: MimiBatch, load: Load) -> None:
    frames = recording(3)
    heard = run(batch, alone(frames))[1]
    model = load()
    codes = codes_of(model, frames.flatten()[:-500].numpy())
    assert codes.dtype == np.int32
    assert codes.shape == (8, FRAMES)
    assert np.array_equal(codes[:, :-1], heard.all_codes().T[:, :-1].numpy())
    audio = audio_of(model, heard.all_codes().T.numpy().astype(np.int32))
    assert audio.dtype == np.float32
    assert np.abs(audio - heard.all_audio().flatten().numpy()).max() <= 1e-5


# --- neighbours -------------------------------------------------------------------------------------------------------


def neighbours_idle(frame: torch.Tensor, tick: int) -> dict[int, torch.Tensor]:
    return {1: frame}


def neighbours_busy(frame: torch.Tensor, tick: int) -> dict[int, torch.Tensor]:
    noise = recording(100 + tick, frames=3)
    return {0: noise[0], 1: frame, 2: noise[1], 3: noise[2]}


def neighbours_come_and_go(frame: torch.Tensor, tick: int) -> dict[int, torch.Tensor]:
    noise = recording(200 + tick, frames=2)
    return {1: frame} | ({0: noise[0]} if 5 <= tick < 17 else {}) | ({3: noise[1]} if tick % 7 < 3 else {})


def neighbours_lose_frames(frame: torch.Tensor, tick: int) -> dict[int, torch.Tensor]:
    noise = recording(300 + tick, frames=2)
    return {1: frame} | {slot: noise[slot // 2] for slot in (0, 2) if (tick + slot) % 3}


def neighbours_shout(frame: torch.Tensor, tick: int) -> dict[int, torch.Tensor]:
    return {0: torch.full((FRAME_SAMPLES,), float("nan")), 1: frame, 2: torch.full((FRAME_SAMPLES,), float("inf"))}


@pytest.mark.parametrize(
    "neighbours",
    [neighbours_busy, neighbours_come_and_go, neighbours_lose_frames, neighbours_shout],
)
def test_a_conversation_is_bit_for_bit_what_it_is_alone(
    batch: MimiBatch, neighbours: Callable[[torch.Tensor, int], dict[int, torch.Tensor]]
) -> None:
    frames = recording(4)
    expected = run(batch, [neighbours_idle(frame, tick) for tick, frame in enumerate(frames)])[1]
    batch.reset(torch.ones(SLOTS, dtype=torch.bool))
    heard = run(batch, [neighbours(frame, tick) for tick, frame in enumerate(frames)])[1]
    assert torch.equal(heard.all_codes(), expected.all_codes())
    assert torch.equal(heard.all_audio(), expected.all_audio())


@pytest.mark.parametrize("others", [0.0, 1e4, float("nan")])
def test_a_row_that_sits_out_stays_as_it_was(batch: MimiBatch, others: float) -> None:
    frames = recording(5)
    expected = run(batch, alone(frames))[1]
    batch.reset(slot_mask(1))
    ticks: list[dict[int, torch.Tensor]] = []
    for number, frame in enumerate(frames):
        ticks += [{1: frame}, {}] if number % 2 else [{1: frame}]  # every third tick without a frame
    heard = run(batch, ticks, others=others)[1]
    assert torch.equal(heard.all_codes(), expected.all_codes())
    assert torch.equal(heard.all_audio(), expected.all_audio())


def test_every_row_gives_the_same(batch: MimiBatch) -> None:
    frames = recording(6, frames=12)
    heard = run(batch, [dict.fromkeys(range(SLOTS), frame) for frame in frames])
    for slot in range(1, SLOTS):
        assert torch.equal(heard[slot].all_codes(), heard[0].all_codes())
        assert (heard[slot].all_audio() - heard[0].all_audio()).abs().max() <= 1e-6


@pytest.mark.parametrize("slots", [1, 2, 7])
def test_another_batch_size_differs_by_rounding_only(batch: MimiBatch, load: Load, slots: int) -> None:
    frames = recording(7)
    expected = run(batch, alone(frames, slot=0))[0]
    heard = run(MimiBatch(load(), slots), alone(frames, slot=0))[0]
    assert (heard.all_codes() == expected.all_codes()).float().mean() >= 0.995
    assert (heard.all_audio() - expected.all_audio()).abs().max() <= 1e-4


# --- resets -----------------------------------------------------------------------------------------------------------


def test_a_reset_leaves_nothing_of_the_last_conversation(batch: MimiBatch) -> None:
    frames = recording(8)
    expected = run(batch, alone(frames))[1]
    run(batch, [{1: torch.full((FRAME_SAMPLES,), float("nan"))}, *alone(recording(9))])
    batch.reset(slot_mask(1))
    heard = run(batch, alone(frames))[1]
    assert torch.equal(heard.all_codes(), expected.all_codes())
    assert torch.equal(heard.all_audio(), expected.all_audio())


def test_a_reset_leaves_the_neighbours_alone(batch: MimiBatch) -> None:
    frames = recording(10)
    expected = run(batch, alone(frames))[1]
    batch.reset(slot_mask(1))
    before = run(batch, [{0: frame, 1: frame} for frame in frames[:15]])[1]
    batch.reset(slot_mask(0, 2, 3))
    after = run(batch, alone(frames[15:]))[1]
    assert torch.equal(torch.cat([before.all_codes(), after.all_codes()]), expected.all_codes())
    assert torch.equal(torch.cat([before.all_audio(), after.all_audio()]), expected.all_audio())


def test_each_half_is_reset_apart(batch: MimiBatch) -> None:
    frames = recording(11)
    expected = run(batch, alone(frames))[1]
    batch.reset_encoder(slot_mask(1))
    heard = run(batch, alone(frames))[1]
    assert torch.equal(heard.all_codes(), expected.all_codes())
    assert not torch.equal(heard.all_audio(), expected.all_audio())
    batch.reset_decoder(slot_mask(1))
    again = run(batch, alone(frames))[1]
    assert not torch.equal(again.all_codes(), expected.all_codes())
    batch.reset_decoder(slot_mask(1))
    spoken = [batch.decode(codes.expand(SLOTS, 8), slot_mask(1))[1].cpu() for codes in expected.codes]
    assert torch.equal(torch.stack(spoken), expected.all_audio())


# --- what cannot be taken ---------------------------------------------------------------------------------------------


def test_codes_of_rows_that_sit_out_may_be_anything(batch: MimiBatch) -> None:
    heard = run(batch, alone(recording(13, frames=1)))[1]
    batch.reset_decoder(slot_mask(0, 1, 2, 3))
    codes = torch.full((SLOTS, 8), -2)
    codes[0] = 1 << 40
    codes[1] = heard.codes[0]
    spoken = batch.decode(codes, slot_mask(1)).cpu()
    assert torch.equal(spoken[1], heard.audio[0])


def test_another_shape_is_refused(batch: MimiBatch) -> None:
    with pytest.raises(ValueError, match=r"audio of shape \(4, 1, 1920\), not \(4, 1, 960\)"):
        batch.encode(torch.zeros(SLOTS, 1, 960), slot_mask(1))
    with pytest.raises(ValueError, match=r"execute of shape \(4,\), not \(3,\)"):
        batch.encode(torch.zeros(SLOTS, 1, FRAME_SAMPLES), torch.ones(3, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"codes of shape \(4, 8\), not \(4, 9\)"):
        batch.decode(torch.zeros(SLOTS, 9, dtype=torch.long), slot_mask(1))
    with pytest.raises(ValueError, match=r"slots of shape \(4,\), not \(5,\)"):
        batch.reset(torch.ones(5, dtype=torch.bool))


def test_the_offline_functions_refuse_what_is_not_audio_or_codes(load: Load) -> None:
    model = load()
    for audio in (np.zeros(0, np.float32), np.zeros((2, 2), np.float32), np.array([0, np.nan], np.float32)):
        with pytest.raises(ValueError, match="finite samples"):
            codes_of(model, audio)
    with pytest.raises(ValueError, match=r"shape \(8, T\), not \(7, 3\)"):
        audio_of(model, np.zeros((7, 3), np.int32))
    for wrong in (-1, 512):
        with pytest.raises(ValueError, match="codes from 0 to 511"):
            audio_of(model, np.full((8, 3), wrong, np.int32))
