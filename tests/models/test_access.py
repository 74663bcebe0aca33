"""Tests of models.access: which keys may be set."""

from __future__ import annotations

import pytest
from pydantic import SecretStr, TypeAdapter, ValidationError

from models.access import AccessKey, is_loopback

KEY: TypeAdapter[SecretStr] = TypeAdapter(AccessKey)


@pytest.mark.parametrize("key", ["sixteen-letters-", "AZaz09!#$%&'*+-.^_`|~"])
def test_a_key_is_kept_as_it_is(key: str) -> None:
    assert KEY.validate_python(key).get_secret_value() == key


@pytest.mark.parametrize(
    ("key", "fault"),
    [
        ("fifteen-letters", "at least 16"),
        ("a key with blanks in it", "letters, digits"),
        ("c2l4dGVlbiBsZXR0ZXJz==", "letters, digits"),
        ("sixteen-umlauts-ä", "letters, digits"),
        ("sixteen-letters-\n", "letters, digits"),
    ],
)
def test_a_key_that_no_browser_can_send_is_refused(key: str, fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        KEY.validate_python(key)


@pytest.mark.parametrize(
    ("host", "local"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False)]
)
def test_what_is_loopback(host: str, local: bool) -> None:
    assert is_loopback(host) is local
