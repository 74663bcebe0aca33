"""A llama-architecture model as an ONNX graph with its weights in 8 bits.

One run of the graph reads some tokens and gives the logits after the last. Inputs: `embeddings` (1, n, width);
`newest` (1,), the position of the last token; `total` (1,), the number of positions; and for each layer `keys_i` and
`values_i` (1, heads, room, size), of which those before the new tokens count. Outputs: `logits` (1, 1, vocabulary),
`new_keys_i` and `new_values_i`, for which the inputs' memory may be used.

The operators of the domain com.microsoft are ONNX Runtime's own. MatMulNBits holds weights in blocks with a scale each
and multiplies in int8; for one token at a time it takes half the time of a general int8 product, which packs the
weights anew at each call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from onnx import ModelProto

Weight = Callable[[str], npt.NDArray[np.float32]]
"""The weight of this GGUF name, such as `blk.0.attn_q`, as float32 with an output in each row."""

_BLOCK = 32
_MULTIPLY_IN_INT8 = 4  # MatMulNBits' accuracy level
_OPSET, _IR_VERSION = 21, 10


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaShape:
    """The sizes of a model. `heads` are those of the queries; `room` is how many positions can be read."""

    layers: int
    width: int
    heads: int
    key_value_heads: int
    head_size: int
    rotary_base: float
    epsilon: float
    room: int


def build_graph(shape: LlamaShape, weight: Weight, *, untied: bool) -> ModelProto:
    """The graph. `untied`: the output matrix is not the embeddings'."""
    graph = _Graph(shape)
    residual = "embeddings"
    normed = graph.norm(residual, weight("blk.0.attn_norm"))
    for index in range(shape.layers):
        block = f"blk.{index}"
        queries_keys_values = np.concatenate([weight(f"{block}.attn_{part}") for part in "qkv"])
        attended = graph.attend(graph.project(normed, queries_keys_values), index)
        attended = graph.project(attended, weight(f"{block}.attn_output"))
        normed, residual = graph.add_and_norm(attended, residual, weight(f"{block}.ffn_norm"))
        gate = graph.node("QuickGelu", [graph.project(normed, weight(f"{block}.ffn_gate"))], alpha=1.0)
        up = graph.project(normed, weight(f"{block}.ffn_up"))
        down = graph.project(graph.node("Mul", [gate, up], domain=""), weight(f"{block}.ffn_down"))
        next_norm = f"blk.{index + 1}.attn_norm" if index + 1 < shape.layers else "output_norm"
        normed, residual = graph.add_and_norm(down, residual, weight(next_norm))
    newest = graph.node("Gather", [normed, graph.constant(np.array([-1]))], domain="", axis=1)
    graph.project(newest, weight("output" if untied else "token_embd"), output="logits")
    return graph.model()


class _Graph:
    """Nodes and constants under construction; every method gives the name of the value that it adds."""

    def __init__(self, shape: LlamaShape) -> None:
        from onnx import NodeProto, TensorProto

        self._shape = shape
        self._nodes: list[NodeProto] = []
        self._constants: list[TensorProto] = []
        angles = np.outer(
            np.arange(shape.room), shape.rotary_base ** -(np.arange(0, shape.head_size, 2) / shape.head_size)
        )
        self._rotary = [self.constant(table(angles).astype(np.float32)) for table in (np.cos, np.sin)]

    def constant(self, array: npt.NDArray[Any]) -> str:
        from onnx import numpy_helper

        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(
        self,
        kind: str,
        inputs: list[str],
        *,
        outputs: list[str] | None = None,
        domain: str = "com.microsoft",
        **how: Any,
    ) -> str:
        from onnx import helper

        outputs = outputs or [f"value_{len(self._nodes)}"]
        self._nodes.append(helper.make_node(kind, inputs, outputs, domain=domain, **how))
        return outputs[0]

    def project(self, value: str, weight: npt.NDArray[np.float32], *, output: str | None = None) -> str:
        """Multiply by a matrix (out, in), in blocks of int8."""
        rows, columns = weight.shape
        quantised, scales = quantise(weight)
        return self.node(
            "MatMulNBits",
            [value, self.constant(quantised), self.constant(scales)],
            outputs=[output] if output else None,
            K=columns,
            N=rows,
            bits=8,
            block_size=_BLOCK,
            accuracy_level=_MULTIPLY_IN_INT8,
        )

    def norm(self, value: str, gamma: npt.NDArray[np.float32]) -> str:
        """Root mean square normalisation."""
        return self.node(
            "SimplifiedLayerNormalization",
            [value, self.constant(gamma)],
            domain="",
            axis=-1,
            epsilon=self._shape.epsilon,
        )

    def add_and_norm(self, value: str, residual: str, gamma: npt.NDArray[np.float32]) -> tuple[str, str]:
        """The normalised sum, and the sum."""
        normed, total = f"normed_{len(self._nodes)}", f"sum_{len(self._nodes)}"
        self.node(
            "SkipSimplifiedLayerNormalization",
            [value, residual, self.constant(gamma)],
            outputs=[normed, "", "", total],
            epsilon=self._shape.epsilon,
        )
        return normed, total

    def attend(self, queries_keys_values: str, layer: int) -> str:
        """Grouped-query attention. GGUF has the query and key rows in the order of interleaved rotary positions."""
        state = [f"keys_{layer}", f"values_{layer}"]
        return self.node(
            "GroupQueryAttention",
            [queries_keys_values, "", "", *state, "newest", "total", *self._rotary],
            outputs=[f"attended_{layer}", *(f"new_{name}" for name in state)],
            num_heads=self._shape.heads,
            kv_num_heads=self._shape.key_value_heads,
            do_rotary=1,
            rotary_interleaved=1,
        )

    def model(self) -> ModelProto:
        from onnx import TensorProto, helper

        def value(name: str, kind: int, sizes: list[int | str]) -> Any:
            return helper.make_tensor_value_info(name, kind, sizes)

        shape = self._shape
        kept: list[int | str] = [1, shape.key_value_heads, "room", shape.head_size]
        names = [f"{part}_{layer}" for layer in range(shape.layers) for part in ("keys", "values")]
        inputs = [
            value("embeddings", TensorProto.FLOAT, [1, "tokens", shape.width]),
            value("newest", TensorProto.INT32, [1]),
            value("total", TensorProto.INT32, [1]),
            *(value(name, TensorProto.FLOAT, kept) for name in names),
        ]
        outputs = [
            value("logits", TensorProto.FLOAT, [1, 1, "vocabulary"]),
            *(value(f"new_{name}", TensorProto.FLOAT, kept) for name in names),
        ]
        graph = helper.make_graph(self._nodes, "llama", inputs, outputs, self._constants)
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)


def quantise(weight: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """A matrix (out, in) in blocks: bytes (out, blocks, 32) around 128, and their scales (out * blocks,)."""
    rows, columns = weight.shape
    blocks = weight.reshape(rows, columns // _BLOCK, _BLOCK)
    scales = np.abs(blocks).max(axis=-1, keepdims=True) / 127
    scales[scales == 0] = 1
    return (np.rint(blocks / scales) + 128).astype(np.uint8), scales.astype(np.float32).reshape(-1)
