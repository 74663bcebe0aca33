"""Which model answers a conversation, on which worker: the one thing that a gateway asks.

What is decided here rests on what the loop beside it (`routing.control`) last found out, and never waits for that.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from routing.fleet.contract import Fleet, Worker
from routing.fleet.pool import EnginePool
from routing.leaderboard import Snapshot
from routing.measured import MeasuredSession
from routing.policy.choice import choose, offered
from routing.policy.contract import Choice, LiveTable, Ranked, Reason, Role, Rollout, Rules, SessionNeeds
from routing.policy.live import LiveTimings
from routing.policy.ranking import brief, rank
from routing.scores.standings import Scoreboard
from streaming.engine import EngineInfo
from streaming.errors import EngineBusyError, EngineChangedError, EngineError, MuseError
from streaming.schema import to_json
from streaming.timeline import TurnLatency

_log = logging.getLogger(__name__)

PLACE_SECONDS = 10.0
"""What it may take to find a worker that takes a conversation."""

OPEN_SECONDS = 5.0
"""What one worker may take to reserve a slot."""

RELEASE_SECONDS = 5.0
"""What it may take to release one."""

COMPARED: frozenset[Role] = frozenset(("incumbent", "candidate"))
"""Roles that chance deals out. What a model does in others is left out of trials: whoever asks for it by name could
spoil its figures, or mend them."""

_MOST_METADATA = 512
"""Characters of one value of a session's metadata, as OpenAI bounds it."""

_RETRY_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """A conversation's slot. `info` is the engine's, `worker` its worker as it was when the slot was taken."""

    choice: Choice
    worker: Worker
    engine: MeasuredSession
    info: EngineInfo

    @property
    def metadata(self) -> Mapping[str, str]:
        """The decision, for `session.created`."""
        reasons = [to_json(reason) for reason in self.choice.reasons]
        while len(shown := json.dumps(reasons)) > _MOST_METADATA:
            reasons.pop()
        return {"muse.model": self.choice.key, "muse.role": self.choice.role, "muse.reasons": shown}


