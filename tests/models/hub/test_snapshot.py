from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import SecretStr

from models.hub import verify
from models.hub.download import Progress
from models.hub.errors import WeightsError, WeightsRefusedError, WeightsUnavailableError
from models.hub.settings import HubSettings
from models.hub.snapshot import Snapshot, resolve
from tests.models.hub.fake_hub import COMMIT, REPOSITORY, FakeHub
from tests.models.hub.files import HOTKEY, TAKEN, TENSORS, checkpoint, digest, safetensors

Fetch = Callable[..., Snapshot]
WEIGHTS = "model.safetensors"


def leftovers(settings: HubSettings) -> list[str]:
    """Files of unfinished snapshots."""
    return sorted(path.name for path in settings.cache.rglob("*.partial/**/*") if path.is_file())


def test_a_snapshot_is_downloaded_verified_and_kept(hub: FakeHub, fetch: Fetch) -> None:
    snapshot = fetch(sha256=digest({name: hub.files[name] for name in TAKEN}), hotkey=HOTKEY)
    assert snapshot.commit == COMMIT
    assert tuple(snapshot.files) == TAKEN
    assert {name: snapshot.path(name).read_bytes() for name in TAKEN} == {name: hub.files[name] for name in TAKEN}
    assert {path.name for path in snapshot.directory.rglob("*") if path.is_file()} == {
        Path(name).name for name in TAKEN
    }
    assert not any(path.is_symlink() for path in snapshot.directory.rglob("*"))
    before = len(hub.requests)
    hub.repository_gone = True
    assert fetch() == snapshot
    assert len(hub.requests) == before, "a snapshot in the cache needs no network"


def test_what_is_not_taken_is_not_even_asked_for(hub: FakeHub, fetch: Fetch) -> None:
    snapshot = fetch()
    assert not hub.asked("picture.png")
    assert not hub.asked(".gitattributes")
    with pytest.raises(WeightsUnavailableError, match=r"picture\.png: not among the files"):
        snapshot.path("picture.png")


def test_progress_tells_of_every_byte(hub: FakeHub, fetch: Fetch) -> None:
    seen: list[Progress] = []
    fetch(report=seen)
    assert {progress.file: progress.received for progress in seen} == {name: len(hub.files[name]) for name in TAKEN}


def test_a_download_goes_on_where_it_was_cut(hub: FakeHub, fetch: Fetch) -> None:
    hub.cuts[WEIGHTS] = [50, 100]
    fetch()
    assert [headers.get("range") for headers in hub.asked(f"cdn/{WEIGHTS}")] == [None, "bytes=50-", "bytes=150-"]


def test_a_download_goes_on_in_the_next_process(hub: FakeHub, fetch: Fetch, settings: HubSettings) -> None:
    hub.cuts[WEIGHTS] = [50, 0]
    with pytest.raises(WeightsUnavailableError, match=rf"{WEIGHTS}: .* \(50 bytes kept\)") as unavailable:
        fetch(retries=0)
    assert unavailable.value.code == "weights_unavailable"
    assert WEIGHTS in leftovers(settings)
    assert not [path for path in settings.cache.rglob(COMMIT) if path.is_dir()], "a half snapshot is not a snapshot"
    before = len(hub.requests)
    assert tuple(fetch().files) == TAKEN
    asked = [(path.rpartition("/")[2], headers.get("range")) for _, path, headers in hub.requests[before:]]
    assert (WEIGHTS, "bytes=50-") in asked
    assert not {"config.json", "calm.wav"} & {name for name, _ in asked}, "what had come was not fetched again"
    assert not leftovers(settings)


