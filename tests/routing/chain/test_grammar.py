from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routing.chain.grammar import (
    MAX_BYTES,
    Commitment,
    CommitmentError,
    commitment_hash,
    format_commitment,
    new_commitment,
    parse,
)

pytestmark = pytest.mark.timeout(900)  # which only a hang reaches

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def written(**parts: str) -> str:
    """A good commitment, but for the parts given."""
    good = {"namespace": "omega", "name": "moshi-a", "epoch": "7", "commit": COMMIT, "competition": "v1"}
    parts = good | parts
    words = " ".join((parts["namespace"], parts["name"], parts["epoch"], parts["competition"]))
    digest = parts.get("hash", str(int(hashlib.sha256(words.encode()).hexdigest()[:16], 16)))
    return ":".join((parts["namespace"], parts["name"], parts["epoch"], parts["commit"], digest, parts["competition"]))


def test_reads_what_a_miner_wrote() -> None:
    assert parse(written()) == Commitment(
        namespace="omega",
        name="moshi-a",
        epoch="7",
        commit=COMMIT,
        hash=int(hashlib.sha256(b"omega moshi-a 7 v1").hexdigest()[:16], 16),
        competition="v1",
    )
    assert parse(written()).model == "omega/moshi-a"


def test_the_hash_is_that_of_the_words() -> None:
    # printf 'omega moshi-a 7 v1' | sha256sum
    assert commitment_hash(namespace="omega", name="moshi-a", epoch="7", competition="v1") == 0x499EF5A3D0528243


def test_no_competition_is_none_or_nothing() -> None:
    text = written(competition="None")
    assert parse(text).competition is None
    assert parse(text.removesuffix(":None")) == parse(text)
    assert format_commitment(parse(text.removesuffix(":None"))) == text


MALFORMED = {
    "": "is empty",
    written() + ":more": "has 7 parts",
    f"omega:moshi-a:7:{COMMIT}": "has 4 parts",
    written(namespace="a" * 20, name="b" * 18): "has 39 characters; at most 38",
    written(name="moshi a"): "is not the name of a repository",
    written(namespace=""): "is not the name of a repository",
    written(namespace=".."): "is not the name of a repository",
    written(name="moshi/a"): "is not the name of a repository",
    written(name="m\u0000a"): "'omega/m\\x00a' is not the name",
    written(name="m\u202ea"): "'omega/m\\u202ea' is not the name",
    written(commit=COMMIT.upper()): "expected 40 lower-case hex digits",
    written(commit=COMMIT[:39]): "expected 40 lower-case hex digits",
    written(commit=COMMIT[:39] + "g"): "expected 40 lower-case hex digits",
    written(commit=COMMIT + "0"): "expected 40 lower-case hex digits",
    written(commit="main"): "expected 40 lower-case hex digits",
    written(commit="None"): "names no commit",
    written(epoch="None"): "its epoch is 'None'",
    written(epoch=""): "its epoch is ''",
    written(epoch="1 2"): "its epoch is '1 2'",
    written(epoch="e" * 17): "at most 16",
    written(hash="-1"): "its hash is '-1'",
    written(hash="007"): "its hash is '007'",
    written(hash="9" * 21): "its hash is",
    written(hash="\u0663"): "its hash is",
    written(competition=""): "its competition is ''",
    written(competition="v 1"): "its competition is 'v 1'",
    written(competition="v1\n"): "its competition is 'v1\\n'",
    written(competition="c" * 60): f"longer than {MAX_BYTES} bytes",
    written(competition="é" * 30): f"longer than {MAX_BYTES} bytes",
}


@pytest.mark.parametrize("text", MALFORMED)
def test_malformed(text: str) -> None:
    with pytest.raises(CommitmentError) as refused:
        parse(text)
    assert refused.value.code == "malformed"
    assert MALFORMED[text] in refused.value.reason


@pytest.mark.parametrize(
    "text",
    [
        "sn21-model:v1:omega/moshi-a@sha256:" + "0" * 64,
        f"sn21-model:v2:a:b:c:{COMMIT}",
        '{"model": "omega/moshi-a"}',
        "https://example.org/model",
        "hello",
        "\u0000\u0001",
        ":::::",
    ],
)
def test_foreign(text: str) -> None:
    with pytest.raises(CommitmentError) as refused:
        parse(text)
    assert refused.value.code == "foreign"


