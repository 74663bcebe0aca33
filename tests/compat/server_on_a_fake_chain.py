"""`python -m tests.compat.server_on_a_fake_chain CHAIN.json ...`: `python -m server`, its chain kept in a file.

Each connection to the chain reads the file anew: `{"block": 1, "neurons": [{"hotkey", "incentive", "permit", "stake"}],
"commitments": {"<hotkey>": "<text>"}}`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from routing.chain import connection
from server.__main__ import main
from tests.routing.chain.fake_chain import FakeChain


def read_chain(path: Path) -> FakeChain:
    document = json.loads(path.read_text())
    chain = FakeChain(block=document["block"])
    for neuron in document["neurons"]:
        chain.add(**neuron)
    for hotkey, text in document["commitments"].items():
        chain.commit(hotkey, text, block=document["block"] - 10)
    return chain


if __name__ == "__main__":
    path = Path(sys.argv.pop(1))
    connection.substrate_for = lambda network: lambda: read_chain(path).substrate()
    sys.exit(main())
