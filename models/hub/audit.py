"""All that is wrong with a directory of weights, for whoever is to mend it. `resolve` stops at the first fault."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from models.hub.directory import disk_errors, resolved, walk
from models.hub.errors import WeightsError, WeightsRefusedError
from models.hub.policy import ListedFile, sift
from models.hub.ref import LocalRef
from models.hub.settings import HubSettings
from models.hub.snapshot import Snapshot, resolve
from models.hub.verify import check_contents, check_hotkey


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What was found: a snapshot without faults, or faults and no snapshot."""

    snapshot: Snapshot | None
    faults: tuple[WeightsError, ...]


def audit(directory: Path, settings: HubSettings, *, hotkey: str | None = None) -> Audit:
    """Resolve a directory; where it is refused, look at everything else that it would be refused for."""
    try:
        return Audit(snapshot=resolve(LocalRef(directory=directory), settings=settings, hotkey=hotkey), faults=())
    except WeightsError as error:
        first = error
    try:
        faults = _faults(resolved(directory), settings, hotkey)
    except WeightsError as error:
        faults = [error]
    if first.message not in {fault.message for fault in faults}:
        faults.insert(0, first)
    return Audit(snapshot=None, faults=tuple(faults))


def _faults(root: Path, settings: HubSettings, hotkey: str | None) -> list[WeightsError]:
    faults: list[WeightsError] = []
    chosen: dict[str, ListedFile] = {}
    with disk_errors(root):
        faults.extend(sift(walk(root, faults.append), settings, chosen))
    for name in sorted(chosen):
        try:
            check_contents(root / name, chosen[name])
        except WeightsError as fault:
            faults.append(fault)
    if hotkey is not None:
        try:
            check_hotkey(root, hotkey)
        except WeightsRefusedError as fault:
            faults.append(fault)
    return faults