@pytest.mark.parametrize(("text", "reason"), [("1", "its hash is 1 where"), ("None", "carries no hash")])
def test_wrong_hash(text: str, reason: str) -> None:
    with pytest.raises(CommitmentError) as refused:
        parse(written(hash=text))
    assert refused.value.code == "wrong_hash"
    assert reason in refused.value.reason


def test_another_miners_hash_under_a_name_of_ones_own_is_wrong() -> None:
    theirs = written().split(":")[4]
    with pytest.raises(CommitmentError) as refused:
        parse(written(name="moshi-b", hash=theirs))
    assert refused.value.code == "wrong_hash"


NAMES = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._]{0,14}[A-Za-z0-9])?", fullmatch=True).filter(
    lambda name: ".." not in name
)
WORDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,7}", fullmatch=True).filter(lambda word: word != "None")
HEX = st.text("0123456789abcdef", min_size=40, max_size=40)


@settings(deadline=None)
@given(NAMES, NAMES, WORDS, HEX, st.none() | WORDS)
def test_format_and_parse_are_each_others_inverse(
    namespace: str, name: str, epoch: str, commit: str, competition: str | None
) -> None:
    made = new_commitment(model=f"{namespace}/{name}", epoch=epoch, commit=commit, competition=competition)
    assert made.model == f"{namespace}/{name}"
    text = format_commitment(made)
    assert len(text.encode()) <= MAX_BYTES
    assert parse(text) == made


LIKELY = st.sampled_from([*":/._-@#", "None", "omega", COMMIT, "123", "\x00", "é", "\ud800", "\n"])


@settings(deadline=None)
@given(st.text() | st.lists(LIKELY | st.text(max_size=5)).map("".join))
def test_whatever_is_written_is_read_or_refused_for_a_reason_fit_to_show(text: str) -> None:
    try:
        read = parse(text)
    except CommitmentError as error:
        refused = error
    else:
        assert format_commitment(read) in (text, f"{text}:None")
        return
    assert refused.code in ("malformed", "foreign", "wrong_hash")
    assert refused.reason.isprintable()
    assert 0 < len(refused.reason) < 300


@settings(deadline=None)
@given(st.data())
def test_a_good_commitment_with_one_character_changed_names_another_model_or_is_refused(data: st.DataObject) -> None:
    text = written()
    at = data.draw(st.integers(0, len(text) - 1))
    character = data.draw(st.characters(exclude_characters=text[at]))
    changed = text[:at] + character + text[at + 1 :]
    try:
        read = parse(changed)
    except CommitmentError:
        return
    start = text.index(COMMIT)
    assert start <= at < start + len(COMMIT)  # the hash covers all but the commit
    assert read.commit != COMMIT


def test_128_bytes_and_not_one_more() -> None:
    longest = {"namespace": "n" * 18, "name": "m" * 19, "epoch": "e" * 16}
    by_length = {len(text): text for text in (written(**longest, competition="c" * size) for size in range(1, 17))}
    assert format_commitment(parse(by_length[128])) == by_length[128]
    with pytest.raises(CommitmentError, match="longer than 128 bytes"):
        parse(by_length[129])


@pytest.mark.parametrize("word", ["a:b", "", "None", "x" * 17, "a b"])
@pytest.mark.parametrize("name", ["epoch", "competition"])
def test_a_word_that_cannot_be_written_is_told_by_its_name(name: str, word: str) -> None:
    parts = {"epoch": "1", "competition": "v1"} | {name: word}
    with pytest.raises(CommitmentError, match=f"^its {name} is '{word}'; expected letters"):
        new_commitment(model="a/b", commit=COMMIT, **parts)


@pytest.mark.parametrize("model", ["moshi", "a/b/c", "omega/", "/moshi", "omega/moshi:a"])
def test_a_new_commitment_is_held_to_the_same_rules(model: str) -> None:
    with pytest.raises(CommitmentError):
        new_commitment(model=model, epoch="1", commit=COMMIT, competition="v1")
