from __future__ import annotations

import pytest
from pydantic import SecretStr

from models.hub.api import list_repository, pin, pinned
from models.hub.errors import WeightsRefusedError, WeightsUnavailableError
from models.hub.settings import HubSettings
from tests.models.hub.conftest import REF, loopback
from tests.models.hub.fake_hub import CDN_HOST, REPOSITORY, FakeHub


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


def test_a_listing_that_goes_on_elsewhere_takes_no_token_there(hub: FakeHub, settings: HubSettings) -> None:
    hub.pages_host = CDN_HOST
    list_repository(REF, settings.model_copy(update={"token": SecretStr("hf_a-secret-of-ours")}), resolver=loopback)
    sent = {headers["host"].split(":")[0]: headers.get("authorization") for _, _, headers in hub.requests}
    assert sent == {"127.0.0.1": "Bearer hf_a-secret-of-ours", CDN_HOST: None}


def test_a_listing_of_empty_pages_ends(hub: FakeHub, settings: HubSettings) -> None:
    hub.endless_listing = True
    with pytest.raises(WeightsUnavailableError, match=r"127\.0\.0\.1: did not answer in time"):
        list_repository(REF, settings.model_copy(update={"listing_seconds": 0.1}))
    hub.endless_listing = False
    assert list_repository(REF, settings)


def test_a_branch_is_pinned_to_its_commit(hub: FakeHub, settings: HubSettings) -> None:
    assert pin(REPOSITORY, settings) == REF


def test_a_repository_that_is_not_there_cannot_be_pinned(hub: FakeHub, settings: HubSettings) -> None:
    with pytest.raises(WeightsUnavailableError, match="somebody/else: the hub has no such repository"):
        pin("somebody/else", settings)


@pytest.mark.parametrize("name", ["not a name", "somebody", "../etc", "a/b/c", f"{REPOSITORY}@main", "", "a\x1b/b"])
def test_what_is_no_name_of_a_repository_is_not_asked_for(hub: FakeHub, settings: HubSettings, name: str) -> None:
    with pytest.raises(WeightsRefusedError, match="not the name of a repository"):
        pin(name, settings)
    assert not hub.requests


def test_a_bare_name_is_pinned_and_what_is_pinned_is_left(hub: FakeHub, settings: HubSettings) -> None:
    assert pinned(REPOSITORY, settings) == REF
    before = len(hub.requests)
    for text in (f"{REPOSITORY}@{'f' * 40}", "file:weights", f"/weights#sha256={'0' * 64}"):
        assert str(pinned(text, settings)) in (text, f"file:{text}")
    for text in (f"{REPOSITORY}@main", f"{REPOSITORY}#sha256={'0' * 64}", "somebody"):
        with pytest.raises(WeightsRefusedError):
            pinned(text, settings)
    assert len(hub.requests) == before


def test_two_sizes_of_one_file_are_a_malformed_listing(hub: FakeHub, settings: HubSettings) -> None:
    lfs = b'{"oid": "%s", "size": 2, "pointerSize": 1}' % (b"a" * 64)
    hub.raw_listing = b'[{"type": "file", "path": "a.wav", "size": 1, "oid": "%s", "lfs": %s}]' % (b"a" * 40, lfs)
    with pytest.raises(WeightsRefusedError, match="the hub's answer is malformed"):
        list_repository(REF, settings)
