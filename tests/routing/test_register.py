"""From a miner's directory to the leaderboard, by the hub's real client and the SDK.

The hub is one on loopback, the chain one in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import bittensor as bt
import pytest
from huggingface_hub import _commit_api
from pydantic import SecretStr

from models.hub import upload
from models.hub.errors import WeightsRefusedError, WeightsUnavailableError
from models.hub.settings import HubSettings
from models.hub.snapshot import resolve
from routing import register as module
from routing.chain.assembly import Selection
from routing.chain.commit import CommitmentRefusedError
from routing.chain.errors import ChainError, ChainUnavailableError
from routing.chain.reader import ChainReader
from routing.inspection import NO_COMMIT, Candidate, inspect
from routing.leaderboard import Entry
from routing.register import RefusedError, Registration, register
from tests.models.hub.fake_hub import REPOSITORY
from tests.models.hub.fake_uploads import TOKEN, UploadHub, serving_uploads
from tests.models.tiny_checkpoint import LM, write_checkpoint
from tests.routing.chain.fake_chain import FakeChain, commitment, hotkey, keypair

# huggingface_hub's own, of its LFS uploads.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

ALICE = hotkey("alice")


def loopback(host: str, port: int) -> list[str]:
    return ["127.0.0.1"]


@dataclass
class Miner:
    """Alice, who registers her model; `said` is what she was told."""

    registration: Registration
    said: list[str] = field(default_factory=list)

    def register(self) -> Entry:
        found = inspect(self.registration.candidate, self.registration.hub)
        assert found.problems == ()
        assert found.weights is not None
        self.said.clear()
        return register(self.registration, found.weights, self.said.append)


@pytest.fixture
def chain() -> FakeChain:
    """A subnet of ours with one model of somebody else's."""
    chain = FakeChain()
    chain.add(hotkey("val"), permit=True, stake=5000.0)
    chain.add(hotkey("bob"), incentive=0.6)
    chain.commit(hotkey("bob"), commitment("bob/moshi"), block=chain.block - 100)
    chain.add(ALICE)
    return chain


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[UploadHub]:
    # Large files go the way that can be followed here: by LFS over HTTP.
    monkeypatch.setattr(_commit_api, "is_xet_available", lambda: False)
    monkeypatch.setattr(module, "publish", partial(upload.publish, resolver=loopback))
    monkeypatch.setattr(module, "_BETWEEN_READS", 0.0)
    with serving_uploads(UploadHub()) as hub:
        yield hub


@pytest.fixture
def miner(chain: FakeChain, hub: UploadHub, tmp_path: Path) -> Miner:
    write_checkpoint(tmp_path / "model", hotkey=ALICE)
    settings = HubSettings(
        cache=tmp_path / "cache",
        endpoint=hub.endpoint,
        token=SecretStr(TOKEN),
        allow_loopback=True,
        timeout_seconds=60,
    )
    candidate = Candidate(
        directory=tmp_path / "model", repository=REPOSITORY, epoch="1", competition="v1", hotkey=ALICE
    )
    reader = ChainReader(
        network="local",
        netuid=chain.netuid,
        open_substrate=chain.substrate,
        selection=Selection(competition="v1"),
        timeout=60,
    )
    return Miner(Registration(candidate=candidate, hotkey=ALICE, wallet=keypair("alice"), reader=reader, hub=settings))


def test_a_model_is_uploaded_committed_and_on_the_leaderboard(miner: Miner, hub: UploadHub, chain: FakeChain) -> None:
    entry = miner.register()
    assert (entry.model, entry.commit, entry.hotkey, entry.uid) == (REPOSITORY, hub.commit, ALICE, 2)
    assert entry.block == chain.block
    assert [line.partition(":")[0] for line in miner.said] == ["chain", "hub", "chain"]
    settings = miner.registration.hub.model_copy(update={"hosts": ("cdn.example",)})
    served = resolve(f"{entry.key}", settings=settings, hotkey=ALICE, resolver=loopback)
    assert LM in served.files, "a worker that is told this model and hotkey takes it"
    assert chain.open == 0


def test_again_is_the_same_commit_and_nothing_is_done_twice(miner: Miner, hub: UploadHub, chain: FakeChain) -> None:
    first = miner.register()
    chain.advance(50)
    chain.calls.clear()
    assert miner.register() == first
    assert (hub.commits, hub.put(LM), chain.count("submit")) == (1, 1, 0)
    assert "all files were there already" in miner.said[1]
    assert miner.said[2].endswith("stands already")


def test_a_new_version_takes_the_place_of_the_old(miner: Miner, hub: UploadHub) -> None:
    first = miner.register()
    (miner.registration.candidate.directory / "README.md").write_text("Better.\n")
    second = miner.register()
    assert second.commit == hub.commit != first.commit
    assert second.uid == first.uid
    assert "1 files uploaded" in miner.said[1]


def refused(miner: Miner) -> str:
    with pytest.raises(RefusedError) as error:
        miner.register()
    [problem] = error.value.problems
    return problem


def bob_has_it(chain: FakeChain, commit: str) -> None:
    chain.commit(hotkey("bob"), commitment(REPOSITORY.title(), commit=commit), block=chain.block - 100)


def foreign(chain: FakeChain) -> None:
    for name in ("bob", "carol", "dave"):
        chain.add(hotkey(name))
        chain.commit(hotkey(name), f"sn21-model:v1:{name}@sha256:00")


