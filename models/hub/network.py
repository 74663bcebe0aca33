"""The only way to the network that downloads have: hosts on a list, https, public addresses, no long silence.

Each hop of a redirect comes through here by itself. A name is resolved once, all its addresses are checked, and the
connection goes to a checked address: what the name resolves to a moment later (DNS rebinding) does not matter.
Proxies and certificates named in the environment are not used.
"""

from __future__ import annotations

import math
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any, cast

import httpcore2
import httpx2

from models.hub.errors import WeightsRefusedError, WeightsUnavailableError
from models.hub.settings import MIB, HubSettings

Resolver = Callable[[str, int], list[str]]
"""A host and a port to addresses, as the system would try them."""

MAX_BYTES = "max_bytes"
"""The extension of a request that bounds its answer's body; 16 MiB by default."""

_MAX_REDIRECTS = 5
_MAX_ADDRESSES = 4  # of one host that are tried
_MAX_ANSWER_BYTES = 16 * MIB
_MAX_ASIDE_BYTES = MIB  # the body of a redirect or of an error, which is read and thrown away
_TRANSLATED = IPv6Network("64:ff9b::/96")
_GLOBAL_UNICAST = IPv6Network("2000::/3")


def system_resolver(host: str, port: int) -> list[str]:
    """Ask the system; raises OSError where a name has no address."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def guarded_client(
    settings: HubSettings, *, resolver: Resolver = system_resolver, seconds: float = math.inf
) -> httpx2.Client:
    """A client that reaches nothing but what `settings` allow, for so many `seconds` from now.

    It asks for bytes as they are, never compressed.
    """
    return httpx2.Client(
        transport=GuardedTransport(settings, resolver=resolver, seconds=seconds),
        headers={"Accept-Encoding": "identity", "User-Agent": "muse-voice"},
        follow_redirects=True,
        max_redirects=_MAX_REDIRECTS,
        trust_env=False,
    )


class GuardedTransport(httpx2.BaseTransport):
    """Raises WeightsRefusedError for a place that is not allowed, WeightsUnavailableError where nothing answers.

    Neither is an error that huggingface_hub retries: its own retries sleep for as long as a server says.
    """

    def __init__(self, settings: HubSettings, *, resolver: Resolver, seconds: float) -> None:
        endpoint = httpx2.URL(settings.endpoint)
        self._endpoint = (endpoint.host, endpoint.port)
        self._hosts = (endpoint.host, *settings.hosts)
        self._allow_loopback = settings.allow_loopback
        self._timeout = settings.timeout_seconds
        self._resolver = resolver
        self._transport = _TimedTransport(
            ssl.create_default_context(cafile=settings.ca_file)
            if settings.ca_file
            else httpx2.create_ssl_context(trust_env=False),
            deadline=time.monotonic() + seconds,
        )

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Check the request's address, connect to it, and check the answer's form."""
        url = request.url
        self._check_url(url)
        *others, last = self._addresses(url)[:_MAX_ADDRESSES]
        with _named_failures(url.host):
            for address in others:
                with suppress(httpx2.ConnectError, httpx2.ConnectTimeout):
                    return self._send(request, address)
            return self._send(request, last)

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()

    def _check_url(self, url: httpx2.URL) -> None:
        if not any(fnmatchcase(url.host, pattern) for pattern in self._hosts):
            raise WeightsRefusedError(url.host, "not one of the hosts that weights may come from (MUSE_HUB_HOSTS)")
        if url.userinfo:
            raise WeightsRefusedError(url.host, "a password in an address is not taken")
        if url.scheme != "https" and not (url.scheme == "http" and self._allow_loopback):
            raise WeightsRefusedError(url.host, f"reached by {url.scheme}; https is expected")
        if self._allow_loopback:
            return
        if url.port is not None and (url.host, url.port) != self._endpoint:
            raise WeightsRefusedError(url.host, f"port {url.port}; 443 is expected")

    def _addresses(self, url: httpx2.URL) -> list[str]:
        port = url.port or (443 if url.scheme == "https" else 80)
        try:
            addresses = self._resolver(url.host, port)
        except (OSError, UnicodeError):
            addresses = []
        if not addresses:
            raise WeightsUnavailableError(url.host, "no address found for this host")
        for address in addresses:
            # Plain http is for loopback only, also where loopback is allowed.
            if not (is_public(address) and url.scheme == "https") and not (
                self._allow_loopback and ip_address(address).is_loopback
            ):
                raise WeightsRefusedError(url.host, f"resolves to {address}, which is not a public address")
        return addresses

    def _send(self, request: httpx2.Request, address: str) -> httpx2.Response:
        timeout = httpx2.Timeout(self._timeout).as_dict()
        headers = request.headers.copy()  # with the Host of the name, not of the address
        if (request.url.host, request.url.port) != self._endpoint:
            headers.pop("Authorization", None)  # huggingface_hub takes it wherever a listing says that it goes on
        pinned = httpx2.Request(
            request.method,
            request.url.copy_with(host=address),
            headers=headers,
            stream=request.stream,
            extensions={**request.extensions, "timeout": timeout, "sni_hostname": request.url.host},
        )
        response = self._transport.handle_request(pinned)
        if response.headers.get("Content-Encoding", "identity") != "identity":
            response.close()
            raise WeightsRefusedError(request.url.host, "answered compressed, though asked not to")
        if response.status_code == 429 or response.status_code >= 500:
            response.close()
            raise WeightsUnavailableError(request.url.host, f"answered with status {response.status_code}")
        wanted = response.status_code in (200, 206)
        limit = request.extensions.get(MAX_BYTES, _MAX_ANSWER_BYTES) if wanted else _MAX_ASIDE_BYTES
        response.stream = _BoundedStream(cast(httpx2.SyncByteStream, response.stream), request.url.host, limit)
        return response


