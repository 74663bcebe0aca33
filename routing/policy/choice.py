"""Which model, and which worker, a session gets; and why.

A session that names no model (`auto`) gets the candidate where it falls into the canary's share, else the incumbent,
else the best-ranked model that the gate lets in. One that names a model, or whose tenant has pinned some, gets that or
a refusal with its reason: only exclusion, a bar, the tenant's denial and want of workers stand in its way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from routing.fleet.contract import Worker, WorkerState
from routing.policy.contract import Choice, LiveTable, Ranked, Reason, Role, Rollout, Rules, SessionNeeds
from routing.policy.gate import Gate
from routing.policy.ranking import brief, names
from routing.policy.shares import place, within
from streaming.errors import EngineBusyError, PeerError

AUTO = "auto"

MOST_PASSED_OVER = 16
"""Models that a decision names as passed over; the first of them."""

_REALTIME_NAMES = ("gpt-realtime", "gpt-4o-realtime", "gpt-4o-mini-realtime")
"""What stock OpenAI clients ask for by default, dated and `-mini` variants included."""

_MOST_OFFERED = 20  # models that a refusal names
_SOON = 5.0  # s; a conversation's slot may be free again
_LATER = 15.0  # s; a worker may have loaded its model

_NOT_READY: Mapping[WorkerState, str] = {
    "starting": "are still loading",
    "draining": "take nobody any more",
    "lost": "do not answer",
}


class UnknownModelError(PeerError):
    """No model of that name is offered, or none that does what the session needs."""


class RefusedModelError(PeerError):
    """The model is known, and is not served; the message says why."""


def choose(
    needs: SessionNeeds,
    *,
    session_id: str,
    ranking: Sequence[Ranked],
    workers: Sequence[Worker],
    rollout: Rollout,
    live: LiveTable,
    rules: Rules,
    refused: Mapping[str, Reason] | None = None,
) -> Choice:
    """The decision for one session. `refused`: workers, by id, that it has tried in vain, and what they said.

    Raises UnknownModelError (`model_not_found`, naming what is offered), RefusedModelError (`model_not_served`) for a
    version that is excluded, barred or denied, and EngineBusyError where only room is wanting.
    """
    return _Chooser(needs, session_id, ranking, workers, rollout, live, rules, refused or {}).choose()


def means_auto(name: str | None) -> bool:
    """Whether a requested name leaves the choice to the router: `auto`, none, or what stock clients send unasked."""
    return not name or name == AUTO or name.startswith(_REALTIME_NAMES)


def offered(ranking: Sequence[Ranked], workers: Sequence[Worker], rollout: Rollout) -> tuple[str, ...]:
    """The models that can be asked for by name now, the incumbent first, then by rank."""
    working = {worker.key for worker in workers if worker.state in ("ready", "overloaded")}
    there = [r for r in ranking if r.key in working and r.excluded is None and rollout.bar(r.key) is None]
    there.sort(key=lambda ranked: ranked.key != rollout.incumbent)
    return tuple(dict.fromkeys(ranked.model for ranked in there))


@dataclass(slots=True)
class _Chooser:
    """One decision under way. `passed`: what was looked at and not taken, in that order, and why."""

    needs: SessionNeeds
    session_id: str
    ranking: Sequence[Ranked]
    all_workers: Sequence[Worker]
    rollout: Rollout
    live: LiveTable
    rules: Rules
    refused: Mapping[str, Reason]
    workers: dict[str, list[Worker]] = field(default_factory=dict)
    passed: dict[str, Reason] = field(default_factory=dict)
    gate: Gate | None = None
    busy: bool = False
    starting: bool = False

    def choose(self) -> Choice:
        for worker in self.all_workers:
            self.workers.setdefault(worker.key, []).append(worker)
        name = self.needs.model
        asked = [ranked for ranked in self.ranking if name is not None and names(ranked, (name,))]
        if not asked and not means_auto(name):
            raise self._unknown(f"There is no model {str(name)[:80]!r} here")
        for ranked, role, reason in self._requested(asked) if asked else self._auto():
            if len(self.passed) >= MOST_PASSED_OVER and ranked.key not in self.workers:
                continue  # it cannot be had, and why not will not be told
            why_not = self._obstacle(ranked, explicit=role in ("requested", "pinned"))
            if why_not is None:
                return self._choice(ranked, role, reason)
            self.passed[ranked.key] = why_not
        raise self._refusal(asked)

    # --- in which order models are looked at -------------------------------------------------------------------------

    def _requested(self, asked: Sequence[Ranked]) -> Iterator[tuple[Ranked, Role, Reason]]:
        reason = Reason(code="requested", text="the session asked for it")
        for ranked in asked:
            yield ranked, "requested", reason

    def _auto(self) -> Iterator[tuple[Ranked, Role, Reason]]:
        """The canary's share, the incumbent, then all others; a candidate beyond its share comes last."""
        known = {ranked.key: ranked for ranked in self.ranking}
        incumbent, candidate, share = self.rollout.incumbent, self.rollout.candidate, self.rollout.share
        trial = candidate if self.rollout.stage == "canary" else None
        order: dict[str, tuple[Role, Reason]] = {}
        if trial is not None and within(share, self.session_id, trial):
            text = f"it is on trial with {share:.0%} of new sessions, and this is one of them"
            order[trial] = "candidate", Reason(code="canary", text=text)
        if incumbent is not None:
            order[incumbent] = "incumbent", Reason(code="incumbent", text="it serves those who ask for no model")
        fallback = Reason(code="fallback", text="it is the best of those that can take the session now")
        for key in [*(key for key in known if key != trial), *([trial] if trial else [])]:
            order.setdefault(key, ("fallback", fallback))
        pinned = Reason(code="pinned", text="the tenant is served this model only")
        for key, (role, reason) in order.items():
            if (ranked := known.get(key)) is None:
                continue
            if not self.needs.pin:
                yield ranked, role, reason
            elif names(ranked, self.needs.pin):
                yield ranked, "pinned", pinned

    # --- what stands in the way --------------------------------------------------------------------------------------

    def _obstacle(self, ranked: Ranked, *, explicit: bool) -> Reason | None:
        """Why this model is not for this session; None where it is."""
        if (refusal := self._refusal_of(ranked)) is not None:
            return refusal
        if not explicit and (doubt := self._doubt(ranked)) is not None:
            return doubt
        workers = self.workers.get(ranked.key)
        if not workers:
            return Reason(code="no_worker", text="no worker has it")
        if (misfit := self._misfit(ranked, workers)) is not None:
            return misfit
        return None if self._takers(ranked.key) else self._want_of_room(workers)

    def _refusal_of(self, ranked: Ranked) -> Reason | None:
        """What bars the model from this session even where it was asked for."""
        if ranked.excluded is not None:
            return ranked.excluded
        if (bar := self.rollout.bar(ranked.key)) is not None:
            return Reason(code="barred", text=f"it was taken out of service: {bar.reason.text}")
        if names(ranked, self.needs.deny):
            return Reason(code="denied", text="the tenant is never served it")
        if self.needs.pin and not names(ranked, self.needs.pin):
            return Reason(code="not_pinned", text="the tenant is served other models only")
        return None

    def _doubt(self, ranked: Ranked) -> Reason | None:
        """Why a session that named no model should not get it."""
        if ranked.key == self.rollout.incumbent:
            return None
        if ranked.key == self.rollout.candidate and self.rollout.stage == "shadow":
            return self.rollout.reason
        if self.gate is None:
            self.gate = Gate.of(self.ranking, self.rollout.incumbent, self.rules)
        return self.gate.against_service(ranked)

    def _misfit(self, ranked: Ranked, workers: Sequence[Worker]) -> Reason | None:
        """Which need the model does not meet, as far as is known."""
        info = next((worker.info for worker in workers if worker.info is not None), None)
        if info is not None and self.needs.mode is not None and info.duplex != (self.needs.mode == "duplex"):
            return Reason(code="mode", text=f"it is {'duplex' if info.duplex else 'turn-based'}")
        if info is not None and self.needs.language is not None and not _speaks(self.needs.language, info.languages):
            return Reason(code="language", text=f"it speaks {', '.join(info.languages)}")
        stats = self.live.get(ranked.key)
        if self.needs.latency == "interactive" and stats is not None and stats.gap_p95 is not None:
            most = self.rules.interactive_gap
            if stats.turns >= self.rules.least_turns and stats.gap_p95 > most:
                return Reason(code="latency", text=f"its p95 gap is {stats.gap_p95:.0f} ms, above {most:.0f} ms")
        return None

    def _want_of_room(self, workers: Sequence[Worker]) -> Reason:
        states = {worker.state for worker in workers}
        for worker in workers:
            if worker.id in self.refused:
                self.busy = True
                return self.refused[worker.id]
        if "ready" in states:
            self.busy = True
            return Reason(code="full", text="its workers are full")
        if "overloaded" in states:
            self.busy = True
            return Reason(code="overloaded", text="its workers are overloaded")
        if on_their_way := [words for state, words in _NOT_READY.items() if state in states]:
            self.starting = True
            return Reason(code="not_ready", text=f"its workers {' or '.join(on_their_way)}")
        problem = next((worker.problem for worker in workers if worker.problem), "no reason was given")
        return Reason(code="worker_failed", text=f"its worker failed: {problem}")

    # --- the decision ------------------------------------------------------------------------------------------------

    def _takers(self, key: str) -> tuple[Worker, ...]:
        """The workers to try, most free slots first; those that do not say come last."""
        takers = [w for w in self.workers.get(key, ()) if w.takes and w.id not in self.refused]
        return tuple(sorted(takers, key=lambda worker: (-(worker.free or 0), place(self.session_id, worker.id))))

    def _choice(self, ranked: Ranked, role: Role, reason: Reason) -> Choice:
        passed = dict(self.passed)
        if role in ("incumbent", "candidate"):
            passed |= self._ranked_above(ranked)
        return Choice(
            key=ranked.key,
            model=ranked.model,
            role=role,
            workers=self._takers(ranked.key),
            reasons=(reason, *ranked.reasons),
            passed_over=tuple(passed.items())[:MOST_PASSED_OVER],
            shadow=self._shadow(role),
        )

    def _ranked_above(self, chosen: Ranked) -> Iterator[tuple[str, Reason]]:
        """The models that rank above the chosen one and do not serve, and why."""
        for ranked in self.ranking[:MOST_PASSED_OVER]:
            if ranked.rank is None or ranked.key == chosen.key:
                return
            if ranked.key in self.passed or ranked.key == self.rollout.incumbent:
                continue
            waiting = Reason(code="not_promoted", text="it does not lead by enough to take over")
            if ranked.key == self.rollout.candidate:
                waiting = self.rollout.reason
            yield ranked.key, self._obstacle(ranked, explicit=False) or waiting

    def _shadow(self, role: Role) -> Worker | None:
        """A worker of the candidate that should hear this call, unheard itself."""
        candidate, share = self.rollout.candidate, self.rules.shadow_share
        if role != "incumbent" or self.rollout.stage != "shadow" or candidate is None:
            return None
        if not within(share, self.session_id, f"shadow {candidate}"):
            return None
        ranked = next((ranked for ranked in self.ranking if ranked.key == candidate), None)
        workers = self.workers.get(candidate)
        if ranked is None or not workers or self._refusal_of(ranked) or self._misfit(ranked, workers):
            return None
        return next(iter(self._takers(candidate)), None)

    # --- refusals ----------------------------------------------------------------------------------------------------

    def _refusal(self, asked: Sequence[Ranked]) -> PeerError | EngineBusyError:
        """What to say where there is no model for the session."""
        if self.busy or self.starting:
            told = "; ".join(f"{brief(key)}: {reason.text}" for key, reason in list(self.passed.items())[:3])
            wait = _SOON if self.busy else _LATER
            return EngineBusyError(f"No worker can take the conversation now ({told}).", retry_after=wait)
        if asked:
            reason = self.passed[asked[0].key]
            return RefusedModelError(
                f"The model {brief(asked[0].key)!r} is not served: {reason.text}.",
                code="model_not_served",
                param="model",
            )
        wants = [need for need in (self.needs.mode, self.needs.language, self.needs.latency) if need is not None]
        if self.needs.pin:
            wants.append(f"one of {', '.join(self.needs.pin)}")
        return self._unknown(
            f"No model here meets what is asked for ({', '.join(wants)})" if wants else "No model is here"
        )

    def _unknown(self, what: str) -> UnknownModelError:
        models = offered(self.ranking, self.all_workers, self.rollout)
        there = ", ".join((AUTO, *models[:_MOST_OFFERED])) if models else "none"
        more = f" and {len(models) - _MOST_OFFERED} more" if len(models) > _MOST_OFFERED else ""
        return UnknownModelError(f"{what}; there is: {there}{more}.", code="model_not_found", param="model")


def _speaks(language: str, languages: Sequence[str]) -> bool:
    """Whether one of them is this language; a region (`en-GB`) is met by its language (`en`), and the other way."""
    wanted = language.lower().partition("-")[0]
    return any(spoken.lower().partition("-")[0] == wanted for spoken in languages)
