"""The leaderboard's JSON, made for many at once and in no conversation's way."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from routing.cached import Cached
from routing.opening import Routing
from routing.scores.standings import MetricStanding
from routing.view import Facts, thinned, view_frame, view_models
from server.opinions import Opinions
from streaming.schema import to_json

FRESH_SECONDS = 5.0
"""How old the JSON may be that is shown."""

_GZIP_LEVEL = 3

_write = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One body, as it is and compressed, and its tag."""

    plain: bytes = b""
    gzipped: bytes = b""
    etag: str = ""


class Board:
    """Shows the facts that `gather` finds. `clock` is monotonic, in seconds."""

    def __init__(self, gather: Callable[[], Awaitable[Facts]], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._gather = gather
        self._page = Cached(self._make, first=Page(), seconds=FRESH_SECONDS, what="the leaderboard", clock=clock)
        self._metrics: dict[str, tuple[Mapping[str, MetricStanding], str]] = {}
        """What is most of the JSON, by version: it is written anew only where there are new scores."""

    async def page(self) -> Page:
        """The leaderboard, at most FRESH_SECONDS old."""
        return await self._page.get()

    async def _make(self) -> Page:
        """Model by model, so that what else the loop has to do comes in between; and the rest on a thread."""
        facts = await self._gather()
        known, self._metrics = self._metrics, {}
        models: list[bytes] = []
        for model in view_models(facts):
            metrics, written = known.get(model.version, (None, ""))
            if metrics is not model.metrics:
                written = _write({name: to_json(thinned(name, one)) for name, one in model.metrics.items()})
            self._metrics[model.version] = (model.metrics, written)
            models.append(_object(to_json(replace(model, metrics={})), metrics=written).encode())
            await asyncio.sleep(0)
        return await asyncio.to_thread(_page, to_json(view_frame(facts)), models)


async def gather(routing: Routing, opinions: Opinions) -> Facts:
    """What is known now."""
    router = routing.router
    return Facts(
        state=routing.control.leaderboard,
        scoreboard=router.scoreboard,
        ranking=router.ranking(),
        workers=router.fleet.workers(),
        rollout=router.rollout,
        live=router.timings(),
        rules=router.rules,
        serving=router.serving(),
        ratings=await opinions.ratings(),
        feedback=await opinions.summary(),
    )


def _page(frame: Mapping[str, object], models: Sequence[bytes]) -> Page:
    """The models come last, whatever their place is in the protocol: an object's names have no order."""
    head = _object({name: value for name, value in frame.items() if name != "models"})
    plain = b"".join((head[:-1].encode(), b',"models":[', b",".join(models), b"]}"))
    etag = f'"{hashlib.sha256(plain).hexdigest()[:32]}"'
    return Page(plain=plain, gzipped=gzip.compress(plain, _GZIP_LEVEL, mtime=0), etag=etag)


def _object(obj: Mapping[str, object], **written: str) -> str:
    """The JSON of an object, of which some values are written already."""
    items = (f"{_write(name)}:{written[name] if name in written else _write(value)}" for name, value in obj.items())
    return f"{{{','.join(items)}}}"
