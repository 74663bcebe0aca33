"""The server's settings: environment variables `MUSE_*`, read once at the entry point."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from models.access import AccessKey, Origins
from models.catalogue import DetectorKind, check_engine
from models.instructions import DEFAULT_INSTRUCTIONS
from models.weights import DEFAULT_DIRECTORY
from routing.settings import PREFIX as ROUTING_PREFIX
from routing.settings import RoutingSettings

PREFIX = "MUSE_"

Addresses = Annotated[tuple[str, ...], NoDecode]
"""Engines by name or address, given as one string, separated by commas."""


class Settings(BaseSettings):
    """Every setting, with its default. `python -m server --help` prints this."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", env_ignore_empty=True)

    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(default=8000, ge=0, le=65535, description="port to listen on; 0 is any free one")
    api_key: AccessKey | None = Field(default=None, description="the key that clients must send; none admits everyone")
    allow_open: bool = Field(default=False, description="serve without a key on an address that is not loopback")
    allowed_origins: Origins = Field(
        default=(), description="origins, comma-separated, whose pages may connect besides the server's own; * is any"
    )

    engine: Addresses = Field(
        default=("embedded",),
        description="what answers, comma-separated: embedded, echo, scripted, or who is at ws://host:port (a worker), "
        "moshi:// (a stock Moshi server), http:// (a container)",
    )
    engine_key: SecretStr = Field(default=SecretStr(""), description="the key for an engine at an address")
    engine_patience: float = Field(
        default=3, gt=0, description="frames (80 ms) that a worker may be silent while it owes an answer"
    )
    detectors: DetectorKind = Field(
        default="models",
        description="beside an engine at an address: models (the embedded engine's), or loudness for trying it out",
    )
    models_dir: Path = Field(default=DEFAULT_DIRECTORY, description="where `python -m models fetch` put the models")
    workers: int | None = Field(default=None, ge=1, description="cores that the models may use; all by default")
    speech_model: str = Field(
        default="whisper-tiny.en",
        description="the embedded model that hears; whisper-base, fetched by name, knows more languages",
    )
    language: str = Field(default="en", description="the language that it hears")
    voice: str = Field(default="joe", description="the embedded voice that speaks")
    chat_url: str | None = Field(
        default=None, description="an OpenAI-compatible URL, such as http://host:8001/v1, that writes the replies"
    )
    chat_model: str = Field(default="", description="the model's name at MUSE_CHAT_URL; its first by default")
    chat_api_key: SecretStr = Field(default=SecretStr(""), description="the key for MUSE_CHAT_URL")

    instructions: str = Field(
        default=DEFAULT_INSTRUCTIONS, description="what replies are told to be, until a client sets its own"
    )
    turn_detection: Literal["semantic_vad", "server_vad", "none"] = Field(
        default="semantic_vad", description="how turns end, until a client sets its own"
    )
    lead_ms: int = Field(default=400, ge=40, le=5000, description="how far ahead of real time a reply's audio is sent")
    frame_ms: int = Field(default=40, ge=10, le=200, description="length of a reply's frames, at most half the lead")

    max_sessions: int = Field(default=16, ge=1, description="conversations at once; more are refused with 429")
    max_message_bytes: int = Field(default=4 * 2**20, ge=65536, description="largest message from a client")
    max_ahead_seconds: float = Field(default=30, ge=1, description="how far a client's audio may be ahead of real time")
    max_turn_seconds: float = Field(default=120, ge=1, description="longest turn of the user")
    max_session_seconds: float = Field(default=3600, ge=0, description="longest conversation; 0 is no limit")
    idle_seconds: float = Field(default=600, ge=0, description="close a silent client's conversation; 0 never")
    first_event_seconds: float = Field(default=30, gt=0, description="close a connection that has sent nothing by then")
    send_buffer_bytes: int = Field(default=2**20, ge=65536, description="queued for a slow client before it is dropped")
    drain_seconds: float = Field(default=20, ge=0, description="how long running turns may take to finish at shutdown")

    record_dir: Path | None = Field(default=None, description="record conversations, audio and all, here")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="how much is logged")
    log_json: bool = Field(default=False, description="log JSON objects, one a line")

    @field_validator("engine", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return tuple(name.strip() for name in value.split(",") if name.strip()) if isinstance(value, str) else value

    @field_validator("engine")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(check_engine(name) for name in value))


def describe() -> str:
    """Every setting of the server and of the router, its default and its meaning, one a line."""
    fields = [(PREFIX + name.upper(), field) for name, field in Settings.model_fields.items()]
    fields += [(ROUTING_PREFIX + name.upper(), field) for name, field in RoutingSettings.model_fields.items()]
    width = max(len(name) for name, _ in fields)
    return "\n".join(f"  {name:<{width}}  {field.description} ({_default(field)})" for name, field in fields)


def _default(field: FieldInfo) -> str:
    default = field.default
    if isinstance(default, SecretStr):
        default = default.get_secret_value()
    if default in (None, (), ""):
        return "default: none"
    if isinstance(default, bool):
        return f"default: {int(default)}"
    if isinstance(default, tuple):
        return f"default: {','.join(map(str, default))}"
    if isinstance(default, Path) and default.is_absolute():
        return f"default: {default.name}, which comes with Muse"
    return f"default: {default}"
