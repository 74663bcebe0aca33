from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from bittensor import http_auth
from bittensor.sp_core import Keypair
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from routing.leaderboard import Snapshot
from routing.scores.errors import NotAValidatorError, NotListedError, TooManyScoresError, UnsignedError
from routing.scores.intake import Intake, Receipt, admitted
from routing.scores.nonces import NonceStore
from routing.scores.queries import StoreRules
from routing.scores.store import ScoreStore
from routing.scores.submission import MOST_BYTES, Submission
from routing.settings import RoutingSettings
from routing.storage.database import Database, open_database
from streaming.errors import EngineError, PeerError
from streaming.schema import to_json
from tests.routing.scores.scoring import ALICE, BOB, CHARLIE, NOW, SERVER, A, B, leaderboard, submission

TARGET = "/v1/scores"
GOOD = submission({A: 0.61, B: None})


def body_of(scores: Submission) -> bytes:
    return json.dumps(to_json(scores, omit_none=True)).encode()


def signed(
    body: bytes,
    *,
    by: Keypair = ALICE,
    method: str = "POST",
    target: str = TARGET,
    receiver: Keypair | None = SERVER,
    at: float = NOW,
) -> dict[str, str]:
    headers = http_auth.sign(
        by,
        method=method,
        path=target,
        body=body,
        receiver_ss58=receiver and receiver.ss58_address,
        nonce_ns=round(at * 1e9),
    )
    return {name.lower(): value for name, value in headers.items()}


def open_intake(
    database: Database,
    *,
    snapshot: Snapshot | None = None,
    validators: tuple[str, ...] = (),
    hotkey: str | None = SERVER.ss58_address,
    rules: StoreRules | None = None,
) -> Intake:
    return Intake(
        RoutingSettings(hotkey=hotkey, validators=validators, min_stake=1000),
        ScoreStore(database, rules),
        NonceStore(database),
        lambda: snapshot or leaderboard(),
    )


async def take(
    intake: Intake, headers: Mapping[str, str], body: bytes, *, target: str = TARGET, now: float = NOW
) -> Receipt:
    return await intake.take(headers, body, method="POST", target=target, now=now)


async def kept(database: Database) -> int:
    board = await ScoreStore(database).scoreboard(now=NOW)
    return sum(one.submissions for one in board.validators)


async def test_signed_scores_are_taken(database: Database) -> None:
    body = body_of(GOOD)
    receipt = await take(open_intake(database), signed(body), body)
    assert receipt.accepted == 2
    assert receipt.id.startswith("sub_")
    board = await ScoreStore(database).scoreboard(now=NOW)
    assert board.of(A).metrics["total"].average == 0.61
    assert [one.hotkey for one in board.validators] == [ALICE.ss58_address]


async def test_a_replay_is_refused_also_by_another_process_and_after_a_restart(opening: Callable[[], Database]) -> None:
    database = opening()
    body = body_of(GOOD)
    headers = signed(body)
    await take(open_intake(database), headers, body)
    for again in (database, opening()):
        with pytest.raises(UnsignedError) as refused:
            await take(open_intake(again), headers, body, now=NOW + 5)
        assert refused.value.code == "replayed_request"
    database.close()
    restarted = opening()
    with pytest.raises(UnsignedError) as refused:
        await take(open_intake(restarted), headers, body, now=NOW + 9)
    assert refused.value.code == "replayed_request"
    with pytest.raises(UnsignedError) as refused:
        await take(open_intake(restarted), headers, body, now=NOW + 3600)
    assert refused.value.code == "stale_request"
    assert await kept(restarted) == 1


async def test_what_was_refused_cannot_be_sent_again_either(database: Database) -> None:
    intake = open_intake(database)
    body = body_of(submission({"omega/elsewhere@0": 0.6}))
    headers = signed(body)
    with pytest.raises(NotListedError):
        await take(intake, headers, body)
    with pytest.raises(UnsignedError) as refused:
        await take(intake, headers, body)
    assert refused.value.code == "replayed_request"