def test_a_finished_file_that_was_damaged_meanwhile_is_refused_and_then_fetched_again(
    hub: FakeHub, fetch: Fetch, settings: HubSettings
) -> None:
    hub.cuts[WEIGHTS] = [50, 0]
    with pytest.raises(WeightsUnavailableError):
        fetch(retries=0)
    next(settings.cache.rglob("*.partial/config.json")).write_bytes(b'{"dim": 9}\n')
    with pytest.raises(WeightsRefusedError, match=r"config\.json: git hash \w+ where \w+ is expected"):
        fetch()
    assert fetch().path("config.json").read_bytes() == hub.files["config.json"]


def test_a_server_without_ranges_sends_the_whole_again(hub: FakeHub, fetch: Fetch, settings: HubSettings) -> None:
    hub.cuts[WEIGHTS] = [50]
    hub.ignores_ranges = True
    assert fetch().path(WEIGHTS).read_bytes() == hub.files[WEIGHTS]


def test_two_callers_at_once_download_once(hub: FakeHub, fetch: Fetch) -> None:
    start = threading.Barrier(2)

    def call(_: int) -> Snapshot:
        start.wait()
        return fetch()

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(call, range(2))
    assert first == second
    assert len(hub.asked(f"cdn/{WEIGHTS}")) == 1


def test_somebody_elses_download_is_not_waited_for_forever(hub: FakeHub, fetch: Fetch) -> None:
    hub.stalled = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        downloading = pool.submit(fetch)
        while not hub.requests:
            time.sleep(0.01)
        with pytest.raises(WeightsUnavailableError, match="somebody else is still downloading it"):
            fetch(max_seconds=0.05)
        hub.stalled.set()
        with pytest.raises(WeightsError):
            downloading.result()


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"pytorch_model.bin": b"\x80\x02}q\x00."}, r"pytorch_model\.bin: a pickle by its name"),
        ({"voices/calm.pt": b"PK\x03\x04"}, r"voices/calm\.pt: a pickle by its name"),
        ({"other.safetensors": b"\x80\x04\x95\x00\x00\x00\x00."}, r"other\.safetensors: a pickle by its first bytes"),
        ({"config.yaml": b"PK\x03\x04archive/data.pkl"}, r"config\.yaml: a zip archive, as torch\.save writes"),
        ({"modeling.py": b"import os"}, r"modeling\.py: code by its name"),
        ({"../../evil.json": b"{}"}, r"\.\./\.\./evil\.json: not a path inside the repository"),
        ({"/etc/evil.json": b"{}"}, r"/etc/evil\.json: not a path inside the repository"),
        ({"tokenizer.json": b"[" * 5000}, r"tokenizer\.json: too large: 5000 bytes, at most 4096"),
        ({WEIGHTS: safetensors(data=bytes(95))}, rf"{WEIGHTS}: truncated: 95 bytes of tensors where 96"),
        ({WEIGHTS: (2**40).to_bytes(8, "little") + b"{}"}, rf"{WEIGHTS}: a header of {2**40} bytes; at most"),
        ({WEIGHTS: safetensors({**TENSORS, "x": TENSORS["text_emb.weight"]})}, rf"{WEIGHTS}: header: "),
        ({WEIGHTS: b""}, rf"{WEIGHTS}: 0 bytes are no safetensors file"),
    ],
)
def test_what_a_repository_may_not_hold(
    hub: FakeHub, fetch: Fetch, settings: HubSettings, files: dict[str, bytes], reason: str
) -> None:
    hub.files = checkpoint() | files
    with pytest.raises(WeightsRefusedError, match=reason) as refused:
        fetch(max_small_file_bytes=4096)
    assert refused.value.code == "weights_refused"
    assert not [path for path in settings.cache.rglob(COMMIT) if path.is_dir()]
    assert not any(name.startswith(refused.value.file) for name in leftovers(settings)), "nothing refused is kept"
    assert not list(settings.cache.parent.rglob("evil.json"))


