from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from models.embedded.llama import Llama, LlamaState
from models.embedded.llama_graph import LlamaShape, build_graph, quantise
from models.embedded.prepare import prepare_chat
from models.onnx import single_threaded_session

SHAPE = LlamaShape(
    layers=2, width=64, heads=4, key_value_heads=2, head_size=16, rotary_base=10_000.0, epsilon=1e-5, room=32
)
VOCABULARY = 96


Array = npt.NDArray[np.float64]


def tiny_weight(name: str) -> npt.NDArray[np.float32]:
    sizes = {
        "token_embd": (VOCABULARY, 64),
        "attn_q": (64, 64),
        "attn_k": (32, 64),
        "attn_v": (32, 64),
        "attn_output": (64, 64),
        "ffn_gate": (128, 64),
        "ffn_up": (128, 64),
        "ffn_down": (64, 128),
    }
    size = sizes.get(name.rpartition(".")[2], (64,))
    rng = np.random.default_rng(sum(name.encode()))
    return (rng.normal(1 if len(size) == 1 else 0, 0.15, size)).astype(np.float32)


def reference(ids: list[int]) -> Array:
    """The same model in plain numpy: logits after the last token. RoFormer (arXiv:2104.09864), Llama (2302.13971)."""

    def w(name: str) -> Array:
        return tiny_weight(name).astype(np.float64)

    def norm(x: Array, gamma: Array) -> Array:
        normed: Array = x / np.sqrt(np.mean(x**2, -1, keepdims=True) + SHAPE.epsilon) * gamma
        return normed

    def rotate(x: Array) -> Array:
        angles = np.outer(np.arange(len(ids)), SHAPE.rotary_base ** -(np.arange(0, 16, 2) / 16))[:, None]
        even, odd = x[..., 0::2], x[..., 1::2]
        out = np.empty_like(x)
        out[..., 0::2] = even * np.cos(angles) - odd * np.sin(angles)
        out[..., 1::2] = even * np.sin(angles) + odd * np.cos(angles)
        return out

    x = w("token_embd")[ids]
    mask = np.triu(np.full((len(ids), len(ids)), -np.inf), 1)
    for layer in range(SHAPE.layers):
        block = f"blk.{layer}"
        h = norm(x, w(f"{block}.attn_norm"))
        q = rotate((h @ w(f"{block}.attn_q").T).reshape(-1, 4, 16))
        k = np.repeat(rotate((h @ w(f"{block}.attn_k").T).reshape(-1, 2, 16)), 2, axis=1)
        v = np.repeat((h @ w(f"{block}.attn_v").T).reshape(-1, 2, 16), 2, axis=1)
        scores = np.einsum("ihd,jhd->hij", q, k) / 4 + mask
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        x = x + np.einsum("hij,jhd->ihd", weights, v).reshape(-1, 64) @ w(f"{block}.attn_output").T
        h = norm(x, w(f"{block}.ffn_norm"))
        gate = h @ w(f"{block}.ffn_gate").T
        x = x + (gate / (1 + np.exp(-gate)) * (h @ w(f"{block}.ffn_up").T)) @ w(f"{block}.ffn_down").T
    return np.asarray(norm(x, w("output_norm"))[-1] @ w("token_embd").T)


@pytest.fixture
def tiny() -> Llama:
    llama = object.__new__(Llama)
    llama.shape = SHAPE
    llama.session = single_threaded_session(build_graph(SHAPE, tiny_weight, untied=False).SerializeToString())
    llama.embeddings = tiny_weight("token_embd")
    return llama


def test_the_graph_computes_what_the_papers_say(tiny: Llama) -> None:
    ids = [5, 17, 3, 90, 44, 8]
    logits, expected = LlamaState(tiny).read(ids), reference(ids)
    assert np.corrcoef(logits, expected)[0, 1] > 0.995  # weights and activations are in 8 bits
    assert int(np.argmax(logits)) == int(np.argmax(expected))


def test_reading_in_pieces_is_reading(tiny: Llama) -> None:
    whole, pieces = LlamaState(tiny), LlamaState(tiny)
    expected = whole.read([5, 17, 3, 90, 44])
    pieces.read([5, 17])
    pieces.read([3])
    np.testing.assert_allclose(pieces.read([90, 44]), expected, atol=0.05)


def test_going_back_forgets(tiny: Llama) -> None:
    state, fresh = LlamaState(tiny), LlamaState(tiny)
    state.read([5, 17, 3])
    state.length = 1
    fresh.read([5])
    np.testing.assert_array_equal(state.read([60]), fresh.read([60]))


def test_a_state_taken_over_is_a_copy(tiny: Llama) -> None:
    first, second = LlamaState(tiny), LlamaState(tiny)
    first.read([5, 17])
    second.resume(first, 2)
    expected = second.read([3])
    first.length = 1
    first.read([90])
    second.length = 2
    np.testing.assert_array_equal(second.read([3]), expected)


def test_the_room_is_bounded(tiny: Llama) -> None:
    state = LlamaState(tiny)
    state.read([1] * 32)
    with pytest.raises(ValueError, match="room for 1 to 32"):
        state.read([1])


def test_quantising_loses_less_than_half_a_step() -> None:
    matrix = np.random.default_rng(0).normal(size=(3, 64)).astype(np.float32)
    quantised, scales = quantise(matrix)
    assert quantised.shape == (3, 2, 32)
    restored = (quantised.astype(np.float32) - 128) * scales.reshape(3, 2, 1)
    assert np.all(np.abs(restored - matrix.reshape(3, 2, 32)) <= scales.reshape(3, 2, 1) / 2 + 1e-6)


@pytest.mark.models
def test_the_real_model_knows_its_language(models_dir: Path) -> None:
    llama = Llama(prepare_chat(models_dir))
    logits = LlamaState(llama).read(llama.tokenizer.encode("The cat sat on the").ids)
    likeliest = [llama.tokenizer.decode([int(token)]).strip() for token in np.argsort(logits)[-20:]]
    assert {"floor", "table", "bed", "ground"} & set(likeliest)
