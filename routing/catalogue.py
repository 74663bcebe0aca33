"""Which models this server offers, and what a requested name means."""

from __future__ import annotations

from collections.abc import Iterable

from streaming.errors import PeerError

AUTO = "auto"

_REALTIME_NAMES = ("gpt-realtime", "gpt-4o-realtime", "gpt-4o-mini-realtime")
"""What stock OpenAI clients ask for by default, dated and `-mini` variants included."""


class UnknownModelError(PeerError):
    """No model of that name is offered."""


class Catalogue:
    """The offered models, best first."""

    def __init__(self, models: Iterable[str]) -> None:
        self._models = tuple(dict.fromkeys(models))
        if not self._models:
            raise ValueError("a catalogue needs at least one model")

    @property
    def models(self) -> tuple[str, ...]:
        """The ids on offer, best first."""
        return self._models

    def resolve(self, name: str | None) -> str:
        """The id of the model to use for `name`.

        An offered id means itself. `auto`, no name, and OpenAI's realtime names, which stock clients send unasked,
        mean the best one. Raises UnknownModelError for anything else.
        """
        if name in self._models:
            return name
        if not name or name == AUTO or name.startswith(_REALTIME_NAMES):
            return self._models[0]
        offered = ", ".join((AUTO, *self._models))
        raise UnknownModelError(
            f"There is no model {name[:80]!r} here; there is: {offered}.", code="model_not_found", param="model"
        )
