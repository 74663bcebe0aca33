"""What everybody is told of the ratings."""

from __future__ import annotations

from collections.abc import Mapping

from routing.feedback.aggregates import LEAST
from routing.feedback.store import FeedbackStore, FeedbackSummary
from routing.storage.database import Database
from routing.storage.state import StateStore
from streaming.schema import from_json, to_json

_STATE = "feedback"


class PublishedFeedback:
    """The summary of a version, which moves on only when `LEAST` ratings or more are new.

    Who looks before and after somebody rates learns from the difference of two means what the ratings in between were:
    never those of a group smaller than any other that is told of. What was told last is in the database, so that
    neither a restart nor another gateway tells more.
    """

    def __init__(self, database: Database) -> None:
        self._store = FeedbackStore(database)
        self._states = StateStore(database)

    async def summary(self) -> Mapping[str, FeedbackSummary]:
        """By version. Raises EngineError where the database does not answer."""
        current = await self._store.summary()
        told, revision = await self._told()
        moved = {version: summary for version, summary in current.items() if _may_follow(told.get(version), summary)}
        if not moved:
            return told
        told |= moved
        value = {version: to_json(summary) for version, summary in told.items()}
        if await self._states.save(_STATE, value, revision=revision):
            return told
        return (await self._told())[0]  # another gateway has told something meanwhile

    async def _told(self) -> tuple[dict[str, FeedbackSummary], int]:
        value, revision = await self._states.load(_STATE) or ({}, 0)
        told = {version: from_json(FeedbackSummary, summary, path=_STATE) for version, summary in value.items()}
        return told, revision


def _may_follow(told: FeedbackSummary | None, summary: FeedbackSummary) -> bool:
    return abs(summary.ratings - (told.ratings if told else 0)) >= LEAST
