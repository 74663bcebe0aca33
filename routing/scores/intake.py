"""The door for scores: who sent them, may they, is it the first time, and are they whole."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from routing.leaderboard import Snapshot
from routing.scores.errors import NotAValidatorError, UnsignedError
from routing.scores.nonces import NonceStore
from routing.scores.store import ScoreStore
from routing.scores.submission import MOST_BYTES, check_listed, parse_submission
from routing.settings import RoutingSettings
from streaming.errors import EngineError, PeerError

_log = logging.getLogger(__name__)

MAX_AGE = 10.0
"""Seconds for which a signed request is fresh, as `btauth/1` has it."""

ALLOWED_SKEW = 2.0
"""Seconds that a validator's clock may be ahead. Nonces are kept for longer than both (`nonces.KEPT_SECONDS`)."""

_SENDER = "x-bittensor-hotkey"


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What was taken: the submission's id, and how many scores it has."""

    id: str
    accepted: int


def admitted(settings: RoutingSettings, snapshot: Snapshot | None) -> frozenset[str]:
    """The hotkeys that may score: the operator's own, or the subnet's validators that have the stake."""
    if settings.validators:
        return frozenset(settings.validators)
    if snapshot is None:
        return frozenset()
    return frozenset(entry.hotkey for entry in snapshot.validators if entry.stake >= settings.min_stake)


class Intake:
    """Takes submissions that are signed by `btauth/1` to this server's hotkey. `snapshot` gives the leaderboard."""

    def __init__(
        self,
        settings: RoutingSettings,
        store: ScoreStore,
        nonces: NonceStore,
        snapshot: Callable[[], Snapshot | None],
    ) -> None:
        self._settings = settings
        self._store = store
        self._nonces = nonces
        self._snapshot = snapshot

    def check_sender(self, headers: Mapping[str, str]) -> None:
        """What costs nothing, and is worth knowing before a body is read: may the hotkey that is named send scores?

        Raises EngineError (`scores_not_taken`, `no_leaderboard`), UnsignedError, NotAValidatorError.
        """
        self._receiver()
        self._admit(headers.get(_SENDER), self._leaderboard())

    async def take(self, headers: Mapping[str, str], body: bytes, *, method: str, target: str, now: float) -> Receipt:
        """Keep what a request brings, all of it or nothing. `target` is the path and query as they were sent.

        `headers` are by lower-case names, `now` is Unix time (s). Raises as `check_sender`, and PeerError naming what
        is wrong: NotListedError, TooManyScoresError, or a value's. A request is used up by this, taken or not.
        """
        self.check_sender(headers)
        receiver, snapshot = self._receiver(), self._leaderboard()
        if len(body) > MOST_BYTES:
            raise PeerError(f"a submission has at most {MOST_BYTES} bytes", code="too_large")
        validator, nonce = await asyncio.to_thread(
            _verify, headers, body, method=method, target=target, receiver=receiver, now=now
        )
        self._admit(validator, snapshot)  # once more: headers may be there twice
        if not await self._nonces.use(validator, nonce, now=now):
            raise UnsignedError("this request was sent before", code="replayed_request")
        try:
            submission = await asyncio.to_thread(parse_submission, body)
            check_listed(submission, snapshot, now=now)
            number = await self._store.add(submission, validator=validator, now=now)
        except PeerError as error:
            _log.info("scores of %s are refused: %s", validator, error.code)
            raise
        _log.info("%d scores of %s are taken", len(submission.scores), validator)
        return Receipt(id=number, accepted=len(submission.scores))

    def _receiver(self) -> str:
        if self._settings.hotkey is None:
            raise EngineError("this server takes no scores: it has no hotkey", code="scores_not_taken")
        return self._settings.hotkey

    def _leaderboard(self) -> Snapshot:
        snapshot = self._snapshot()
        if snapshot is None:
            raise EngineError("there is no leaderboard yet", code="no_leaderboard")
        return snapshot

    def _admit(self, hotkey: str | None, snapshot: Snapshot) -> None:
        if not hotkey:
            raise UnsignedError("the request is not signed: btauth/1 is expected", code="missing_signature")
        if hotkey not in admitted(self._settings, snapshot):
            raise NotAValidatorError("this hotkey may not score here", code="not_a_validator")


def _verify(
    headers: Mapping[str, str], body: bytes, *, method: str, target: str, receiver: str, now: float
) -> tuple[str, int]:
    """Who signed the request, and its nonce. Raises UnsignedError, and EngineError where bittensor is not installed."""
    try:
        from bittensor import http_auth
    except ModuleNotFoundError:
        raise EngineError("this server takes no scores: bittensor is not installed", code="scores_not_taken") from None

    codes = {
        http_auth.WrongReceiver: "wrong_receiver",
        http_auth.StaleRequest: "stale_request",
        http_auth.BadSignature: "invalid_signature",
        http_auth.MalformedAuth: "invalid_signature",
    }
    try:
        caller = http_auth.verify(
            headers,
            body,
            method=method,
            path=target,
            self_hotkey_ss58=receiver,
            max_age=MAX_AGE,
            allowed_skew=ALLOWED_SKEW,
            nonce_store=_Later(),
            now_ns=round(now * 1e9),
        )
    except http_auth.AuthError as error:
        raise UnsignedError(str(error), code=codes.get(type(error), "invalid_signature")) from None
    return caller.hotkey_ss58, caller.nonce_ns


class _Later:
    """Takes every nonce: `NonceStore` looks at it next, and not on the event loop."""

    def check_and_store(self, hotkey_ss58: str, nonce_ns: int) -> bool:  # noqa: ARG002
        return True
