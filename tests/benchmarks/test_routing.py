from benchmarks.routing import measure, subnet


def test_a_subnet_has_validators_and_scored_models() -> None:
    snapshot, scoreboard = subnet(64)
    assert len(snapshot.validators) == 4
    assert len(snapshot.entries) == len(scoreboard.models) == 60


def test_everything_is_measured_as_often_as_asked_for() -> None:
    times = measure(64, runs=10)
    assert {what: len(runs) for what, runs in times.items()} == {
        "choose, auto": 10,
        "choose, by name, the last of all": 10,
        "choose, all full but the last of all": 10,
        "rank": 1,
        "step of the rollout": 10,
    }
    assert all(time > 0 for runs in times.values() for time in runs)
