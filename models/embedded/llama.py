"""Runs a converted llama model, token by token, on one thread for each call."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from models.embedded.llama_graph import LlamaShape
from models.onnx import single_threaded_session

if TYPE_CHECKING:
    from tokenizers import Tokenizer

GRAPH, EMBEDDINGS, TOKENIZER, SHAPE = "model.onnx", "embeddings.npy", "tokenizer.json", "shape.json"
"""The files of a converted model."""

Logits = npt.NDArray[np.float32]


class Llama:
    """A converted model (`convert.convert`), shared by any number of threads, each with a `LlamaState` of its own."""

    def __init__(self, directory: Path) -> None:
        from models.embedded.chat_prompt import load_tokenizer

        self.tokenizer: Tokenizer = load_tokenizer(directory / TOKENIZER)
        self.shape = LlamaShape(**json.loads((directory / SHAPE).read_text(encoding="utf-8")))
        self._vocabulary = self.tokenizer.get_vocab(with_added_tokens=True)
        self.session = single_threaded_session((directory / GRAPH).read_bytes())
        self.embeddings = np.load(directory / EMBEDDINGS, mmap_mode="r", allow_pickle=False)

    def ids(self, tokens: Sequence[str]) -> list[int]:
        """The numbers of tokens. Raises KeyError for one that the vocabulary lacks."""
        return [self._vocabulary[token] for token in tokens]


class LlamaState:
    """What a model has read of one conversation: each layer's keys and values, about 30 MB for SmolLM2-135M.

    `length` positions have been read; setting it back forgets the later ones.
    ."""

    def __init__(self, llama: Llama) -> None:
        import onnxruntime

        shape = llama.shape
        empty = (1, shape.key_value_heads, shape.room, shape.head_size)
        self.length = 0
        self._llama = llama
        self._names = [f"{part}_{layer}" for layer in range(shape.layers) for part in ("keys", "values")]
        self._kept = [np.zeros(empty, dtype=np.float32) for _ in self._names]
        self._binding = llama.session.io_binding()
        for name, array in zip(self._names, self._kept, strict=True):
            # The graph writes the new keys and values into the memory that it reads the old ones from.
            memory: Any = onnxruntime.OrtValue.ortvalue_from_numpy(array)
            self._binding.bind_ortvalue_input(name, memory)
            self._binding.bind_ortvalue_output(f"new_{name}", memory)

    def resume(self, other: LlamaState, length: int) -> None:
        """Take over the first `length` positions of what another state has read."""
        for mine, theirs in zip(self._kept, other._kept, strict=True):
            mine[:, :, :length] = theirs[:, :, :length]
        self.length = length

    def read(self, ids: Sequence[int]) -> Logits:
        """Read on, at least one token, and give the logits (vocabulary,) of what comes next.

        Raises ValueError where there is no room for so many.
        """
        room = self._llama.shape.room
        if not ids or self.length + len(ids) > room:
            raise ValueError(f"{len(ids)} tokens after {self.length}; there is room for 1 to {room} in all")
        self.length += len(ids)
        rows = self._llama.embeddings[list(ids)].astype(np.float32)
        binding = self._binding
        binding.bind_cpu_input("embeddings", rows[np.newaxis])
        binding.bind_cpu_input("newest", np.array([self.length - 1], dtype=np.int32))
        binding.bind_cpu_input("total", np.array([self.length], dtype=np.int32))
        binding.bind_output("logits", "cpu")
        self._llama.session.run_with_iobinding(binding)
        logits: Logits = binding.get_outputs()[-1].numpy().reshape(-1)
        return logits
