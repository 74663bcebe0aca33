"""Blind duels under way: who meets whom, the tokens that let a voter talk to each side, and who may vote.

All of it is in memory. Nothing of a duel is kept but the vote, and that without the duel.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from random import Random, SystemRandom

from routing.duels.votes import LABELS, Label, Tally
from streaming.core import SECOND
from streaming.errors import EngineBusyError, PeerError

LIFETIME = 1800 * SECOND
"""How long a duel may be talked in and voted on, ns."""

MOST_DUELS = 1000
"""Duels open at once; a new one makes no other go."""

TOKEN_BYTES = 24  # 192 bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A version of a model that could answer now."""

    model: str
    version: str


@dataclass(slots=True, kw_only=True)
class Side:
    """One side of a duel. `token` lets one conversation in; `session_id` is that one's, once it has been."""

    label: Label
    contender: Contender
    token: str
    taken: bool = False
    session_id: str | None = None
    answered: bool = False


@dataclass(slots=True, kw_only=True)
class Duel:
    """Two versions that one voter compares. `opened`: monotonic ns."""

    id: str
    sides: tuple[Side, Side]
    opened: int
    voted: bool = False


@dataclass(slots=True)
class _Open:
    """Duels by each of the names under which they are looked up."""

    duels: OrderedDict[str, Duel] = field(default_factory=OrderedDict)
    sides: dict[bytes, Side] = field(default_factory=dict)
    sessions: dict[str, Side] = field(default_factory=dict)


class Duels:
    """The duels that are open. Times are monotonic ns.

    `random` chooses pairs and sides; `new_secret` makes ids and tokens, which nobody may guess.
    """

    def __init__(
        self,
        *,
        random: Random | None = None,
        new_secret: Callable[[], str] = lambda: secrets.token_urlsafe(TOKEN_BYTES),
        most: int = MOST_DUELS,
        lifetime: int = LIFETIME,
    ) -> None:
        self.lifetime = lifetime
        self._random = random or SystemRandom()
        self._new_secret = new_secret
        self._most = most
        self._open = _Open()

    def open(self, contenders: Sequence[Contender], tallies: Iterable[Tally], *, now: int) -> Duel:
        """A duel between the two that have been compared least, in the votes of `tallies` and in duels still open.

        Raises PeerError (`not_enough_models`) for fewer than two versions, EngineBusyError when too many are open.
        """
        self._forget(now)
        versions = {contender.version: contender for contender in contenders}
        if len(versions) < 2:
            raise PeerError("A duel needs two models that could answer now.", code="not_enough_models")
        if len(self._open.duels) >= self._most:
            raise EngineBusyError("Too many duels are open; try again later.", retry_after=60)
        pair = self._least_compared(sorted(versions), tallies)
        self._random.shuffle(pair)
        first, second = (
            Side(label=label, contender=versions[version], token=self._new_secret())
            for label, version in zip(LABELS, pair, strict=True)
        )
        duel = Duel(id=f"duel_{self._new_secret()}", sides=(first, second), opened=now)
        self._open.duels[duel.id] = duel
        for side in duel.sides:
            self._open.sides[_digest(side.token)] = side
        return duel

    def enter(self, token: str, *, now: int) -> Side:
        """The side that `token` lets in, for this one conversation.

        Tokens are looked up by their digests, so that the time it takes tells nothing of those that exist. Raises
        PeerError, the same for a token that is wrong, used, or too old.
        """
        self._forget(now)
        side = self._open.sides.get(_digest(token))
        if side is None or side.taken:
            raise PeerError("There is no such model here; see /v1/models.", code="model_not_found")
        side.taken = True
        return side

    def leave(self, side: Side) -> None:
        """The conversation that entered was refused after all: its token is good for another try."""
        self._open.sessions.pop(side.session_id or "", None)
        side.taken, side.session_id = False, None

    def began(self, side: Side, session_id: str) -> None:
        """The conversation of `side` has begun under this id."""
        side.session_id = session_id
        if _digest(side.token) in self._open.sides:
            self._open.sessions[session_id] = side

    def answered(self, session_id: str) -> None:
        """A turn was measured in this conversation; nothing happens where that is no duel's."""
        if (side := self._open.sessions.get(session_id)) is not None:
            side.answered = True

    def vote(self, duel_id: str, *, now: int) -> Duel:
        """The duel, which counts as voted on from now on.

        Raises PeerError: `duel_not_found` for one that is not known or is too old, `not_answered` before both sides
        have answered, `already_voted` for a second vote.
        """
        self._forget(now)
        duel = self._open.duels.get(duel_id)
        if duel is None:
            raise PeerError("There is no such duel, or it is over.", code="duel_not_found")
        if duel.voted:
            raise PeerError("This duel has been voted on.", code="already_voted")
        if not all(side.answered for side in duel.sides):
            raise PeerError("Talk to both sides first: each must have answered once.", code="not_answered")
        duel.voted = True
        return duel

    def give_back(self, duel: Duel) -> None:
        """The vote that `vote` was for could not be kept: the duel may be voted on again."""
        duel.voted = False

    def __len__(self) -> int:
        return len(self._open.duels)

    def _least_compared(self, versions: Sequence[str], tallies: Iterable[Tally]) -> list[str]:
        met: Counter[frozenset[str]] = Counter()
        for tally in tallies:
            met[frozenset((tally.version_a, tally.version_b))] += tally.votes
        for duel in self._open.duels.values():
            if not duel.voted:
                met[frozenset(side.contender.version for side in duel.sides)] += 1
        pairs = list(combinations(versions, 2))
        least = min(met[frozenset(pair)] for pair in pairs)
        return list(self._random.choice([pair for pair in pairs if met[frozenset(pair)] == least]))

    def _forget(self, now: int) -> None:
        """Drop what is too old. The oldest are first: duels open in order of time."""
        while self._open.duels and now - next(iter(self._open.duels.values())).opened >= self.lifetime:
            _, duel = self._open.duels.popitem(last=False)
            for side in duel.sides:
                del self._open.sides[_digest(side.token)]
                self._open.sessions.pop(side.session_id or "", None)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()
