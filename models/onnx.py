"""ONNX Runtime as this project runs it: one thread for each call, so that sessions share cores instead of fighting."""

from __future__ import annotations

import onnxruntime


def single_threaded_session(model: bytes) -> onnxruntime.InferenceSession:
    """A CPU session for the serialised `model` that runs on its caller's thread and never spins."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
