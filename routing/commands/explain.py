"""`python -m routing explain`: which model a session gets, and why."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import httpx

from models.catalogue import WORKER_SCHEMES, check_engine
from routing.commands.leaderboard import read_scores
from routing.commands.source_options import add_source_options, settings_of
from routing.control import STATE, read_rollout
from routing.fleet.contract import Worker
from routing.fleet.pool import EnginePool
from routing.fleet.probe import Prober
from routing.needs import read_needs
from routing.policy.choice import choose
from routing.policy.contract import Ranked, Rollout, SessionNeeds
from routing.policy.ranking import rank
from routing.policy.rollout import step
from routing.protocol import DecisionView
from routing.settings import RoutingSettings
from routing.sources import read_once
from routing.storage.address import parse_address
from routing.storage.database import open_database
from routing.storage.state import StateStore
from routing.view import view_decision
from streaming.engine import Engine
from streaming.errors import EngineError, PeerError
from streaming.schema import decode, to_json

HELP = "Say which model a session gets, and why: here, or as a running server has it."

_SERVER_SECONDS = 10.0
_NEEDS = ("model", "mode", "language", "latency")


def add_options(parser: argparse.ArgumentParser) -> None:
    """See `routing.cli.Command`."""
    parser.add_argument("--session", required=True, metavar="ID", help="the session's id; any text will do")
    parser.add_argument("--model", help="what it asks for: a model, one version of it, or auto (the default)")
    parser.add_argument("--mode", help="duplex or turn_based")
    parser.add_argument("--language", help="such as en")
    parser.add_argument("--latency", help="interactive or relaxed")
    parser.add_argument("--server", metavar="URL", help="ask this server, which knows its workers and its live timings")
    parser.add_argument("--api-key", help="the server's key")
    parser.add_argument(
        "--worker",
        action="append",
        default=[],
        metavar="URL",
        help="a worker that there is, such as ws://host:port; may be repeated. Without any, each model has one",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_source_options(parser)


def run(options: argparse.Namespace) -> int:
    """See `routing.cli.Command`."""
    query = {name: value for name in _NEEDS if (value := getattr(options, name)) is not None}
    needs = read_needs(query)
    if options.server is not None:
        decision = _ask(options.server, options.api_key, {"session": options.session, **query})
    else:
        decision = asyncio.run(_decide(settings_of(options), needs, options.session, options.worker, now=time.time()))
    print(json.dumps(to_json(decision), indent=1) if options.json else text(options.session, decision))
    return 0


def text(session_id: str, decision: DecisionView) -> str:
    """For people."""
    where = f" on {decision.worker}" if decision.worker else ""
    lines = [f"{session_id} gets {decision.version} ({decision.role}){where}"]
    if decision.shadow is not None:
        lines.append(f"and {decision.shadow} hears it unheard")
    lines += ["", "Why:", *(f"  {reason.code}: {reason.text}" for reason in decision.reasons)]
    if decision.passed_over:
        passed = (f"  {one.version}: {one.text} ({one.code})" for one in decision.passed_over)
        lines += ["", "Passed over:", *passed]
    return "\n".join(lines)


# --- as a server has it ----------------------------------------------------------------------------------------------


def _ask(url: str, key: str | None, query: dict[str, str]) -> DecisionView:
    headers = {b"Authorization": f"Bearer {key}".encode()} if key else {}
    try:
        response = httpx.get(
            f"{url.rstrip('/')}/v1/leaderboard/explain", params=query, headers=headers, timeout=_SERVER_SECONDS
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise EngineError(f"{url} cannot be asked: {error or type(error).__name__}") from None
    try:
        body = response.json()
    except ValueError:
        raise EngineError(f"{url} does not answer as Muse does (HTTP {response.status_code})") from None
    if response.status_code != httpx.codes.OK:
        raise EngineError(f"{url}: {_message(body)}")
    try:
        decision: DecisionView = decode(DecisionView, body, path="decision", strict=False)
    except PeerError as error:
        raise EngineError(f"{url} does not answer as Muse does: {error.message}") from None
    return decision


def _message(body: Any) -> str:
    try:
        return str(body["error"]["message"])
    except (KeyError, TypeError):
        return "it refuses, and does not say why"


# --- as it follows from leaderboard, scores and workers --------------------------------------------------------------


async def _decide(
    settings: RoutingSettings, needs: SessionNeeds, session_id: str, addresses: Sequence[str], *, now: float
) -> DecisionView:
    state = await read_once(settings, now=now)
    scoreboard, trouble = await read_scores(settings, state.snapshot, now=now)
    rollout, lost = await _read_rollout(settings)
    for problem in (state.problem, trouble, lost):
        if problem is not None:
            print(f"warning: {problem}", file=sys.stderr)
    rules, workers = settings.rules(), [await _probe(address) for address in addresses]
    served = [worker.key for worker in workers if worker.key]
    ranking = rank(state.snapshot, scoreboard, served=served, rules=rules, now=now)
    if not addresses:
        print("It is assumed that each model is on a ready worker, and can do what is asked for.", file=sys.stderr)
        workers = [_assumed(ranked) for ranked in ranking]
    rollout = step(rollout, ranking=ranking, workers=workers, live={}, rules=rules, now=now)
    choice = choose(
        needs, session_id=session_id, ranking=ranking, workers=workers, rollout=rollout, live={}, rules=rules
    )
    return view_decision(choice)


def _assumed(ranked: Ranked) -> Worker:
    return Worker(id=f"a worker of {ranked.key}", address="", key=ranked.key, state="ready")


async def _probe(address: str) -> Worker:
    try:
        scheme = check_engine(address).partition(":")[0]
    except ValueError:
        scheme = ""
    if scheme not in WORKER_SCHEMES:
        raise EngineError(f"--worker: expected ws://host:port, got {address[:80]!r}", code="invalid_value")
    prober = Prober(EnginePool(_never))
    try:
        sighting = await prober.look(address)
    finally:
        await prober.close()
    worker = sighting.of(Worker(id=address, address=address, key="", state="starting"), time.monotonic_ns())
    if worker.info is None:
        raise EngineError(f"the worker at {address} does not say what it is: {worker.problem or worker.state}")
    return Worker(
        id=address,
        address=address,
        key=worker.info.model,
        state=worker.state,
        info=worker.info,
        slots=worker.slots,
        free=worker.free,
        problem=worker.problem,
    )


def _never(address: str) -> Engine:
    raise EngineError(f"no conversation is held with {address} here")


async def _read_rollout(settings: RoutingSettings) -> tuple[Rollout, str | None]:
    """Where the rollout stands by the database, and why that is not known where it cannot be read."""
    url = settings.database.get_secret_value()
    try:
        address = parse_address(url)
        if address.sqlite and not await asyncio.to_thread(os.path.exists, address.url.database or ""):
            return Rollout(), None
        database = await asyncio.to_thread(open_database, url)
        try:
            stored = await StateStore(database).load(STATE)
        finally:
            await asyncio.to_thread(database.close)
        return (read_rollout(stored[0]) if stored else Rollout()), None
    except EngineError as error:
        return Rollout(), f"the rollout's state cannot be read: {error.message}"
