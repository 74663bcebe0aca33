"""Writes a tiny Moshi-class checkpoint: real names, real architecture, random weights.

For tests, and for trying what is around the model where there is no GPU. What it says is noise; but it is the same
files, read by the same code, and a conversation's tokens and audio vary as a trained model's do.
"""

from __future__ import annotations

import io
import json
import math
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import sentencepiece
import torch
from moshi.models import loaders
from safetensors.torch import save_file

from models.moshi.config import LmConfig, MimiConfig, Sampling
from models.moshi.files import Checkpoint
from models.moshi.tensors import expected_tensors
from streaming.wire.moshi import RATE

_LM = LmConfig(
    dim=128,
    num_heads=4,
    num_layers=2,
    context=64,
    text_card=512,
    card=512,
    depformer_dim=64,
    depformer_dim_feedforward=264,
    depformer_num_heads=2,
    depformer_num_layers=1,
)
_MIMI = MimiConfig(
    dimension=64,
    n_filters=4,
    ratios=(12, 10, 8),
    codebook_dimension=16,
    codebooks=12,
    bins=_LM.card,
    num_heads=4,
    num_layers=1,
    context=50,
    dim_feedforward=128,
    layer_scale=0.5,
)
_VOICES = {"alto": 210.0, "bass": 98.0}  # fundamental, Hz
_LOUDNESS = 0.1  # root mean square of what the tiny Mimi decodes

_SENTENCES = """
Hello, how are you today? I am well, thank you, and how are you?
What can I do for you this morning? I would like to know what the weather will be tomorrow.
It will be warm and dry until the evening, and then there may be a little rain from the west.
Could you say that again, please? I did not hear the last thing that you said.
Of course. It will rain in the evening, so take a coat with you when you leave the house.
Where is the nearest station from here? Go straight on, then turn left after the bridge.
How long does it take to walk there? About ten minutes, or a little longer with a heavy bag.
What time does the next train leave? There is one at a quarter past seven and another at eight.
I think that I would rather take the later one, because we have not had dinner yet.
That is a good idea. There is a small place near the river where they make very good soup.
Do they have something for someone who does not eat meat? Yes, they have a lot of vegetables.
Tell me a story about a dog and a boat. Once there was a dog who wanted to see the other side of the lake.
Every day she sat by the water and looked at the hills, until a fisherman took her with him.
You enjoy having a good conversation. You are a wise and friendly teacher. Answer questions clearly.
One, two, three, four, five, six, seven, eight, nine, ten. Wait a moment. Right. Go on, I am listening.
""".strip().splitlines()


def write_tiny_checkpoint(directory: Path, *, personaplex: bool = False, seed: int = 0) -> None:
    """Write a checkpoint of less than 10 MB to `directory`, which is made where it is missing. One seed makes one.

    With `personaplex` it has 16 depth steps and `voices/`, as NVIDIA's PersonaPlex has.
    """
    directory.mkdir(parents=True, exist_ok=True)
    names = {
        "moshi_name": loaders.MOSHI_NAME,
        "mimi_name": loaders.MIMI_NAME,
        "tokenizer_name": loaders.TEXT_TOKENIZER_NAME,
        "mimi_config_name": "mimi.json",
    }
    checkpoint = Checkpoint(
        model_type="personaplex" if personaplex else "moshi",
        lm_weights=directory / names["moshi_name"],
        mimi_weights=directory / names["mimi_name"],
        text_tokenizer=directory / names["tokenizer_name"],
        voices=directory / "voices" if personaplex else None,
        lm=replace(_LM, dep_q=16, context=256) if personaplex else _LM,  # a prompt fills half of it at most
        mimi=_MIMI,
        sampling=Sampling(),
    )
    config = {"model_type": checkpoint.model_type, **names, **checkpoint.lm.kwargs()}
    (directory / "config.json").write_text(json.dumps(config, indent=1))
    (directory / names["mimi_config_name"]).write_text(json.dumps(_MIMI.document(), indent=1))
    checkpoint.text_tokenizer.write_bytes(_tokenizer(_LM.text_card))
    generator = torch.Generator().manual_seed(seed)
    lm, mimi = (
        {name: _random(name, spec.shape, generator) for name, spec in expected.items()}
        for expected in expected_tensors(checkpoint).values()
    )
    _scale_codec(mimi, generator)
    save_file({name: tensor.to(torch.bfloat16) for name, tensor in lm.items()}, checkpoint.lm_weights)
    save_file(mimi, checkpoint.mimi_weights)
    if checkpoint.voices is not None:
        checkpoint.voices.mkdir(exist_ok=True)
        for name, pitch in _VOICES.items():
            (checkpoint.voices / f"{name}.wav").write_bytes(_wav(_hum(pitch, seconds=1.6)))


