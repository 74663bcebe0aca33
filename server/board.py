"""The leaderboard's JSON, made for many at once and in no conversation's way."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from routing.cached import Cached
from routing.opening import Routing
from routing.protocol import BoardView
from routing.view import Facts, view
from server.opinions import Opinions
from streaming.schema import to_json

FRESH_SECONDS = 3.0
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
    """Shows what a router goes by. `clock` is monotonic, in seconds."""

    def __init__(self, routing: Routing, opinions: Opinions, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._routing = routing
        self._opinions = opinions
        self._page = Cached(self._make, first=Page(), seconds=FRESH_SECONDS, what="the leaderboard", clock=clock)

    async def page(self) -> Page:
        """The leaderboard, at most FRESH_SECONDS old."""
        return await self._page.get()

    async def facts(self) -> Facts:
        """What is known now."""
        router, control = self._routing.router, self._routing.control
        return Facts(
            state=control.leaderboard,
            scoreboard=router.scoreboard,
            ranking=router.ranking(),
            workers=router.fleet.workers(),
            rollout=router.rollout,
            live=router.timings(),
            rules=router.rules,
            serving=router.serving(),
            ratings=await self._opinions.ratings(),
            feedback=await self._opinions.summary(),
        )

    async def _make(self) -> Page:
        plain = await encode(view(await self.facts()))
        return Page(
            plain=plain,
            gzipped=await asyncio.to_thread(gzip.compress, plain, _GZIP_LEVEL, mtime=0),
            etag=f'"{hashlib.sha256(plain).hexdigest()[:32]}"',
        )


async def encode(board: BoardView) -> bytes:
    """The JSON of a leaderboard. Model by model, so that what else the loop has to do comes in between."""
    frame = to_json(replace(board, models=()))
    models = []
    for model in board.models:
        models.append(_write(to_json(model)))
        await asyncio.sleep(0)
    items = [f"{_write(name)}:{_write(value)}" for name, value in frame.items() if name != "models"]
    return f'{{{",".join(items)},"models":[{",".join(models)}]}}'.encode()
