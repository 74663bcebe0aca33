from __future__ import annotations

import asyncio
from typing import Self

import pytest

from routing.leaderboard import Entry, Snapshot
from routing.policy.contract import Rollout, Rules, SessionNeeds
from routing.router import Router
from routing.scores.standings import Scoreboard
from server.driver import ConnectionOverError
from server.gateway import Gateway
from server.shadow import MOST_WAITING, Shadow, Tee
from streaming.client_events import AppendAudio, ClientEvent, CreateResponse, UpdateSession
from streaming.engine import EngineLost, StartReply
from streaming.errors import EngineError, PeerError
from streaming.server_events import ResponseDone
from tests.routing.fakes import FakeEngine, router_for
from tests.server.fakes import FakeConnection, FakeSession, fake_gateway
from tests.waiting import PATIENCE, settled, until

HALF_A_MEGABYTE = AppendAudio(audio=bytes(2**19))


class Rig:
    """A gateway whose calls are all heard by a second engine."""

    def __init__(self) -> None:
        self.heard, self.silent = FakeEngine("best"), FakeEngine("new", duplex=True)
        self.router: Router = router_for(self.heard, self.silent, rules=Rules(shadow_share=1.0))
        self.sessions: list[FakeSession] = []
        self.gateway: Gateway = fake_gateway(router=self.router, sessions=self.sessions)
        self.connection = FakeConnection()

    async def __aenter__(self) -> Self:
        await self.gateway.start()
        entries = tuple(
            Entry(uid=uid, hotkey=None, model=name, commit=None, block=0, competition=None, incentive=1.0 - uid / 2)
            for uid, name in enumerate(("best", "new"))
        )
        board = Snapshot(source="file", network="", netuid=0, competition=None, block=0, taken_at=0.0, entries=entries)
        self.router.inform(board, Scoreboard())
        self.router.rollout = Rollout(stage="shadow", incumbent="best", candidate="new")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.gateway.close()

    async def call(self) -> None:
        async with self.gateway.admit(SessionNeeds()) as call:
            await self.gateway.converse(call, self.connection)

    async def end(self, talking: asyncio.Task[None]) -> None:
        self.connection.say(ConnectionOverError())
        async with asyncio.timeout(PATIENCE):
            await talking


async def test_a_shadow_hears_what_the_caller_says_and_nobody_hears_it() -> None:
    async with Rig() as rig:
        talking = asyncio.create_task(rig.call())
        await until(lambda: len(rig.sessions) == 2)
        said: list[ClientEvent] = [UpdateSession(session={"type": "realtime"}), CreateResponse()]
        for event in said:
            rig.connection.say(event)
        await until(lambda: all(session.received[:2] == said for session in rig.sessions))
        mine, its = rig.heard.sessions[0], rig.silent.sessions[0]
        assert isinstance(mine.commands[-1], StartReply)
        assert isinstance(its.commands[-1], StartReply)
        before = len(rig.connection.heard)
        its.queue.put_nowait(EngineLost(message="the shadow's own trouble"))
        await until(lambda: len(rig.sessions[1].received) == 3)
        assert len(rig.connection.heard) == before
        await rig.end(talking)
        await until(lambda: rig.silent.open_now == 0)
    assert rig.heard.open_now == 0


async def test_a_shadow_goes_when_the_trial_is_over_and_the_call_goes_on() -> None:
    async with Rig() as rig:
        talking = asyncio.create_task(rig.call())
        await until(lambda: rig.silent.open_now == 1)
        rig.router.rollout = Rollout(stage="canary", incumbent="best", candidate="new", share=0.1)
        rig.connection.say(CreateResponse())
        await until(lambda: rig.silent.open_now == 0)
        assert rig.heard.open_now == 1
        assert not rig.silent.sessions[0].commands
        await rig.end(talking)


@pytest.mark.parametrize("refusal", [EngineError("it is gone"), RuntimeError("a defect")])
async def test_a_shadow_that_cannot_be_opened_costs_the_caller_nothing(refusal: Exception) -> None:
    async with Rig() as rig:
        rig.silent.refusal = refusal
        talking = asyncio.create_task(rig.call())
        rig.connection.say(CreateResponse())
        await until(lambda: rig.heard.sessions and rig.heard.sessions[0].commands)
        await settled()
        await rig.end(talking)
        assert len(rig.sessions) == 1


async def test_a_shadow_that_hangs_holds_nothing_up() -> None:
    async with Rig() as rig:
        rig.silent.hangs = True
        talking = asyncio.create_task(rig.call())
        for _ in range(20):
            rig.connection.say(HALF_A_MEGABYTE)
        await until(lambda: rig.sessions and len(rig.sessions[0].received) == 20)
        await rig.end(talking)
        async with asyncio.timeout(PATIENCE):
            await rig.gateway.close()


async def test_a_defect_in_the_shadows_session_ends_it_alone(caplog: pytest.LogCaptureFixture) -> None:
    async with Rig() as rig:
        talking = asyncio.create_task(rig.call())
        await until(lambda: len(rig.sessions) == 2)
        rig.sessions[1]._script = lambda _: 1 / 0  # type: ignore[assignment,return-value]
        rig.connection.say(CreateResponse())
        await until(lambda: rig.silent.open_now == 0)
        assert "shadow failed" in caplog.text
        rig.connection.say(CreateResponse())
        await until(lambda: len(rig.sessions[0].received) == 2)
        assert not any(isinstance(event, ResponseDone) for event in rig.connection.heard)
        await rig.end(talking)


async def test_what_waits_for_a_shadow_is_bounded() -> None:
    shadow = Shadow()
    for _ in range(MOST_WAITING // 2**19):
        shadow.hand_on(HALF_A_MEGABYTE)
    kept = shadow.over
    shadow.hand_on(HALF_A_MEGABYTE)
    assert (kept, shadow.over) == (False, True)
    with pytest.raises(ConnectionOverError):
        await shadow.receive()
    shadow.hand_on(HALF_A_MEGABYTE)
    with pytest.raises(ConnectionOverError):
        await shadow.receive()


async def test_many_small_events_are_bounded_too() -> None:
    shadow = Shadow()
    handed_on = 0
    while not shadow.over and handed_on < 10_000:
        shadow.hand_on(CreateResponse())
        handed_on += 1
    assert 8 <= handed_on <= 32


async def test_what_is_read_makes_room() -> None:
    shadow = Shadow()
    for _ in range(100):
        shadow.hand_on(HALF_A_MEGABYTE)
        assert await shadow.receive() is HALF_A_MEGABYTE
    assert not shadow.over


async def test_what_cannot_be_read_is_not_handed_on() -> None:
    connection, shadow = FakeConnection(), Shadow()
    tee = Tee(connection, shadow, wanted=lambda: True)
    connection.say(PeerError("not an event", code="invalid_json"))
    connection.say(CreateResponse())
    with pytest.raises(PeerError):
        await tee.receive()
    event = await tee.receive()
    assert await shadow.receive() is event