BODY = body_of(GOOD)
RECORDED = signed(BODY)
TO_BOB = signed(BODY, receiver=BOB)
INVALID = "invalid_signature"


def but(headers: Mapping[str, str], **changed: str) -> dict[str, str]:
    """The same headers with others of btauth/1 in their place."""
    return {**headers, **{f"x-bittensor-{name}": value for name, value in changed.items()}}


FORGED: dict[str, tuple[dict[str, str], bytes, str, str]] = {
    "nothing signed": ({}, BODY, TARGET, "missing_signature"),
    "another's name": (but(signed(BODY, by=CHARLIE), hotkey=ALICE.ss58_address), BODY, TARGET, INVALID),
    "a changed body": (RECORDED, BODY.replace(b"0.61", b"0.99"), TARGET, INVALID),
    "a space more": (RECORDED, BODY + b" ", TARGET, INVALID),
    "another path": (RECORDED, BODY, "/v1/feedback", INVALID),
    "another query": (RECORDED, BODY, TARGET + "?dry=1", INVALID),
    "another method": (signed(BODY, method="PUT"), BODY, TARGET, INVALID),
    "another server": (TO_BOB, BODY, TARGET, "wrong_receiver"),
    "another server, renamed": (but(TO_BOB, receiver=SERVER.ss58_address), BODY, TARGET, INVALID),
    "to nobody": (signed(BODY, receiver=None), BODY, TARGET, "wrong_receiver"),
    "long ago": (signed(BODY, at=NOW - 11), BODY, TARGET, "stale_request"),
    "in the future": (signed(BODY, at=NOW + 3), BODY, TARGET, "stale_request"),
    "another nonce": (but(RECORDED, nonce=str(round(NOW * 1e9) + 1)), BODY, TARGET, INVALID),
    "no integer": (but(RECORDED, nonce="1e18"), BODY, TARGET, INVALID),
    "no signature": ({k: v for k, v in RECORDED.items() if not k.endswith("signature")}, BODY, TARGET, INVALID),
    "no hex": (but(RECORDED, signature="0xzz"), BODY, TARGET, INVALID),
    "a short signature": (but(RECORDED, signature="0x00"), BODY, TARGET, INVALID),
    "an old protocol": (but(RECORDED, version="0"), BODY, TARGET, INVALID),
    "another scheme": (but(RECORDED, crypto="ed25519"), BODY, TARGET, INVALID),
}


@pytest.fixture
def file_database(tmp_path: Path) -> Iterator[Database]:
    """For what is the same with every database."""
    database = open_database(f"sqlite:///{tmp_path}/muse.db")
    yield database
    database.close()


@pytest.mark.parametrize("case", FORGED)
async def test_forgeries_are_refused_and_leave_no_trace(file_database: Database, case: str) -> None:
    headers, body, target, code = FORGED[case]
    intake = open_intake(file_database)
    with pytest.raises(UnsignedError) as refused:
        await take(intake, headers, body, target=target)
    assert refused.value.code == code
    assert await kept(file_database) == 0
    await take(intake, RECORDED, BODY)  # the validator's own nonce is not used up


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(name=st.sampled_from(sorted(RECORDED)), value=st.text() | st.integers().map(str))
async def test_whatever_a_header_says_it_is_refused(file_database: Database, name: str, value: str) -> None:
    if value == RECORDED[name]:
        return
    with pytest.raises((UnsignedError, NotAValidatorError)):
        await take(open_intake(file_database), {**RECORDED, name: value}, BODY)


async def test_only_validators_with_the_stake_may_score(file_database: Database) -> None:
    intake = open_intake(file_database)
    for keypair, may in ((ALICE, True), (BOB, True), (CHARLIE, False), (SERVER, False)):
        headers = signed(BODY, by=keypair)
        if may:
            intake.check_sender(headers)
            await take(intake, headers, BODY)
            continue
        with pytest.raises(NotAValidatorError):
            intake.check_sender(headers)
        with pytest.raises(NotAValidatorError):
            await take(intake, headers, BODY)
    assert await kept(file_database) == 2


