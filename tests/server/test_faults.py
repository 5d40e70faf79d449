"""Double clicks, two tabs, cut connections, late answers, jumping clocks, a full disk.

``benchmarks/feedback_load.py`` does the same for minutes, with many raters and with kill -9.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from sqlalchemy import event

from backflip.feedback.projects.store import open_store
from backflip.server.app import create_app
from backflip.server.base.settings import ServerSettings
from backflip.server.serve import Listening, _bound
from tests.server.served import Browser, Served, pairs, running

API = "/api/v1/projects/tone"
TIE = {"choice": "tie"}


def session_of(made: Served, person: int) -> tuple[dict[str, str], dict[str, str]]:
    """The cookies and the CSRF header that somebody's browser would send."""
    browser = made.as_person(person)
    browser.get("/me")
    return dict(browser.client.cookies), {"X-CSRF-Token": browser.token}


def answer(browser: Browser, item: int, key: str = "", reason: str = "") -> httpx.Response:
    body = {
        "item": item,
        "value": {**TIE, "reason": reason},
        "client_key": key or str(uuid.uuid4()),
    }
    return browser.call(f"{API}/answers", body)


def next_of(browser: Browser, count: int = 1) -> list[int]:
    return [one["item"] for one in browser.call(f"{API}/next?count={count}").json()["items"]]


# ---- two tabs, double clicks, cut connections


class Tab(threading.Thread):
    """A tab that sends answers until they are acknowledged, some twice, some cut off at first."""

    def __init__(self, base: str, session: Any, seed: int, told: list[tuple[str, int]]) -> None:
        super().__init__()
        self.base, (self.cookies, self.headers) = base, session
        self.chance, self.told, self.failed = random.Random(seed), told, list[BaseException]()

    def run(self) -> None:
        try:
            with httpx.Client(
                base_url=self.base, cookies=self.cookies, headers=self.headers
            ) as tab:
                while items := tab.get(f"{API}/next").json()["items"]:
                    self.answer(tab, items[0]["item"])
        except BaseException as error:
            self.failed.append(error)

    def answer(self, tab: httpx.Client, item: int) -> None:
        body = {"item": item, "value": TIE, "client_key": str(uuid.uuid4())}
        if self.chance.random() < 0.3:
            self.cut(body)
        clicks = 2 if self.chance.random() < 0.4 else 1
        with ThreadPoolExecutor(clicks) as fingers:
            said = list(fingers.map(lambda _: tab.post(f"{API}/answers", json=body), range(clicks)))
        assert [one.status_code for one in said] == [200] * clicks
        numbers = {one.json()["answer"] for one in said}
        assert len(numbers) == 1
        self.told.append((body["client_key"], numbers.pop()))

    def cut(self, body: dict[str, Any]) -> None:
        """Send the request and hang up before anything comes back."""
        text = json.dumps(body).encode()
        host, port = self.base.removeprefix("http://").split(":")
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        head = (
            f"POST {API}/answers HTTP/1.1\r\nHost: {host}:{port}\r\nCookie: {cookie}\r\n"
            f"X-CSRF-Token: {self.headers['X-CSRF-Token']}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(text)}\r\n\r\n"
        )
        with socket.create_connection((host, int(port))) as line:
            line.sendall(head.encode() + text)


def test_impatient_raters_with_two_tabs_and_bad_lines_leave_one_answer_an_item(server: Served):
    """Four raters, eight tabs; what was told is what is stored, and all counts fit."""
    project = server.project(items=25, raters_per_item=2)
    people = [server.person(name) for name in ("Ada", "Bob", "Cleo", "Dan")]
    for person in people:
        project.enrol(person)
    told = list[tuple[str, int]]()
    with running(server) as base:
        sessions = [session_of(server, person) for person in people]
        tabs = [Tab(base, sessions[n % 4], n, told) for n in range(8)]
        for tab in tabs:
            tab.start()
        for tab in tabs:
            tab.join()
    assert [tab.failed for tab in tabs if tab.failed] == []
    rows = list(project.answers())
    assert max(Counter((row.person, row.item) for row in rows).values()) == 1
    assert {number for _, number in told} <= {row.event for row in rows}
    assert len(told) >= len(rows) == 50 == project.tallies()["answers"]
    assert Counter(item.given for item in project.items()) == {2: 25}


