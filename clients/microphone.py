"""Microphone and loudspeaker, through `sounddevice` (PortAudio): the extra `mic`."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from clients.errors import MicrophoneError

RATE = 24_000
_BLOCK = RATE // 50  # 20 ms
_QUEUED = 100  # blocks that may wait to be sent: 2 s; older ones are dropped
_DUCKED = 0.25


class Loudspeaker:
    """Audio waiting to be played; filled by the event loop, emptied by the device's thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._chunks: deque[bytes] = deque()
        self._gain = 1.0

    def play(self, pcm: bytes) -> None:
        """Queue 16-bit PCM. The server sends it at most its lead ahead, which bounds what waits here."""
        with self._lock:
            self._chunks.append(pcm)

    def stop(self) -> None:
        """Drop what has not been played."""
        with self._lock:
            self._chunks.clear()
            self._gain = 1.0

    def duck(self, *, softly: bool) -> None:
        """Play softly, or at full volume again."""
        with self._lock:
            self._gain = _DUCKED if softly else 1.0

    def take(self, size: int) -> bytes:
        """The next `size` bytes to play, silence where there are none."""
        taken = bytearray()
        with self._lock:
            while self._chunks and len(taken) < size:
                chunk = self._chunks.popleft()
                wanted = size - len(taken)
                taken += chunk[:wanted]
                if len(chunk) > wanted:
                    self._chunks.appendleft(chunk[wanted:])
            gain = self._gain
        sound = bytes(taken) if gain == 1.0 else _scaled(bytes(taken), gain)
        return sound.ljust(size, b"\0")


class Microphone:
    """What the user says, as 16-bit PCM blocks; the oldest are dropped if nobody takes them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._blocks: asyncio.Queue[bytes] = asyncio.Queue(_QUEUED)

    async def next(self) -> bytes:
        """The next block."""
        return await self._blocks.get()

    def hear(self, pcm: bytes) -> None:
        """A block from the device's thread."""
        self._loop.call_soon_threadsafe(self._put, pcm)

    def _put(self, pcm: bytes) -> None:
        if self._blocks.full():
            self._blocks.get_nowait()
        self._blocks.put_nowait(pcm)


@contextmanager
def open_devices() -> Iterator[tuple[Microphone, Loudspeaker]]:
    """The default microphone and loudspeaker, running, mono at RATE. Raises MicrophoneError if there are none.

    Must be entered on the event loop that takes the microphone's blocks.
    """
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # OSError: the package is there and PortAudio is not
        raise MicrophoneError(f"--mic needs the extra `mic`: pip install 'muse-voice[mic]' ({error})") from None
    microphone, loudspeaker = Microphone(asyncio.get_running_loop()), Loudspeaker()

    def exchange(heard: Any, played: Any, _frames: int, _time: Any, _status: Any) -> None:
        microphone.hear(bytes(heard))
        played[:] = loudspeaker.take(len(played))

    try:
        stream = sounddevice.RawStream(
            samplerate=RATE, blocksize=_BLOCK, channels=1, dtype="int16", latency="low", callback=exchange
        )
    except (sounddevice.PortAudioError, ValueError) as error:
        raise MicrophoneError(f"the microphone or the loudspeaker cannot be opened ({error})") from None
    with stream:
        yield microphone, loudspeaker


def _scaled(pcm: bytes, gain: float) -> bytes:
    view = memoryview(pcm).cast("h")
    return b"".join(int(sample * gain).to_bytes(2, "little", signed=True) for sample in view)
