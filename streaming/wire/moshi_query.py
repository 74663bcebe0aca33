"""What a client asks for in the query of Moshi's `/api/chat`.

Names are those of the stock page and server of kyutai-labs/moshi; `text_prompt` and `voice_prompt` are
PersonaPlex's; `audio` and `codes` are Muse's (`docs/protocols/worker.md`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast, get_args

from streaming.errors import PeerError

AudioCoding = Literal["opus", "pcm"]

MOST_TEMPERATURE = 100.0
MOST_TOP_K = 1_000_000
MOST_SEED = 2**63 - 1

_FIELDS = {
    "text_temperature": "text_temperature",
    "text_topk": "text_top_k",
    "audio_temperature": "audio_temperature",
    "audio_topk": "audio_top_k",
    "text_seed": "text_seed",
    "audio_seed": "audio_seed",
    "text_prompt": "text_prompt",
    "voice_prompt": "voice_prompt",
    "audio": "audio",
    "codes": "codes",
}
_SHOWN = 60  # characters of a refused value that an error message repeats


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatQuery:
    """How a conversation is wanted. None, and an empty prompt, leave the choice to the server and its model."""

    text_temperature: float | None = None
    text_top_k: int | None = None
    audio_temperature: float | None = None
    audio_top_k: int | None = None
    text_seed: int | None = None
    audio_seed: int | None = None
    text_prompt: str = ""
    voice_prompt: str = ""
    audio: AudioCoding = "opus"
    codes: bool = False


def read_query(query: Mapping[str, str]) -> ChatQuery:
    """What the parameters in `query` ask for; names that are not known are ignored.

    Raises PeerError `invalid_value` whose `param` is the parameter that cannot be taken.
    """
    return ChatQuery(
        text_temperature=_number(query, "text_temperature"),
        text_top_k=_integer(query, "text_topk", MOST_TOP_K),
        audio_temperature=_number(query, "audio_temperature"),
        audio_top_k=_integer(query, "audio_topk", MOST_TOP_K),
        text_seed=_seed(query, "text_seed"),
        audio_seed=_seed(query, "audio_seed"),
        text_prompt=query.get("text_prompt", ""),
        voice_prompt=query.get("voice_prompt", ""),
        audio=cast(AudioCoding, _choice(query, "audio", get_args(AudioCoding))),
        codes=_choice(query, "codes", ("0", "1")) == "1",
    )


def write_query(query: ChatQuery) -> dict[str, str]:
    """The parameters that ask for `query`: what is not the default."""
    default = ChatQuery()
    values = {
        name: getattr(query, field)
        for name, field in _FIELDS.items()
        if getattr(query, field) != getattr(default, field)
    }
    return {name: "1" if value is True else str(value) for name, value in values.items()}


def _number(query: Mapping[str, str], name: str) -> float | None:
    text = query.get(name)
    if text is None:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number <= MOST_TEMPERATURE:
        raise _refused(name, f"a number from 0 to {MOST_TEMPERATURE:g}", text)
    return number


def _integer(query: Mapping[str, str], name: str, most: int) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1
    if not 0 <= number <= most:
        raise _refused(name, f"an integer from 0 to {most}", text)
    return number


def _seed(query: Mapping[str, str], name: str) -> int | None:
    """Nobody chose one: it is absent, empty, or -1."""
    return None if query.get(name, "") in ("", "-1") else _integer(query, name, MOST_SEED)


def _choice(query: Mapping[str, str], name: str, choices: tuple[str, ...]) -> str:
    """The first of the choices is the default."""
    text = query.get(name, choices[0])
    if text not in choices:
        raise _refused(name, " or ".join(map(repr, choices)), text)
    return text


def _refused(name: str, expected: str, text: str) -> PeerError:
    shown = repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")
    return PeerError(f"{name}: expected {expected}, got {shown}", code="invalid_value", param=name)
