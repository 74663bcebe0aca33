"""The worker's settings: options of the command, or environment variables `MUSE_WORKER_*`; read once."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from models.access import AccessKey, Origins
from models.hub.verify import is_address
from models.weights import DEFAULT_DIRECTORY
from streaming.errors import MuseError

PREFIX = "MUSE_WORKER_"

WorkerEngineKind = Literal["moshi", "embedded", "echo", "echo-duplex"]


class WorkerSettings(BaseSettings):
    """Every setting, with its default. `python -m models worker --help` prints this."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="ignore", env_ignore_empty=True, protected_namespaces=()
    )

    engine: WorkerEngineKind = Field(default="moshi", description="what answers: moshi, embedded, echo, echo-duplex")
    model: str = Field(default="", description="the weights of moshi: a repository with its commit, or a directory")
    name: str = Field(
        default="", pattern=r"^[!-~]*$", max_length=256, description="the model's id, as gateways are told; its own"
    )
    hotkey: str = Field(
        default="", description="the ss58 address that hotkey.txt of moshi's weights must hold; it is not looked at"
    )
    slots: int = Field(default=8, ge=1, le=1024, description="conversations at once")
    listen: str = Field(default="127.0.0.1:8998", description="host:port; port 0 is any free one")
    key: AccessKey | None = Field(default=None, description="the key that clients must send as a Bearer token")
    allow_open: bool = Field(default=False, description="serve without a key on an address that is not loopback")
    allowed_origins: Origins = Field(
        default=(), description="origins, comma-separated, whose pages may connect; * is any"
    )

    device: str = Field(default="auto", description="where moshi runs: auto, cpu or cuda")
    window: int | None = Field(
        default=None, ge=1, description="frames of the past that moshi attends to; all that it was trained on"
    )
    models_dir: Path = Field(default=DEFAULT_DIRECTORY, description="the embedded engine's models")
    cores: int | None = Field(default=None, ge=1, description="cores to use: one for moshi, all for embedded")

    late_ms: float = Field(
        default=70, gt=0, description="refuse new conversations while the 95th percentile of ticks (80 ms) is above"
    )
    first_message_seconds: float = Field(
        default=30, gt=0, description="close a client that has not begun and sends nothing at all, not even pings"
    )
    silent_seconds: float = Field(
        default=600, gt=0, description="close a client that has begun and sends no audio; at least MUSE_IDLE_SECONDS"
    )
    ping_seconds: float = Field(default=15, gt=0, description="between pings, and how long a pong may take")
    handshake_seconds: float = Field(default=10, gt=0, description="how long a client may take to open")
    prepare_seconds: float = Field(default=60, gt=0, description="how long a prompt may take to be taken in")
    drain_seconds: float = Field(default=20, ge=0, description="how long conversations may go on at SIGTERM")
    send_buffer_bytes: int = Field(default=256 * 1024, ge=1024, description="queued for a client that does not read")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="how much is logged")

    @field_validator("listen")
    @classmethod
    def _address(cls, value: str) -> str:
        host, colon, port = value.rpartition(":")
        if not (colon and host and port.isascii() and port.isdigit() and int(port) < 65536):
            raise ValueError("expected host:port")
        return value

    @field_validator("hotkey")
    @classmethod
    def _hotkey(cls, value: str) -> str:
        if value and not is_address(value):
            raise ValueError("expected an ss58 address")
        return value

    @property
    def address(self) -> tuple[str, int]:
        """Where to listen."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)


class SettingsError(MuseError):
    """A setting is wrong; the message is the one line that the operator sees."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """An option for each setting but the key, which a list of processes would show."""
    for name, field in WorkerSettings.model_fields.items():
        if name == "key":
            continue
        flag, shown = "--" + name.replace("_", "-"), field.default if field.default not in (None, (), "") else "none"
        text = f"{field.description} (default: {shown})".replace("%", "%%")
        if field.annotation is bool:
            parser.add_argument(flag, action="store_true", default=None, help=text)
        else:
            parser.add_argument(flag, default=None, metavar=name.upper(), help=text)
    parser.epilog = f"Each is also an environment variable, {PREFIX}SLOTS for --slots; {PREFIX}KEY is one only."


def read_settings(options: argparse.Namespace) -> WorkerSettings:
    """From the command's options, and the environment for the rest. Raises SettingsError naming what is wrong."""
    names: Sequence[str] = [*WorkerSettings.model_fields]
    given = {name: value for name, value in vars(options).items() if name in names and value is not None}
    try:
        return WorkerSettings(**given)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = str(first["loc"][0])
        shown = "--" + name.replace("_", "-") if name in given else PREFIX + name.upper()
        raise SettingsError(f"{shown}: {first['msg']}") from None
