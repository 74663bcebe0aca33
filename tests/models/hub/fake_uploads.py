"""The hub's HTTP routes that an upload uses, beside those of `fake_hub`: large files by LFS, and commits."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from tests.models.hub.fake_hub import CDN_HOST, REPOSITORY, FakeHub, HubHandler, serving

TOKEN = "hf_a-secret-of-ours"


@dataclass(kw_only=True)
class UploadHub(FakeHub):
    """A hub that can be written to; its one repository is not there at first."""

    files: dict[str, bytes] = field(default_factory=dict)
    token: str | None = TOKEN
    repository_gone: bool = True
    stored: dict[str, bytes] = field(default_factory=dict)  # large files by their sha256, committed or not
    commits: int = 0
    # How it misbehaves.
    ignored: set[str] = field(default_factory=set)  # files that a .gitignore of its own keeps out
    altered: dict[str, bytes] = field(default_factory=dict)  # what a file becomes on the way
    refused: dict[str, int] = field(default_factory=dict)  # statuses by the first part of a route that matches
    commit_name: str | None = None  # in place of a commit's 40 hex digits

    def put(self, name: str) -> int:
        """How often a file's bytes were sent by LFS, going by what they are now."""
        sha256 = hashlib.sha256(self.files[name]).hexdigest()
        return sum(method == "PUT" and path.endswith(sha256) for method, path, _ in self.requests)


@contextmanager
def serving_uploads(hub: UploadHub) -> Iterator[UploadHub]:
    """Run it on a free port of loopback."""
    with serving(hub, handler=_Handler):
        yield hub


class _Handler(HubHandler):
    fake: UploadHub

    def do_PUT(self) -> None:  # noqa: N802
        body = self._body()
        if not self._is_refused():
            sha256 = hashlib.sha256(body).hexdigest()
            assert self.path.endswith(f"/lfs/{sha256}")
            self.fake.stored[sha256] = body
            self.send(200, {})

    def do_POST(self) -> None:  # noqa: N802
        hub, body = self.fake, self._body()
        path = unquote(urlsplit(self.path).path)
        if self._is_refused():
            return
        if self.headers["Authorization"] != f"Bearer {hub.token}":
            self.send(401, {})
        elif path == "/api/repos/create":
            hub.repository_gone = False
            hub.files[".gitattributes"] = b"*.safetensors filter=lfs\n"
            hub.private = json.loads(body).get("visibility") == "private"
            self.send_json({"url": f"{hub.endpoint}/{REPOSITORY}"})
        elif path == "/api/validate-yaml":
            self.send_json({"errors": [], "warnings": []})
        elif path == f"/api/models/{REPOSITORY}/preupload/main":
            self.send_json({"files": [self._mode(file["path"]) for file in json.loads(body)["files"]]})
        elif path == f"/{REPOSITORY}.git/info/lfs/objects/batch":
            self.send_json({"transfer": "basic", "objects": [self._upload(one) for one in json.loads(body)["objects"]]})
        elif path == f"/api/models/{REPOSITORY}/commit/main":
            self._commit([json.loads(line) for line in body.splitlines()])
        else:
            self.send(404, {"X-Error-Code": "RepoNotFound"})

    def _body(self) -> bytes:
        headers = {key.lower(): value for key, value in self.headers.items()}
        self.fake.requests.append((self.command, unquote(urlsplit(self.path).path), headers))
        if "content-length" in headers:
            return self.rfile.read(int(headers["content-length"]))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _is_refused(self) -> bool:
        for route, status in self.fake.refused.items():
            if re.match(route, self.path):
                self.send(status, {"X-Error-Message": "not today"})
                return True
        return False

    def _mode(self, name: str) -> dict[str, object]:
        mode = "lfs" if self.fake.is_large(name) else "regular"
        return {"path": name, "uploadMode": mode, "shouldIgnore": name in self.fake.ignored}

    def _upload(self, wanted: dict[str, object]) -> dict[str, object]:
        """By a host of its own, as the real one does; nothing to do for what it has."""
        if wanted["oid"] in self.fake.stored:
            return wanted
        href = f"http://{CDN_HOST}:{self.fake.port}/lfs/{wanted['oid']}"
        return wanted | {"actions": {"upload": {"href": href, "header": {}}}}

    def _commit(self, lines: list[dict[str, dict[str, str]]]) -> None:
        hub = self.fake
        header, *operations = lines
        if header["value"].get("parentCommit", hub.commit) != hub.commit:
            self.send(412, {"X-Error-Message": "a commit has happened since"})
            return
        for operation in operations:
            value = operation["value"]
            name = value["path"]
            content = hub.stored[value["oid"]] if "oid" in value else base64.b64decode(value["content"])
            hub.files[name] = hub.altered.get(name, content)
        hub.commits += 1
        hub.commit = hub.commit_name or hashlib.sha1(json.dumps([hub.commits, len(operations)]).encode()).hexdigest()
        self.send_json({"commitUrl": f"{hub.endpoint}/{REPOSITORY}/commit/{hub.commit}", "commitOid": hub.commit})
