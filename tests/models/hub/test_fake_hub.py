"""The fake hub is held against the library that the real one's clients use."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest
from huggingface_hub import HfApi, set_client_factory, snapshot_download
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

from tests.models.hub.fake_hub import CDN_HOST, COMMIT, REPOSITORY, FakeHub


@pytest.fixture(autouse=True)
def plain_client(hub: FakeHub) -> None:
    """The library as it comes, except that it finds the CDN's host on loopback."""

    class Resolving(httpx2.HTTPTransport):
        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            if request.url.host == CDN_HOST:
                request.url = request.url.copy_with(host="127.0.0.1")
            return super().handle_request(request)

    set_client_factory(lambda: httpx2.Client(transport=Resolving(), follow_redirects=True))


def test_the_library_downloads_every_file(hub: FakeHub, tmp_path: Path) -> None:
    directory = snapshot_download(
        REPOSITORY, revision=COMMIT, endpoint=hub.endpoint, cache_dir=tmp_path, token=False, max_workers=1
    )
    found = {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in Path(directory).rglob("*")
        if path.is_file()
    }
    assert found == hub.files


def test_the_library_asks_again_after_a_cut(hub: FakeHub, tmp_path: Path) -> None:
    hub.cuts["model.safetensors"] = [50]
    directory = snapshot_download(
        REPOSITORY, revision=COMMIT, endpoint=hub.endpoint, cache_dir=tmp_path, token=False, max_workers=1
    )
    assert (Path(directory) / "model.safetensors").read_bytes() == hub.files["model.safetensors"]
    assert len(hub.asked("cdn/model.safetensors")) == 2


def test_the_library_understands_what_is_missing(hub: FakeHub) -> None:
    api = HfApi(endpoint=hub.endpoint, token=False)
    with pytest.raises(RevisionNotFoundError):
        list(api.list_repo_tree(REPOSITORY, revision="f" * 40))
    hub.repository_gone = True
    with pytest.raises(RepositoryNotFoundError):
        list(api.list_repo_tree(REPOSITORY, revision=COMMIT))
