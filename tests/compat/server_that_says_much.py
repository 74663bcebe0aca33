"""`python -m tests.compat.server_that_says_much ...`: `python -m server`, each call's first scripted answer a long one.

So long that it can be interrupted, whatever else the machine does.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from models.catalogue import EngineSettings
from models.scripted import ScriptedTurn
from server import engines
from server.__main__ import main
from server.engines import engine_settings
from server.settings import Settings

USUAL = ScriptedTurn()
TIMES = 20
MUCH = ScriptedTurn(text=" ".join([USUAL.text] * TIMES), seconds=TIMES * USUAL.seconds)


def settings_with_much_to_say(settings: Settings) -> EngineSettings:
    return replace(engine_settings(settings), script=(MUCH, USUAL))


if __name__ == "__main__":
    engines.engine_settings = settings_with_much_to_say
    sys.exit(main())