def test_too_much_in_all_is_refused_before_a_byte_is_fetched(hub: FakeHub, fetch: Fetch) -> None:
    hub.listed_sizes[WEIGHTS] = 19 * 2**30
    with pytest.raises(WeightsRefusedError, match=rf"{WEIGHTS}: too large: {19 * 2**30} bytes"):
        fetch()
    with pytest.raises(WeightsRefusedError, match="the snapshot: too large"):
        fetch(max_file_bytes=20 * 2**30)
    with pytest.raises(WeightsRefusedError, match="one file too many: at most 3"):
        fetch(max_files=3)
    assert {path.split("/")[1] for _, path, _ in hub.requests} == {"api"}


def test_a_full_disk_is_noticed_before_a_byte_is_fetched(hub: FakeHub, fetch: Fetch) -> None:
    hub.listed_sizes[WEIGHTS] = 2**60
    with pytest.raises(WeightsUnavailableError, match=r"no room: \S+ GB are needed, the disk has \S+ GB free"):
        fetch(max_file_bytes=2**61, max_total_bytes=2**61)
    assert not hub.asked(WEIGHTS)


@pytest.mark.parametrize("chunked", [False, True])
def test_more_bytes_than_announced_are_refused_as_they_come(
    hub: FakeHub, fetch: Fetch, settings: HubSettings, chunked: bool
) -> None:
    hub.served[WEIGHTS] = hub.files[WEIGHTS] + bytes(10**6)
    hub.chunked = {WEIGHTS} if chunked else set()
    expected = "bytes announced are sent" if chunked else r"\d+ bytes announced where \d+ are expected"
    with pytest.raises(WeightsRefusedError, match=rf"{WEIGHTS}: .*{expected}"):
        fetch()
    kept = sum(path.stat().st_size for path in settings.cache.rglob(WEIGHTS))
    assert kept <= len(hub.files[WEIGHTS])


def test_fewer_bytes_than_announced_are_a_truncated_file(hub: FakeHub, fetch: Fetch) -> None:
    hub.served[WEIGHTS] = hub.files[WEIGHTS][:-1]
    hub.chunked = {WEIGHTS}
    whole = len(hub.files[WEIGHTS])
    with pytest.raises(WeightsUnavailableError, match=rf"{WEIGHTS}: ended after {whole - 1} of {whole} bytes"):
        fetch(retries=0)


def test_another_part_than_was_asked_for_is_refused(hub: FakeHub, fetch: Fetch) -> None:
    hub.cuts[WEIGHTS] = [50]
    hub.headers[WEIGHTS] = {"Content-Range": "bytes 40-265/266"}
    with pytest.raises(WeightsRefusedError, match=rf"{WEIGHTS}: asked for from byte 50 of 266, another part was sent"):
        fetch()


@pytest.mark.parametrize(("name", "kind"), [(WEIGHTS, "sha256"), ("config.json", "git hash")])
def test_other_bytes_than_were_listed_are_refused(
    hub: FakeHub, fetch: Fetch, settings: HubSettings, name: str, kind: str
) -> None:
    content = hub.files[name]
    hub.served[name] = content[:-2] + bytes([content[-2] ^ 1]) + content[-1:]
    with pytest.raises(WeightsRefusedError, match=rf"^{re.escape(name)}: {kind} \w+ where \w+ is expected"):
        fetch()
    hub.served.clear()
    assert fetch().path(name).read_bytes() == content, "the wrong file was not kept"


def test_another_tree_than_the_digest_says_is_refused(fetch: Fetch) -> None:
    with pytest.raises(WeightsRefusedError, match=f"the snapshot: its digest is sha256=.*, not sha256={'0' * 64}"):
        fetch(sha256="0" * 64)


def test_a_snapshot_altered_in_the_cache_is_refused(fetch: Fetch) -> None:
    path = fetch().path("config.json")
    path.write_bytes(b'{"dim": 9}\n')
    with pytest.raises(WeightsRefusedError, match=r"config\.json: sha256 \w+ where \w+ is expected"):
        fetch()


