"""Moshi and PersonaPlex as a `DuplexBatch`: Mimi hears, the language model answers, Mimi speaks, all slots in lockstep.

What a conversation's first frame holds is not used, as in Moshi's own server: the model's time begins with a column of
initial tokens, or with the last column of the prompt. Mimi hears from the second frame on, with fresh state, which is
what that server's reset after the first frame comes to.

A checkpoint of type `personaplex` takes `instructions` and `voice` as its prompt. Plain Moshi was never taught to
follow any: `instructions` are not given to it, and it has no voices.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from models.mimi import MimiBatch, codes_of
from models.moshi.captions import Captions, pieces
from models.moshi.check import check_served
from models.moshi.checkpoint import load_lm, load_mimi
from models.moshi.files import Checkpoint, load_tokenizer, read_checkpoint
from models.moshi.lm import SlotLm, TakenIn, row_bytes
from models.moshi.memory import check_room, frame_bytes, free_bytes, memory_named
from models.moshi.prefill import Prefill
from models.moshi.prompt import PERSONAPLEX_TONES, Frames, Tones, most_prompt_frames, prompt_frames, sine_wave, tagged
from models.moshi.sampling import check_sampling
from models.moshi.staging import Inbox, Outbox, Results, Stopwatch
from models.moshi.tensors import check_lm_weights, check_mimi_weights
from models.moshi.voices import load_voices
from models.worker.batch import FrameOut, SlotOptions, Step
from streaming.engine import EngineInfo, Samples
from streaming.errors import EngineError, PeerError
from streaming.wire.moshi import FRAME_SAMPLES, RATE

DType = Literal["bfloat16", "float16", "float32"]

_WARM_UP_TICKS = 5
_LONGEST_INSTRUCTIONS = 10_000
"""Characters that are tokenized between two ticks; the largest window takes fewer."""
_LONGEST_WINDOW = 100_000
_NOT_SOUND = "the model's output for this conversation was not finite"
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Conversation:
    captions: Captions
    prompt: bytes | None  # key of the prompt that it waits for
    hears: bool = False  # from its second frame on


class MoshiBatch:
    """See `models.worker.batch.DuplexBatch`.

    `directory` holds a checkpoint (`models/moshi/files.py`). `window`: frames (80 ms) that attention reaches
    back, by default the checkpoint's own context; a slot's memory grows with it (`bytes_per_session`).
    `prompt_bytes`: how much device memory taken-in prompts may keep. Raises EngineError for a device of no known kind.
    """

    def __init__(
        self,
        directory: Path,
        *,
        slots: int,
        device: str = "cuda",
        dtype: DType | None = None,
        window: int | None = None,
        prompt_bytes: int = 2 << 30,
        name: str | None = None,
    ) -> None:
        self._directory = directory
        self._slots = slots
        self._device = _device(device)
        self._dtype: torch.dtype | None = getattr(torch, dtype) if dtype else None
        self._window = window
        self._prompt_bytes = prompt_bytes
        self._conversations: dict[int, _Conversation] = {}
        self._name = name
        self._model: _Model | None = None

    @property
    def info(self) -> EngineInfo:
        """See `DuplexBatch.info`."""
        loaded = self._model
        return EngineInfo(
            model=self._name or (loaded.checkpoint.model_type if loaded else "moshi"),
            input_rate=RATE,
            output_rate=RATE,
            duplex=True,
            transcribes=False,
            instructed=loaded is not None and loaded.persona,
            voices=loaded.voices.names if loaded else (),
        )

    @property
    def slots(self) -> int:
        """See `DuplexBatch.slots`."""
        return self._slots

    @property
    def bytes_per_session(self) -> int:
        """Bytes on the device that one slot's state takes."""
        return self._loaded.state_bytes

    def load(self) -> None:
        """See `DuplexBatch.load`; takes CUDA's graphs as well. Raises EngineError."""
        _use(self._device)
        if self._window is not None and not 1 <= self._window <= _LONGEST_WINDOW:
            raise EngineError(f"window is {self._window}; expected 1 to {_LONGEST_WINDOW} frames", code="invalid_value")
        checkpoint = read_checkpoint(self._directory)
        check_served(checkpoint, window=self._window or checkpoint.lm.context)
        check_lm_weights(checkpoint)
        check_mimi_weights(checkpoint)
        tokenizer = load_tokenizer(checkpoint)
        with memory_named(f"the weights of {self._directory.name}"):
            lm = load_lm(checkpoint, device=self._device, dtype=self._dtype, window=self._window)
            mimi = load_mimi(checkpoint, self._device)
        self.load_models(checkpoint, lm=lm, mimi=mimi, tokenizer=tokenizer)

    def load_models(self, checkpoint: Checkpoint, *, lm: Any, mimi: Any, tokenizer: Any) -> None:
        """What `load` does once the weights are in memory."""
        if self._slots < 1:
            raise EngineError(f"slots is {self._slots}; expected at least 1", code="invalid_value")
        with memory_named(f"{self._slots} slots with a window of {lm.context} frames"):
            self._model = _Model(checkpoint, lm, mimi, tokenizer, slots=self._slots, prompt_bytes=self._prompt_bytes)
            self._model.warm_up()
        _log.info("loaded %s: %.1f MB a session", self.info.model, self.bytes_per_session / 1e6)

    def join(self, slot: int, options: SlotOptions) -> None:
        """See `DuplexBatch.join`."""
        if slot in self._conversations or not 0 <= slot < self._slots:
            raise ValueError(f"slot {slot} is not free")
        model = self._loaded
        check_sampling(options)
        frames = model.prompt(options)
        conversation = self._conversations[slot] = _Conversation(captions=model.captions(), prompt=None)
        model.lm.join(slot, options)
        if frames is None:
            return
        key = hashlib.sha256(frames.tobytes()).digest()
        if (taken := model.prefill.find(key)) is not None:
            model.take_in(slot, taken)
        else:
            conversation.prompt = key
            model.prefill.ask(key, frames)

    def leave(self, slot: int) -> None:
        """See `DuplexBatch.leave`."""
        conversation = self._conversations.pop(slot, None)
        key = conversation.prompt if conversation else None
        if key is not None and all(other.prompt != key for other in self._conversations.values()):
            self._loaded.prefill.withdraw(key)
        self._loaded.empty(slot)

    def prepare(self) -> bool:
        """See `DuplexBatch.prepare`: one pass over at most `prefill.CHUNK` frames of a prompt."""
        prefill = self._loaded.prefill
        if (done := prefill.advance()) is not None:
            key, taken = done
            for slot, conversation in self._conversations.items():
                if conversation.prompt == key:
                    self._loaded.take_in(slot, taken)
                    conversation.prompt = None
        return not prefill.idle

    def ready(self, slot: int) -> bool:
        """See `DuplexBatch.ready`."""
        return self._conversations[slot].prompt is None

    def step(self, frames: Mapping[int, Samples]) -> Step:
        """See `DuplexBatch.step`. A slot that fails has been given this frame all the same."""
        if not frames:
            return Step(frames={}, failed={}, encode=0, model=0, decode=0)
        speakers = {slot: self._conversations[slot] for slot in frames}
        results, spans = self._loaded.tick(frames, [slot for slot, one in speakers.items() if one.hears])
        said: dict[int, FrameOut] = {}
        failed: dict[int, str] = {}
        for slot, conversation in speakers.items():
            if results.sound[slot]:
                said[slot] = _frame_out(results, slot, conversation.captions)
            else:
                failed[slot] = _NOT_SOUND
            conversation.hears = True
        encode, model, decode = spans
        return Step(frames=said, failed=failed, encode=encode, model=model, decode=decode)

    def close(self) -> None:
        """See `DuplexBatch.close`."""
        if self._model is not None:
            self._model.lm.close()
        self._model = None
        self._conversations.clear()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    @property
    def _loaded(self) -> _Model:
        if self._model is None:
            raise RuntimeError("the batch has not been loaded")
        return self._model


