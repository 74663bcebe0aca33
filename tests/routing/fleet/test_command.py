from __future__ import annotations

import sys
from pathlib import Path

import pytest

from models.worker import settings as worker
from routing.fleet.command import WorkerCommand, environment
from routing.fleet.contract import Deployment
from streaming.errors import EngineError

DEPLOYMENT = Deployment(key="team/voice@abc", weights="team/voice@abc", hotkey=None)


def parsed(line: list[str]) -> worker.WorkerSettings:
    """What a worker makes of the command."""
    import argparse

    parser = argparse.ArgumentParser()
    worker.add_options(parser)
    return worker.read_settings(parser.parse_args(line[line.index("worker") + 1 :]))


def test_a_deployment_becomes_a_workers_options() -> None:
    line = WorkerCommand(python=Path("python")).line(DEPLOYMENT, listen="127.0.0.1:0")
    settings = parsed(line)
    assert line[:4] == ["python", "-m", "models", "worker"]
    assert (settings.engine, settings.model, settings.name) == ("moshi", "team/voice@abc", "team/voice@abc")
    assert (settings.hotkey, settings.listen) == ("", "127.0.0.1:0")


def test_the_operators_options_reach_it_but_do_not_change_what_is_deployed() -> None:
    options = "--engine echo --slots 3 --name other --listen 0.0.0.0:1 --log-level error"
    settings = parsed(WorkerCommand.parse(Path("python"), options).line(DEPLOYMENT, listen="127.0.0.1:0"))
    assert (settings.engine, settings.slots) == ("echo", 3)
    assert (settings.name, settings.listen, settings.log_level) == ("team/voice@abc", "127.0.0.1:0", "info")


def test_what_strangers_chose_cannot_be_an_option() -> None:
    deployment = Deployment(key="--allow-open", weights="--slots=1024")
    settings = parsed(WorkerCommand(python=Path("python")).line(deployment, listen="127.0.0.1:0"))
    assert (settings.model, settings.name) == ("--slots=1024", "--allow-open")
    assert (settings.slots, settings.allow_open) == (8, False)


def test_options_that_cannot_be_read_name_the_setting() -> None:
    with pytest.raises(EngineError, match="MUSE_ROUTING_WORKER_OPTIONS: no closing quotation"):
        WorkerCommand.parse(Path("python"), "--slots '3")


def test_an_interpreter_that_is_not_there_names_the_setting(tmp_path: Path) -> None:
    WorkerCommand(python=Path(sys.executable)).check()
    WorkerCommand(python=Path("sh")).check()  # on the path
    with pytest.raises(EngineError, match="MUSE_ROUTING_WORKER_PYTHON: there is no"):
        WorkerCommand(python=tmp_path / "python").check()


def test_a_worker_is_not_told_the_gateways_secrets() -> None:
    inherited = {
        "PATH": "/bin",
        "MUSE_API_KEY": "secret",
        "MUSE_ROUTING_DATABASE": "secret",
        "MUSE_HUB_MIRROR": "/mirror",
        "MUSE_WORKER_SLOTS": "3",
        "MUSE_WORKER_KEY": "another's",
    }
    kept = {"PATH": "/bin", "MUSE_HUB_MIRROR": "/mirror", "MUSE_WORKER_SLOTS": "3"}
    assert environment(inherited, "key") == kept | {"MUSE_WORKER_KEY": "key"}
    assert environment(inherited, "") == kept | {"MUSE_WORKER_KEY": "another's"}
