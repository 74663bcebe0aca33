"""Prepares model files once for fast use: a GGUF chat model becomes a CTranslate2 int8 model.

Source formats: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (architecture `llama`, tokenizer `gpt2`) and
`ctranslate2.specs`. Weights are read as data: nothing of the file is executed.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from streaming.errors import EngineError

if TYPE_CHECKING:
    from gguf import GGUFReader
    from tokenizers import Tokenizer

VERSION = 1
"""Raise it when a conversion's result changes: results of another version are not used."""

_PRE_TOKENIZERS = ("smollm",)
_CONTROL_TOKEN = 3
_Array = npt.NDArray[Any]


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
    """Convert a llama-architecture GGUF file to CTranslate2 int8 in `out_dir`; do nothing where it exists.

    `out_dir` gets `model.bin`, `config.json`, `vocabulary.json` and `tokenizer.json`. Takes about 4 s for 135 M
    parameters. Raises EngineError where the file is of a kind that is not known.
    """
    write_once(out_dir, lambda scratch: _convert(gguf_path, scratch))


def _convert(gguf_path: Path, out_dir: Path) -> None:
    from gguf import GGUFReader

    reader = GGUFReader(gguf_path)
    if _field(reader, "general.architecture") != "llama":
        raise EngineError("the chat model's architecture is not llama", code="model_invalid")
    tokenizer = build_tokenizer(reader)
    tokenizer.save(str(out_dir / "tokenizer.json"))
    spec = _build_spec(reader)
    spec.register_vocabulary(_field(reader, "tokenizer.ggml.tokens"))
    end = tokenizer.id_to_token(int(_field(reader, "tokenizer.ggml.eos_token_id")))
    spec.config.bos_token = spec.config.eos_token = end
    spec.config.unk_token = tokenizer.id_to_token(int(_field(reader, "tokenizer.ggml.unknown_token_id")))
    spec.config.layer_norm_epsilon = float(_field(reader, "llama.attention.layer_norm_rms_epsilon"))
    spec.validate()
    spec.optimize(quantization="int8_float32")
    spec.save(str(out_dir))


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


def _build_spec(reader: GGUFReader) -> Any:
    from ctranslate2.specs import TransformerDecoderModelSpec, common_spec

    # The file's query and key rows are already permuted for interleaved rotary positions.
    spec = TransformerDecoderModelSpec.from_config(
        int(_field(reader, "llama.block_count")),
        int(_field(reader, "llama.attention.head_count")),
        activation=common_spec.Activation.SWISH,
        pre_norm=True,
        ffn_glu=True,
        rms_norm=True,
        rotary_dim=0,
        rotary_interleave=True,
        rotary_base=float(_field(reader, "llama.rope.freq_base")),
        num_heads_kv=int(_field(reader, "llama.attention.head_count_kv")),
    )
    untied = any(tensor.name == "output.weight" for tensor in reader.tensors)
    _fill_spec(spec.decoder, _dequantised(reader), untied=untied)
    return spec


def _dequantised(reader: GGUFReader) -> Callable[[str], _Array]:
    from gguf import dequantize

    tensors = {tensor.name: tensor for tensor in reader.tensors}

    def weight(name: str) -> _Array:
        tensor = tensors.get(f"{name}.weight")
        if tensor is None:
            raise EngineError(f"the chat model's file lacks the tensor {name}", code="model_invalid")
        return dequantize(tensor.data, tensor.tensor_type).astype(np.float32, copy=False)

    return weight


def _fill_spec(decoder: Any, weight: Callable[[str], _Array], *, untied: bool) -> None:
    decoder.scale_embeddings = False
    decoder.embeddings.weight = weight("token_embd")
    decoder.projection.weight = weight("output") if untied else decoder.embeddings.weight
    decoder.layer_norm.gamma = weight("output_norm")
    for index, layer in enumerate(decoder.layer):
        block = f"blk.{index}"
        layer.self_attention.layer_norm.gamma = weight(f"{block}.attn_norm")
        queries_keys_values = [weight(f"{block}.attn_{part}") for part in "qkv"]
        layer.self_attention.linear[0].weight = np.concatenate(queries_keys_values)
        layer.self_attention.linear[1].weight = weight(f"{block}.attn_output")
        layer.ffn.layer_norm.gamma = weight(f"{block}.ffn_norm")
        layer.ffn.linear_0.weight = weight(f"{block}.ffn_gate")
        layer.ffn.linear_0_noact.weight = weight(f"{block}.ffn_up")
        layer.ffn.linear_1.weight = weight(f"{block}.ffn_down")
