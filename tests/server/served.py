"""A server without a network: the real application on a real store, and browsers that visit it."""

from __future__ import annotations

import re
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import uvicorn
from fastapi.testclient import TestClient
from httpx import Response

from backflip.feedback.projects.project import Project
from backflip.feedback.projects.store import Store, open_store
from backflip.server.app import create_app
from backflip.server.base.settings import ServerSettings
from backflip.server.pages.account import door

HOST = "http://127.0.0.1"
PASSWORD = "four plain words here"


class Browser:
    """A visitor with cookies who fills in forms that were really shown."""

    def __init__(self, app: Any) -> None:
        self.client = TestClient(app, base_url=HOST, raise_server_exceptions=False)
        self.token = ""

    def get(self, path: str, **more: Any) -> Response:
        """Open a page; remembers the token of its forms."""
        answer = self.client.get(path, **more)
        found = re.search(r'data-csrf="(\w+)"', answer.text)
        self.token = found.group(1) if found else self.token
        return answer

    def send(self, path: str, form: dict[str, Any] | None = None, **more: Any) -> Response:
        """Send a form, as one of our pages would."""
        return self.client.post(path, data={"csrf": self.token, **(form or {})}, **more)

    def call(self, path: str, body: Any = None, method: str = "") -> Response:
        """A fetch of one of our scripts."""
        method = method or ("GET" if body is None else "POST")
        headers = {"X-CSRF-Token": self.token}
        return self.client.request(method, path, json=body, headers=headers)


@dataclass
class Served:
    """A server, its store, and who runs it."""

    app: Any
    store: Store
    folder: Path

    @property
    def site(self) -> Any:
        return self.app.state.site

    def browser(self) -> Browser:
        return Browser(self.app)

    def as_person(self, person: int) -> Browser:
        """Somebody who is signed in."""
        browser = self.browser()
        browser.get(door(self.site, person))
        return browser

    def person(self, name: str, **more: Any) -> int:
        email = f"{name.lower()}@example.org"
        return self.store.people.add(name=name, email=email, password=PASSWORD, **more).id

    def rater(self, project: Project, name: str) -> Browser:
        """Somebody new in a project, whose browser may send forms and fetches."""
        person = self.person(name)
        project.enrol(person)
        browser = self.as_person(person)
        browser.get("/me")
        return browser

    def project(self, name: str = "tone", items: int = 4, salt: str = "", **settings: Any) -> Any:
        """A project with comparisons (or no items), led by nobody yet.

        ``salt``: makes the chances of its raters the same in every run.
        """
        given = {"kind": "compare", "scale": 4, "gold_share": 0.0, "calibration": False, **settings}
        project = self.store.create(name, given, **({"salt": salt} if salt else {}))
        if given["kind"] == "compare" and items:
            project.add_items(pairs(items))
        return project


def pairs(count: int) -> list[dict[str, Any]]:
    return [
        {
            "prompt": [{"role": "user", "content": f"Question {i}"}],
            "answers": [
                {"text": f"First answer {i}", "source": "model-one"},
                {"text": f"Second answer {i}", "source": "model-two"},
            ],
        }
        for i in range(count)
    ]


class Fields(HTMLParser):
    """What a browser would send of the first form of a page as it stands, but for its buttons."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: dict[str, str] = {}
        self.area, self.select, self.forms = "", "", 0
        self.feed(page[page.index('<form method="post" class="form"') :])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        name, value = given.get("name") or "", given.get("value") or ""
        self.forms += tag == "form"
        if self.forms > 1:
            return
        ticked = given.get("type") not in ("checkbox", "radio") or "checked" in given
        if tag == "input" and name and ticked:
            self.found[name] = value
        elif tag == "textarea":
            self.area, self.found[name] = name, ""
        elif tag == "select":
            self.select = name
        elif tag == "option" and (self.select not in self.found or "selected" in given):
            self.found[self.select] = value

    def handle_data(self, data: str) -> None:
        if self.area:
            self.found[self.area] += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "textarea":
            text = self.found[self.area].removeprefix("\n")
            self.found[self.area] = text.replace("\r\n", "\n").replace("\n", "\r\n")
            self.area = ""


def bodies(project: Any, kind: str) -> list[tuple[str | None, dict[str, Any]]]:
    """Who did it and what, of every event of a kind in the log."""
    return [(event.person, event.body) for event in project.events(kinds=[kind])]


def png(shade: int = 128) -> bytes:
    """A picture of one pixel."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    head = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes([0, shade]))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


@contextmanager
def running(made: Served) -> Iterator[str]:
    """The same server on a port of this machine, for a real browser; its address."""
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(made.app, log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    server.should_exit = True
    thread.join()


def served(folder: Path, url: str = "", **settings: Any) -> Served:
    """A fresh server on a store in this folder, or on the database of this address."""
    store = open_store(url or folder / "feedback.sqlite")
    app = create_app(store, ServerSettings(folder=folder / "files", **settings))
    return Served(app, store, folder)
