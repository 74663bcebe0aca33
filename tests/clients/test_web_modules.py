"""The page's pure modules, tested by node."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.prerequisites import absent


def test_modules_pass_under_node() -> None:
    node = shutil.which("node")
    if node is None:
        absent("node is not installed")
    tests = sorted(str(path) for path in (Path(__file__).parent / "web").glob("*.test.mjs"))
    assert tests
    outcome = subprocess.run([node, "--test", *tests], capture_output=True, text=True, timeout=60, check=False)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
