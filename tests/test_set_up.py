"""What the Makefile does where a set-up broke off, and where another one runs."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.prerequisites import ROOT

ONE_AT_A_TIME = ROOT / "requirements" / "one_at_a_time.py"

PYTHON = """#!/bin/sh
echo "$*" >> calls
case "$*" in
    "-m venv "*)
        for directory; do :; done
        mkdir -p "$directory/bin" && cp "$0" "$directory/bin/python" && cp "$0" "$directory/bin/pip" ;;
    "-m pip "*)
        test ! -e registry-is-down ;;
esac
"""
"""Stands in for Python: notes what it is asked, makes environments, and installs where the registry is not down."""

STAMPS = pytest.mark.parametrize("stamp", [".venv/.base", ".venv-pipecat/.installed", ".venv-moshi/.installed"])


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    return tmp_path


def make(checkout: Path, target: str) -> tuple[int, list[str]]:
    """How it ended, and what Python was asked."""
    calls = checkout / "calls"
    calls.unlink(missing_ok=True)
    command = ["make", f"PYTHON={checkout / 'python'}", target]
    status = subprocess.run(command, cwd=checkout, capture_output=True, check=False).returncode
    return status, calls.read_text().splitlines() if calls.exists() else []


def environments(calls: list[str]) -> list[str]:
    return [call for call in calls if call.startswith("-m venv")]


@STAMPS
def test_an_environment_that_broke_off_is_made_anew(checkout: Path, stamp: str) -> None:
    home = (checkout / stamp).parent
    (home / "bin").mkdir(parents=True)
    shutil.copy(checkout / "python", home / "bin")  # which comes first, and pip last
    status, calls = make(checkout, stamp)
    assert (status, environments(calls)) == (0, [f"-m venv --clear {home.name}"])
    assert make(checkout, stamp) == (0, []), "what is made is left"


@STAMPS
def test_an_installation_that_broke_off_does_not_count_and_goes_on(checkout: Path, stamp: str) -> None:
    (checkout / "registry-is-down").touch()
    status, calls = make(checkout, stamp)
    assert status != 0
    assert len(environments(calls)) == 1
    assert not (checkout / stamp).exists()
    (checkout / "registry-is-down").unlink()
    status, calls = make(checkout, stamp)
    assert (status, environments(calls)) == (0, [])
    assert (checkout / stamp).exists()


def test_who_comes_second_waits(tmp_path: Path) -> None:
    log, go = tmp_path / "log", tmp_path / "go"
    slow = "echo begins >> log; until test -e go; do sleep 0.05; done; echo ends >> log"

    def start(script: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(ONE_AT_A_TIME), "sh", "-c", script]
        return subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)

    with start(slow) as first:
        while not log.exists():
            time.sleep(0.02)
        with start("echo second >> log; exit 3") as second:
            assert second.stderr is not None
            assert "waiting" in second.stderr.readline()
            go.touch()
            assert (first.wait(), second.wait()) == (0, 3)
    assert log.read_text().split() == ["begins", "ends", "second"]
