from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest

from models.hub.errors import WeightsRefusedError, WeightsUnavailableError
from models.hub.network import guarded_client, is_public
from models.hub.settings import HubSettings
from models.hub.snapshot import Snapshot
from tests.models.hub.conftest import REF, loopback
from tests.models.hub.fake_hub import CDN_HOST, FakeHub, serving

WEIGHTS = "model.safetensors"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1",
        "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::", "2002:a00:1::1", "::7f00:1", "::ffff:0:7f00:1", "64:ff9b:1::7f00:1", "fec0::1", "4000::1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"])
def test_addresses_that_are_public(address: str) -> None:
    assert is_public(address)


def ask(url: str, *addresses: str, **changed: object) -> httpx2.Response:
    settings = HubSettings().model_copy(update=changed)
    with guarded_client(settings, resolver=lambda host, port: list(addresses)) as client:
        return client.get(url)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://huggingface.co/a", "reached by http; https is expected"),
        ("https://huggingface.co:8443/a", "port 8443; 443 is expected"),
        ("https://somebody:password@huggingface.co/a", "a password in an address"),
        ("https://example.com/a", r"example\.com: not one of the hosts"),
        ("https://huggingface.co.example.com/a", "not one of the hosts"),
        ("https://nothf.co/a", "not one of the hosts"),
        ("https://huggingface.co./a", "not one of the hosts"),
        ("https://127.0.0.1/a", "not one of the hosts"),
        ("https://2130706433/a", "not one of the hosts"),
        ("file:///etc/passwd", "not one of the hosts"),
    ],
)
def test_a_place_that_is_not_on_the_list_is_refused(url: str, reason: str) -> None:
    with pytest.raises(WeightsRefusedError, match=reason) as refused:
        ask(url, "1.1.1.1")
    assert "password@" not in refused.value.message


@pytest.mark.parametrize("url", ["https://huggingface.co/a", "https://cdn-lfs.hf.co/a", "https://us.aws.cdn.hf.co/a"])
@pytest.mark.parametrize("addresses", [("10.1.2.3",), ("1.1.1.1", "169.254.169.254"), ("::ffff:127.0.0.1",)])
def test_a_host_with_one_address_inside_is_refused(url: str, addresses: tuple[str, ...]) -> None:
    with pytest.raises(WeightsRefusedError, match="which is not a public address"):
        ask(url, *addresses)


def test_loopback_is_refused_unless_it_is_allowed(hub: FakeHub, settings: HubSettings) -> None:
    assert ask(f"{hub.endpoint}/cdn/config.json", "127.0.0.1", **settings.model_dump()).status_code == 200
    with pytest.raises(WeightsRefusedError, match="reached by http"):
        ask(f"{hub.endpoint}/cdn/config.json", "127.0.0.1", endpoint=hub.endpoint)
    with pytest.raises(WeightsRefusedError, match="not a public address"):
        ask(hub.endpoint.replace("http:", "https:"), "127.0.0.1", endpoint=hub.endpoint.replace("http:", "https:"))


def test_allowed_loopback_allows_neither_other_private_addresses_nor_http_elsewhere() -> None:
    for address in ("10.0.0.1", "1.1.1.1"):
        with pytest.raises(WeightsRefusedError, match="not a public address"):
            ask("http://huggingface.co/a", address, allow_loopback=True)


def test_the_address_that_was_checked_is_the_one_connected_to(hub: FakeHub, settings: HubSettings) -> None:
    """A name that resolves to loopback when it is checked, and would to something else when asked again."""
    answers = [["127.0.0.1"], ["10.0.0.1"]]
    with guarded_client(settings, resolver=lambda host, port: answers.pop(0)) as client:
        response = client.get(f"http://{CDN_HOST}:{hub.port}/cdn/config.json")
        assert response.content == hub.files["config.json"]
        assert hub.requests[0][2]["host"] == f"{CDN_HOST}:{hub.port}"
        with pytest.raises(WeightsRefusedError, match=r"resolves to 10\.0\.0\.1"):
            client.get(f"http://{CDN_HOST}:{hub.port}/cdn/config.json")


def test_tls_is_for_the_name_though_the_address_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[httpx2.Request] = []

    def handle(self: httpx2.HTTPTransport, request: httpx2.Request) -> httpx2.Response:
        sent.append(request)
        return httpx2.Response(200, content=b"")

    monkeypatch.setattr(httpx2.HTTPTransport, "handle_request", handle)
    ask("https://huggingface.co/a?b=c", "2606:4700::1111")
    assert str(sent[0].url) == "https://[2606:4700::1111]/a?b=c"
    assert sent[0].headers["Host"] == "huggingface.co"
    assert sent[0].extensions["sni_hostname"] == "huggingface.co"