def is_public(address: str) -> bool:
    """Whether an address is on the public internet, also when it carries an IPv4 address inside an IPv6 one."""
    parsed: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    if isinstance(parsed, IPv6Address):
        inner = parsed.ipv4_mapped or parsed.sixtofour or (parsed.teredo[1] if parsed.teredo else None)
        if parsed in _TRANSLATED:
            inner = IPv4Address(int(parsed) & 0xFFFFFFFF)
        if inner is None:
            return parsed in _GLOBAL_UNICAST and parsed.is_global
        parsed = inner
    return parsed.is_global and not parsed.is_multicast


class _BoundedStream(httpx2.SyncByteStream):
    """A body that ends in an error when it is longer than allowed, and whose failures are named."""

    def __init__(self, stream: httpx2.SyncByteStream, host: str, limit: int) -> None:
        self._stream = stream
        self._host = host
        self._limit = limit

    def __iter__(self) -> Iterator[bytes]:
        received = 0
        with _named_failures(self._host):
            for chunk in self._stream:
                received += len(chunk)
                if received > self._limit:
                    raise WeightsRefusedError(self._host, f"sends more than the {self._limit} bytes expected")
                yield chunk

    def close(self) -> None:
        self._stream.close()


class _TimedTransport(httpx2.HTTPTransport):
    """Everything ends at `deadline`, also headers that trickle and interim answers (1xx) without end.

    httpx's timeouts are for one read each. No connection is kept: one is pooled by its address, and two names may
    share an address.
    """

    def __init__(self, ssl_context: ssl.SSLContext, *, deadline: float) -> None:
        self._pool = httpcore2.ConnectionPool(
            ssl_context=ssl_context, max_keepalive_connections=0, network_backend=_TimedBackend(deadline)
        )


class _TimedBackend(httpcore2.SyncBackend):
    def __init__(self, deadline: float) -> None:
        self._deadline = deadline

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, *more: Any, **options: Any
    ) -> httpcore2.NetworkStream:
        timeout = _left(self._deadline, timeout, httpcore2.ConnectTimeout)
        return _TimedStream(super().connect_tcp(host, port, timeout, *more, **options), self._deadline)


class _TimedStream(httpcore2.NetworkStream):
    def __init__(self, stream: httpcore2.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(self._deadline, timeout, httpcore2.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(self._deadline, timeout, httpcore2.WriteTimeout))

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        timeout = _left(self._deadline, timeout, httpcore2.ConnectTimeout)
        return _TimedStream(self._stream.start_tls(ssl_context, server_hostname, timeout), self._deadline)

    def close(self) -> None:
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(deadline: float, timeout: float | None, error: type[Exception]) -> float | None:
    """`timeout`, or what is left until the deadline where that is less; raises `error` past it."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise error("the deadline has passed")
    shorter = left if timeout is None else min(timeout, left)
    return shorter if math.isfinite(shorter) else None


@contextmanager
def _named_failures(host: str) -> Iterator[None]:
    try:
        yield
    except httpx2.TimeoutException:
        raise WeightsUnavailableError(host, "did not answer in time") from None
    except httpx2.TransportError as error:
        raise WeightsUnavailableError(host, f"the connection failed: {error}") from None
