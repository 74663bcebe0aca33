"""One file over HTTP, bounded, and going on where it was cut off, in this process or the next."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx2

from models.hub.errors import WeightsRefusedError, WeightsUnavailableError
from models.hub.network import MAX_BYTES
from models.hub.policy import ListedFile
from models.hub.settings import MIB, HubSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """`received` of a file's `size` bytes are on disk."""

    file: str
    received: int
    size: int


Report = Callable[[Progress], None]
"""Told of each piece that has come. Called from the thread that downloads."""


_SOME_BYTES = MIB  # an attempt that brings fewer has failed: a server that trickles is left after a few


class Downloader:
    """Downloads files within one allowance of time, `settings.max_seconds` from now."""

    def __init__(self, client: httpx2.Client, settings: HubSettings, report: Report) -> None:
        self._client = client
        self._settings = settings
        self._report = report
        self._deadline = time.monotonic() + settings.max_seconds

    def fetch(self, url: str, file: ListedFile, path: Path) -> None:
        """Bring `path` to the whole of `file`, starting from what it holds already. Its contents are not verified.

        Raises WeightsUnavailableError where the file is gone, or `settings.retries` attempts in a row brought
        next to nothing: `path` keeps what came. Raises WeightsRefusedError where the server announces or sends
        something else than the listing says.
        """
        failures = 0
        while (had := _size(path)) != file.size:
            try:
                self._receive(url, file, path)
            except WeightsUnavailableError as error:
                failures = 0 if _size(path) - had >= _SOME_BYTES else failures + 1
                if failures > self._settings.retries or isinstance(error, _FinalError):
                    raise WeightsUnavailableError(
                        file.name, f"{_said(error, file)} ({max(_size(path), 0)} bytes kept)"
                    ) from None
                self._check_time(file)
                time.sleep(self._settings.retry_seconds * 2 ** max(failures - 1, 0))

    def _receive(self, url: str, file: ListedFile, path: Path) -> None:
        offset = max(_size(path), 0)
        if offset > file.size:
            path.unlink()
            offset = 0
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        if self._settings.token:
            headers["Authorization"] = f"Bearer {self._settings.token.get_secret_value()}"
        extensions = {MAX_BYTES: math.inf}  # `_save` bounds the body, and names the file
        try:
            with self._client.stream("GET", url, headers=headers, extensions=extensions) as response:
                self._save(response, _start(response, file, offset), file, path)
        except httpx2.TooManyRedirects:
            raise WeightsRefusedError(file.name, "redirected too often") from None
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise WeightsRefusedError(file.name, f"cannot be downloaded: {error}") from None

    def _save(self, response: httpx2.Response, offset: int, file: ListedFile, path: Path) -> None:
        try:
            with path.open("ab") as output:
                output.truncate(offset)
                for chunk in response.iter_raw():
                    offset += len(chunk)
                    if offset > file.size:
                        raise WeightsRefusedError(file.name, f"more than the {file.size} bytes announced are sent")
                    output.write(chunk)
                    self._report(Progress(file=file.name, received=offset, size=file.size))
                output.flush()
                os.fsync(output.fileno())
        except OSError as error:
            raise _FinalError(file.name, f"cannot be written: {error.strerror}") from None
        if offset < file.size:
            raise WeightsUnavailableError(file.name, f"ended after {offset} of {file.size} bytes")

    def _check_time(self, file: ListedFile) -> None:
        if time.monotonic() > self._deadline:
            raise _FinalError(file.name, f"the download took longer than {self._settings.max_seconds:g} s")


class _FinalError(WeightsUnavailableError):
    """Another attempt now would not help."""


def _start(response: httpx2.Response, file: ListedFile, offset: int) -> int:
    """Where the body belongs; raises where the answer is not (the rest of) the file."""
    status = response.status_code
    if status == 404:
        raise _FinalError(file.name, "is gone from the hub")
    if status in (401, 403):
        raise _FinalError(file.name, "a token that may read it is needed")
    if status not in (200, 206):
        raise WeightsUnavailableError(file.name, f"answered with status {status}")
    if status == 200:
        offset = 0
    elif response.headers.get("Content-Range") != f"bytes {offset}-{file.size - 1}/{file.size}":
        raise WeightsRefusedError(file.name, f"asked for from byte {offset} of {file.size}, another part was sent")
    announced = response.headers.get("Content-Length")
    if announced is not None and announced != str(file.size - offset):
        raise WeightsRefusedError(file.name, f"{announced} bytes announced where {file.size - offset} are expected")
    return offset


def _said(error: WeightsUnavailableError, file: ListedFile) -> str:
    return error.reason if error.file == file.name else error.message


def _size(path: Path) -> int:
    """Bytes on disk; -1 where there is no file yet, which makes an empty file be fetched too."""
    return path.stat().st_size if path.is_file() else -1
