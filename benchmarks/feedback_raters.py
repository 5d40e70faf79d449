"""Raters at their browsers, for ``feedback_load.py``: a process of its own, asyncio and httpx.

    python benchmarks/feedback_raters.py PLAN.json FOUND.json

Each does what ``collect/static`` does: loads the page, holds one item and the next one, answers
with a key of its own, and keeps an answer until the server has acknowledged it, sending it again
with the same key. ``feedback_checks`` compares what was acknowledged with what the database
holds.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx

PATIENCE = 30.0
"""Seconds until a browser gives a request up."""
WAIT, LONGEST = 0.1, 2.0
"""Seconds before an unanswered request is sent again, doubled up to the longest (outbox.js has 1
and 30: these runs are short)."""
FINAL = (400, 401, 403, 404, 409, 410, 413, 422)
"""Refusals that sending again cannot help."""


@dataclass
class Sent:
    """One answer, from its first sending to its acknowledgement."""

    person: int
    item: int
    key: str
    value: dict[str, Any]
    """As displayed."""
    late: float
    """Seconds after its time: the rater was still waiting for something."""
    ms: float | None = None
    """Of the sending that was acknowledged; none: never acknowledged."""
    answer: int | None = None
    again: bool = False
    tries: int = 0
    refused: str = ""
    at: float = 0.0


@dataclass
class Found:
    """What one process of raters saw."""

    sent: list[Sent] = field(default_factory=list)
    pages_ms: list[float] = field(default_factory=list)
    """Opening the rater's page."""
    double: list[tuple[int, int]] = field(default_factory=list)
    """Numbers of the answers that both clicks of a double click were told."""
    lost: int = 0
    """Answers whose connection was cut on purpose before the acknowledgement."""
    broken: int = 0
    """Requests that ended without an answer from the server."""
    empty: int = 0
    """Times that there was nothing to answer."""
    resumed: list[bool] = field(default_factory=list)
    """After a restart: whether the page got back what it held."""


