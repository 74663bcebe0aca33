"""Small weights, whole and broken."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HOTKEY = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY"

TENSORS: dict[str, dict[str, Any]] = {
    "text_emb.weight": {"dtype": "BF16", "shape": [4, 8], "data_offsets": [0, 64]},
    "out_norm.alpha": {"dtype": "F32", "shape": [1, 1, 8], "data_offsets": [64, 96]},
}
EXPECTED = {"text_emb.weight": ((4, 8), {"BF16", "F32"}), "out_norm.alpha": ((1, 1, 8), {"F32"})}


def safetensors(header: Mapping[str, Any] | str | bytes = TENSORS, data: bytes = bytes(96)) -> bytes:
    """A file with this header, as a document or as the text of one, right or not."""
    if not isinstance(header, str | bytes):
        header = json.dumps(header)
    text = header.encode() if isinstance(header, str) else header
    return len(text).to_bytes(8, "little") + text + data


def checkpoint(**others: bytes) -> dict[str, bytes]:
    """A repository with one of each kind of file, some of which are not to be taken."""
    return {
        ".gitattributes": b"*.safetensors filter=lfs\n",
        "README.md": b"# A small model\n",
        "config.json": b'{"dim": 8}\n',
        "hotkey.txt": f"{HOTKEY}\n".encode(),
        "model.safetensors": safetensors(data=bytes(range(96))),
        "picture.png": b"\x89PNG",
        "voices/calm.wav": b"RIFF....WAVE",
        **others,
    }


TAKEN = ("README.md", "config.json", "hotkey.txt", "model.safetensors", "voices/calm.wav")


def write_files(directory: Path, files: Mapping[str, bytes]) -> Path:
    """Write them below `directory`, which is returned."""
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return directory


def digest(files: Mapping[str, bytes]) -> str:
    """What `find * -type f | LC_ALL=C sort | xargs sha256sum | sha256sum` prints."""
    lines = "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()