def _random(name: str, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """A tensor whose layer puts out about as much as is put in."""
    if name.endswith((".bias", "_scale_1.scale", "_scale_2.scale")):
        return torch.full(shape, 0.0 if name.endswith(".bias") else _MIMI.layer_scale)
    if ".norm" in name or name.endswith((".alpha", "._initialized", ".cluster_usage")):
        return torch.ones(shape)
    if name.endswith(".embedding_sum"):
        scale = 0.5
    elif "emb." in name:
        scale = 1 / math.sqrt(_LM.n_q + 1)  # so many embeddings are added up
    elif ".convtr." in name:
        scale = 1 / math.sqrt(2 if shape[1] == 1 else 2 * shape[0])  # a kernel is two strides long
    else:
        scale = 1 / math.sqrt(math.prod(shape[1:]))
    if name.startswith(("linears.", "text_linear.")):
        scale *= 2  # logits that prefer some tokens
    return torch.randn(shape, generator=generator) * scale


@torch.no_grad()
def _scale_codec(tensors: dict[str, torch.Tensor], generator: torch.Generator) -> None:
    """Bring what is quantised to a variance of one, and what is decoded to a speaker's loudness, in place."""
    with torch.device("meta"):
        model = loaders.get_mimi(None, _MIMI.document(), device="meta")
    model.load_state_dict(tensors, assign=True)
    noise = torch.randn((1, 1, 2 * RATE), generator=generator) * _LOUDNESS
    latent = model.encode_to_latent(noise, quantize=False)
    for part in ("rvq_first", "rvq_rest"):
        projection = tensors[f"quantizer.{part}.input_proj.weight"]
        projection /= torch.nn.functional.conv1d(latent, projection).std()
    decoded = model.decode(model.encode(noise))
    last = 3 * len(_MIMI.ratios) + 2  # a convolution, three modules for each ratio, an activation, a convolution
    tensors[f"decoder.model.{last}.conv.conv.weight"] *= _LOUDNESS / decoded.square().mean().sqrt()


def _tokenizer(pieces: int) -> bytes:
    """A SentencePiece model of `pieces` pieces, in which 0 and 3 pad as in Moshi's; bytes stand for what is unknown."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_SENTENCES),
        model_writer=model,
        model_type="bpe",
        vocab_size=pieces,
        byte_fallback=True,
        character_coverage=1.0,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=3,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


def _hum(pitch: float, *, seconds: float) -> npt.NDArray[np.float32]:
    """A voice without words: harmonics of `pitch` that rise and fall four times a second."""
    at = np.arange(int(seconds * RATE)) / RATE
    harmonics = sum(np.sin(2 * np.pi * pitch * n * at) / n for n in range(1, 12))
    swell = 0.5 - 0.5 * np.cos(2 * np.pi * 4 * at)
    return np.asarray(_LOUDNESS * harmonics * swell, dtype=np.float32)


def _wav(audio: npt.NDArray[np.float32]) -> bytes:
    """A WAV file, mono, 16 bits."""
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((audio * 32_767).astype("<i2").tobytes())
    return data.getvalue()
