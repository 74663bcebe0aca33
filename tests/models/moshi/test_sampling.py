"""Per-row sampling: the distribution, independence of rows, and the settings' edges."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.moshi.config import MOST_TOP_K, Sampling
from models.moshi.sampling import check_sampling, resolve, sample, seed_to_int64, uniforms
from models.worker.batch import SlotOptions
from streaming.errors import PeerError

ROWS = 20_000


def draw(logits: Tensor, *, temperature: float, top_k: int, seed: int = 1) -> Tensor:
    """One token from the same logits at each of many positions."""
    rows = torch.full((ROWS,), seed_to_int64(seed), dtype=torch.int64)
    uniform = uniforms(rows, torch.arange(ROWS), 1)[:, 0]
    return sample(
        logits.expand(ROWS, -1),
        temperature=torch.full((ROWS,), temperature),
        top_k=torch.full((ROWS,), top_k),
        uniform=uniform,
    )


def chi_square(tokens: Tensor, expected: Tensor) -> float:
    """Pearson's statistic over the tokens that are expected at all; infinite where another was drawn."""
    counts = torch.bincount(tokens, minlength=len(expected)).double()
    likely = expected > 0
    if counts[~likely].any():
        return float("inf")
    mean = expected[likely].double() * len(tokens)
    return float(((counts[likely] - mean) ** 2 / mean).sum())


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("top_k", [0, 1, 5, 30])
@pytest.mark.parametrize("seed", [0, 2**64 - 1])
def test_tokens_are_distributed_as_the_softmax_of_the_likeliest(temperature: float, top_k: int, seed: int) -> None:
    logits = torch.linspace(-1, 2, 30)[torch.randperm(30, generator=torch.Generator().manual_seed(3))]
    scaled = logits / temperature
    cut = scaled.topk(top_k or 30).values[-1]
    expected = torch.softmax(torch.where(scaled >= cut, scaled, -torch.inf), 0)
    statistic = chi_square(draw(logits, temperature=temperature, top_k=top_k, seed=seed), expected)
    assert statistic < 75  # 29 degrees of freedom: 1e-5 of fair samplers exceed 73


def test_uniforms_fill_the_unit_interval_and_are_not_correlated() -> None:
    drawn = uniforms(torch.arange(2000), torch.arange(2000) % 7, 9)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    counts = torch.histc(drawn, 50, 0, 1)
    assert float(((counts - 360) ** 2 / 360).sum()) < 110  # 49 degrees of freedom
    correlation = torch.corrcoef(torch.cat([drawn.T, drawn.roll(1, 0).T]))
    assert (correlation - torch.eye(18)).abs().max() < 0.11


@settings(max_examples=60, deadline=None)
@given(
    seeds=st.lists(st.integers(0, 2**64 - 1), min_size=2, max_size=2, unique=True),
    position=st.integers(0, 2**40),
)
def test_seeds_positions_and_draws_each_change_the_number(seeds: list[int], position: int) -> None:
    rows = torch.tensor([seed_to_int64(seed) for seed in (*seeds, seeds[0])])
    numbers = uniforms(rows, torch.tensor([position, position, position + 1]), 9)
    assert len(set(numbers.flatten().tolist())) >= 26  # 27 numbers of 23 bits: two may be equal by chance


def test_a_row_depends_on_nothing_else_in_the_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(8, 600, generator=generator) * 3
    settings_ = {
        "temperature": torch.tensor([0.0, 0.5, 0.8, 1.0, 1.0, 2.0, 0.7, 0.0]),
        "top_k": torch.tensor([0, 1, 25, 0, 250, MOST_TOP_K, 3, 7]),
        "uniform": torch.rand(8, generator=generator),
    }
    together = sample(logits, **settings_)
    for row in range(8):
        others = torch.randn(8, 600, generator=generator) * 30
        others[row] = logits[row]
        others[(row + 1) % 8] = torch.nan
        assert sample(others, **settings_)[row] == together[row]
        alone = {name: value[row : row + 1] for name, value in settings_.items()}
        assert sample(logits[row : row + 1], **alone)[0] == together[row]


def test_temperature_zero_is_the_likeliest_whatever_the_rest_says() -> None:
    logits = torch.randn(50, 40, generator=torch.Generator().manual_seed(1))
    drawn = sample(logits, temperature=torch.zeros(50), top_k=torch.arange(50), uniform=torch.full((50,), 0.999))
    assert torch.equal(drawn, logits.argmax(1))


def test_top_k_beyond_the_vocabulary_leaves_all_of_it() -> None:
    logits = torch.randn(200, 6, generator=torch.Generator().manual_seed(1))
    uniform = torch.rand(200, generator=torch.Generator().manual_seed(2))
    temperature = torch.ones(200)
    most = sample(logits, temperature=temperature, top_k=torch.full((200,), MOST_TOP_K), uniform=uniform)
    assert torch.equal(
        most, sample(logits, temperature=temperature, top_k=torch.zeros(200, dtype=torch.int64), uniform=uniform)
    )


def test_equals_at_the_cut_are_all_kept() -> None:
    drawn = draw(torch.tensor([1.0, 1.0, 1.0, 0.0]), temperature=1.0, top_k=2)
    assert set(drawn.tolist()) == {0, 1, 2}


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-23])
def test_the_ends_of_the_interval_never_give_an_unlikely_token(uniform: float) -> None:
    logits = torch.randn(100, 32_000, generator=torch.Generator().manual_seed(5))
    drawn = sample(
        logits, temperature=torch.ones(100), top_k=torch.full((100,), 25), uniform=torch.full((100,), uniform)
    )
    ranks = (logits > logits.gather(1, drawn[:, None])).sum(1)
    assert ranks.max() < 25


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_still_gives_a_token_of_the_vocabulary(value: float) -> None:
    logits = torch.full((1, 10), value)
    drawn = sample(logits, temperature=torch.ones(1), top_k=torch.tensor([3]), uniform=torch.tensor([0.5]))
    assert 0 <= int(drawn) < 10


BAD: list[tuple[str, Any]] = [
    ("text_temperature", -0.1),
    ("text_temperature", float("nan")),
    ("audio_temperature", float("inf")),
    ("audio_temperature", 10.5),
    ("audio_temperature", "hot"),
    ("text_top_k", -1),
    ("text_top_k", 2.5),
    ("audio_top_k", MOST_TOP_K + 1),
    ("seed", -1),
    ("seed", 2**64),
    ("seed", True),
    ("text_temperature", True),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_bad_options_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(PeerError, match=f"^{name} is .*expected a") as caught:
        check_sampling(replace(SlotOptions(), **{name: value}))  # type: ignore[arg-type]
    assert caught.value.param == name


def test_the_ends_of_what_is_allowed_are_taken() -> None:
    check_sampling(SlotOptions(seed=0, text_temperature=0, text_top_k=0, audio_temperature=10, audio_top_k=MOST_TOP_K))
    check_sampling(SlotOptions(seed=2**64 - 1, text_temperature=1))


def test_what_nobody_chose_is_the_models_own() -> None:
    own = Sampling(text_temperature=0.1, text_top_k=2, audio_temperature=0.3, audio_top_k=4)
    check_sampling(SlotOptions())
    assert resolve(SlotOptions(), own) == own
    assert resolve(SlotOptions(text_temperature=0, audio_top_k=0), own) == replace(
        own, text_temperature=0, audio_top_k=0
    )
    assert resolve(SlotOptions(), Sampling()) == Sampling(
        text_temperature=0.7, text_top_k=25, audio_temperature=0.8, audio_top_k=250
    )
