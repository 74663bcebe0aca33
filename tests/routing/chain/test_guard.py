from __future__ import annotations

import pytest

from routing.chain.errors import WrongSubnetError
from routing.chain.grammar import Commitment, CommitmentError, parse
from routing.chain.guard import check_subnet
from routing.chain.records import Neuron, Record, Subnet
from tests.routing.chain.fake_chain import commitment, hotkey

SEALED = CommitmentError("sealed", "is sealed")
FOREIGN = CommitmentError("foreign", "is in another grammar")


def subnet(*, ours: int = 0, foreign: int = 0, sealed: int = 0, left: int = 0, name: str = "muse") -> Subnet:
    """Registered neurons with such commitments, and `left` hotkeys that have left with ours."""
    commitments = [parse(commitment(f"omega/m{index}")) for index in range(ours)]
    held: list[Commitment | CommitmentError] = [*commitments, *[FOREIGN] * foreign, *[SEALED] * sealed]
    records = [Record(hotkey=hotkey(f"h{index}"), block=1, commitment=one) for index, one in enumerate(held)]
    neurons = [
        Neuron(uid=uid, hotkey=record.hotkey, incentive=0, emission=0, stake=0, permit=False, last_update=0)
        for uid, record in enumerate(records)
    ]
    gone = [
        Record(hotkey=hotkey(f"g{index}"), block=1, commitment=parse(commitment(f"omega/g{index}")))
        for index in range(left)
    ]
    return Subnet(name=name, block=10, time=0.0, neurons=tuple(neurons), records=(*records, *gone))


def check(found: Subnet | None, *, name: str | None = None, own_share: float = 0.5) -> Subnet:
    return check_subnet(found, netuid=21, name=name, own_share=own_share)


@pytest.mark.parametrize("found", [subnet(ours=1), subnet(ours=2, foreign=2), subnet(ours=1, sealed=9)])
def test_ours(found: Subnet) -> None:
    assert check(found) is found


def test_a_wrong_hash_is_a_mistake_in_our_grammar() -> None:
    wrong = Record(hotkey=hotkey("h0"), block=1, commitment=CommitmentError("wrong_hash", "its hash is 1"))
    found = subnet(foreign=1)
    check(Subnet(name="muse", block=1, time=0.0, neurons=found.neurons, records=(wrong,)))


REFUSED = [
    (None, "there is no subnet 21 on this network"),
    (subnet(), "subnet 21 has no neurons"),
    (subnet(sealed=3), "no neuron of subnet 21 has a commitment that can be read"),
    (subnet(foreign=4), "0 of its 4 commitments are in our grammar, at least 50% are expected"),
    (subnet(ours=1, foreign=2), "1 of its 3 commitments"),
    (subnet(foreign=3, left=200), "0 of its 3 commitments"),
]


@pytest.mark.parametrize(("found", "reason"), REFUSED)
def test_not_ours(found: Subnet | None, reason: str) -> None:
    with pytest.raises(WrongSubnetError, match=reason):
        check(found)


def test_the_name_counts_where_one_is_asked_for() -> None:
    assert check(subnet(ours=1, name="muse"), name="muse")
    with pytest.raises(WrongSubnetError, match="subnet 21 is called 'ads', not 'muse'"):
        check(subnet(ours=1, name="ads"), name="muse")


def test_a_name_is_escaped() -> None:
    with pytest.raises(WrongSubnetError) as refused:
        check(subnet(ours=1, name="a\x1b[31m\u202e"), name="muse")
    assert refused.value.message.isprintable()


def test_the_share_is_the_operators() -> None:
    found = subnet(ours=1, foreign=3)
    assert check(found, own_share=0.25)
    with pytest.raises(WrongSubnetError):
        check(found, own_share=0.26)