async def test_the_operators_list_is_the_only_one(file_database: Database) -> None:
    intake = open_intake(file_database, validators=(CHARLIE.ss58_address,))
    await take(intake, signed(BODY, by=CHARLIE), BODY)
    with pytest.raises(NotAValidatorError):
        await take(intake, signed(BODY, by=ALICE), BODY)


def test_who_is_admitted() -> None:
    chain = RoutingSettings(min_stake=1000)
    assert admitted(chain, leaderboard()) == {ALICE.ss58_address, BOB.ss58_address}
    assert admitted(chain, None) == frozenset()
    listed = RoutingSettings(validators=(CHARLIE.ss58_address,))
    assert admitted(listed, leaderboard()) == admitted(listed, None) == {CHARLIE.ss58_address}


class Twice(dict[str, str]):
    """Headers of which one is there twice, as HTTP allows: `get` finds the first, `items` has both."""

    def get(self, name: str, default: object = None) -> str:
        return ALICE.ss58_address if name == "x-bittensor-hotkey" else super().get(name, "")


async def test_a_header_that_is_there_twice_lets_nobody_in(file_database: Database) -> None:
    with pytest.raises(NotAValidatorError):
        await take(open_intake(file_database), Twice(signed(BODY, by=CHARLIE)), BODY)


@pytest.mark.parametrize(
    ("scores", "kind", "param"),
    [
        (submission({A: float("nan")}), PeerError, "scores[0].metrics.total"),
        (submission({B: 0.5, A: 1e9}), PeerError, "scores[1].metrics.total"),
        (submission({A: 0.5}, charm=0.5), PeerError, "scores[0].metrics.charm"),
        (submission({A: 0.5}, block=5_000_026), PeerError, "block"),
        (submission({A: 0.5, "omega/moshi-c@0": 0.5}), NotListedError, "scores[1].version"),
    ],
)
async def test_of_what_is_wrong_nothing_is_kept(
    file_database: Database, scores: Submission, kind: type[PeerError], param: str
) -> None:
    body = body_of(scores)
    with pytest.raises(kind) as refused:
        await take(open_intake(file_database), signed(body), body)
    assert refused.value.param == param
    assert await kept(file_database) == 0


async def test_a_body_is_bounded_before_it_is_verified(file_database: Database) -> None:
    with pytest.raises(PeerError) as refused:
        await take(open_intake(file_database), {**RECORDED, "x-bittensor-signature": "none"}, b" " * (MOST_BYTES + 1))
    assert refused.value.code == "too_large"


async def test_one_validators_flood_keeps_no_other_out(file_database: Database) -> None:
    intake = open_intake(file_database, rules=StoreRules(submissions=2))
    for second in range(2):
        await take(intake, signed(BODY, at=NOW + second), BODY, now=NOW + second)
    with pytest.raises(TooManyScoresError):
        await take(intake, signed(BODY, at=NOW + 2), BODY, now=NOW + 2)
    await take(intake, signed(BODY, by=BOB, at=NOW + 2), BODY, now=NOW + 2)


async def test_without_a_hotkey_a_leaderboard_or_bittensor_nothing_is_taken(
    file_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    nameless = open_intake(file_database, hotkey=None)
    unready = Intake(
        RoutingSettings(hotkey=SERVER.ss58_address), ScoreStore(file_database), NonceStore(file_database), lambda: None
    )
    for intake, code in ((nameless, "scores_not_taken"), (unready, "no_leaderboard")):
        with pytest.raises(EngineError) as refused:
            intake.check_sender(RECORDED)
        assert refused.value.code == code
        with pytest.raises(EngineError):
            await take(intake, RECORDED, BODY)
    monkeypatch.setitem(sys.modules, "bittensor", None)
    with pytest.raises(EngineError, match="bittensor is not installed") as refused:
        await take(open_intake(file_database), RECORDED, BODY)
    assert refused.value.code == "scores_not_taken"


async def test_a_database_that_is_down_fails_closed(file_database: Database) -> None:
    file_database.close()
    with pytest.raises(EngineError) as refused:
        await take(open_intake(file_database), RECORDED, BODY)
    assert refused.value.code == "database_closed"
