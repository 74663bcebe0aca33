"""Running things side by side."""

from __future__ import annotations

import asyncio

import pytest

from clients.tasks import first_done


async def never(over: list[str]) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        over.append("never")


async def at_once() -> None:
    pass


async def fail() -> None:
    raise ValueError("broken")


async def test_the_others_are_over_once_one_is_done() -> None:
    over: list[str] = []
    await first_done(at_once(), never(over))
    await first_done(never(over), at_once())
    assert over == ["never", "never"]


async def test_a_failure_comes_out() -> None:
    with pytest.raises(ValueError, match="broken"):
        await first_done(fail(), never([]))


async def test_patience_ends() -> None:
    over: list[str] = []
    with pytest.raises(TimeoutError):
        await first_done(never(over), patience=0.01)
    assert over == ["never"]


async def test_being_cancelled_cancels_all() -> None:
    over: list[str] = []
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await first_done(never(over), never(over))
    assert over == ["never", "never"]