def test_a_snapshot_without_its_record_is_not_believed(fetch: Fetch, settings: HubSettings) -> None:
    fetch()
    next(settings.cache.rglob(f"{COMMIT}.json")).write_text("{")
    with pytest.raises(WeightsRefusedError, match="missing or damaged"):
        fetch()


def test_a_file_that_was_put_into_the_cache_is_refused(fetch: Fetch) -> None:
    (fetch().directory / "config.yaml").write_text("dim: 9")
    with pytest.raises(WeightsRefusedError, match=r"config\.yaml: not a file of this snapshot"):
        fetch()


def test_a_file_that_is_gone_from_the_cache_is_refused(fetch: Fetch) -> None:
    fetch().path("config.json").unlink()
    with pytest.raises(WeightsRefusedError, match=r"config\.json: gone from the cache"):
        fetch()


def test_what_an_earlier_listing_held_is_not_in_the_snapshot(hub: FakeHub, fetch: Fetch, settings: HubSettings) -> None:
    """Or a hub that lies about a commit could put files past the digest, and past every later check."""
    honest = hub.files
    sha256 = digest({name: honest[name] for name in TAKEN})
    hub.files = honest | {"config.yaml": b"dim: 9\n", "extra/more.json": b"{}"}
    hub.cuts[WEIGHTS] = [0]
    with pytest.raises(WeightsUnavailableError):
        fetch(retries=0)
    assert {"config.yaml", "more.json"} <= set(leftovers(settings))
    hub.files = honest
    snapshot = fetch(sha256=sha256)
    found = {path.relative_to(snapshot.directory).as_posix() for path in snapshot.directory.rglob("*")}
    assert found == {*TAKEN, "voices"}