def permitted(chain: FakeChain) -> None:
    chain.neuron(ALICE).permit = True


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (foreign, "subnet 21 is not ours: 1 of its 4 commitments are in our grammar"),
        (permitted, "it has a validator's permit and earns no incentive"),
        (lambda chain: chain.remove(ALICE), "its hotkey is not registered in the subnet"),
        (lambda chain: setattr(chain, "netuid", 22), "there is no subnet 21 on this network"),
    ],
)
def test_what_the_router_would_not_list_is_not_uploaded(
    miner: Miner, hub: UploadHub, chain: FakeChain, spoil: Callable[[FakeChain], None], said: str
) -> None:
    spoil(chain)
    assert said in refused(miner)
    assert not hub.requests
    assert chain.count("submit") == 0


def test_another_competition_than_the_routers_is_refused(miner: Miner) -> None:
    candidate = replace(miner.registration.candidate, competition="v2")
    miner.registration = replace(miner.registration, candidate=candidate)
    assert "its competition is 'v2', not 'v1'" in refused(miner)


def test_the_first_miner_of_a_subnet_is_let_in_and_a_stranger_told_both_reasons(miner: Miner, chain: FakeChain) -> None:
    chain.committed.clear()
    assert miner.register().uid == 2
    chain.committed.clear()
    chain.remove(ALICE)
    with pytest.raises(RefusedError) as error:
        miner.register()
    unknown, unregistered = error.value.problems
    assert "whose it is is unknown" in unknown
    assert f"the hotkey {ALICE} is not registered" in unregistered


def test_an_upload_that_breaks_off_leaves_the_chain_alone_and_is_taken_up(
    miner: Miner, hub: UploadHub, chain: FakeChain
) -> None:
    hub.refused["/api/models/.*/commit/"] = 403
    with pytest.raises(WeightsUnavailableError, match="the token may not write there"):
        miner.register()
    assert len(miner.said) == 1
    assert chain.count("submit") == 0
    hub.refused.clear()
    assert miner.register().commit == hub.commit
    assert hub.put(LM) == 1


def test_what_the_hub_altered_is_not_committed_to(miner: Miner, hub: UploadHub, chain: FakeChain) -> None:
    hub.altered["hotkey.txt"] = hotkey("bob").encode()
    with pytest.raises(WeightsRefusedError, match=r"does not hold what was sent: hotkey\.txt"):
        miner.register()
    assert chain.count("submit") == 0


def test_a_chain_that_refuses_after_the_upload_is_gone_on_from(miner: Miner, hub: UploadHub, chain: FakeChain) -> None:
    chain.failures["submit"] = bt.ChainError("Space Limit Exceeded", name="SpaceLimitExceeded")
    with pytest.raises(CommitmentRefusedError, match=r"SpaceLimitExceeded: Space Limit Exceeded; .*next epoch"):
        miner.register()
    assert miner.said[1].startswith(f"hub: {REPOSITORY}@{hub.commit}: ")
    chain.failures.clear()
    assert miner.register().commit == hub.commit
    assert hub.commits == 1


def test_a_chain_that_is_away_is_told_before_anything_is_done(miner: Miner, hub: UploadHub, chain: FakeChain) -> None:
    chain.failures["connect"] = ConnectionError("refused")
    with pytest.raises(ChainUnavailableError, match="ConnectionError: refused"):
        miner.register()
    assert not hub.requests


def test_somebody_who_commits_to_it_during_the_upload_is_noticed(
    miner: Miner, chain: FakeChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = UploadHub.tree

    def overtaken(hub: UploadHub) -> list[dict[str, Any]]:
        bob_has_it(chain, hub.commit)
        return listed(hub)

    monkeypatch.setattr(UploadHub, "tree", overtaken)
    assert "uid 1 committed to this version of somebody/small-moshi before" in refused(miner)
    assert chain.count("submit") == 0


def test_our_own_old_claim_is_not_given_away_unasked(miner: Miner, chain: FakeChain, hub: UploadHub) -> None:
    """Somebody claimed the version after us: while our line stands it is the first; a new one would be the second."""
    first = miner.register()
    chain.advance(10)
    chain.commit(hotkey("bob"), commitment(REPOSITORY, commit=hub.commit))
    chain.advance(10)
    assert miner.register() == first
    registration = miner.registration
    miner.registration = replace(registration, candidate=replace(registration.candidate, epoch="2"))
    assert "uid 1 committed to this version of somebody/small-moshi before" in refused(miner)
    assert chain.committed[ALICE].block == first.block


@pytest.mark.parametrize("commit", ["f" * 40, NO_COMMIT])
def test_nobody_keeps_an_owner_from_a_new_version_by_a_claim_of_his_own(
    miner: Miner, chain: FakeChain, commit: str
) -> None:
    """Neither by the name of the repository, nor by what stands for a commit that is not known yet."""
    bob_has_it(chain, commit)
    assert miner.register().hotkey == ALICE
    (miner.registration.candidate.directory / "README.md").write_text("Better.\n")
    assert miner.register().hotkey == ALICE


def test_a_commitment_that_is_not_read_back_is_told(
    miner: Miner, chain: FakeChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeChain, "commit", lambda *args, **more: None)
    with pytest.raises(ChainError, match="the commitment was taken, and is not read back"):
        miner.register()
    assert chain.count("submit") == 1


def test_a_private_repository_is_told_of(miner: Miner) -> None:
    miner.registration = replace(miner.registration, private=True)
    miner.register()
    assert "PRIVATE" in miner.said[1]