class Router:
    """Places conversations on workers by the ranking, the rollout and what was seen of the models lately.

    `clock` gives monotonic ns, `now` Unix time (s). `on_error` is told the code of each failure of an engine.
    """

    def __init__(
        self,
        *,
        fleet: Fleet,
        pool: EnginePool,
        rules: Rules,
        clock: Callable[[], int] = time.monotonic_ns,
        now: Callable[[], float] = time.time,
        on_error: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.fleet = fleet
        self.rules = rules
        self._live = LiveTimings()  # of all conversations but those of duels
        self._trials = LiveTimings()  # of those in the roles that are compared
        self._blamed: dict[str, Worker] = {}
        self.rollout = Rollout()
        self.decisions: Counter[tuple[str, str]] = Counter()
        """Conversations placed, by role and model."""
        self._pool = pool
        self._clock = clock
        self._now = now
        self._on_error = on_error
        self._snapshot: Snapshot | None = None
        self._scoreboard = Scoreboard()
        self._ranking: tuple[Ranked, ...] = ()
        self._ranked: tuple[str, ...] | None = None

    # --- life

    async def start(self) -> None:
        """Have the workers watched. Raises EngineError where that cannot work at all."""
        await self.fleet.start()

    async def close(self) -> None:
        """Release what is held; conversations that are still open get EngineLost."""
        try:
            await self._pool.close()
        finally:
            await self.fleet.close()

    # --- what is known

    def inform(self, snapshot: Snapshot | None, scoreboard: Scoreboard) -> None:
        """From now on these are gone by."""
        self._snapshot, self._scoreboard = snapshot, scoreboard
        self._ranked = None

    @property
    def scoreboard(self) -> Scoreboard:
        """What validators measured, as last informed."""
        return self._scoreboard

    @property
    def ready(self) -> bool:
        """Is there a worker to answer with?"""
        return any(worker.state in ("ready", "overloaded") for worker in self.fleet.workers())

    def ranking(self) -> tuple[Ranked, ...]:
        """The models as they stand, those of the workers among them."""
        served = tuple(dict.fromkeys(worker.key for worker in self.fleet.workers() if worker.key))
        if served != self._ranked:
            self._ranked = served
            self._ranking = rank(self._snapshot, self._scoreboard, served=served, rules=self.rules, now=self._now())
        return self._ranking

    def timings(self) -> LiveTable:
        """How each version does in real conversations."""
        return self._live.table(self._seconds())

    def trials(self) -> LiveTable:
        """How each does in those that chance gave to it, heard or not: by these a rollout is decided."""
        return self._trials.table(self._seconds())

    def forget(self, key: str) -> None:
        """What this version did in trials counts no more."""
        self._trials.forget(key)

    def models(self) -> tuple[str, ...]:
        """The models that can be asked for by name now, best first."""
        return offered(self.ranking(), self.fleet.workers(), self.rollout)

    # --- decisions

    def choose(self, needs: SessionNeeds, *, session_id: str, refused: Mapping[str, Reason] | None = None) -> Choice:
        """The decision for a session as of now; see `routing.policy.choice.choose`."""
        return choose(
            needs,
            session_id=session_id,
            ranking=self.ranking(),
            workers=self.fleet.workers(),
            rollout=self.rollout,
            live=self.timings(),
            rules=self.rules,
            refused=refused,
        )

    def serving(self) -> Choice | None:
        """What a session gets now that asks for nothing; None where there is nothing for it."""
        try:
            return self.choose(SessionNeeds(), session_id="")
        except MuseError:
            return None

    @contextlib.asynccontextmanager
    async def place(
        self, needs: SessionNeeds, *, session_id: str, role: Role | None = None
    ) -> AsyncIterator[Placement]:
        """A slot for a conversation, held inside the context. `role`: what it counts as, instead of the choice's own.

        Each worker that will not take it is passed over, and in the end each model. Raises PeerError as `choose`,
        EngineBusyError where nobody has room or answers in time, EngineError where all that could be asked fail.
        """
        try:
            async with asyncio.timeout(PLACE_SECONDS):
                placement = await self._find(needs, session_id, role)
        except TimeoutError:
            raise EngineBusyError("No model answers in time; try again.", retry_after=_RETRY_SECONDS) from None
        self._record(placement, session_id)
        try:
            yield placement
        finally:
            await self._release(placement)

    @contextlib.asynccontextmanager
    async def shadow(self, placement: Placement, *, session_id: str) -> AsyncIterator[Placement]:
        """A slot on the worker that should hear this conversation unheard. Raises EngineError where it has none."""
        worker, choice = placement.choice.shadow, placement.choice
        if worker is None:
            raise ValueError("the choice has no shadow")
        silent = await self._open(replace(choice, key=worker.key, shadow=None), worker, session_id)
        try:
            yield silent
        finally:
            # One that is cut short, because the trial goes on, has had no time to answer.
            await self._release(silent, cut=not self.tries(worker.key))

    def tries(self, key: str) -> bool:
        """Whether this version is still to hear calls unheard."""
        return self.rollout.stage == "shadow" and self.rollout.candidate == key

    def turn(self, placement: Placement, latency: TurnLatency) -> None:
        """A reply of this conversation began, so long after the user had spoken."""
        placement.engine.answered = True
        for timings in self._timings(placement.choice):
            timings.turn(placement.worker.key, latency.total / 1e6, now=self._seconds())

    async def _find(self, needs: SessionNeeds, session_id: str, role: Role | None) -> Placement:
        refused: dict[str, tuple[Worker, EngineError]] = {}
        while True:
            reasons = {each.id: Reason(code=error.code, text=error.message) for each, error in refused.values()}
            try:
                choice = self.choose(needs, session_id=session_id, refused=reasons)
            except MuseError:
                if refused:
                    raise _told(refused.values()) from None
                raise
            tried = (Reason(code=error.code, text=_of(worker, error)) for worker, error in refused.values())
            choice = replace(choice, role=role or choice.role, reasons=(*choice.reasons, *tried))
            for worker in choice.workers:
                try:
                    return await self._open(choice, worker, session_id)
                except EngineError as error:
                    refused[worker.id] = worker, error

    async def _open(self, choice: Choice, worker: Worker, session_id: str) -> Placement:
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                session = await self._pool.open(worker.address, session_id, model=worker.key)
        except EngineBusyError:
            self.fleet.changed(worker.id, lost=False)
            raise
        except EngineChangedError as error:  # another model is there, which says nothing of this one
            self._on_error(error.code)
            self.fleet.changed(worker.id, lost=True)
            raise
        except EngineError as error:
            self._failed(choice, worker, error.code, str(error))
            raise
        except TimeoutError:
            self._failed(choice, worker, "open_timeout", f"no answer within {OPEN_SECONDS:g} s")
            raise EngineBusyError("the worker does not answer; try again", retry_after=_RETRY_SECONDS) from None
        except Exception:  # one engine's defect is not another's
            _log.exception("a conversation cannot be opened")
            self._failed(choice, worker, "defect", "see above")
            raise EngineError("the worker has failed") from None
        self._blamed.pop(worker.id, None)
        key, timings = worker.key, self._timings(choice)

        def on_frames(count: int, late: int) -> None:
            for each in timings:
                each.frames(key, count, late, now=self._seconds())

        info = self._pool.info(worker.address)
        engine = MeasuredSession(session, info, clock=self._clock, on_frames=on_frames)
        return Placement(choice=choice, worker=worker, engine=engine, info=info)

    def _failed(self, choice: Choice, worker: Worker, code: str, problem: str) -> None:
        self._on_error(code)
        if self._blamed.get(worker.id) is not worker:  # once a look: who comes before the next says nothing new
            self._blamed[worker.id] = worker
            fields = {"worker": worker.id, "address": worker.address, "version": worker.key, "problem": problem}
            _log.warning("a worker takes no conversation", extra={"fields": fields})
            for timings in self._timings(choice):
                timings.session(worker.key, failed=True, now=self._seconds())
        self.fleet.changed(worker.id, lost=True)

    async def _release(self, placement: Placement, *, cut: bool = False) -> None:
        engine = placement.engine
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                await engine.close()
        except Exception:
            _log.exception("engine did not release a conversation")
            self._on_error("release")
        finally:
            silent = not (engine.answered or cut)
            for timings in self._timings(placement.choice):
                timings.session(placement.worker.key, failed=engine.failed, silent=silent, now=self._seconds())
            self.fleet.changed(placement.worker.id, lost=engine.lost)

    def _timings(self, choice: Choice) -> tuple[LiveTimings, ...]:
        if choice.role == "duel":  # everybody may see the timings: they would tell who answers
            return ()
        return (self._live, self._trials) if choice.role in COMPARED else (self._live,)

    def _seconds(self) -> float:
        return self._clock() / 1e9

    def _record(self, placement: Placement, session_id: str) -> None:
        choice = placement.choice
        self.decisions[choice.role, choice.model] += 1
        fields = {
            "session": session_id,
            "version": choice.key,
            "role": choice.role,
            "worker": placement.worker.id,
            "address": placement.worker.address,
            "reasons": "; ".join(f"{reason.code}: {reason.text}" for reason in choice.reasons),
        }
        _log.info("placed", extra={"fields": fields})


def _told(refused: Iterable[tuple[Worker, EngineError]]) -> EngineError:
    """Of what the workers said, what the caller is told."""
    said = list(refused)
    busy = [(error.retry_after, _of(worker, error)) for worker, error in said if isinstance(error, EngineBusyError)]
    if busy:
        wait, text = min(busy)
        return EngineBusyError(text, retry_after=wait)
    worker, error = said[-1]
    return EngineError(_of(worker, error), code=error.code)


def _of(worker: Worker, error: EngineError) -> str:
    """What a worker said, with the model that it has: where it stands is the operator's to know."""
    return f"{brief(worker.key)}: {error.message}"
