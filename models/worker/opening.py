"""How a conversation is to be held, from what a client asks for in its address, `/api/chat?...`."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from urllib.parse import parse_qsl

from models.worker.batch import SlotOptions
from streaming.wire.moshi_query import AudioCoding, read_query


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """The audio's form, whether codes are wanted, and what the model is told."""

    audio: AudioCoding
    codes: bool
    options: SlotOptions

    @classmethod
    def parse(cls, query: str) -> Opening:
        """Raises PeerError (`invalid_value`) whose `param` names the value that cannot be taken."""
        wanted = read_query(dict(parse_qsl(query, keep_blank_values=True)))
        # A model has one generator for a conversation; a seed that nobody chose is drawn.
        chosen = [seed for seed in (wanted.text_seed, wanted.audio_seed) if seed is not None]
        options = SlotOptions(
            instructions=wanted.text_prompt,
            voice=wanted.voice_prompt,
            seed=chosen[0] if chosen else secrets.randbits(31),
            text_temperature=wanted.text_temperature,
            text_top_k=wanted.text_top_k,
            audio_temperature=wanted.audio_temperature,
            audio_top_k=wanted.audio_top_k,
        )
        return cls(audio=wanted.audio, codes=wanted.codes, options=options)
