"""Where weights come from and how much of them is taken: environment variables `MUSE_HUB_*`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import DirectoryPath, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from models.weights import DEFAULT_DIRECTORY
from streaming.errors import EngineError

GB = 10**9
GIB = 2**30
MIB = 2**20


PREFIX = "MUSE_HUB_"


class HubSettings(BaseSettings):
    """Made by entry points only, by `read_settings`: making one reads the environment."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", env_ignore_empty=True)

    cache: Path = Field(default=DEFAULT_DIRECTORY / "hub", description="where snapshots are kept")
    cache_gb: float | None = Field(
        default=None, gt=0, description="most that the cache may hold; what was unused longest goes. None: nothing does"
    )
    mirror: DirectoryPath | None = Field(
        default=None, description="a directory, <namespace>/<name>/<commit>/, that is asked before the hub"
    )
    endpoint: str = Field(default="https://huggingface.co", description="the hub")
    token: SecretStr | None = Field(default=None, description="the hub's token, for gated and private repositories")
    hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("huggingface.co", "*.huggingface.co", "*.hf.co"),
        description="hosts, comma-separated, that may be asked besides the endpoint's, redirects included",
    )
    ca_file: Path | None = Field(default=None, description="the authorities to trust instead of the system's, as PEM")
    allow_loopback: bool = Field(default=False, description="also take http and loopback addresses; for tests")

    max_file_bytes: int = Field(default=18 * GIB, ge=1, description="largest file")
    max_small_file_bytes: int = Field(default=32 * MIB, ge=1, description="largest file that is not safetensors")
    max_total_bytes: int = Field(default=18 * GIB, ge=1, description="largest snapshot")
    max_files: int = Field(default=256, ge=1, description="most files in a repository or directory")

    timeout_seconds: float = Field(default=30, gt=0, description="longest silence of a server")
    listing_seconds: float = Field(
        default=120, gt=0, description="longest time that the hub may take to say what a repository holds"
    )
    max_seconds: float = Field(default=6 * 3600, gt=0, description="longest download, or wait for somebody else's")
    retries: int = Field(default=5, ge=0, description="attempts after one that brought next to nothing")
    retry_seconds: float = Field(default=1, ge=0, description="wait before the first of them, then doubled")

    @field_validator("hosts", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(host.strip().lower() for host in value.split(",") if host.strip()) if type(value) is str else value

    @field_validator("endpoint")
    @classmethod
    def _plain_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("https", "http") or not parts.hostname or parts.username or parts.query:
            raise ValueError("an endpoint is a URL such as https://huggingface.co")
        _ = parts.port  # raises ValueError for one that is no number
        return value.rstrip("/")


def read_settings() -> HubSettings:
    """From the environment. Raises EngineError naming the variable that is wrong."""
    try:
        return HubSettings()
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = PREFIX + str(first["loc"][0]).upper()
        raise EngineError(f"{name}: {first['msg']}", code="invalid_value") from None