def test_no_answer_waits_for_a_packet_to_fill():
    """Nagle's algorithm and the other end's delayed acknowledgement would cost 40 ms each time."""
    found = list[int]()

    async def talk() -> None:
        done = asyncio.Event()

        async def served_by(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            end = writer.get_extra_info("socket")
            found.append(end.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()
            done.set()

        with _bound(Listening(port=0)) as bound:
            listener = await asyncio.start_server(served_by, sock=bound)
            _, writer = await asyncio.open_connection(*bound.getsockname())
            await done.wait()
            writer.close()
            listener.close()

    asyncio.run(talk())
    assert found == [1]


# ---- late answers and clocks that jump


@contextmanager
def turned(folder: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A server whose clock, cookies included, is ahead by what one says."""
    true, ahead = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: true() + ahead[0])
    store = open_store(folder / "feedback.sqlite", clock=lambda: true() + ahead[0])
    made = Served(create_app(store, ServerSettings(folder=folder / "files")), store, folder)
    yield made, lambda seconds: ahead.__setitem__(0, seconds)
    made.site.jobs.close()
    store.close()


def test_a_clock_that_jumps_signs_nobody_out_and_loses_nothing(tmp_path, monkeypatch):
    with turned(tmp_path, monkeypatch) as (made, jump):
        project, person = made.project(items=30, raters_per_item=1), made.person("Ada")
        project.enrol(person)
        browser = made.as_person(person)
        browser.get("/me")
        for seconds in (0, 86_400, -3_600, -2 * 86_400, 600, 0):
            jump(seconds)
            for _ in range(3):
                said = answer(browser, next_of(browser)[0])
                assert (said.status_code, said.json()["again"]) == (200, False)
        numbers = [row.event for row in project.answers()]
        assert len(numbers) == 18
        assert numbers == sorted(numbers)


def test_an_answer_after_the_lease_is_kept_whoever_was_asked_meanwhile(tmp_path, monkeypatch):
    with turned(tmp_path, monkeypatch) as (made, jump):
        project = made.project(items=1, raters_per_item=1, lease_seconds=60)
        slow, other = made.person("Ada"), made.person("Bob")
        for person in (slow, other):
            project.enrol(person)
        first, second = made.as_person(slow), made.as_person(other)
        first.get("/me"), second.get("/me")
        (item,) = next_of(first)
        assert next_of(second) == []
        jump(61.0)
        (same,) = next_of(second)
        assert answer(second, same).status_code == 200
        assert answer(first, item).status_code == 200
        assert sorted(row.surplus for row in project.answers()) == [False, True]


def test_a_session_ends_after_its_time(tmp_path, monkeypatch):
    """The clock that may be set back is no way to live for ever."""
    with turned(tmp_path, monkeypatch) as (made, jump):
        person = made.person("Ada")
        cookies, _ = session_of(made, person)
        hours = ServerSettings().session_hours
        for seconds, status in ((0.9 * hours * 3600, 200), (1.1 * hours * 3600, 303)):
            jump(seconds)
            visitor = made.browser()
            visitor.client.cookies.update(cookies)
            assert visitor.client.get("/me", follow_redirects=False).status_code == status


# ---- a full disk


def test_a_full_disk_is_said_and_the_same_answer_gets_in_when_there_is_room(tmp_path):
    """SQLite's own limit on pages brings the very error of a full disk."""
    store = open_store(tmp_path / "feedback.sqlite")
    made = Served(create_app(store, ServerSettings(folder=tmp_path / "files")), store, tmp_path)
    project, person = made.project(items=0, raters_per_item=1), made.person("Ada")
    project.enrol(person)
    project.add_items(pairs(60))
    browser = made.as_person(person)
    browser.get("/me")
    held = next_of(browser, 10)
    with store.database.read() as connection:
        most = [connection.exec_driver_sql("PRAGMA page_count").scalar_one()]
    event.listen(
        store.database.engine,
        "connect",
        lambda raw, _: raw.execute(f"PRAGMA max_page_count={most[0]}"),
    )
    store.close()
    sent = [(item, f"a-key-for-{item}", "word " * 4000) for item in held]
    full = [said for one in sent if (said := answer(browser, *one)).status_code != 200]
    assert full
    assert {(said.status_code, said.json()["code"]) for said in full} == {(507, "full")}
    assert "disk is full" in full[0].json()["detail"]
    assert browser.call(f"{API}/next?count=10").status_code in (200, 507)
    most[0] *= 10
    store.close()
    for one in sent:
        assert answer(browser, *one).status_code == 200
    mine = project.member(person)
    assert Counter(row.item for row in project.answers()) == Counter(map(mine.item, held))
    made.site.jobs.close()
    store.close()