class _Model:
    """The loaded parts, and one tick through them."""

    def __init__(
        self, checkpoint: Checkpoint, lm: Any, mimi: Any, tokenizer: Any, *, slots: int, prompt_bytes: int
    ) -> None:
        device = lm.device
        self.checkpoint = checkpoint
        self._tokenizer = tokenizer
        padding = frozenset((lm.text_padding_token_id, lm.end_of_text_padding_id))
        self._pieces = pieces(tokenizer, padding)
        self.persona = checkpoint.model_type == "personaplex"
        self.voices = load_voices(checkpoint.voices if self.persona else None, partial(codes_of, mimi))
        self._tones = _tones(mimi) if self.persona else PERSONAPLEX_TONES
        self.mimi = MimiBatch(mimi, slots)
        mimi_bytes = row_bytes(mimi.get_streaming_state(), slots)
        check_room(free_bytes(device), slots=slots, window=lm.context, per_frame=frame_bytes(lm), per_slot=mimi_bytes)
        self.lm = SlotLm(lm, slots=slots, sampling=checkpoint.sampling)
        self.prefill = Prefill(lm, cache_bytes=prompt_bytes)
        self.state_bytes = self.lm.state_bytes + mimi_bytes
        self._inbox = Inbox(slots, device)
        self._outbox = Outbox(slots, device)
        self._stopwatch = Stopwatch(device, parts=3)
        self._stand_in = torch.zeros(slots, 8, dtype=torch.int64, device=device)

    def warm_up(self) -> None:
        """Run ticks of silence in all slots, so that everything is compiled and captured before anybody listens."""
        self.prefill.warm_up()
        everybody = range(self.lm.slots)
        silence = dict.fromkeys(everybody, np.zeros(FRAME_SAMPLES, np.float32))
        for tick in range(_WARM_UP_TICKS):
            self.tick(silence, list(everybody) if tick else [])
        for slot in everybody:
            self.empty(slot)
        if (free := free_bytes(self.lm.device)) is not None:
            self.prefill.keep_at_most(free // 2)  # a prompt that is kept must not take what a tick needs

    def captions(self) -> Captions:
        return Captions(self._pieces)

    def prompt(self, options: SlotOptions) -> Frames | None:
        """The frames that a persona begins with. Raises PeerError naming what cannot be taken."""
        voice = self.voices.find(options.voice)
        if not self.persona:
            return None
        text = options.instructions.strip()
        if len(text) > _LONGEST_INSTRUCTIONS:
            raise PeerError(
                f"instructions have {len(text)} characters; expected at most {_LONGEST_INSTRUCTIONS}",
                code="invalid_value",
                param="instructions",
            )
        tokens: list[int] = self._tokenizer.EncodeAsIds(tagged(text)) if text else []
        return prompt_frames(tokens, voice, tones=self._tones, most=most_prompt_frames(self.lm.window))

    def take_in(self, slot: int, taken: TakenIn) -> None:
        self.lm.take_in(slot, taken)
        self._stand_in[slot] = taken.user

    def empty(self, slot: int) -> None:
        self.lm.leave(slot)
        self.mimi.reset(torch.arange(self.lm.slots) == slot)
        self._stand_in[slot] = 0

    def tick(self, frames: Mapping[int, Samples], hearing: list[int]) -> tuple[Results, list[int]]:
        """Advance the slots by their frames. Returns also how long the parts took, ns: encode, model, decode."""
        self._stopwatch.start()
        audio, advances, hears = self._inbox.send(frames, hearing)
        codes = self.mimi.encode(audio, hears)
        heard = torch.where(hears[:, None], codes, self._stand_in)
        self._stopwatch.split()
        tokens, sound = self.lm.step(heard, advances)
        self._stopwatch.split()
        own = tokens[:, 1:9]
        speaks = (own >= 0).all(dim=1)
        speech = self.mimi.decode(own.clamp(min=0), speaks)
        self._stopwatch.split()
        # A sum is finite only where all that it adds up is.
        sound = sound & torch.isfinite(audio.sum(dim=(1, 2)) + speech.sum(dim=1).where(speaks, 0.0))
        self._outbox.send(speech, tokens, torch.where(hears[:, None], codes, -1), sound)
        return self._outbox.receive(), self._stopwatch.spans()


def _frame_out(results: Results, slot: int, captions: Captions) -> FrameOut:
    """What a slot said; nothing while its delays have not passed, where the language model gives -2."""
    token, audio, heard = results.text_tokens[slot], results.audio[slot], results.heard[slot]
    if token < 0:
        return FrameOut(audio=audio[:0], text="", text_token=-1, own=np.full(8, -1, np.int32), heard=heard)
    return FrameOut(audio=audio, text=captions.push(token), text_token=token, own=results.own[slot], heard=heard)


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cuda", "cpu"):
        raise EngineError(f"device is {name!r}; expected cpu, cuda or cuda:<number>", code="invalid_value")
    return device


def _use(device: torch.device) -> None:
    """Make it this thread's own: events, streams and graphs belong to whichever that is."""
    if device.type != "cuda":
        return
    if not torch.cuda.is_available():
        raise EngineError("there is no CUDA device; expected one, or device cpu", code="no_device")
    if device.index is not None:
        if device.index >= torch.cuda.device_count():
            raise EngineError(f"there is no device {device}; there are {torch.cuda.device_count()}", code="no_device")
        torch.cuda.set_device(device)


def _tones(mimi: Any) -> Tones:
    """PersonaPlex's own, or for a codec of another size what it makes of the same sounds."""
    if mimi.cardinality == 2048:
        return PERSONAPLEX_TONES
    silence, sine = (codes_of(mimi, sound)[:, -1] for sound in (np.zeros(RATE, np.float32), sine_wave(1.0)))
    return Tones(silence=silence, sine=sine)
