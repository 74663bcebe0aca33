import pytest

from routing.needs import read_needs
from routing.policy.contract import SessionNeeds
from streaming.errors import PeerError


def test_what_is_not_said_is_left_to_the_router() -> None:
    assert read_needs({}) == SessionNeeds()
    assert read_needs({"model": "", "mode": "", "language": "", "latency": "", "extensions": "muse"}) == SessionNeeds()


def test_all_that_can_be_said() -> None:
    query = {"model": "a/b", "mode": "turn_based", "language": "de-CH", "latency": "relaxed"}
    assert read_needs(query) == SessionNeeds(model="a/b", mode="turn_based", language="de", latency="relaxed")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("mode", "half-duplex", "duplex or turn_based"),
        ("latency", "fast", "interactive or relaxed"),
        ("language", "english please", "a language such as en"),
        ("language", "en-" + "x" * 100, "a language such as en"),
        ("language", "en" + "-abcdefgh" * 5, "a language such as en"),
    ],
)
def test_what_is_not_known_is_refused_by_name(name: str, value: str, expected: str) -> None:
    with pytest.raises(PeerError) as raised:
        read_needs({name: value})
    assert (raised.value.code, raised.value.param) == ("invalid_value", name)
    assert raised.value.message.startswith(f"{name}: expected {expected}")
    assert value[:60] in raised.value.message
    assert len(raised.value.message) < 200
