import pytest
from pydantic import ValidationError

from server.settings import Settings, describe


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("MUSE_"):
            monkeypatch.delenv(name)


def test_defaults_are_local_and_open() -> None:
    settings = Settings()
    assert (settings.host, settings.port, settings.engine, settings.api_key) == ("127.0.0.1", 8000, ("embedded",), None)
    assert settings.record_dir is None


def test_the_environment_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSE_PORT", "9000")
    monkeypatch.setenv("MUSE_ALLOWED_ORIGINS", "https://a.example/, https://b.example")
    monkeypatch.setenv("MUSE_API_KEY", "sixteen-letters-")
    settings = Settings()
    assert settings.port == 9000
    assert settings.allowed_origins == ("https://a.example", "https://b.example")
    assert "sixteen" not in repr(settings)


def test_arguments_go_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSE_PORT", "9000")
    assert Settings(port=1).port == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("PORT", "x"), ("PORT", "70000"), ("ENGINE", "nonesuch"), ("API_KEY", "short"), ("LEAD_MS", "0")],
)
def test_bad_values_are_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"MUSE_{name}", value)
    with pytest.raises(ValidationError):
        Settings()


@pytest.mark.parametrize("value", ["echo,nonesuch", "ws://", "echo ws://host:1"])
def test_an_engine_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("MUSE_ENGINE", value)
    with pytest.raises(ValidationError, match="expected embedded"):
        Settings()


def test_engines_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSE_ENGINE", " ws://a:1, embedded,ws://a:1 ,")
    assert Settings().engine == ("ws://a:1", "embedded")


def test_every_setting_is_described() -> None:
    text = describe()
    for name, field in Settings.model_fields.items():
        assert f"MUSE_{name.upper()} " in text
        assert field.description
        assert field.description in text
