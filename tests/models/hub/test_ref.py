from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.hub.errors import WeightsRefusedError
from models.hub.ref import HubRef, LocalRef, parse_ref

COMMIT = "0123456789abcdef" * 2 + "01234567"
SHA256 = "ab" * 32


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"kyutai/moshiko-pytorch-bf16@{COMMIT}", HubRef(repository="kyutai/moshiko-pytorch-bf16", commit=COMMIT)),
        (f"a/b_c.d@{COMMIT}#sha256={SHA256}", HubRef(repository="a/b_c.d", commit=COMMIT, sha256=SHA256)),
        ("/srv/weights", LocalRef(directory=Path("/srv/weights"))),
        ("./weights", LocalRef(directory=Path("weights"))),
        ("file:/srv/weights", LocalRef(directory=Path("/srv/weights"))),
        (f"file:weights/one#sha256={SHA256}", LocalRef(directory=Path("weights/one"), sha256=SHA256)),
    ],
)
def test_a_reference_is_read(text: str, expected: HubRef | LocalRef) -> None:
    assert parse_ref(text) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("kyutai/moshiko", "not pinned: name a commit"),
        ("kyutai/moshiko@main", "not pinned: 'main' is a branch"),
        ("kyutai/moshiko@0123456", "short commit"),
        (f"kyutai/moshiko@{COMMIT.upper()}", "not pinned"),
        (f"kyutai/moshiko@{COMMIT}0", "not pinned"),
        (f"moshiko@{COMMIT}", "not the name of a repository"),
        (f"../etc@{COMMIT}", "not the name of a repository"),
        (f"a/..@{COMMIT}", "not the name of a repository"),
        (f"a/b/c@{COMMIT}", "not the name of a repository"),
        (f"a/b..c@{COMMIT}", "not the name of a repository"),
        (f"a--b/c@{COMMIT}", "not the name of a repository"),  # the cache's name for a/b would be its own
        (f"a/{'b' * 97}@{COMMIT}", "not the name of a repository"),
        (f"https://huggingface.co/a/b@{COMMIT}", "not the name of a repository"),
        (f"a/b@{COMMIT}#sha256={SHA256[:-1]}", "not a sha256"),
        (f"a/b@{COMMIT}#md5=00", "after # comes sha256="),
        (f"a/b@{COMMIT}#", "after # comes sha256="),
        (f"a/b@{COMMIT}\n", "not a reference"),
        ("", "not the name of a repository"),
        ("file:", "not a directory"),
        ("file:../elsewhere", "not a directory"),
        ("/srv/../etc", "not a directory"),
        ("/" * 5000, "not a reference"),
    ],
)
def test_anything_else_is_refused_by_name(text: str, reason: str) -> None:
    with pytest.raises(WeightsRefusedError) as refused:
        parse_ref(text)
    assert reason in refused.value.reason
    assert refused.value.code == "weights_refused"
    assert refused.value.message.isprintable()
    assert len(refused.value.message) < 400


@given(st.text(max_size=200))
def test_a_reference_survives_being_printed_and_nothing_else_gets_through(text: str) -> None:
    try:
        ref = parse_ref(text)
    except WeightsRefusedError:
        return
    assert parse_ref(str(ref)) == ref
