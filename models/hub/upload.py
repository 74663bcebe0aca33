"""Brings verified weights to the hub: the files that are taken from there again, and nothing else.

What the hub holds already is not sent again, so an upload that broke off is taken up by calling once more, and one
that is done is told by its commit. Large files go through `hf_xet` where huggingface_hub has it, which opens
connections of its own; otherwise through any public host that the hub names, over https.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError

from models.hub.api import Head, find_head, library, list_repository, named_commit
from models.hub.errors import WeightsError, WeightsRefusedError, WeightsUnavailableError, printable
from models.hub.network import Resolver, system_resolver
from models.hub.policy import ListedFile, choose, is_taken
from models.hub.ref import HubRef
from models.hub.settings import HubSettings
from models.hub.snapshot import Snapshot
from models.hub.verify import check_contents

_STATUSES = {
    401: "the token is not taken",
    403: "the token may not write there",
    412: "somebody else has committed to it meanwhile",
}
_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """Where the weights are now. `sent`: files that were uploaded for it. `private`: shown to its owner only."""

    ref: HubRef
    sent: tuple[str, ...]
    private: bool


def publish(
    snapshot: Snapshot,
    repository: str,
    settings: HubSettings,
    *,
    private: bool = False,
    resolver: Resolver = system_resolver,
) -> Published:
    """Make the main branch of `repository` hold the files of a snapshot, and see that it does.

    A repository that is missing is made, `private` or for everybody. Blocks for as long as the upload takes. Raises
    WeightsRefusedError where the repository holds files that would be taken, or refused, with these, and where it does
    not hold in the end what was sent; WeightsUnavailableError where the hub does not take it now.
    """
    if settings.token is None:
        raise WeightsUnavailableError(repository, "a token that may write is needed (MUSE_HUB_TOKEN)")
    head = find_head(repository, settings, resolver=resolver)
    if head is None:
        missing = tuple(snapshot.files)
        _create(repository, settings, resolver, private=private)
        ref = _send(snapshot, repository, missing, settings, resolver, parent=None)
    else:
        missing = _missing(snapshot, head.ref, settings, resolver)
        ref = _send(snapshot, repository, missing, settings, resolver, parent=head) if missing else head.ref
    if left := _missing(snapshot, ref, settings, resolver):
        raise WeightsRefusedError(str(ref), f"the hub does not hold what was sent: {_shown(left)}")
    return Published(ref=ref, sent=missing, private=private if head is None else head.private)


def _missing(snapshot: Snapshot, ref: HubRef, settings: HubSettings, resolver: Resolver) -> tuple[str, ...]:
    """Files of the snapshot that the commit does not hold as they are."""
    listing = list_repository(ref, settings, resolver=resolver)
    strange = [file.name for file in listing if file.name not in snapshot.files and _matters(file.name)]
    if strange:
        raise WeightsRefusedError(
            str(ref), f"holds files that are not in the directory: {_shown(strange)}; delete them on the hub"
        )
    listed = {file.name: file for file in listing}
    missing = tuple(name for name in snapshot.files if name not in listed or not _is_same(snapshot, listed[name]))
    if not missing:
        choose(listing, settings)
    return missing


def _matters(name: str) -> bool:
    try:
        return is_taken(name)
    except WeightsRefusedError:
        return True


def _is_same(snapshot: Snapshot, listed: ListedFile) -> bool:
    verified = snapshot.files[listed.name]
    if listed.sha256 is not None:
        return (listed.size, listed.sha256) == (verified.size, verified.sha256)
    try:
        check_contents(snapshot.path(listed.name), listed)
    except WeightsRefusedError:
        return False
    return True


def _create(repository: str, settings: HubSettings, resolver: Resolver, *, private: bool) -> None:
    with _api(repository, settings, resolver) as api:
        api.create_repo(repository, private=private, exist_ok=True)


def _send(
    snapshot: Snapshot,
    repository: str,
    names: Sequence[str],
    settings: HubSettings,
    resolver: Resolver,
    *,
    parent: Head | None,
) -> HubRef:
    """Commit files to the main branch, which is as it was at `parent` or else new."""
    additions = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=snapshot.path(name)) for name in names]
    with _api(repository, settings, resolver) as api:
        commit = api.create_commit(
            repository,
            additions,
            commit_message="Add model files",
            revision="main",
            parent_commit=None if parent is None else parent.ref.commit,
        )
    return named_commit(repository, commit.oid)


@contextmanager
def _api(repository: str, settings: HubSettings, resolver: Resolver) -> Iterator[HfApi]:
    """A client that may write. Raises WeightsUnavailableError for all that goes wrong with it."""
    try:
        with library(settings, resolver, seconds=settings.max_seconds, hosts=("*",)) as api:
            yield api
    except WeightsError:
        raise
    except HfHubHTTPError as error:
        status, said = error.response.status_code, printable(error.server_message or "", 200)
        reason = _STATUSES.get(status, f"the hub answered with status {status}")
        raise WeightsUnavailableError(repository, f"{reason}: {said}" if said else reason) from None
    except Exception as error:  # of the library, its threads or the system
        cause = error.__cause__ if isinstance(error.__cause__, WeightsError) else error
        raise WeightsUnavailableError(repository, f"the upload failed: {printable(str(cause), 200)}") from None


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(printable(name) for name in names[:_SHOWN]) + more
