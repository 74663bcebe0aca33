"""The router's settings: environment variables `MUSE_ROUTING_*`, read once at an entry point."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from models.weights import DEFAULT_DIRECTORY
from routing.leaderboard import is_address
from routing.policy.contract import Rules
from streaming.errors import EngineError

PREFIX = "MUSE_ROUTING_"

EMBEDDED_SNAPSHOT = Path(__file__).with_name("embedded.json")
"""The leaderboard that comes with Muse: the embedded engine, alone."""

Names = Annotated[tuple[str, ...], NoDecode]
"""Given as one string, separated by commas."""


class RoutingSettings(BaseSettings):
    """Made by entry points only, by `read_settings`: making one reads the environment."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", env_ignore_empty=True)

    source: Literal["file", "chain"] = Field(default="file", description="where the leaderboard comes from")
    snapshot: Path = Field(default=EMBEDDED_SNAPSHOT, description="the leaderboard's file, where the source is one")
    database: SecretStr = Field(
        default=SecretStr(f"sqlite:///{DEFAULT_DIRECTORY}/muse.db"),
        description="scores, feedback and duels: an SQLAlchemy URL, such as postgresql+psycopg://user@host/name",
    )

    network: str = Field(default="finney", description="the chain: finney, test, local, or a ws:// address")
    netuid: int = Field(default=21, ge=0, le=65535, description="the subnet")
    competition: str | None = Field(default=None, description="the competition whose models are served; any by default")
    subnet_name: str | None = Field(
        default=None, description="the name that the subnet must have on chain; not looked at by default"
    )
    own_share: float = Field(
        default=0.5, gt=0, le=1, description="share of the subnet's commitments that must be in our grammar"
    )
    burn_uid: int | None = Field(default=None, ge=0, description="the uid whose incentive is burnt")
    cache: Path = Field(
        default=DEFAULT_DIRECTORY / "leaderboard.json", description="where the last good snapshot of the chain is kept"
    )
    refresh_seconds: float = Field(default=300, gt=0, description="between readings of the chain or the file")
    stale_seconds: float = Field(default=3600, gt=0, description="how old a snapshot may be before it is called stale")
    chain_timeout_seconds: float = Field(default=60, gt=0, description="longest reading of the chain")

    hotkey: str | None = Field(default=None, description="this server's ss58 address, to which validators sign scores")
    validators: Names = Field(
        default=(), description="hotkeys, comma-separated, that may score; else those with a permit and the stake"
    )
    min_stake: float = Field(default=1000, ge=0, description="alpha tokens that such a validator has at least")
    rescoring_days: float = Field(
        default=7,
        gt=0,
        description="after which validators score a model anew: the half-life of scores, gone after twice that",
    )
    scorer_profile: str | None = Field(
        default=None, description="the scorer profile that counts; the one that most validators use by default"
    )
    retention_days: float = Field(default=90, gt=0, description="for which scores are kept")

    fleet: Literal["static", "local", "ray"] = Field(
        default="static",
        description="who keeps workers: nobody (MUSE_ENGINE lists them), this machine's processes, or Ray",
    )
    worker_python: Path = Field(
        default=Path(".venv-moshi/bin/python"), description="the interpreter of the worker's environment"
    )
    worker_options: str = Field(default="", description="options for every worker, such as '--slots 8 --device cuda'")
    worker_gpus: float = Field(default=1, ge=0, description="GPUs that a worker is given by Ray")
    worker_cpus: float = Field(default=1, ge=0, description="CPU cores that a worker is given by Ray")
    most_workers: int = Field(default=1, ge=1, description="workers of one model at most; as many as its sessions need")
    ray_address: str | None = Field(default=None, description="the Ray cluster; a local one by default")

    pin: Names = Field(default=(), description="models, comma-separated, that alone are served")
    deny: Names = Field(default=(), description="models, comma-separated, that are never served")
    top: int = Field(default=2, ge=1, le=64, description="models kept on workers")
    margin: float = Field(default=0.02, ge=0, le=1, description="by how much of incentive another must lead")
    dwell_seconds: float = Field(default=600, ge=0, description="for how long it must")
    gate: float = Field(default=0.95, ge=0, description="share of the incumbent's measured score that it must reach")
    min_samples: int = Field(default=3, ge=0, description="scorings that this must rest on; 0 does without")
    shadow_share: float = Field(default=0.1, ge=0, le=1, description="share of calls that a new model hears unheard")
    shadow_turns: int = Field(
        default=20, ge=0, description="turns that it must hear before it is heard; 0 does without"
    )
    canary_steps: Annotated[tuple[float, ...], NoDecode] = Field(
        default=(0.05, 0.25, 0.5), description="shares of new calls that it then gets, comma-separated"
    )
    canary_turns: int = Field(default=40, ge=1, description="turns on each of these steps")
    slower: float = Field(default=1.25, ge=1, description="how many times the incumbent's p95 gap is borne")
    slack_ms: float = Field(default=50, ge=0, description="and how many ms on top")
    worse_misses: float = Field(default=0.02, ge=0, le=1, description="late frames beyond the incumbent's, as a share")
    worse_errors: float = Field(default=0.02, ge=0, le=1, description="failed calls beyond the incumbent's, as a share")
    worse_silence: float = Field(
        default=0.1, ge=0, le=1, description="calls without an answer beyond the incumbent's, as a share"
    )
    least_turns: int = Field(default=20, ge=1, description="turns that a p95 gap must rest on to be judged")
    least_frames: int = Field(default=500, ge=1, description="frames that late ones must rest on to be judged")
    probation_seconds: float = Field(
        default=1800, ge=0, description="how long a new model is held against the one before it"
    )
    grace_seconds: float = Field(
        default=60, ge=0, description="how long a model may be on no worker before another takes its place for good"
    )
    patience_seconds: float = Field(
        default=7200, gt=0, description="how long a new model may take to load, or hardly be reached by its calls"
    )
    cooldown_seconds: float = Field(default=3600, gt=0, description="how long a model that was rolled back waits")
    control_seconds: float = Field(default=5, gt=0, description="between looks at the ranking, the timings, the fleet")

    @field_validator("validators", "pin", "deny", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        return tuple(name.strip() for name in value.split(",") if name.strip()) if type(value) is str else value

    @field_validator("hotkey", "validators")
    @classmethod
    def _addresses(cls, value: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        for name in (value,) if isinstance(value, str) else value or ():
            if not is_address(name):
                raise ValueError(f"expected an ss58 address, got {name[:60]!r}")
        return value

    @field_validator("canary_steps", mode="before")
    @classmethod
    def _shares(cls, value: Any) -> Any:
        return tuple(share.strip() for share in value.split(",") if share.strip()) if type(value) is str else value

    @field_validator("canary_steps")
    @classmethod
    def _rising(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0 < share < 1 for share in value) or sorted(set(value)) != list(value):
            raise ValueError("expected rising shares between 0 and 1")
        return value

    @model_validator(mode="after")
    def _kept_while_they_count(self) -> Self:
        if self.retention_days < 8 * self.rescoring_days:
            raise ValueError(f"{PREFIX}RETENTION_DAYS: expected at least 8 times {PREFIX}RESCORING_DAYS, for averages")
        return self

    def rules(self) -> Rules:
        """What the policy goes by."""
        return Rules(
            pin=self.pin,
            deny=self.deny,
            top=self.top,
            competition=self.competition,
            burn_uid=self.burn_uid,
            margin=self.margin,
            dwell=self.dwell_seconds,
            gate=self.gate,
            min_samples=self.min_samples,
            shadow_share=self.shadow_share,
            shadow_turns=self.shadow_turns,
            canary_steps=self.canary_steps,
            canary_turns=self.canary_turns,
            slower=self.slower,
            slack=self.slack_ms,
            worse_misses=self.worse_misses,
            worse_errors=self.worse_errors,
            worse_silence=self.worse_silence,
            least_turns=self.least_turns,
            least_frames=self.least_frames,
            probation=self.probation_seconds,
            grace=self.grace_seconds,
            patience=self.patience_seconds,
            cooldown=self.cooldown_seconds,
        )


def read_settings() -> RoutingSettings:
    """From the environment. Raises EngineError naming the variable that is wrong."""
    try:
        return RoutingSettings()
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = "".join(f"{PREFIX}{field}".upper() + ": " for field in first["loc"][:1])
        raise EngineError(f"{name}{first['msg'].removeprefix('Value error, ')}", code="invalid_value") from None
