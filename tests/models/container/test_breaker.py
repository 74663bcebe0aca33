from models.container.breaker import Breaker

SECOND = 1_000_000_000


def opened() -> Breaker:
    breaker = Breaker(failures=3, cooldown=2)
    for _ in range(3):
        breaker.failed(now=10 * SECOND)
    return breaker


def test_it_opens_at_failures_in_a_row_only() -> None:
    breaker = Breaker(failures=3, cooldown=2)
    for _ in range(5):
        breaker.failed(now=0)
        breaker.failed(now=0)
        breaker.succeeded()
    assert not breaker.open
    assert opened().open


def test_a_probe_is_due_after_the_cooldown_and_a_failed_one_starts_it_anew() -> None:
    breaker = opened()
    assert not breaker.probe_due(now=12 * SECOND - 1)
    assert breaker.probe_due(now=12 * SECOND)
    breaker.failed(now=12 * SECOND)
    assert breaker.open
    assert not breaker.probe_due(now=13 * SECOND)
    assert breaker.probe_due(now=14 * SECOND)


def test_half_open_the_next_request_decides() -> None:
    breaker = opened()
    breaker.probed()
    states = [breaker.open]
    breaker.failed(now=20 * SECOND)
    states.append(breaker.open)
    breaker.probed()
    breaker.succeeded()
    breaker.failed(now=30 * SECOND)
    breaker.failed(now=30 * SECOND)
    assert [*states, breaker.open] == [False, True, False]


def test_a_probe_is_not_due_while_it_is_closed() -> None:
    assert not Breaker(failures=1, cooldown=0).probe_due(now=SECOND)
