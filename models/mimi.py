"""Mimi, Kyutai's audio codec, for many conversations at once: audio in frames of 80 ms to codes, and back.

moshi's own modules do the work. A batch has a row for each slot; each half of the codec, the encoder and the decoder,
advances the rows that it is told to, and a row that sits out stays as it was, whatever stands in it. Rows never mix:
at one batch size a row's codes and audio are the same bit for bit, whatever the other rows do; at another size the
sums are taken in another order, and differ by rounding.

Audio is mono, 24 kHz, float32; a frame is 1,920 samples. Codes are those of the first eight codebooks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from moshi.models.compression import MimiModel
from moshi.modules.streaming import State
from moshi.modules.transformer import StreamingMultiheadAttention, _MHAState
from moshi.utils.compile import CUDAGraphed, no_compile, no_cuda_graph

from streaming.engine import Samples
from streaming.wire.moshi import FRAME_SAMPLES, Codes

_CHUNK = 25
"""Frames that the offline functions take at once: what bounds their memory."""


class _Half:
    """The streaming states of the encoder, or of the decoder: one mask for all of them, and their resets.

    moshi keeps a mask in each of a half's modules, and would set them one after another, twice a tick.
    """

    def __init__(self, model: MimiModel, parts: tuple[str, ...], slots: int, device: torch.device) -> None:
        self.execute = torch.ones(slots, dtype=torch.bool, device=device)
        self._states: list[State] = []
        for name, state in model.get_streaming_state().items():
            if name.split(".")[0] in parts:
                state.exec_mask = self.execute
                self._states.append(state)
        self._rows = torch.arange(slots, device=device)
        self._wipe = CUDAGraphed(self._wipe_row, disable=device.type != "cuda")

    def reset(self, slots: torch.Tensor) -> None:
        """Bring rows, bool of shape (B,), back to the start; nothing that they have taken in is left.

        Row by row: keys and values are nearly all of a state, and those of the other rows are not gone through.
        """
        for row in slots.nonzero():
            self._wipe(row.to(self._rows.device))

    def _wipe_row(self, row: torch.Tensor) -> None:
        mask = self._rows == row
        for state in self._states:
            state.reset(mask)
            if isinstance(state, _MHAState) and state.kv_cache is not None:
                # Old keys and values are masked, but 0 x NaN is NaN.
                state.kv_cache.cache.index_fill_(1, row, 0.0)


class MimiBatch:
    """A codec with `slots` rows. Takes `model` over: from here on it streams, and only through this.

    On CUDA a half's step is one graph, and so is its reset; they are captured here. All calls come from one thread.
    """

    def __init__(self, model: MimiModel, slots: int) -> None:
        self.slots = slots
        self._bins = model.cardinality
        self._codebooks = model.num_codebooks
        self._device = next(model.parameters()).device
        _stream(model, slots, frames=1)
        self._encoder = _Half(model, ("encoder", "encoder_transformer", "downsample"), slots, self._device)
        self._decoder = _Half(model, ("decoder", "decoder_transformer", "upsample"), slots, self._device)
        on_cpu = self._device.type != "cuda"
        self._encode = CUDAGraphed(model.encode, disable=on_cpu)
        self._decode = CUDAGraphed(model.decode, disable=on_cpu)
        self._warm_up()

    @torch.no_grad()
    def encode(self, audio: torch.Tensor, execute: torch.Tensor) -> torch.Tensor:
        """The codes of a frame for each row.

        `audio`: (B, 1, 1920) float32, finite in the rows that take part; `execute`: (B,) bool. Returns (B, 8) int64,
        without meaning in the rows that sat out, and good until the next call. Raises ValueError for other shapes.
        """
        _check_shape("audio", audio, (self.slots, 1, FRAME_SAMPLES))
        _check_shape("execute", execute, (self.slots,))
        self._encoder.execute.copy_(execute)
        codes: torch.Tensor = self._encode(audio.to(self._device))
        return codes[:, :, 0]

    @torch.no_grad()
    def decode(self, codes: torch.Tensor, execute: torch.Tensor) -> torch.Tensor:
        """The audio of a frame for each row.

        `codes`: (B, 8), of any values in the rows that sit out; `execute`: (B,) bool. Returns (B, 1920) float32,
        without meaning in the rows that sat out, and good until the next call. Raises ValueError for other shapes.
        """
        _check_shape("codes", codes, (self.slots, self._codebooks))
        _check_shape("execute", execute, (self.slots,))
        self._decoder.execute.copy_(execute)
        # A code out of range would end the whole process on CUDA.
        inside = codes.to(self._device).clamp(0, self._bins - 1)
        audio: torch.Tensor = self._decode(inside[:, :, None])
        return audio[:, 0]

    def reset(self, slots: torch.Tensor) -> None:
        """Bring rows, (B,) bool on the host, back to the start, as for a new conversation."""
        self.reset_encoder(slots)
        self.reset_decoder(slots)

    @torch.no_grad()
    def reset_encoder(self, slots: torch.Tensor) -> None:
        """Bring the encoder of rows, (B,) bool on the host, back to the start. Raises ValueError for another shape."""
        _check_shape("slots", slots, (self.slots,))
        self._encoder.reset(slots)

    @torch.no_grad()
    def reset_decoder(self, slots: torch.Tensor) -> None:
        """Bring the decoder of rows, (B,) bool on the host, back to the start. Raises ValueError for another shape."""
        _check_shape("slots", slots, (self.slots,))
        self._decoder.reset(slots)

    def _warm_up(self) -> None:
        """Run until the graphs are captured: a first call compiles, a second one captures."""
        everyone = torch.ones(self.slots, dtype=torch.bool)
        silence = torch.zeros(self.slots, 1, FRAME_SAMPLES)
        for _ in range(2):
            self.decode(self.encode(silence, everyone), everyone)
            self.reset(everyone)


@torch.no_grad()
def codes_of(model: MimiModel, audio: Samples) -> Codes:
    """The codes of a recording: int32, shape (8, T), its end filled up with silence to a whole frame.

    `model` must not belong to a `MimiBatch`. Raises ValueError where `audio` is empty, or is not finite.
    """
    if audio.ndim != 1 or not audio.size or not np.isfinite(audio).all():
        raise ValueError(f"expected finite samples of shape (n,), not {audio.shape}")
    padded = np.pad(np.asarray(audio, dtype=np.float32), (0, -audio.size % FRAME_SAMPLES))
    with _offline(model):
        device = next(model.parameters()).device
        waves = torch.split(torch.from_numpy(padded).to(device)[None, None], FRAME_SAMPLES * _CHUNK, dim=-1)
        codes = torch.cat([model.encode(wave) for wave in waves], dim=-1)
    return codes[0].to("cpu", torch.int32).numpy()


@torch.no_grad()
def audio_of(model: MimiModel, codes: Codes) -> Samples:
    """The audio of codes of shape (8, T): 1,920 samples for each of T.

    `model` must not belong to a `MimiBatch`. Raises ValueError for another shape, or a code that there is not.
    """
    if codes.ndim != 2 or codes.shape[0] != model.num_codebooks or not codes.size:
        raise ValueError(f"expected codes of shape ({model.num_codebooks}, T), not {codes.shape}")
    if codes.min() < 0 or codes.max() >= model.cardinality:
        raise ValueError(f"expected codes from 0 to {model.cardinality - 1}")
    with _offline(model):
        device = next(model.parameters()).device
        frames = torch.split(torch.from_numpy(codes.astype(np.int64)).to(device)[None], _CHUNK, dim=-1)
        audio = torch.cat([model.decode(frame) for frame in frames], dim=-1)
    return np.asarray(audio[0, 0].to("cpu").numpy(), dtype=np.float32)


@contextmanager
def _offline(model: MimiModel) -> Iterator[None]:
    """One recording's stream, in pieces of up to _CHUNK frames; their lengths differ, so nothing is compiled."""
    with no_compile(), no_cuda_graph(), _stream(model, 1, frames=_CHUNK):
        yield


def _stream(model: MimiModel, rows: int, *, frames: int) -> ExitStack:
    """Begin streams that take in up to `frames` at once.

    moshi's ring of keys has room for the attention's context and no more, so that the last step of a call overwrites
    what its first one still attends to. With room for both, what is streamed equals the offline, however long it is.
    """
    steps = frames * round(model.encoder_frame_rate / model.frame_rate)
    attentions = [module for module in model.modules() if isinstance(module, StreamingMultiheadAttention)]
    contexts = [attention.context or 0 for attention in attentions]
    try:
        for attention, context in zip(attentions, contexts, strict=True):
            attention.context = context + steps - 1
        return model.streaming(rows)
    finally:
        for attention, context in zip(attentions, contexts, strict=True):
            attention.context = context


def _check_shape(name: str, tensor: torch.Tensor, shape: tuple[int, ...]) -> None:
    if tensor.shape != shape:
        raise ValueError(f"expected {name} of shape {shape}, not {tuple(tensor.shape)}")
