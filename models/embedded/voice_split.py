"""Splits a Piper voice (VITS, https://arxiv.org/abs/2106.06103) so that its speech can come in chunks.

The one graph of a Piper export becomes three: `text.onnx` (phonemes to the prior's means and log scales, one column
for each frame), `flow.onnx` (a sample of the prior to the decoder's latents) and `decoder.onnx` (latents to audio).
The decoder is convolutional, so that it can be run on a window of frames at a time; and the graph's own random
numbers become inputs, so that equal seeds give equal speech.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from models.embedded.convert import write_once
from streaming.errors import EngineError

if TYPE_CHECKING:
    from onnx import ModelProto

# Names of values in the graphs that Piper 1.0 exports.
DURATION_NOISE = "/dp/RandomNormalLike_output_0"
MEANS, LOG_SCALES = "/Transpose_3_output_0", "/Transpose_5_output_0"
PRIOR_SAMPLE, MASK = "/Add_output_0", "/Cast_2_output_0"
LATENTS = "/Mul_7_output_0"

_PARTS = {
    "text.onnx": (["input", "input_lengths", "scales", DURATION_NOISE], [MEANS, LOG_SCALES]),
    "flow.onnx": ([PRIOR_SAMPLE, MASK], [LATENTS]),
    "decoder.onnx": ([LATENTS], ["output"]),
}


def split_voice(voice_path: Path, out_dir: Path) -> None:
    """Write the three parts of the voice to `out_dir`; do nothing where it exists.

    Raises EngineError where the file is no Piper voice with one speaker.
    """
    write_once(out_dir, lambda scratch: _split(voice_path, scratch))


def _split(voice_path: Path, out_dir: Path) -> None:
    import onnx

    model = onnx.load(str(voice_path))
    known = {value for node in model.graph.node for value in node.output} | {value.name for value in model.graph.input}
    for name, (inputs, outputs) in _PARTS.items():
        if missing := {*inputs, *outputs} - known:
            raise EngineError(f"the voice's graph lacks {', '.join(sorted(missing))}", code="model_invalid")
        onnx.save(_extract(model, inputs, outputs), str(out_dir / name))


def _extract(model: ModelProto, inputs: list[str], outputs: list[str]) -> ModelProto:
    """The part of the graph that leads from `inputs` to `outputs`."""
    from onnx import TensorProto, ValueInfoProto, helper

    wanted, nodes = set(outputs), []
    for node in reversed(model.graph.node):
        if wanted.intersection(node.output) and not set(inputs).intersection(node.output):
            nodes.append(node)
            wanted.update(node.input)
    known = {value.name: value for value in model.graph.input}

    def value(name: str) -> ValueInfoProto:
        return known.get(name) or helper.make_tensor_value_info(name, TensorProto.FLOAT, None)

    graph = helper.make_graph(
        nodes[::-1],
        "part",
        [value(name) for name in inputs],
        [value(name) for name in outputs],
        [tensor for tensor in model.graph.initializer if tensor.name in wanted],
    )
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
