"""What a client asks for in its address, `/api/chat?...`: Moshi's own names, PersonaPlex's and Muse's."""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast, get_args
from urllib.parse import parse_qsl

from models.worker.batch import SlotOptions
from streaming.errors import PeerError

AudioWire = Literal["opus", "pcm"]

_MOST_TEMPERATURE = 10.0
_MOST_TOP_K = 100_000
_MOST_SEED = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """How a conversation is to be held: the audio's form, whether codes are wanted, and what the model is told."""

    audio: AudioWire = "opus"
    codes: bool = False
    options: SlotOptions

    @classmethod
    def parse(cls, query: str) -> Opening:
        """The query of an address. Raises PeerError (`invalid_query`) whose `param` names the value that is wrong."""
        values = dict(parse_qsl(query, keep_blank_values=True))
        audio = values.get("audio", "opus")
        if audio not in get_args(AudioWire):
            raise _refused("audio", "opus or pcm")
        default = SlotOptions()
        options = SlotOptions(
            instructions=values.get("text_prompt", ""),
            voice=values.get("voice_prompt", ""),
            seed=_seed(values),
            text_temperature=_number(values, "text_temperature", default.text_temperature),
            text_top_k=_integer(values, "text_topk", default.text_top_k, 0, _MOST_TOP_K),
            audio_temperature=_number(values, "audio_temperature", default.audio_temperature),
            audio_top_k=_integer(values, "audio_topk", default.audio_top_k, 0, _MOST_TOP_K),
        )
        return cls(audio=cast(AudioWire, audio), codes=values.get("codes") == "1", options=options)


def _seed(values: Mapping[str, str]) -> int:
    """The text's seed or else the audio's; one that nobody chose (empty or -1, as Moshi's page sends it) is drawn."""
    for name in ("text_seed", "audio_seed"):
        if values.get(name, "-1") not in ("", "-1"):
            return _integer(values, name, 0, 0, _MOST_SEED)
    return secrets.randbits(31)


def _number(values: Mapping[str, str], name: str, default: float) -> float:
    try:
        number = float(values.get(name, default))
    except ValueError:
        number = math.nan
    if not 0 <= number <= _MOST_TEMPERATURE:
        raise _refused(name, f"a number from 0 to {_MOST_TEMPERATURE:g}")
    return number


def _integer(values: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = values.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and low <= int(text) <= high):
        raise _refused(name, f"a whole number from {low} to {high}")
    return int(text)


def _refused(name: str, expected: str) -> PeerError:
    return PeerError(f"{name}: expected {expected}", code="invalid_query", param=name)
