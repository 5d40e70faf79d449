"""Faults and pages tried by hand, one rater at a time, for ``feedback_load.py``."""

from __future__ import annotations

import contextlib
import subprocess
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
from feedback_checks import PROJECT, Server, Size, database, fill, quantile, server

CSRF = "X-CSRF-Token"


class Hand:
    """One rater, by hand."""

    def __init__(self, where: Server, who: dict[str, Any]) -> None:
        self.api = f"/api/v1/projects/{PROJECT}"
        self.client = httpx.Client(
            base_url=where.base,
            cookies={who["cookie"][0]: who["cookie"][1]},
            headers={CSRF: who["csrf"]},
            timeout=60.0,
        )

    def next(self, count: int = 1) -> list[int]:
        said = self.client.get(f"{self.api}/next", params={"count": count})
        return [one["item"] for one in said.json().get("items", [])]

    def answer(self, item: int, key: str, choice: str = "tie") -> httpx.Response:
        body = {"item": item, "value": {"choice": choice}, "client_key": f"key-{key}"}
        return self.client.post(f"{self.api}/answers", json=body)


def lease(kind: str, size: Size, folder: Path) -> dict[str, Any]:
    """An item goes back to the queue when its lease ends; an answer that comes later is kept."""
    with database(kind, folder) as url:
        people = fill(url, 1, 2, raters_per_item=1, lease_seconds=10)
        with server(url, folder) as running:
            slow, other = (Hand(running, who) for who in people)
            held = slow.next()
            before = other.next()
            time.sleep(11)
            after = other.next()
            first, late = other.answer(after[0], "other-one"), slow.answer(held[0], "slow-one")
        from backflip.feedback.projects.store import open_store

        store = open_store(url)
        rows = list(store.project(PROJECT).answers())
        store.close()
    return {
        "while the lease lasts another rater gets": len(before),
        "after it": len(after),
        "status of the second rater's answer": first.status_code,
        "status of the late answer": late.status_code,
        "answers kept": len(rows),
        "of them beyond what was wanted": sum(row.surplus for row in rows),
    }


def clock(kind: str, size: Size, folder: Path) -> dict[str, Any]:
    """The server's clock jumps a day ahead, then two days back, while a rater goes on."""
    turned = folder / "clock"
    turned.write_text("0")
    with database(kind, folder) as url:
        people = fill(url, 50, 1, raters_per_item=1)
        with server(url, folder, turned) as running:
            hand, statuses = Hand(running, people[0]), list[int]()
            for number, jump in enumerate((0, 86_400, -86_400, -172_800, 0)):
                turned.write_text(str(jump))
                for step in range(3):
                    item = hand.next()[0]
                    said = hand.answer(item, f"{number}-{step}-clock")
                    statuses.append(said.status_code)
        from backflip.feedback.projects.store import open_store

        store = open_store(url)
        project = store.project(PROJECT)
        events = [event.number for event in project.events(limit=100)]
        answers = len(list(project.answers()))
        store.close()
    return {
        "answers sent": len(statuses),
        "acknowledged": statuses.count(200),
        "stored": answers,
        "event numbers out of order": sum(a >= b for a, b in pairwise(events)),
    }


