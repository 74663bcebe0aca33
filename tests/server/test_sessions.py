import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from server.driver import SessionCore
from server.sessions import Sessions, session_config, session_options
from server.settings import Settings
from server.traces import TraceFiles
from streaming.client_events import AppendAudio
from streaming.config import SemanticVad, ServerVad
from streaming.core import MS
from streaming.engine import EngineInfo, Speech
from streaming.errors import PeerError
from streaming.observations import Underrun
from streaming.server_events import SessionCreated
from streaming.trace import replay

INFO = EngineInfo(model="m", input_rate=16_000, output_rate=24_000)


@pytest.mark.parametrize(
    ("name", "kind"), [("semantic_vad", SemanticVad), ("server_vad", ServerVad), ("none", type(None))]
)
def test_turn_detection_by_setting(name: str, kind: type) -> None:
    config = session_config(Settings.model_validate({"turn_detection": name}))
    assert isinstance(config.audio.input.turn_detection, kind)


def test_zero_is_no_limit() -> None:
    options = session_options(Settings(idle_seconds=0, max_session_seconds=0, lead_ms=200))
    assert (options.idle, options.longest, options.lead) == (None, None, 200_000_000)


def test_a_session_begins_with_the_operators_settings() -> None:
    settings = Settings(instructions="Be brief.")
    sessions = Sessions(config=session_config(settings), options=session_options(settings))
    created = sessions(session_id="sess_1", model="m", engine=INFO, extensions=False, now=0).poll()
    assert isinstance(created, SessionCreated)
    assert (created.session.id, created.session.model, created.session.instructions) == ("sess_1", "m", "Be brief.")


@pytest.mark.parametrize(("setting", "client"), [(400, 40), (40, None), (400, None)])
def test_a_live_reply_is_not_sent_later_and_later(setting: int, client: int | None) -> None:
    """Every timer rings 1 ms late; the engine speaks in real time."""
    settings = Settings(turn_detection="none", lead_ms=setting)
    sessions = Sessions(config=session_config(settings), options=session_options(settings))
    info = replace(INFO, duplex=True, output_rate=24_000)
    lead = None if client is None else client * MS
    session = sessions(session_id="sess_1", model="m", engine=info, extensions=False, lead=lead, now=0)
    frame = Speech(audio=np.full(1920, 0.1, np.float32))
    gaps, backlogs = 0, []
    for now in range(0, 20_000 * MS, MS):
        if now % (80 * MS) == 0:
            session.receive(frame, now=now)
        if (due := session.next_timeout()) is not None and due + MS <= now:
            session.handle_timeout(now=now)
        while output := session.poll():
            gaps += isinstance(output, Underrun)
        backlogs.append(session.backlog)
    assert gaps == 0
    assert max(backlogs) <= 0.08


def drain(session: SessionCore) -> None:
    while session.poll():
        pass


def test_a_recorded_conversation_replays(tmp_path: Path) -> None:
    settings = Settings()
    traces = TraceFiles(tmp_path / "traces")
    sessions = Sessions(config=session_config(settings), options=session_options(settings), traces=traces)
    session = sessions(session_id="sess_1", model="m", engine=INFO, extensions=True, now=0)
    drain(session)
    session.receive(AppendAudio(audio=bytes(4800)), now=1_000_000)
    drain(session)
    session.refuse(PeerError("no", code="invalid_json"), now=2_000_000)
    drain(session)
    traces.close()
    path = tmp_path / "traces" / "sess_1.trace.jsonl"
    lines = path.read_text().splitlines()
    assert json.loads(lines[0])["session_id"] == "sess_1"
    assert replay(lines).inputs == 2
    assert path.stat().st_mode & 0o077 == 0