def test_a_snapshot_is_hashed_once(fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    first = fetch()
    monkeypatch.setattr(verify, "read_chunks", lambda path: pytest.fail(f"{path} is read again"))
    assert fetch() == first


def test_a_repository_that_vanished(hub: FakeHub, fetch: Fetch) -> None:
    hub.repository_gone = True
    with pytest.raises(WeightsUnavailableError, match=rf"{REPOSITORY}@{COMMIT}: the hub has no such repository"):
        fetch()


def test_a_file_that_vanished_after_the_listing(hub: FakeHub, fetch: Fetch) -> None:
    hub.vanished = {WEIGHTS}
    with pytest.raises(WeightsUnavailableError, match=rf"{WEIGHTS}: is gone from the hub"):
        fetch()
    assert len(hub.asked(WEIGHTS)) == 1


def test_a_commit_that_is_not_there(hub: FakeHub, settings: HubSettings) -> None:
    with pytest.raises(WeightsUnavailableError, match="the repository has no such commit"):
        resolve(f"{REPOSITORY}@{'f' * 40}", settings=settings)


def test_a_branch_is_refused_before_the_hub_is_asked(hub: FakeHub, settings: HubSettings) -> None:
    with pytest.raises(WeightsRefusedError, match="not pinned"):
        resolve(f"{REPOSITORY}@main", settings=settings)
    assert not hub.requests


def test_a_server_that_stalls_is_left(hub: FakeHub, fetch: Fetch) -> None:
    hub.stalled = threading.Event()
    with pytest.raises(WeightsUnavailableError, match=r"did not answer in time \(1 bytes kept\)"):
        fetch(timeout_seconds=2, retries=0)


def test_a_server_that_never_answers_is_left(hub: FakeHub, fetch: Fetch) -> None:
    """huggingface_hub asks for its listing without a timeout."""
    hub.silent = threading.Event()
    with pytest.raises(WeightsUnavailableError, match="did not answer in time"):
        fetch(timeout_seconds=0.1)


def test_a_download_that_trickles_is_ended(hub: FakeHub, fetch: Fetch) -> None:
    hub.files = {WEIGHTS: hub.files[WEIGHTS]}  # whatever is asked for, the time is up in it
    hub.cuts[WEIGHTS] = [1] * 49
    with pytest.raises(WeightsUnavailableError, match=rf"{WEIGHTS}: the download took longer than 0\.1 s"):
        fetch(max_seconds=0.1, retry_seconds=0.02, retries=9)


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_hub_is_not_slept_for(hub: FakeHub, fetch: Fetch, status: int) -> None:
    hub.statuses = [status]
    with pytest.raises(WeightsUnavailableError, match=f"answered with status {status}"):
        fetch()


@pytest.mark.parametrize(
    "listing",
    [b"{", b"[1]", b'[{"type": "file"}]', b'{"a": 1}', b"null", b"[" * 100_000]
    + [
        b'[{"type": "file", "path": %s, "size": %s, "oid": %s}]' % fields
        for fields in (
            (b"1", b"1", b'"a"'),
            (b'"a.json"', b'"1"', b'"a"'),
            (b'"a.json"', b"1", b'"a"'),
            (b'"a"', b"1", b"1"),
        )
    ],
)
def test_a_malformed_listing_is_refused(hub: FakeHub, fetch: Fetch, listing: bytes) -> None:
    hub.raw_listing = listing
    with pytest.raises(WeightsRefusedError, match="the hub's answer is malformed"):
        fetch()


def test_an_endless_listing_is_cut_off(hub: FakeHub, fetch: Fetch) -> None:
    hub.raw_listing = b"[" + b" " * 17 * 2**20
    with pytest.raises(WeightsRefusedError, match="sends more than the 16777216 bytes expected"):
        fetch()


def test_a_token_reaches_the_hub_and_nobody_else(
    hub: FakeHub, fetch: Fetch, caplog: pytest.LogCaptureFixture, settings: HubSettings
) -> None:
    hub.token = "hf_a-secret-of-ours"
    with pytest.raises(WeightsUnavailableError, match="a token of somebody who was let in is needed"):
        fetch()
    hub.requests.clear()
    with caplog.at_level(logging.DEBUG):
        fetch(token=SecretStr(hub.token))
    sent = {path.startswith("/cdn/"): headers.get("authorization") for _, path, headers in hub.requests}
    assert sent == {False: f"Bearer {hub.token}", True: None}
    assert hub.token not in caplog.text
    assert hub.token not in repr(settings.model_copy(update={"token": SecretStr(hub.token)}))


def test_a_token_of_the_environment_is_not_picked_up(
    hub: FakeHub, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_somebody-elses")
    fetch()
    assert not any("authorization" in headers for _, _, headers in hub.requests)


@pytest.mark.parametrize(
    ("hotkey", "reason"),
    [
        (HOTKEY[:-1] + "Z", r"hotkey\.txt: names '5Grw.*', not 5Grw"),
        (HOTKEY.replace("G", "0"), "not an ss58 address"),
        ("", "not an ss58 address"),
    ],
)
def test_somebody_elses_hotkey_is_refused(fetch: Fetch, hotkey: str, reason: str) -> None:
    with pytest.raises(WeightsRefusedError, match=reason):
        fetch(hotkey=hotkey)


@pytest.mark.parametrize(
    "content", [b" " + HOTKEY.encode(), HOTKEY.encode() + b"\n\n", b"\xff", HOTKEY.encode() * 2, b""]
)
def test_a_hotkey_is_compared_strictly(hub: FakeHub, fetch: Fetch, content: bytes) -> None:
    hub.files["hotkey.txt"] = content
    with pytest.raises(WeightsRefusedError, match=r"hotkey\.txt: names "):
        fetch(hotkey=HOTKEY)


def test_a_missing_hotkey_is_refused(hub: FakeHub, fetch: Fetch) -> None:
    del hub.files["hotkey.txt"]
    with pytest.raises(WeightsRefusedError, match=r"hotkey\.txt: missing"):
        fetch(hotkey=HOTKEY)