def disk(kind: str, size: Size, folder: Path) -> dict[str, Any]:
    """The disk, a tmpfs of 16 MB, runs full while a rater holds items, and is cleared again."""
    if kind != "sqlite":
        return {}
    mount = folder / "disk"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(mount)], check=True)
    try:
        url = str(mount / "feedback.sqlite")
        people = fill(url, 200, 1, raters_per_item=1)
        with server(url, folder) as running:
            return _full(running, mount, Hand(running, people[0]), url)
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def _full(running: Server, mount: Path, hand: Hand, url: str) -> dict[str, Any]:
    from backflip.feedback.projects.store import open_store

    for number in range(20):
        hand.answer(hand.next()[0], f"{number}-before")
    held = hand.next(10)
    ballast = mount / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass
    full = [hand.answer(item, f"{item}-while-full").status_code for item in held]
    asked = hand.client.get(f"{hand.api}/next", params={"count": 1}).status_code
    page = hand.client.get(f"/projects/{PROJECT}/rate").status_code
    ballast.unlink()
    after = [hand.answer(item, f"{item}-while-full").status_code for item in held]
    more = [hand.answer(hand.next()[0], f"{number}-after").status_code for number in range(20)]
    alive = running.process is not None and running.process.poll() is None
    store = open_store(url)
    kept = [row.item for row in store.project(PROJECT).answers()]
    store.close()
    return {
        "answers before": 20,
        "answers to the full disk": len(held),
        "of them kept (200), or told that it is full (507)": sum(c in (200, 507) for c in full),
        "of them 507": full.count(507),
        "status of a next item meanwhile": asked,
        "status of the rater's page meanwhile": page,
        "sent again with the same keys, acknowledged": after.count(200),
        "answers after, acknowledged": more.count(200),
        "stored in the end (50)": len(kept),
        "doubled": len(kept) - len(set(kept)),
        "server still alive": alive,
    }


# ---- a large project


def million(kind: str, size: Size, folder: Path) -> dict[str, Any]:
    """A million items: the next one, and the pages of the lead."""
    from backflip.feedback.projects.store import open_store

    with database(kind, folder) as url:
        start = time.monotonic()
        people = fill(url, size.million, 5, small=True)
        built = time.monotonic() - start
        store = open_store(url)
        project, start = store.project(PROJECT), time.monotonic()
        for number in range(size.answered):
            person = people[1 + number % 4]["person"]
            shown = project.next(person)[0]
            project.answer(person, shown.item_id, {"choice": "ab"[number % 2], "strength": 1})
        answered = time.monotonic() - start
        store.close()
        with server(url, folder) as running:
            moments = _one_rater(Hand(running, people[0]), 200)
            pages = _lead(running)
    return {
        "items": size.million,
        "seconds to add them": built,
        "answers there": size.answered,
        "store alone, answers a second": size.answered / answered,
        **moments,
        **pages,
    }


def _one_rater(hand: Hand, count: int) -> dict[str, float]:
    """What one rater waits for."""
    asking, answering, held = list[float](), list[float](), set[int]()
    for number in range(count):
        start = time.perf_counter()
        said = hand.client.get(f"{hand.api}/next", params={"hold": sorted(held)[-10:]})
        asking.append(1000 * (time.perf_counter() - start))
        item = said.json()["items"][0]["item"]
        start = time.perf_counter()
        hand.answer(item, f"{number}-large")
        answering.append(1000 * (time.perf_counter() - start))
    return {
        "next item, median ms": quantile(asking, 0.5),
        "next item, 95th percentile ms": quantile(asking, 0.95),
        "next item, longest ms": max(asking),
        "answer with the next item, 95th percentile ms": quantile(answering, 0.95),
    }


def _lead(running: Server) -> dict[str, float]:
    """The lead's pages: the statistics before, while and after they are worked out."""
    client = httpx.Client(base_url=running.base, timeout=300.0, follow_redirects=True)
    client.get(running.door)
    times = dict[str, float]()

    def timed(name: str, path: str) -> str:
        start = time.perf_counter()
        said = client.get(f"/projects/{PROJECT}{path}")
        took = time.perf_counter() - start
        said.raise_for_status()
        times[name] = max(times.get(name, 0.0), took)
        return said.text

    timed("statistics page, first time, s", "/statistics")
    start = time.monotonic()
    while not list(running.folder.glob("files/figures/*.json")) and time.monotonic() - start < 600:
        timed("statistics page while figures are worked out, longest s", "/statistics")
        time.sleep(0.5)
    times["figures worked out after, s"] = time.monotonic() - start
    for _ in range(5):
        timed("statistics page with figures, longest s", "/statistics")
        timed("overview, longest s", "")
        timed("items page, longest s", "/items")
    return times
