"""Which sessions are in a share of them: by a stable hash, so that the same session always gets the same answer."""

from __future__ import annotations

from hashlib import blake2b


def place(session_id: str, salt: str) -> float:
    """Where a session falls, from 0 up to 1, evenly; another salt places it independently."""
    digest = blake2b(f"{salt} {session_id}".encode(errors="replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def within(share: float, session_id: str, salt: str) -> bool:
    """Whether a session is among this share. Who is in a share is also in every larger one of the same salt."""
    return place(session_id, salt) < share
