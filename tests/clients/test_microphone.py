"""Microphone and loudspeaker, with a device that the test drives."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from types import SimpleNamespace, TracebackType
from typing import Any, Self

import numpy as np
import pytest

from clients.errors import MicrophoneError
from clients.microphone import Loudspeaker, Microphone, open_devices


def pcm(*samples: int) -> bytes:
    return np.array(samples, "<i2").tobytes()


def test_the_loudspeaker_plays_in_order_and_silence_when_empty() -> None:
    loudspeaker = Loudspeaker()
    loudspeaker.play(pcm(1, 2, 3))
    loudspeaker.play(pcm(4))
    assert loudspeaker.take(4) == pcm(1, 2)
    assert loudspeaker.take(8) == pcm(3, 4, 0, 0)


def test_an_interruption_is_heard_at_once() -> None:
    loudspeaker = Loudspeaker()
    loudspeaker.play(pcm(400, -400, 400, 400))
    loudspeaker.duck(softly=True)
    assert loudspeaker.take(4) == pcm(100, -100)
    loudspeaker.duck(softly=False)
    assert loudspeaker.take(2) == pcm(400)
    loudspeaker.stop()
    assert loudspeaker.take(2) == pcm(0)


async def test_the_oldest_is_dropped_when_nobody_listens() -> None:
    microphone = Microphone(asyncio.get_running_loop())
    for number in range(150):
        microphone.hear(pcm(number))
    await asyncio.sleep(0)
    assert await microphone.next() == pcm(50)


class Stream:
    """A device whose callback the test calls."""

    callback: Callable[..., None]

    def __init__(self, *, callback: Callable[..., None], **settings: object) -> None:
        assert (settings["channels"], settings["dtype"], settings["samplerate"]) == (1, "int16", 24_000)
        Stream.callback = callback

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        pass


def driver(stream: Callable[..., Any]) -> SimpleNamespace:
    return SimpleNamespace(RawStream=stream, PortAudioError=OSError)


async def test_the_device_exchanges_both_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", driver(Stream))
    with open_devices() as (microphone, loudspeaker):
        loudspeaker.play(pcm(7, 8))
        played = bytearray(4)
        Stream.callback(pcm(5, 6), memoryview(played), 2, None, None)
        assert bytes(played) == pcm(7, 8)
        assert await microphone.next() == pcm(5, 6)


async def test_no_package_and_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(MicrophoneError, match="extra `mic`"), open_devices():
        pass

    def missing(**settings: object) -> None:
        raise OSError("no default device")

    monkeypatch.setitem(sys.modules, "sounddevice", driver(missing))
    with pytest.raises(MicrophoneError, match="no default device"), open_devices():
        pass
