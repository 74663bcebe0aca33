"""What does not work at the moment beside the conversations, which go on; each change is logged once."""

from __future__ import annotations

import logging
from collections.abc import Mapping

_log = logging.getLogger(__name__)


class Troubles:
    """Problems by what they are with."""

    def __init__(self) -> None:
        self._problems: dict[str, str] = {}

    @property
    def open(self) -> Mapping[str, str]:
        """What is wrong now; texts are safe to show."""
        return self._problems

    def note(self, what: str, problem: str | None) -> None:
        """How it went with `what` just now: None where it went well."""
        known = self._problems.get(what)
        if problem == known:
            return
        if problem is None:
            del self._problems[what]
            _log.info("works again", extra={"fields": {"what": what}})
        else:
            self._problems[what] = problem
            _log.warning("does not work", extra={"fields": {"what": what, "problem": problem}})
