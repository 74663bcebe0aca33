"""Prepares model files once for fast use: a GGUF chat model becomes an ONNX graph with weights in 8 bits.

Source format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (architecture `llama`, tokenizer `gpt2`).
Weights are read as data: nothing of the file is executed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from models.embedded.llama import EMBEDDINGS, GRAPH, SHAPE, TOKENIZER
from models.embedded.llama_graph import LlamaShape, Weight, build_graph
from streaming.errors import EngineError

if TYPE_CHECKING:
    from gguf import GGUFReader
    from tokenizers import Tokenizer

VERSION = 2
"""Raise it when a conversion's result changes: results of another version are not used."""

_ROOM = 640  # instructions, history, a reply and what lies between them; see chat.ChatOptions
_PRE_TOKENIZERS = ("smollm",)
_CONTROL_TOKEN = 3


def converted_directory(models_dir: Path, source_sha256: str) -> Path:
    """Where the result of converting the file with this hash is kept."""
    key = hashlib.sha256(f"{source_sha256}:{VERSION}".encode()).hexdigest()
    return models_dir / "converted" / key


def write_once(out_dir: Path, write: Callable[[Path], None]) -> None:
    """Make `out_dir` by calling `write` with an empty directory, atomically; do nothing where it exists.

    Two processes may race: one result wins, and both are equal.
    """
    if out_dir.is_dir():
        return
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=out_dir.parent, prefix=".partial-"))
    try:
        write(scratch)
        scratch.chmod(0o755)
        try:
            scratch.rename(out_dir)
        except OSError:
            if not out_dir.is_dir():
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def convert(gguf_path: Path, out_dir: Path) -> None:
    """Convert a llama-architecture GGUF file to what `llama.Llama` runs, in `out_dir`; do nothing where it exists.

    Takes about 10 s for 135 M parameters. Raises EngineError where the file is of a kind that is not known.
    """
    write_once(out_dir, lambda scratch: _convert(gguf_path, scratch))


def _convert(gguf_path: Path, out_dir: Path) -> None:
    import onnx
    from gguf import GGUFReader

    reader = GGUFReader(gguf_path)
    if _field(reader, "general.architecture") != "llama":
        raise EngineError("the chat model's architecture is not llama", code="model_invalid")
    build_tokenizer(reader).save(str(out_dir / TOKENIZER))
    shape = _shape(reader)
    (out_dir / SHAPE).write_text(json.dumps(dataclasses.asdict(shape)), encoding="utf-8")
    weight = _dequantised(reader)
    untied = any(tensor.name == "output.weight" for tensor in reader.tensors)
    onnx.save(build_graph(shape, weight, untied=untied), str(out_dir / GRAPH))
    np.save(out_dir / EMBEDDINGS, weight("token_embd").astype(np.float16), allow_pickle=False)


def _shape(reader: GGUFReader) -> LlamaShape:
    width, heads = int(_field(reader, "llama.embedding_length")), int(_field(reader, "llama.attention.head_count"))
    return LlamaShape(
        layers=int(_field(reader, "llama.block_count")),
        width=width,
        heads=heads,
        key_value_heads=int(_field(reader, "llama.attention.head_count_kv")),
        head_size=width // heads,
        rotary_base=float(_field(reader, "llama.rope.freq_base")),
        epsilon=float(_field(reader, "llama.attention.layer_norm_rms_epsilon")),
        room=min(_ROOM, int(_field(reader, "llama.context_length"))),
    )


def _field(reader: GGUFReader, name: str) -> Any:
    field = reader.get_field(name)
    if field is None:
        raise EngineError(f"the chat model's file lacks {name}", code="model_invalid")
    return field.contents()


def build_tokenizer(reader: GGUFReader) -> Tokenizer:
    """The file's own byte-level BPE tokenizer. Control tokens are never produced from text: look them up by name."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    kind = (_field(reader, "tokenizer.ggml.model"), _field(reader, "tokenizer.ggml.pre"))
    if kind[0] != "gpt2" or kind[1] not in _PRE_TOKENIZERS:
        raise EngineError(
            f"the chat model's tokenizer is {kind}; known: gpt2 with {_PRE_TOKENIZERS}", code="model_invalid"
        )
    tokens: list[str] = _field(reader, "tokenizer.ggml.tokens")
    merges = [tuple(merge.split(" ", 1)) for merge in _field(reader, "tokenizer.ggml.merges")]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    kinds = _field(reader, "tokenizer.ggml.token_type")
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True) for token, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL_TOKEN]
    )
    tokenizer.encode_special_tokens = True
    return tokenizer


def _dequantised(reader: GGUFReader) -> Weight:
    from gguf import dequantize

    tensors = {tensor.name: tensor for tensor in reader.tensors}

    def weight(name: str) -> npt.NDArray[np.float32]:
        tensor = tensors.get(f"{name}.weight")
        if tensor is None:
            raise EngineError(f"the chat model's file lacks the tensor {name}", code="model_invalid")
        return np.asarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)

    return weight
