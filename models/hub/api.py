"""What the hub says about a repository, asked through huggingface_hub over a guarded client.

Its listing is used, its downloads are not: `hf_xet` opens connections of its own past any client that it is given, a
download that was cut off does not go on in the next process, and a server's Retry-After is slept for whole.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

import httpx2
from huggingface_hub import HfApi, set_client_factory
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.hf_api import RepoFile

from models.hub.errors import WeightsError, WeightsRefusedError, WeightsUnavailableError
from models.hub.network import Resolver, guarded_client, system_resolver
from models.hub.policy import ListedFile
from models.hub.ref import HubRef, LocalRef, is_repository, parse_ref
from models.hub.settings import HubSettings

_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHA1 = re.compile(r"[0-9a-f]{40}")
_NO_REPOSITORY = "the hub has no such repository, or it is private"

# huggingface_hub has one client for the whole process. It stays a guarded one after a call: whatever else here uses
# the library is held to the same rules.
_LIBRARY = threading.Lock()


def list_repository(ref: HubRef, settings: HubSettings, *, resolver: Resolver = system_resolver) -> list[ListedFile]:
    """All files of a repository at its commit, with their sizes and hashes; one more than is taken, at most.

    Raises WeightsUnavailableError where the repository or the commit is not there, or the hub does not answer;
    WeightsRefusedError where its answer is malformed.
    """
    with library(settings, resolver, seconds=settings.listing_seconds) as api, named_answers(str(ref)):
        entries = api.list_repo_tree(ref.repository, recursive=True, revision=ref.commit)
        files = (entry for entry in entries if isinstance(entry, RepoFile))
        return [_listed(file) for file in islice(files, settings.max_files + 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What a repository's main branch holds now, and whether the hub shows it to its owner only."""

    ref: HubRef
    private: bool


def find_head(repository: str, settings: HubSettings, *, resolver: Resolver = system_resolver) -> Head | None:
    """None where there is no such repository, or none that this token may see. Raises like `list_repository`."""
    with library(settings, resolver, seconds=settings.listing_seconds) as api, named_answers(repository):
        try:
            info = api.model_info(repository, revision="main")
        except GatedRepoError:  # which calls itself a repository that was not found
            raise
        except RepositoryNotFoundError:
            return None
        return Head(ref=named_commit(repository, info.sha), private=bool(info.private))


def named_commit(repository: str, commit: str | None) -> HubRef:
    """The reference to a commit that the hub has named. Raises WeightsRefusedError for a name that is no commit's."""
    if not commit or not _SHA1.fullmatch(commit):
        raise WeightsRefusedError(repository, "the hub names no commit of it")
    return HubRef(repository=repository, commit=commit)


def pin(repository: str, settings: HubSettings, *, resolver: Resolver = system_resolver) -> HubRef:
    """The reference to what a repository's main branch holds now; raises like `list_repository`.

    Raises WeightsRefusedError for what is not of the form `namespace/name`.
    """
    if not is_repository(repository):
        raise WeightsRefusedError(repository, "not the name of a repository; expected namespace/name")
    head = find_head(repository, settings, resolver=resolver)
    if head is None:
        raise WeightsUnavailableError(repository, _NO_REPOSITORY)
    return head.ref


def pinned(text: str, settings: HubSettings, *, resolver: Resolver = system_resolver) -> HubRef | LocalRef:
    """Read a reference as `parse_ref` does, and `pin` one that is the bare name of a repository.

    For a person who will see what it came to. A service is given a pinned reference: what runs there is not to
    change by itself.
    """
    return pin(text, settings, resolver=resolver) if is_repository(text) else parse_ref(text)


def _listed(file: RepoFile) -> ListedFile:
    """A listing's entry, none of whose fields is believed to be of the right type."""
    if type(file.path) is not str or type(file.size) is not int:
        raise TypeError
    if file.lfs is None:
        return ListedFile(name=file.path, size=file.size, git_sha1=_matching(_SHA1, file.blob_id))
    if file.lfs.size != file.size:
        raise ValueError
    return ListedFile(name=file.path, size=file.size, sha256=_matching(_SHA256, file.lfs.sha256))


def _matching(pattern: re.Pattern[str], text: str) -> str:
    if not pattern.fullmatch(text):
        raise ValueError
    return text


@contextmanager
def library(
    settings: HubSettings, resolver: Resolver, *, seconds: float, hosts: tuple[str, ...] = ()
) -> Iterator[HfApi]:
    """huggingface_hub's own client for so many `seconds`, held to `settings`, and to `hosts` (patterns) besides."""
    token = settings.token.get_secret_value() if settings.token else False
    reach = settings.model_copy(update={"hosts": (*settings.hosts, *hosts)})
    with _LIBRARY:
        set_client_factory(lambda: guarded_client(reach, resolver=resolver, seconds=seconds))
        try:
            yield HfApi(endpoint=settings.endpoint, token=token)
        finally:
            set_client_factory(lambda: guarded_client(settings, resolver=resolver))


@contextmanager
def named_answers(name: str) -> Iterator[None]:
    """Raises WeightsError in place of what huggingface_hub raises."""
    try:
        yield
    except WeightsError:
        raise
    except GatedRepoError:
        raise WeightsUnavailableError(name, "gated: a token of somebody who was let in is needed") from None
    except RepositoryNotFoundError:
        raise WeightsUnavailableError(name, _NO_REPOSITORY) from None
    except RevisionNotFoundError:
        raise WeightsUnavailableError(name, "the repository has no such commit") from None
    except HfHubHTTPError as error:
        raise WeightsUnavailableError(name, f"the hub answered with status {error.response.status_code}") from None
    except httpx2.HTTPError as error:
        raise WeightsUnavailableError(name, f"the hub cannot be asked: {error}") from None
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        raise WeightsRefusedError(name, "the hub's answer is malformed") from None
