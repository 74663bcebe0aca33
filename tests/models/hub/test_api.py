from __future__ import annotations

import pytest

from models.hub.api import list_repository, pin
from models.hub.errors import WeightsRefusedError, WeightsUnavailableError
from models.hub.settings import HubSettings
from tests.models.hub.conftest import REF
from tests.models.hub.fake_hub import REPOSITORY, FakeHub


def test_all_pages_are_listed_with_sizes_and_hashes(hub: FakeHub, settings: HubSettings) -> None:
    listing = {file.name: file for file in list_repository(REF, settings)}
    assert {name: file.size for name, file in listing.items()} == {k: len(v) for k, v in hub.files.items()}
    assert {name for name, file in listing.items() if file.sha256} == {"model.safetensors", "voices/calm.wav"}
    assert all((file.sha256 is None) == (file.git_sha1 is not None) for file in listing.values())
    assert len(hub.requests) > 1


def test_a_listing_ends_at_the_first_file_too_many(hub: FakeHub, settings: HubSettings) -> None:
    hub.files |= {f"{n}.json": b"" for n in range(100)}
    assert len(list_repository(REF, settings.model_copy(update={"max_files": 4}))) == 5
    assert len(hub.requests) <= 3


def test_a_branch_is_pinned_to_its_commit(hub: FakeHub, settings: HubSettings) -> None:
    assert pin(REPOSITORY, settings) == REF


def test_a_repository_that_is_not_there_cannot_be_pinned(hub: FakeHub, settings: HubSettings) -> None:
    with pytest.raises(WeightsUnavailableError, match="somebody/else: the hub has no such repository"):
        pin("somebody/else", settings)
    with pytest.raises(WeightsRefusedError):
        pin("not a name", settings)


def test_two_sizes_of_one_file_are_a_malformed_listing(hub: FakeHub, settings: HubSettings) -> None:
    lfs = b'{"oid": "%s", "size": 2, "pointerSize": 1}' % (b"a" * 64)
    hub.raw_listing = b'[{"type": "file", "path": "a.wav", "size": 1, "oid": "%s", "lfs": %s}]' % (b"a" * 40, lfs)
    with pytest.raises(WeightsRefusedError, match="the hub's answer is malformed"):
        list_repository(REF, settings)
