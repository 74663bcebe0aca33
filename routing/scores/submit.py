"""The validators' side of `POST /v1/scores`: sign a submission, send it, and hear what became of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx

from routing.scores.submission import Submission
from streaming.errors import EngineBusyError, EngineError, PeerError
from streaming.schema import to_json

if TYPE_CHECKING:
    from bittensor.signing import WalletLike

PATH = "/v1/scores"


async def submit(
    http: httpx.AsyncClient, url: str, submission: Submission, *, wallet: WalletLike, receiver: str
) -> str:
    """Deliver a submission to the server at `url`, whose hotkey is `receiver`, and return its id there.

    `wallet`: whose hotkey signs. `http` brings the timeouts. Raises PeerError as the server refused it, with the code
    and the path of what is wrong; EngineBusyError where it may be tried again later; EngineError where the server
    cannot be reached or takes no scores. Each try is signed anew.
    """
    from bittensor import http_auth

    target = httpx.URL(url.rstrip("/") + PATH)
    body = json.dumps(to_json(submission, omit_none=True), allow_nan=False).encode()
    headers = http_auth.sign(
        wallet, method="POST", path=target.raw_path.decode("ascii"), body=body, receiver_ss58=receiver
    )
    request = http.build_request("POST", target, content=body, headers={**headers, "Content-Type": "application/json"})
    try:
        response = await http.send(request)
    except httpx.HTTPError as error:
        raise EngineError(f"{target.host} cannot be reached: {type(error).__name__}", code="unreachable") from error
    answer = _answer(response)
    if response.status_code == httpx.codes.CREATED and isinstance(answer.get("id"), str):
        return str(answer["id"])
    raise _refusal(response, answer.get("error"))


def _answer(response: httpx.Response) -> dict[str, Any]:
    try:
        answer = response.json()
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _refusal(response: httpx.Response, error: object) -> PeerError | EngineError:
    fields = error if isinstance(error, dict) else {}
    code = str(fields.get("code") or f"http_{response.status_code}")
    message = str(fields.get("message") or f"the server answered {response.status_code}")
    retry_after = response.headers.get("Retry-After", "")
    if retry_after.isdecimal():
        return EngineBusyError(message, retry_after=float(retry_after[:9]))
    if response.is_client_error:
        param = fields.get("param")
        return PeerError(message, code=code, param=None if param is None else str(param))
    return EngineError(message, code=code)
