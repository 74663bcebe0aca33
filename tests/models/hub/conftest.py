from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import set_client_factory

from models.hub.download import Progress
from models.hub.locks import let_go
from models.hub.ref import HubRef
from models.hub.settings import HubSettings
from models.hub.snapshot import Snapshot, resolve
from tests.models.hub.fake_hub import CDN_HOST, COMMIT, REPOSITORY, FakeHub, serving
from tests.models.hub.files import checkpoint

REF = HubRef(repository=REPOSITORY, commit=COMMIT)


@pytest.fixture(autouse=True)
def library_client() -> Iterator[None]:
    """Give huggingface_hub a plain client again."""
    yield
    set_client_factory(lambda: httpx2.Client(follow_redirects=True))


@pytest.fixture(autouse=True)
def no_use() -> Iterator[None]:
    """What a test has used, it uses no more."""
    yield
    let_go()


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with serving(FakeHub(files=checkpoint())) as fake:
        yield fake


def loopback(host: str, port: int) -> list[str]:
    return ["127.0.0.1"]


@pytest.fixture
def settings(hub: FakeHub, tmp_path: Path) -> HubSettings:
    return HubSettings(
        cache=tmp_path / "cache",
        endpoint=hub.endpoint,
        hosts=(CDN_HOST,),
        allow_loopback=True,
        timeout_seconds=30,
        retries=3,
        retry_seconds=0.01,
    )


@pytest.fixture
def fetch(settings: HubSettings) -> Callable[..., Snapshot]:
    """Resolve the repository with some settings changed."""

    def run(
        *, sha256: str | None = None, hotkey: str | None = None, report: list[Progress] | None = None, **changed: object
    ) -> Snapshot:
        return resolve(
            HubRef(repository=REPOSITORY, commit=COMMIT, sha256=sha256),
            settings=settings.model_copy(update=changed),
            hotkey=hotkey,
            report=(report if report is not None else []).append,
            resolver=loopback,
        )

    return run
