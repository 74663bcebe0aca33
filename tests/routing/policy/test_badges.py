from dataclasses import replace

from routing.policy.badges import NEW_FOR, Badge, badges
from routing.policy.contract import LiveStats, Ranked, Reason, Rules
from routing.scores.standings import TOTAL, MinerStanding, ModelScores
from tests.routing.policy.figures import HOUSE, key, live, ranking, stats, total

ANN, BOB, CAT = key("ann"), key("bob"), key("cat")
RANKING = ranking(("ann", 0.5, 0.6), ("bob", 0.3, 0.6), ("cat", 0.2, 0.6), own=[HOUSE])
FALLING, RISING, RISING_MORE = [0.6, 0.6, 0.5, 0.5], [0.5, 0.5, 0.55, 0.55], [0.4, 0.5, 0.6, 0.7]


def ids(found: dict[str, tuple[Badge, ...]] | object, version: str) -> list[str]:
    assert isinstance(found, dict)
    return [badge.id for badge in found.get(version, ())]


def with_miner(miner: MinerStanding) -> tuple[Ranked, ...]:
    return (replace(RANKING[1], scores=replace(RANKING[1].scores, miner=miner)),)


def with_trends(*trends: list[float]) -> tuple[Ranked, ...]:
    return tuple(
        replace(model, scores=ModelScores(metrics={TOTAL: total(0.6, trend=trend)}))
        for model, trend in zip(RANKING, trends, strict=False)
    )


def test_who_leads_and_nobody_else() -> None:
    assert badges(RANKING, live={}, rules=Rules()).keys() == {ANN}
    assert ids(badges(RANKING, live={}, rules=Rules()), ANN) == ["top"]
    assert badges(ranking(own=[HOUSE]), live={}, rules=Rules()) == {}


def test_newcomers() -> None:
    for block, new in ((1, True), (1 + NEW_FOR, True), (2 + NEW_FOR, False), (0, False), (None, False)):
        found = badges(RANKING[1:], live={}, rules=Rules(), block=block)
        assert (ids(found, BOB) == ["newcomer"]) == new
        assert HOUSE not in found


def test_what_validators_say_of_the_miner() -> None:
    for miner, expected in (
        (MinerStanding(streak=5), ["streak"]),
        (MinerStanding(streak=4), []),
        (MinerStanding(decay=0.9), ["decaying"]),
        (MinerStanding(decay=0.9, recovery=0.2), ["recovering"]),
        (MinerStanding(decay=1.0, recovery=0.0), []),
        (MinerStanding(), []),
    ):
        assert ids(badges(with_miner(miner), live={}, rules=Rules()), BOB) == expected


def test_who_improved_most() -> None:
    def improved(*trends: list[float]) -> list[str]:
        found = badges(with_trends(*trends), live={}, rules=Rules())
        return [version for version, earned in found.items() if "improved" in [badge.id for badge in earned]]

    assert improved(RISING, RISING_MORE, FALLING) == [BOB]
    assert improved(RISING) == [ANN]
    assert improved(RISING, RISING) == []
    assert improved(FALLING, [0.5, 0.5, 0.505, 0.505]) == []
    assert improved([0.1, 0.9, 0.9]) == []


def test_who_is_fastest_is_known_only_beside_another() -> None:
    rules = Rules()
    assert ids(badges(RANKING, live=live(ann=300.0, bob=200.0), rules=rules), BOB) == ["fastest"]
    assert BOB not in badges(RANKING, live=live(bob=200.0), rules=rules)
    assert BOB not in badges(RANKING, live=live(ann=200.0, bob=200.0), rules=rules)
    few = {ANN: stats(300.0), BOB: stats(100.0, turns=5), CAT: LiveStats()}
    assert BOB not in badges(RANKING, live=few, rules=rules)


def test_the_users_favourite_needs_enough_ratings() -> None:
    feedback = {ANN: (4.0, 30), BOB: (4.5, 10), CAT: (5.0, 9)}
    assert ids(badges(RANKING, live={}, rules=Rules(), feedback=feedback), BOB) == ["favourite"]


def test_duels_are_won_beyond_chance_or_not_at_all() -> None:
    clear, close = {ANN: (1400.0, 1480.0), BOB: (1500.0, 1600.0)}, {ANN: (1400.0, 1550.0), BOB: (1500.0, 1600.0)}
    assert ids(badges(RANKING, live={}, rules=Rules(), ratings=clear), BOB) == ["duels"]
    assert BOB not in badges(RANKING, live={}, rules=Rules(), ratings=close)
    assert BOB not in badges(RANKING, live={}, rules=Rules(), ratings={BOB: (1500.0, 1600.0)})


def test_what_is_excluded_or_unknown_has_no_badges() -> None:
    out = replace(RANKING[1], rank=None, excluded=Reason(code="failing", text="it fails"))
    found = badges(
        (RANKING[0], out),
        live=live(ann=300.0, bob=200.0, cat=100.0),
        rules=Rules(),
        feedback={CAT: (5.0, 99)},
        ratings={BOB: (1500.0, 1600.0), CAT: (9.0, 10.0)},
    )
    assert found.keys() == {ANN}
    assert ids(found, ANN) == ["top"]