class Tab:
    """One tab of one rater."""

    def __init__(self, plan: dict[str, Any], who: dict[str, Any], found: Found, seed: int) -> None:
        self.plan, self.who, self.found = plan, who, found
        self.chance = random.Random(seed)
        self.client = httpx.AsyncClient(
            base_url=plan["base"],
            cookies={who["cookie"][0]: who["cookie"][1]},
            headers={"X-CSRF-Token": who["csrf"]},
            timeout=PATIENCE,
            verify=False,
        )
        self.api = f"/api/v1/projects/{plan['project']}"
        self.queue: list[int] = []

    async def work(self, until: float) -> None:
        """Answer one item every so often until the time is over."""
        every = float(self.plan["every"])
        await asyncio.sleep(self.chance.random() * every)
        due = time.perf_counter() + every  # who opens the page reads before they answer
        async with self.client:
            await self.open()
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            while time.perf_counter() < until and not self.enough():
                if not self.queue:
                    await self.refill()
                if not self.queue:
                    self.found.empty += 1
                    await asyncio.sleep(every)
                    continue
                await self.answer(self.queue.pop(0), late=time.perf_counter() - due)
                due += every
                await asyncio.sleep(max(0.0, due - time.perf_counter()))

    def enough(self) -> bool:
        """Whether the one who started this says so."""
        return "resume" in self.plan and Path(self.plan["resume"]["enough"]).exists()

    async def open(self) -> None:
        """The page with its first two items."""
        if self.plan.get("pages"):
            start = time.perf_counter()
            page = await self.get(f"/projects/{self.plan['project']}/rate")
            if page is not None and page.status_code == 200:
                self.found.pages_ms.append(1000 * (time.perf_counter() - start))
        await self.refill()

    async def refill(self) -> None:
        said = await self.get(f"{self.api}/next?html=true&queue=work&count=2")
        if said is not None and said.status_code == 200:
            self.absorb(said.json())

    async def get(self, path: str) -> httpx.Response | None:
        try:
            return await self.client.get(path)
        except httpx.HTTPError:
            self.found.broken += 1
            await asyncio.sleep(WAIT)
            return None

    def absorb(self, said: dict[str, Any]) -> None:
        self.queue += [
            one["item"] for one in said.get("items", []) if one["item"] not in self.queue
        ]

    async def answer(self, item: int, *, late: float) -> None:
        """Send an answer until it is acknowledged or refused for good."""
        choice = self.chance.choice(["a", "a", "b", "b", "tie", "both_bad"])
        value = {"choice": choice, **({"strength": 1} if choice in ("a", "b") else {})}
        sent = Sent(self.who["person"], item, str(uuid.uuid4()), value, late, at=time.time())
        self.found.sent.append(sent)
        body = {"item": item, "value": value, "seconds": 2.0, "client_key": sent.key}
        if self.chance.random() < self.plan.get("cut", 0.0):
            await self.cut(body)
        if self.chance.random() < self.plan.get("double", 0.0):
            await self.twice(body, sent)
        wait = WAIT
        while sent.answer is None and not sent.refused:
            if not await self.once(body, sent):
                await asyncio.sleep(wait)
                wait = min(2 * wait, LONGEST)

    async def once(self, body: dict[str, Any], sent: Sent) -> bool:
        """One sending; false where there was no answer and it should be tried again."""
        sent.tries += 1
        start = time.perf_counter()
        try:
            said = await self.client.post(
                f"{self.api}/answers?html=true&queue=work", json=self.now(body)
            )
        except httpx.HTTPError:
            self.found.broken += 1
            return False
        if said.status_code in FINAL:
            sent.refused = f"{said.status_code} {said.text[:200]}"
        elif said.status_code == 200:
            self.acknowledged(sent, said.json(), 1000 * (time.perf_counter() - start))
        return said.status_code == 200 or bool(sent.refused)

    def now(self, body: dict[str, Any]) -> dict[str, Any]:
        return {**body, "hold": [item for item in self.queue if item != body["item"]]}

    def acknowledged(self, sent: Sent, said: dict[str, Any], ms: float) -> None:
        sent.answer, sent.again, sent.ms = said["answer"], said["again"], ms
        self.absorb(said)

    async def cut(self, body: dict[str, Any]) -> None:
        """The connection is lost somewhere on the way: the answer may or may not have arrived."""
        self.found.lost += 1
        try:
            async with asyncio.timeout(self.chance.random() * 0.03):
                await self.client.post(
                    f"{self.api}/answers?html=true&queue=work", json=self.now(body)
                )
        except (TimeoutError, httpx.HTTPError):
            return

    async def twice(self, body: dict[str, Any], sent: Sent) -> None:
        """A double click: the same request twice at once."""
        await asyncio.gather(self.once(body, sent), self.once(body, other := Sent(**asdict(sent))))
        if sent.answer is not None and other.answer is not None:
            self.found.double.append((sent.answer, other.answer))


async def resume(tab: Tab, held: list[int]) -> bool:
    """After a restart: is what the page holds still what the server gives it?"""
    while True:
        said = await tab.get(f"{tab.api}/next?html=true&queue=work&count=2")
        if said is not None and said.status_code == 200:
            given = [one["item"] for one in said.json()["items"]]
            return set(held) <= set(given)


async def run(plan: dict[str, Any]) -> Found:
    found = Found()
    until = time.perf_counter() + plan["seconds"]
    tabs = [
        Tab(plan, who, found, seed=1000 * number + who["person"])
        for who in plan["raters"]
        for number in range(plan.get("tabs", 1))
    ]
    await asyncio.gather(*(tab.work(until) for tab in tabs))
    if plan.get("resume"):
        Path(plan["resume"]["worked"]).touch()
        while not Path(plan["resume"]["restarted"]).exists():
            await asyncio.sleep(0.05)
        for tab in tabs:
            again = Tab(plan, tab.who, found, seed=1)
            async with again.client:
                found.resumed.append(await resume(again, tab.queue[:2]))
    return found


def main() -> None:
    plan, out = sys.argv[1:]
    start, busy = time.perf_counter(), time.process_time()
    found = asyncio.run(run(json.loads(Path(plan).read_text())))
    kept = asdict(found)
    kept["cpu"] = (time.process_time() - busy) / (time.perf_counter() - start)
    Path(out).write_text(json.dumps(kept))


if __name__ == "__main__":
    main()
