"""Uploads by huggingface_hub's real client to a hub on loopback."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import _commit_api
from pydantic import SecretStr

from models.hub.errors import WeightsRefusedError, WeightsUnavailableError
from models.hub.ref import LocalRef
from models.hub.settings import HubSettings
from models.hub.snapshot import Snapshot, resolve
from models.hub.upload import Published, publish
from tests.models.hub.fake_hub import REPOSITORY
from tests.models.hub.fake_uploads import TOKEN, UploadHub, serving_uploads
from tests.models.hub.files import HOTKEY, TAKEN, checkpoint, write_files

# huggingface_hub's own, of its LFS uploads.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

Publish = Callable[..., Published]
WEIGHTS = "model.safetensors"


@pytest.fixture
def uploads(monkeypatch: pytest.MonkeyPatch) -> Iterator[UploadHub]:
    # Large files go the way that can be followed here: by LFS over HTTP.
    monkeypatch.setattr(_commit_api, "is_xet_available", lambda: False)
    with serving_uploads(UploadHub()) as hub:
        yield hub


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write_files(tmp_path / "weights", checkpoint())


@pytest.fixture
def settings(uploads: UploadHub, tmp_path: Path) -> HubSettings:
    return HubSettings(
        cache=tmp_path / "cache",
        endpoint=uploads.endpoint,
        hosts=(),
        token=SecretStr(TOKEN),
        allow_loopback=True,
        timeout_seconds=30,
    )


@pytest.fixture
def to_hub(directory: Path, settings: HubSettings) -> Publish:
    def run(*, private: bool = False, **changed: object) -> Published:
        return publish(
            local(directory, settings),
            REPOSITORY,
            settings.model_copy(update=changed),
            private=private,
            resolver=lambda host, port: ["127.0.0.1"],
        )

    return run


def local(directory: Path, settings: HubSettings) -> Snapshot:
    return resolve(LocalRef(directory=directory), settings=settings)


def test_a_new_repository_holds_what_is_taken_and_no_more(
    uploads: UploadHub, to_hub: Publish, directory: Path, settings: HubSettings
) -> None:
    published = to_hub()
    assert (published.sent, published.private) == (TAKEN, False)
    assert published.ref.commit == uploads.commit
    assert {name: content for name, content in uploads.files.items() if not name.startswith(".")} == {
        name: (directory / name).read_bytes() for name in TAKEN
    }
    fetched = resolve(
        published.ref,
        settings=settings.model_copy(update={"hosts": ("cdn.example",)}),
        hotkey=HOTKEY,
        resolver=lambda host, port: ["127.0.0.1"],
    )
    assert fetched.digest == local(directory, settings).digest


def test_what_is_there_is_not_sent_again_and_is_the_same_commit(uploads: UploadHub, to_hub: Publish) -> None:
    first = to_hub()
    again = to_hub()
    assert (again.ref, again.sent) == (first.ref, ())
    assert (uploads.commits, uploads.put(WEIGHTS)) == (1, 1)


def test_a_repository_that_a_worker_would_refuse_whole_is_refused(uploads: UploadHub, to_hub: Publish) -> None:
    """Though it holds what is to be there: its pictures are not taken, and still too many to be listed."""
    to_hub()
    uploads.files |= {f"zz{number}.png": b"" for number in range(3)}
    with pytest.raises(WeightsRefusedError, match="one file too many"):
        to_hub(max_files=len(uploads.files) - 1)


def test_a_file_that_has_changed_is_sent_alone(uploads: UploadHub, to_hub: Publish, directory: Path) -> None:
    first = to_hub()
    (directory / "config.json").write_bytes(b'{"dim": 9}\n')
    second = to_hub()
    assert second.sent == ("config.json",)
    assert second.ref != first.ref
    assert uploads.put(WEIGHTS) == 1


def test_an_upload_that_broke_off_goes_on_where_it_was(uploads: UploadHub, to_hub: Publish) -> None:
    uploads.refused["/api/models/.*/commit/"] = 403
    with pytest.raises(WeightsUnavailableError, match=r"the token may not write there: .*not today"):
        to_hub()
    assert uploads.commits == 0
    uploads.refused.clear()
    assert to_hub().sent == TAKEN
    assert uploads.put(WEIGHTS) == 1, "what had come of it was not sent again"


@pytest.mark.parametrize(
    ("route", "status", "reason"),
    [
        ("/api/repos/create", 403, "the token may not write there"),
        ("/api/models/.*/preupload", 400, "the hub answered with status 400"),
        ("/lfs/", 403, "the upload failed: "),
        ("/lfs/", 503, "answered with status 503"),
        ("/api/models/.*/commit", 500, "answered with status 500"),
    ],
)
def test_a_hub_that_does_not_take_it_is_named(
    uploads: UploadHub, to_hub: Publish, route: str, status: int, reason: str
) -> None:
    uploads.refused[route] = status
    with pytest.raises(WeightsUnavailableError, match=reason):
        to_hub()
    assert uploads.commits == 0


def test_files_that_are_only_on_the_hub_are_not_committed_to(uploads: UploadHub, to_hub: Publish) -> None:
    to_hub()
    uploads.files |= {"config.yaml": b"dim: 9\n", "old.bin": b"", "picture.png": b""}
    with pytest.raises(WeightsRefusedError, match=r"not in the directory: config\.yaml, old\.bin; delete them"):
        to_hub()


@pytest.mark.parametrize(("altered", "name"), [(b"{}", "config.json"), (b"RIFF", "voices/calm.wav")])
def test_what_the_hub_made_of_it_is_looked_at(uploads: UploadHub, to_hub: Publish, altered: bytes, name: str) -> None:
    uploads.altered[name] = altered
    with pytest.raises(WeightsRefusedError, match=f"the hub does not hold what was sent: {name}"):
        to_hub()


def test_what_the_hub_left_out_is_named(uploads: UploadHub, to_hub: Publish) -> None:
    uploads.ignored.add("hotkey.txt")
    with pytest.raises(WeightsRefusedError, match=r"the hub does not hold what was sent: hotkey\.txt"):
        to_hub()


def test_a_commit_between_ours_and_the_look_at_it_is_told(
    uploads: UploadHub, to_hub: Publish, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to_hub()
    (directory / "config.json").write_bytes(b'{"dim": 9}\n')
    listed = UploadHub.tree

    def tree(hub: UploadHub) -> object:
        entries = listed(hub)
        hub.commit = "f" * 40
        return entries

    monkeypatch.setattr(UploadHub, "tree", tree)
    uploads.page_size = 100
    with pytest.raises(WeightsUnavailableError, match="somebody else has committed to it meanwhile"):
        to_hub()


def test_a_name_that_is_no_commits_is_refused(uploads: UploadHub, to_hub: Publish) -> None:
    uploads.commit_name = "main"
    with pytest.raises(WeightsRefusedError, match="the hub names no commit of it"):
        to_hub()


def test_a_private_repository_is_one_and_says_so(uploads: UploadHub, to_hub: Publish) -> None:
    assert to_hub(private=True).private
    assert uploads.private
    assert to_hub().private, "of one that is there, the hub knows"


def test_the_token_reaches_the_hub_alone(uploads: UploadHub, to_hub: Publish, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        to_hub()
    sent = {path.startswith("/lfs/"): headers.get("authorization") for _, path, headers in uploads.requests}
    assert sent == {False: f"Bearer {TOKEN}", True: None}
    assert TOKEN not in caplog.text
    uploads.requests.clear()
    with pytest.raises(WeightsUnavailableError, match=r"a token that may write is needed \(MUSE_HUB_TOKEN\)"):
        to_hub(token=None)
    assert not uploads.requests


def test_a_wrong_token_is_told(uploads: UploadHub, to_hub: Publish) -> None:
    uploads.repository_gone = False
    with pytest.raises(WeightsUnavailableError, match="a token of somebody who was let in is needed"):
        to_hub(token=SecretStr("hf_wrong"))
