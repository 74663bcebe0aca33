"""The hub's HTTP routes that a download uses, on loopback, and every way in which it may lie or fail.

`test_fake_hub.py` holds it against huggingface_hub's own client.
"""

from __future__ import annotations

import hashlib
import json
import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

REPOSITORY = "somebody/small-moshi"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
CDN_HOST = "cdn.example"


@dataclass(kw_only=True)
class FakeHub:
    """A hub that holds one repository. Large files (LFS) are served from the same port under another host's name."""

    files: dict[str, bytes]
    commit: str = COMMIT
    private: bool = False
    token: str | None = None
    page_size: int = 3
    # How it misbehaves, by name of the file.
    listed_sizes: dict[str, int] = field(default_factory=dict)
    served: dict[str, bytes] = field(default_factory=dict)  # other bytes than were listed
    cuts: dict[str, list[int]] = field(default_factory=dict)  # after how many bytes to hang up, one for each answer
    headers: dict[str, dict[str, str]] = field(default_factory=dict)  # more headers for a file's answer
    locations: dict[str, str] = field(default_factory=dict)  # where a file is said to be
    vanished: set[str] = field(default_factory=set)
    stalled: threading.Event | None = None  # where set: bodies stop at their cut, or their first byte, until it is set
    stalls: str = ""  # how the names end of files that it stops; all of them
    silent: threading.Event | None = None  # where set: nothing is answered until it is set
    chunked: set[str] = field(default_factory=set)  # sent without a length
    repository_gone: bool = False
    raw_listing: bytes | None = None
    pages_host: str = "127.0.0.1"  # of the listing's further pages
    endless_listing: bool = False  # empty pages, each of which names the next
    statuses: list[int] = field(default_factory=list)  # answered to the next requests
    ignores_ranges: bool = False

    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    port: int = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def is_large(self, name: str) -> bool:
        return name.endswith((".safetensors", ".wav"))

    def asked(self, name: str) -> list[dict[str, str]]:
        """The headers of each request for a file's bytes."""
        return [headers for method, path, headers in self.requests if method == "GET" and path.endswith(f"/{name}")]

    def tree(self) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = [
            {"type": "directory", "oid": "0" * 40, "size": 0, "path": folder}
            for folder in sorted({name.rpartition("/")[0] for name in self.files} - {""})
        ]
        for name, content in self.files.items():
            size = self.listed_sizes.get(name, len(content))
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            entry: dict[str, Any] = {"type": "file", "oid": blob, "size": size, "path": name}
            if self.is_large(name):
                sha256 = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"oid": sha256, "size": size, "pointerSize": 134}
            entries.append(entry)
        return entries


@contextmanager
def serving(
    hub: FakeHub, *, tls: ssl.SSLContext | None = None, handler: type[HubHandler] | None = None
) -> Iterator[FakeHub]:
    """Run a hub on a free port of loopback."""

    class Handler(handler or HubHandler):  # type: ignore[misc]
        fake = hub

    server = _Server(("127.0.0.1", 0), Handler)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    hub.port = server.server_address[1]
    try:
        yield hub
    finally:
        for event in (hub.stalled, hub.silent):
            if event:
                event.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet about clients that hang up."""


class HubHandler(BaseHTTPRequestHandler):
    """Answers what a download asks."""

    fake: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Keep quiet."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub, url = self.fake, urlsplit(self.path)
        hub.requests.append(
            (self.command, unquote(url.path), {key.lower(): value for key, value in self.headers.items()})
        )
        path = unquote(url.path)
        if hub.silent:
            hub.silent.wait()
        if hub.statuses:
            self.send(hub.statuses.pop(0), {"Retry-After": "100000"})
        elif path.startswith("/cdn/"):
            self._content(path.removeprefix("/cdn/"), {})
        elif hub.repository_gone:
            self.send(404, {"X-Error-Code": "RepoNotFound"})
        elif hub.token and self.headers["Authorization"] != f"Bearer {hub.token}":
            self.send(401, {"X-Error-Code": "GatedRepo"})
        elif path == f"/api/models/{REPOSITORY}/revision/main":
            self.send_json({"id": REPOSITORY, "sha": hub.commit, "siblings": [], "private": hub.private})
        elif match := re.fullmatch(rf"/api/models/{REPOSITORY}/tree/(\w+)", path):
            self._tree(match[1], int(parse_qs(url.query).get("cursor", ["0"])[0]))
        elif match := re.fullmatch(rf"/{REPOSITORY}/resolve/(\w+)/(.+)", path):
            self._resolve(match[1], match[2])
        else:
            self.send(404, {"X-Error-Code": "RepoNotFound"})

    def _tree(self, commit: str, cursor: int) -> None:
        if commit != self.fake.commit:
            self.send(404, {"X-Error-Code": "RevisionNotFound"})
            return
        if self.fake.raw_listing is not None:
            self.send(200, {"Content-Type": "application/json"}, self.fake.raw_listing)
            return
        if self.fake.endless_listing:
            url = f"{self.fake.endpoint}{self.path}"
            self.send_json([], {"Link": f'<{url}>; rel="next"'})
            return
        entries, end = self.fake.tree(), cursor + self.fake.page_size
        base = f"http://{self.fake.pages_host}:{self.fake.port}"
        url = f"{base}/api/models/{REPOSITORY}/tree/{commit}?recursive=True&expand=False&cursor={end}"
        self.send_json(entries[cursor:end], {"Link": f'<{url}>; rel="next"'} if end < len(entries) else {})

    def _resolve(self, commit: str, name: str) -> None:
        hub = self.fake
        if commit != hub.commit or name not in hub.files or name in hub.vanished:
            self.send(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": hub.commit})
            return
        content = hub.files[name]
        headers = {"X-Repo-Commit": hub.commit}
        if hub.is_large(name):
            headers |= {
                "X-Linked-Size": str(len(content)),
                "X-Linked-ETag": f'"{hashlib.sha256(content).hexdigest()}"',
                "Location": hub.locations.get(name, f"http://{CDN_HOST}:{hub.port}/cdn/{quote(name)}?signature=secret"),
            }
            self.send(302, headers)
        else:
            headers["ETag"] = f'"{hashlib.sha1(content).hexdigest()}"'
            self._content(name, headers)

    def _content(self, name: str, headers: dict[str, str]) -> None:
        hub = self.fake
        content = hub.served.get(name, hub.files[name])
        headers |= {"Accept-Ranges": "bytes", **hub.headers.get(name, {})}
        status, start = 200, 0
        if (asked := self.headers["Range"]) and not hub.ignores_ranges:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            status = 206
            headers.setdefault("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        body = content[start:]
        if name in hub.chunked:
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = True
            return
        stalls = hub.stalled and name.endswith(hub.stalls)
        cut = hub.cuts[name].pop(0) if hub.cuts.get(name) else 1 if stalls else len(body)
        self.send(status, headers, body, cut=cut)

    def send_json(self, document: Any, headers: dict[str, str] | None = None) -> None:
        self.send(200, {"Content-Type": "application/json", **(headers or {})}, json.dumps(document).encode())

    def send(self, status: int, headers: dict[str, str], body: bytes = b"", *, cut: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", headers.pop("Content-Length", str(len(body))))
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(body[:cut])
        if cut is not None and cut < len(body):
            self.wfile.flush()
            if self.fake.stalled:
                self.fake.stalled.wait()
            self.close_connection = True
