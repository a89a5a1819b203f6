"""A stand-in for the Hub's API on this machine: what huggingface_hub calls to make a repository and commit to it.

    POST /api/repos/create · GET /api/models/NAME[/revision/REV] · POST …/preupload/REV · POST /api/validate-yaml
    POST /NAME.git/info/lfs/objects/batch · PUT /lfs/OID · POST …/commit/REV (header, file, lfsFile, deletedFile)

A commit is all or nothing, as on the Hub; what is uploaded before it stands aside.
"""

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

LFS = (".safetensors", ".gguf", ".parquet", ".model")


@dataclass
class Repository:
    """Commits in order; each is the whole tree, path -> content."""

    private: bool
    commits: list[dict[str, bytes]] = field(default_factory=lambda: [{".gitattributes": b"*.safetensors filter=lfs\n"}])

    @property
    def head(self) -> str:
        return self.oid(len(self.commits) - 1)

    @property
    def main(self) -> dict[str, bytes]:
        return self.commits[-1]

    def oid(self, index: int) -> str:
        tree = sorted((path, hashlib.sha256(content).hexdigest()) for path, content in self.commits[index].items())
        return hashlib.sha1(json.dumps([index, tree]).encode()).hexdigest()


@dataclass
class Hub:
    """All that was sent to it."""

    repositories: dict[str, Repository] = field(default_factory=dict[str, Repository])
    objects: dict[str, bytes] = field(default_factory=dict[str, bytes])
    uploads: list[str] = field(default_factory=list[str])
    """Hashes in the order in which their bytes came."""
    received: list[bytes] = field(default_factory=list[bytes])
    """Every body of every request, and every path."""
    slow: float = 0.0
    """Seconds before each answer."""
    url: str = ""


@contextmanager
def standing_in(monkeypatch: pytest.MonkeyPatch) -> Generator[Hub]:
    """Run the server, and let this process and those it starts take it for the Hub, wherever they are offline."""
    with serving() as server:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        yield server


@contextmanager
def serving() -> Generator[Hub]:
    """Run the server for a block."""
    hub = Hub()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.handle_with(_get)

        def do_POST(self) -> None:
            self.handle_with(_post)

        def do_PUT(self) -> None:
            self.handle_with(_put)

        def handle_with(self, answer: Any) -> None:
            body = self._body()
            if body is None:  # the sender was killed
                self.close_connection = True
                return
            path = unquote(urlsplit(self.path).path)
            time.sleep(hub.slow)
            with lock:
                hub.received += [path.encode(), body]
                status, said = answer(hub, path, body)
            sent = json.dumps(said).encode()
            try:
                self.send_response(status)
                if status >= 400:
                    self.send_header("X-Error-Code", said.get("code", ""))
                    self.send_header("X-Error-Message", said.get("error", ""))
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(sent)))
                self.end_headers()
                self.wfile.write(sent)
            except OSError:
                self.close_connection = True

        def _body(self) -> bytes | None:
            """Read the whole body; None where it was cut off."""
            try:
                if self.headers.get("transfer-encoding") == "chunked":
                    return self._chunks()
                length = int(self.headers.get("content-length") or 0)
                body = self.rfile.read(length)
                return body if len(body) == length else None
            except (OSError, ValueError):
                return None

        def _chunks(self) -> bytes | None:
            parts: list[bytes] = []
            while True:
                line = self.rfile.readline()
                if not line:
                    return None
                size = int(line, 16)
                part = self.rfile.read(size)
                self.rfile.readline()
                if len(part) < size:
                    return None
                if not size:
                    return b"".join(parts)
                parts.append(part)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


Reply = tuple[int, dict[str, Any]]
MISSING: Reply = (404, {"error": "Repository not found", "code": "RepoNotFound"})
INFO = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+?)(?:/revision/([^/]+))?")
ACTION = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)/(preupload|commit)/([^/]+)")
BATCH = re.compile(r"/(?:datasets/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch")


def _get(hub: Hub, path: str, body: bytes) -> Reply:
    found = INFO.fullmatch(path)
    if path == "/api/whoami-v2":
        return 200, {"name": "me", "type": "user"}
    if not found or found[2] not in hub.repositories:
        return MISSING
    repository = hub.repositories[found[2]]
    oids = [repository.oid(index) for index in range(len(repository.commits))]
    at = oids.index(found[3]) if found[3] in oids else -1
    siblings = [
        {
            "rfilename": name,
            "size": len(content),
            "blobId": hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest(),
            **({"lfs": _lfs(content)} if name.endswith(LFS) else {}),
        }
        for name, content in sorted(repository.commits[at].items())
    ]
    about = {"id": found[2], "modelId": found[2], "sha": oids[at], "private": repository.private, "tags": []}
    return 200, about | {"siblings": siblings, "downloads": 0, "likes": 0}


def _lfs(content: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}


def _post(hub: Hub, path: str, body: bytes) -> Reply:
    if path == "/api/repos/create":
        asked = json.loads(body)
        name = f"{asked.get('organization') or 'me'}/{asked['name']}"
        if name in hub.repositories:
            return 409, {"error": "exists", "url": f"{hub.url}/{name}"}
        private = asked.get("visibility") == "private" or asked.get("private") is True
        hub.repositories[name] = Repository(private)
        return 200, {"url": f"{hub.url}/{name}"}
    if path == "/api/validate-yaml":
        return 200, {"errors": [], "warnings": []}
    if found := BATCH.fullmatch(path):
        return _batch(hub, json.loads(body)) if found[1] in hub.repositories else MISSING
    found = ACTION.fullmatch(path)
    if not found or found[2] not in hub.repositories:
        return MISSING
    if found[3] == "preupload":
        asked = json.loads(body)["files"]
        modes = [{"path": each["path"], "uploadMode": "lfs" if each["path"].endswith(LFS) else "regular",
                  "shouldIgnore": False} for each in asked]  # fmt: skip
        return 200, {"files": modes}
    return _commit(hub, found[2], body)


def _batch(hub: Hub, asked: dict[str, Any]) -> Reply:
    objects = [
        {"oid": each["oid"], "size": each["size"]}
        | ({} if each["oid"] in hub.objects else {"actions": {"upload": {"href": f"{hub.url}/lfs/{each['oid']}"}}})
        for each in asked["objects"]
    ]
    return 200, {"transfer": "basic", "objects": objects}


def _put(hub: Hub, path: str, body: bytes) -> Reply:
    oid = path.removeprefix("/lfs/")
    if hashlib.sha256(body).hexdigest() != oid:
        return 400, {"error": "other bytes than were announced"}
    hub.objects[oid] = body
    hub.uploads.append(oid)
    return 200, {}


def _commit(hub: Hub, name: str, body: bytes) -> Reply:
    repository = hub.repositories[name]
    tree = dict(repository.main)
    for line in body.splitlines():
        item = json.loads(line)
        value = item["value"]
        if item["key"] == "header" and value.get("parentCommit") not in (None, repository.head):
            return 412, {"error": "A commit has happened since. Please refresh and try again."}
        if item["key"] == "file":
            tree[value["path"]] = base64.b64decode(value["content"])
        elif item["key"] == "lfsFile":
            if value["oid"] not in hub.objects:
                return 400, {"error": "the file was not uploaded"}
            tree[value["path"]] = hub.objects[value["oid"]]
        elif item["key"] == "deletedFile":
            del tree[value["path"]]
    repository.commits.append(tree)
    return 200, {
        "success": True,
        "commitOid": repository.head,
        "commitUrl": f"{hub.url}/{name}/commit/{repository.head}",
    }
