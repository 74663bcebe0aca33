"""The embedded voice: a Piper model (VITS) whose speech comes in chunks, one thread for each clause."""

from __future__ import annotations

import asyncio
import json
import unicodedata
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.embedded.parts import Speech
from models.embedded.phonemes import Phonemiser
from models.embedded.scheduler import Deadline, Job, Scheduler
from models.embedded.voice_split import DURATION_NOISE, LATENTS, LOG_SCALES, MASK, MEANS, PRIOR_SAMPLE
from models.onnx import single_threaded_session
from streaming.audio import Resampler
from streaming.errors import EngineError

_START, _END, _PAD = "^", "$", "_"
_Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkOptions:
    """How the decoder is run, in frames of 11.6 ms.

    The first chunk is short so that speech starts early, and each one after it twice as long, up to `longest`: so it
    is made while the one before it plays. `left` and `right` are the frames around a chunk that its samples depend on:
    with them the chunks are equal to the whole.
    """

    first: int = 14
    longest: int = 64
    left: int = 32
    right: int = 28

    def windows(self, frames: int) -> Iterator[tuple[int, int]]:
        """The chunks' first frames and ends."""
        start, length = 0, self.first
        while start < frames:
            end = min(start + length, frames)
            yield start, end
            start, length = end, min(2 * length, self.longest)


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceConfig:
    """What a Piper voice's JSON says of it."""

    rate: int
    accent: str
    noise: float
    duration_noise: float
    ids: dict[str, list[int]]

    @classmethod
    def parse(cls, document: bytes) -> VoiceConfig:
        """Raises EngineError where a field is missing or there is more than one speaker."""
        try:
            fields = json.loads(document)
            if fields["num_speakers"] != 1:
                raise EngineError("the voice has more than one speaker", code="model_invalid")
            return cls(
                rate=fields["audio"]["sample_rate"],
                accent=fields["espeak"]["voice"],
                noise=fields["inference"]["noise_scale"],
                duration_noise=fields["inference"]["noise_w"],
                ids=fields["phoneme_id_map"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise EngineError(f"the voice's description is not valid: {error}", code="model_invalid") from error

    def encode(self, phonemes: str) -> list[int]:
        """Model inputs: each phoneme followed by a pad; what the voice does not know is left out."""
        letters = [letter for letter in unicodedata.normalize("NFD", phonemes) if letter in self.ids]
        pad = self.ids[_PAD]
        return [
            *self.ids[_START],
            *pad,
            *(number for letter in letters for number in (*self.ids[letter], *pad)),
            *self.ids[_END],
        ]


class Synthesiser:
    """The three parts of a voice (`voice_split.split_voice`) on onnxruntime. Safe to use from several threads."""

    def __init__(self, directory: Path, config: VoiceConfig, chunks: ChunkOptions | None = None) -> None:
        self.config = config
        self._chunks = chunks or ChunkOptions()
        self._text = single_threaded_session((directory / "text.onnx").read_bytes())
        self._flow = single_threaded_session((directory / "flow.onnx").read_bytes())
        self._decoder = single_threaded_session((directory / "decoder.onnx").read_bytes())

    def latents(self, ids: list[int], *, speed: float, noise: np.random.Generator) -> _Floats:
        """The decoder's input, shape (1, 192, frames): what is said, how, and how fast."""
        scales = np.array([0.0, 1.0 / speed, self.config.duration_noise], np.float32)
        means, log_scales = self._text.run(
            [MEANS, LOG_SCALES],
            {
                "input": np.array([ids], np.int64),
                "input_lengths": np.array([len(ids)], np.int64),
                "scales": scales,
                DURATION_NOISE: noise.standard_normal((1, 2, len(ids)), np.float32),
            },
        )
        sample = means + noise.standard_normal(means.shape, np.float32) * np.exp(log_scales) * self.config.noise
        mask = np.ones((1, 1, means.shape[2]), np.float32)
        latents: _Floats
        (latents,) = self._flow.run([LATENTS], {PRIOR_SAMPLE: sample.astype(np.float32), MASK: mask})
        return latents

    def decode(self, latents: _Floats) -> Iterator[Speech]:
        """The audio at the voice's rate, chunk by chunk."""
        frames = latents.shape[2]
        for start, end in self._chunks.windows(frames):
            first, last = max(start - self._chunks.left, 0), min(end + self._chunks.right, frames)
            (audio,) = self._decoder.run(["output"], {LATENTS: latents[:, :, first:last]})
            hop = audio.size // (last - first)
            yield Speech(audio.reshape(-1)[(start - first) * hop : (end - first) * hop], end / frames)


class SmallVoice:
    """See `parts.Voice`. `load` makes the synthesiser, in a thread, at the start.

    Equal text, speed and `noise` give equal speech.
    """

    def __init__(
        self,
        name: str,
        load: Callable[[], Synthesiser],
        scheduler: Scheduler,
        phonemiser: Phonemiser,
        *,
        rate: int = 24_000,
        noise: Callable[[], np.random.Generator] = lambda: np.random.default_rng(0),
    ) -> None:
        self.name = name
        self.rate = rate
        self._load = load
        self._scheduler = scheduler
        self._phonemiser = phonemiser
        self._noise = noise
        self._synthesiser: Synthesiser | None = None

    async def start(self) -> None:
        """Load the voice and speak a word, unheard: the first run of a graph is slow."""
        self._synthesiser = await asyncio.to_thread(self._load)
        await self._phonemiser.start()
        async for _ in self.speak("", "Hello there, how are you today?", speed=1.0, needed_at=lambda: 0):
            pass

    async def speak(
        self, session_id: str, text: str, *, speed: float, needed_at: Deadline
    ) -> AsyncGenerator[Speech, None]:
        """See `parts.Voice`."""
        synthesiser = self._synthesiser
        if synthesiser is None:
            raise RuntimeError("the voice has not been started")
        phonemes = await self._phonemiser.phonemes(synthesiser.config.accent, text)
        if not phonemes:
            return
        ids = synthesiser.config.encode(phonemes)

        def synthesise(job: Job, emit: Callable[[Speech], None]) -> None:
            resampler = Resampler(synthesiser.config.rate, self.rate)
            latents = synthesiser.latents(ids, speed=speed, noise=self._noise())
            job.check()
            for chunk in synthesiser.decode(latents):
                audio = resampler.push(chunk.audio)
                if chunk.done >= 1:
                    audio = np.concatenate([audio, resampler.finish()])
                emit(Speech(audio, chunk.done))
                job.check()

        chunks = self._scheduler.stream(session_id, synthesise, needed_at=needed_at)
        async with aclosing(chunks):
            async for chunk in chunks:
                yield chunk

    async def close(self) -> None:
        """End the phonemiser's process and let the graphs go."""
        await self._phonemiser.close()
        self._synthesiser = None
