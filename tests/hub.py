"""A stand-in for the model hub: an HTTP server that the hub's own client talks to."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_of_the_test"


@dataclass
class Repository:
    private: bool
    files: dict[str, bytes] = field(default_factory=dict[str, bytes])
    commits: int = 0


@dataclass
class Hub:
    """What the stand-in holds."""

    address: str
    repositories: dict[str, Repository] = field(default_factory=dict[str, Repository])
    large: dict[str, bytes] = field(default_factory=dict[str, bytes])
    """By SHA-256, as they are uploaded before a commit names them."""


@contextmanager
def stand_in() -> Iterator[Hub]:
    """A hub on this machine for the length of the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    hub = Hub(f"http://127.0.0.1:{server.server_port}")
    server.hub = hub  # pyright: ignore
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> Hub:
        return self.server.hub  # pyright: ignore

    def log_message(self, *_: Any) -> None:
        """Silence."""

    def _say(self, code: int, what: Any = None) -> None:
        body = b"" if what is None else json.dumps(what).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = list[bytes]()
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def do_HEAD(self) -> None:
        self._say(200)

    def do_GET(self) -> None:
        found = re.fullmatch(r"/api/models/([^/]+/[^/]+)(/revision/main)?", self.path)
        repository = self.hub.repositories.get(found.group(1)) if found else None
        if found is None or repository is None:
            self._say(404, {"error": "not found"})
            return
        files = [{"rfilename": name} for name in sorted(repository.files)]
        self._say(
            200,
            {"id": found.group(1), "private": repository.private, "siblings": files, "tags": []},
        )

    def do_PUT(self) -> None:
        body = self._body()
        self.hub.large[hashlib.sha256(body).hexdigest()] = body
        self._say(200)

    def do_POST(self) -> None:
        body = self._body()
        if "/upload/" not in self.path and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._say(401, {"error": "Invalid username or password."})
        elif self.path == "/api/repos/create":
            self._create(json.loads(body))
        elif self.path == "/api/validate-yaml":
            self._say(200, {"errors": [], "warnings": []})
        elif self.path.endswith("/preupload/main"):
            self._say(200, {"files": [_mode(file) for file in json.loads(body)["files"]]})
        elif self.path.endswith("/info/lfs/objects/batch"):
            self._say(200, self._batch(json.loads(body)))
        elif found := re.fullmatch(r"/api/models/(.+?)/commit/main", self.path):
            self._commit(found.group(1), [json.loads(line) for line in body.splitlines()])
        else:
            self._say(404, {"error": f"no {self.path}"})

    def _create(self, asked: dict[str, Any]) -> None:
        name = (
            f"{asked['organization']}/{asked['name']}"
            if asked.get("organization")
            else asked["name"]
        )
        url = {"url": f"{self.hub.address}/{name}"}
        if name in self.hub.repositories:
            self._say(409, url | {"error": "You already created this model repo"})
            return
        private = asked.get("private", asked.get("visibility") == "private")
        self.hub.repositories[name] = Repository(bool(private))
        self._say(200, url)

    def _batch(self, asked: dict[str, Any]) -> dict[str, Any]:
        objects = [
            one | {"actions": {"upload": {"href": f"{self.hub.address}/upload/{one['oid']}"}}}
            for one in asked["objects"]
        ]
        return {"transfer": "basic", "objects": objects}

    def _commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        repository = self.hub.repositories[name]
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                repository.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                repository.files[value["path"]] = self.hub.large[value["oid"]]
            elif line["key"] == "deletedFile":
                del repository.files[value["path"]]
        repository.commits += 1
        oid = hashlib.sha1(str(repository.commits).encode()).hexdigest()
        self._say(
            200,
            {
                "success": True,
                "commitOid": oid,
                "commitUrl": f"{self.hub.address}/{name}/commit/{oid}",
            },
        )


def _mode(file: dict[str, Any]) -> dict[str, Any]:
    large = file["path"].endswith(".safetensors")
    return {
        "path": file["path"],
        "uploadMode": "lfs" if large else "regular",
        "shouldIgnore": False,
    }
