"""Is this the subnet whose models are to be served? A netuid belongs to whoever holds it today.

Whoever cannot be told to be ours is not: nothing of such a reading is used, and the last good snapshot stays.
"""

from __future__ import annotations

from models.hub.errors import printable
from routing.chain.errors import WrongSubnetError
from routing.chain.grammar import Commitment
from routing.chain.records import Record, Subnet


def check_subnet(subnet: Subnet | None, *, netuid: int, name: str | None, own_share: float) -> Subnet:
    """The subnet, where it is ours.

    Ours has the `name` that is asked for, if one is, and at least `own_share` of its registered hotkeys' readable
    commitments are in our grammar. Those of hotkeys that have left do not count: they outlast the subnet's owner.

    Raises WrongSubnetError that says what is amiss.
    """
    if subnet is None:
        raise WrongSubnetError(f"there is no subnet {netuid} on this network")
    if name is not None and subnet.name != name:
        raise WrongSubnetError(f"subnet {netuid} is called '{printable(subnet.name)}', not '{printable(name)}'")
    if not subnet.neurons:
        raise WrongSubnetError(f"subnet {netuid} has no neurons")
    registered = {neuron.hotkey for neuron in subnet.neurons}
    readable = [record for record in subnet.records if record.hotkey in registered and not _is_sealed(record)]
    if not readable:
        raise WrongSubnetError(
            f"no neuron of subnet {netuid} has a commitment that can be read: whose it is is unknown"
        )
    ours = sum(_is_ours(record) for record in readable)
    if ours < own_share * len(readable):
        raise WrongSubnetError(
            f"subnet {netuid} is not ours: {ours} of its {len(readable)} commitments are in our grammar,"
            f" at least {own_share:.0%} are expected"
        )
    return subnet


def _is_ours(record: Record) -> bool:
    return isinstance(record.commitment, Commitment) or record.commitment.code == "wrong_hash"


def _is_sealed(record: Record) -> bool:
    return not isinstance(record.commitment, Commitment) and record.commitment.code == "sealed"
