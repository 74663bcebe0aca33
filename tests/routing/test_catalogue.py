import pytest

from routing.catalogue import Catalogue, UnknownModelError


@pytest.mark.parametrize(
    "name",
    [
        None,
        "",
        "auto",
        "best",
        "gpt-realtime",
        "gpt-realtime-mini",
        "gpt-realtime-2025-08-28",
        "gpt-4o-realtime-preview",
    ],
)
def test_names_that_mean_the_best_model(name: str | None) -> None:
    assert Catalogue(["best", "other"]).resolve(name) == "best"


def test_an_offered_id_means_itself() -> None:
    assert Catalogue(["best", "other"]).resolve("other") == "other"


def test_an_unknown_name_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(UnknownModelError) as raised:
        Catalogue(["best", "other"]).resolve("llama")
    assert raised.value.code == "model_not_found"
    assert "auto, best, other" in raised.value.message


def test_a_long_name_is_not_echoed_whole() -> None:
    with pytest.raises(UnknownModelError) as raised:
        Catalogue(["best"]).resolve("x" * 10_000)
    assert len(raised.value.message) < 200


def test_models_are_listed_once_and_in_order() -> None:
    assert Catalogue(["b", "a", "b"]).models == ("b", "a")


def test_an_empty_catalogue_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Catalogue([])