@pytest.fixture
def tls_hub(hub: FakeHub, tmp_path: Path) -> Iterator[Path]:
    """Serve the hub by TLS, on `hub.port`, as huggingface.co; the certificate that says so."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    request = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=hub"
    subprocess.run(
        [*request.split(), "-addext", "subjectAltName=DNS:huggingface.co", "-out", certificate, "-keyout", key],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serving(hub, tls=context):
        yield certificate


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate with")
def test_a_certificate_is_checked_for_the_name_and_by_a_known_authority(hub: FakeHub, tls_hub: Path) -> None:
    def get(host: str, ca_file: Path | None) -> int:
        url = f"https://{host}:{hub.port}/cdn/config.json"
        return ask(url, "127.0.0.1", allow_loopback=True, ca_file=ca_file).status_code

    assert get("huggingface.co", tls_hub) == 200
    with pytest.raises(WeightsUnavailableError, match="Hostname mismatch"):
        get("cdn-lfs.hf.co", tls_hub)
    with pytest.raises(WeightsUnavailableError, match="self-signed certificate"):
        get("huggingface.co", None)


def test_the_next_address_is_tried_when_one_does_not_answer(hub: FakeHub, settings: HubSettings) -> None:
    with guarded_client(settings, resolver=lambda host, port: ["127.255.255.254", "127.0.0.1"]) as client:
        assert client.get(f"{hub.endpoint}/cdn/config.json").status_code == 200


def test_the_next_address_is_tried_when_one_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a machine finds that has IPv6, and no way out by it."""
    tried: list[str] = []

    def handle(self: httpx2.HTTPTransport, request: httpx2.Request) -> httpx2.Response:
        tried.append(request.url.host)
        if len(tried) == 1:
            raise httpx2.ConnectTimeout("silent")
        return httpx2.Response(200, content=b"")

    monkeypatch.setattr(httpx2.HTTPTransport, "handle_request", handle)
    assert ask("https://huggingface.co/a", "2606:4700::1111", "1.1.1.1").status_code == 200
    assert tried == ["2606:4700::1111", "1.1.1.1"]


def test_of_many_addresses_a_few_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def handle(self: httpx2.HTTPTransport, request: httpx2.Request) -> httpx2.Response:
        tried.append(request.url.host)
        raise httpx2.ConnectTimeout("silent")

    monkeypatch.setattr(httpx2.HTTPTransport, "handle_request", handle)
    with pytest.raises(WeightsUnavailableError, match="did not answer in time"):
        ask("https://huggingface.co/a", *(f"1.1.1.{n}" for n in range(1, 200)))
    assert len(tried) == 4


def test_a_host_of_two_addresses_that_goes_silent_is_unavailable(hub: FakeHub, settings: HubSettings) -> None:
    hub.silent = threading.Event()
    settings = settings.model_copy(update={"timeout_seconds": 0.1})
    with (
        guarded_client(settings, resolver=lambda host, port: ["127.0.0.1", "127.0.0.1"]) as client,
        pytest.raises(WeightsUnavailableError, match="did not answer in time"),
    ):
        client.get(f"{hub.endpoint}/cdn/config.json")


def test_a_host_without_an_address_is_unavailable(settings: HubSettings) -> None:
    with pytest.raises(WeightsUnavailableError, match=r"huggingface\.co: no address found"):
        ask("https://huggingface.co/a")

    def failing(host: str, port: int) -> list[str]:
        raise OSError("no such host")

    with guarded_client(settings, resolver=failing) as client, pytest.raises(WeightsUnavailableError):
        client.get(settings.endpoint)


def test_a_closed_port_is_unavailable(settings: HubSettings) -> None:
    with guarded_client(settings, resolver=loopback) as client, pytest.raises(WeightsUnavailableError, match="failed"):
        client.get("http://127.0.0.1:1/")


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("https://elsewhere.example/x", r"elsewhere\.example: not one of the hosts"),
        ("http://169.254.169.254/latest/meta-data", r"169\.254\.169\.254: not one of the hosts"),
        ("file:///etc/passwd", "reached by file; https is expected"),
        ("http://[", "not one of the hosts"),
    ],
)
def test_a_redirect_to_elsewhere_is_refused(
    hub: FakeHub, fetch: Callable[..., Snapshot], location: str, reason: str
) -> None:
    hub.locations[WEIGHTS] = location
    with pytest.raises(WeightsRefusedError, match=reason):
        fetch()


def test_redirects_without_end_are_refused(hub: FakeHub, fetch: Callable[..., Snapshot]) -> None:
    hub.locations[WEIGHTS] = f"/{REF.repository}/resolve/{REF.commit}/{WEIGHTS}"
    with pytest.raises(WeightsRefusedError, match=rf"{WEIGHTS}: redirected too often"):
        fetch()


def test_a_compressed_answer_is_refused(hub: FakeHub, fetch: Callable[..., Snapshot]) -> None:
    hub.headers["config.json"] = {"Content-Encoding": "gzip"}
    with pytest.raises(WeightsRefusedError, match="answered compressed, though asked not to"):
        fetch()
    assert hub.asked("config.json")[0]["accept-encoding"] == "identity"


@pytest.mark.parametrize("piece", [b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100, b"HTTP/1.1 200 OK\r\nX: ", b"a"])
def test_an_answer_that_never_gets_to_its_end_is_left(piece: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def pour() -> None:
            connection, _ = server.accept()
            with connection, suppress(OSError):
                while True:
                    connection.sendall(piece)
                    pause.wait(0.01)

        pause = threading.Event()
        thread = threading.Thread(target=pour)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        settings = HubSettings(endpoint=url, allow_loopback=True, timeout_seconds=60)
        with (
            guarded_client(settings, resolver=loopback, seconds=1) as client,
            pytest.raises(WeightsUnavailableError, match=r"did not answer in time|the connection failed"),
        ):
            client.get(url)
        # Where its second was up before it had connected, the other side still waits for it.
        socket.create_connection(server.getsockname()).close()
        thread.join(timeout=60)
        assert not thread.is_alive()


def test_headers_without_end_are_left(hub: FakeHub, fetch: Callable[..., Snapshot]) -> None:
    hub.headers["config.json"] = {f"X-{n}": "a" * 1000 for n in range(1000)}
    with pytest.raises(WeightsUnavailableError, match=r"the connection failed: Receive buffer too long"):
        fetch(retries=0)


def test_proxies_of_the_environment_are_not_used(
    hub: FakeHub, fetch: Callable[..., Snapshot], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert fetch().files
