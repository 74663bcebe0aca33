"""How the operator's settings make a conversation's session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from server.driver import SessionCore
from server.settings import Settings
from server.traces import TraceFiles
from streaming.config import AudioConfig, AudioInput, SemanticVad, ServerVad, SessionConfig, TurnDetection
from streaming.core import SECOND, SessionOptions
from streaming.engine import EngineInfo
from streaming.session import Session
from streaming.trace import Recorder

_MS = SECOND // 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Sessions:
    """Makes sessions; a `server.gateway.SessionFactory`. `traces` records them where it is given."""

    config: SessionConfig
    options: SessionOptions
    traces: TraceFiles | None = None

    def __call__(
        self,
        *,
        session_id: str,
        model: str,
        engine: EngineInfo,
        extensions: bool,
        lead: int | None = None,
        metadata: Mapping[str, str] | None = None,
        now: int,
    ) -> SessionCore:
        """See `server.gateway.SessionFactory`; `lead` (ns) bounds what is sent ahead."""
        config = replace(self.config, model=model, metadata=metadata)
        options = replace(self.options, extensions=extensions)
        if lead is not None:
            options = _paced(options, lead=min(lead, options.lead))
        if self.traces is None:
            return Session(session_id=session_id, config=config, engine=engine, options=options, now=now)
        write = self.traces.open(session_id)
        return Recorder(write, session_id=session_id, config=config, engine=engine, options=options, now=now)


def session_config(settings: Settings) -> SessionConfig:
    """What every session begins with."""
    detection: dict[str, TurnDetection | None] = {
        "semantic_vad": SemanticVad(),
        "server_vad": ServerVad(),
        "none": None,
    }
    audio = AudioConfig(input=AudioInput(turn_detection=detection[settings.turn_detection]))
    return SessionConfig(instructions=settings.instructions, audio=audio)


def session_options(settings: Settings) -> SessionOptions:
    """What the operator decides about every session."""
    options = SessionOptions(
        frame=settings.frame_ms * _MS,
        ahead=_nanoseconds(settings.max_ahead_seconds),
        longest_turn=_nanoseconds(settings.max_turn_seconds),
        idle=_nanoseconds(settings.idle_seconds) or None,
        longest=_nanoseconds(settings.max_session_seconds) or None,
    )
    return _paced(options, lead=settings.lead_ms * _MS)


def _paced(options: SessionOptions, *, lead: int) -> SessionOptions:
    """A frame is half of the lead at most: while one is sent another is unplayed, so that late timers do not add up."""
    return replace(options, lead=lead, frame=min(options.frame, lead // 2))


def _nanoseconds(seconds: float) -> int:
    return round(seconds * SECOND)
