import numpy as np

from models.embedded.llama import Logits
from models.embedded.sampling import Sampler, SamplingOptions


def likes(*tokens: int, size: int = 10) -> Logits:
    """Logits that prefer these tokens, the first most."""
    logits = np.zeros(size, dtype=np.float32)
    for rank, token in enumerate(tokens):
        logits[token] = 5.0 - rank
    return logits


def test_the_likeliest_is_taken() -> None:
    assert Sampler(SamplingOptions(), []).choose(likes(3)) == 3


def test_what_was_written_becomes_less_likely() -> None:
    sampler = Sampler(SamplingOptions(repetition_penalty=2.0), [])
    assert [sampler.choose(likes(3, 4)) for _ in range(3)] == [3, 4, 3]


def test_a_run_of_the_conversation_does_not_come_again() -> None:
    sampler = Sampler(SamplingOptions(no_repeat=3, repetition_penalty=1.0), [1, 2, 3, 9])
    assert [sampler.choose(likes(token, 7)) for token in (1, 2, 3)] == [1, 2, 7]


def test_equal_seeds_draw_equally_among_the_likeliest() -> None:
    options = SamplingOptions(temperature=2.0, top_k=3, repetition_penalty=1.0, no_repeat=0, seed=5)
    drawn = [[Sampler(options, []).choose(likes(1, 2, 3)) for _ in range(5)] for _ in range(2)]
    assert drawn[0] == drawn[1]
    sampler = Sampler(options, [])
    assert {sampler.choose(likes(1, 2, 3)) for _ in range(200)} == {1, 2, 3}
