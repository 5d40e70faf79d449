"""What ``feedback_load.py`` stands on: databases, projects, servers, and the proof of no loss."""

from __future__ import annotations

import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PROJECT = "load"
TEXT = (
    "the answer depends on how warm your kitchen is because dough rises faster near a stove so "
    "leave it covered until it has doubled and then fold it gently over itself before baking"
)
WORDS = TEXT.split()


@dataclass(frozen=True)
class Size:
    """How long and how much."""

    raters: int = 100
    seconds: float = 180.0
    every: float = 2.0
    items: int = 10_000
    kills: int = 6
    million: int = 1_000_000
    answered: int = 20_000
    """Answers in the large project before it is measured."""


# ---- databases


@contextmanager
def database(kind: str, folder: Path) -> Iterator[str]:
    """An empty database: its URL."""
    if kind == "sqlite":
        yield str(folder / "feedback.sqlite")
        return
    with postgresql() as url:
        yield url


def program(name: str) -> str:
    """One of PostgreSQL's programs; Debian keeps them off the path."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    if not (path := shutil.which(name) or (str(found[-1]) if found else "")):
        sys.exit(f"PostgreSQL is not installed: {name} was not found (apt-get install postgresql).")
    return path


@contextmanager
def postgresql() -> Iterator[str]:
    """A server with its own defaults (durable: fsync on), on a socket in a temporary folder."""
    folder = Path(tempfile.mkdtemp(prefix="backflip-load-"))
    user = "postgres" if os.geteuid() == 0 else None
    if user:
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
    data = str(folder / "data")

    def run(name: str, *arguments: str) -> None:
        subprocess.run(
            [program(name), *arguments],
            cwd=folder,
            user=user,
            check=True,
            stdout=subprocess.DEVNULL,
        )

    run("initdb", "-D", data, "-U", "tester", "-A", "trust", "-E", "UTF8")
    options = f"-c listen_addresses='' -k {folder} -c max_connections=200"
    run("pg_ctl", "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start")
    try:
        yield f"postgresql://tester@/postgres?host={folder}"
    finally:
        run("pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


# ---- projects


def pair(number: int) -> dict[str, Any]:
    """A question and two answers of some 120 words, with a list and a piece of code."""
    rng = random.Random(number)
    texts = [
        f"{' '.join(rng.choices(WORDS, k=60))}:\n\n* {' '.join(rng.choices(WORDS, k=12))}\n"
        f"* **{' '.join(rng.choices(WORDS, k=12))}**\n\n```python\nwarm({number})\n```\n\n"
        f"{' '.join(rng.choices(WORDS, k=30))} ({side})."
        for side in "ab"
    ]
    return {
        "prompt": [{"role": "user", "content": f"How do I do thing {number}?"}],
        "answers": [
            {"text": text, "source": f"model {side}"}
            for side, text in zip("xy", texts, strict=True)
        ],
    }


def small_pair(number: int) -> dict[str, Any]:
    """A short pair, of which a million fit on a disk."""
    return {
        "prompt": [{"role": "user", "content": f"question {number}"}],
        "answers": [{"text": f"answer {number}"}, {"text": f"another answer to {number}"}],
    }


def fill(
    url: str, items: int, raters: int, *, small: bool = False, **settings: Any
) -> list[dict[str, Any]]:
    """A project with items, and raters who are signed in: their cookies, as browsers hold them."""
    from backflip.feedback.projects.store import open_store
    from backflip.server.base.sessions import Session, Sessions
    from backflip.server.base.settings import ServerSettings

    store = open_store(url)
    chosen = {
        "kind": "compare",
        "scale": 2,
        "title": "Load",
        "rubric": "Choose the better one.",
        **settings,
    }
    project = store.create(PROJECT, chosen)
    project.add_items((small_pair if small else pair)(n) for n in range(items))
    sessions = Sessions(store.secret("session"), ServerSettings())
    people = []
    for number in range(raters):
        person = store.people.add(name=f"Rater {number}")
        project.enrol(person.id)
        session = Session(f"nonce-{number}", person.id, person.epoch)
        cookie = sessions.signer.dumps({"n": session.nonce, "p": person.id, "e": person.epoch})
        people.append(
            {
                "person": person.id,
                "cookie": [sessions.cookie, cookie],
                "csrf": sessions.csrf(session),
            }
        )
    store.close()
    return people


# ---- servers


@dataclass
class Server:
    """A server in a process of its own, to be killed and started again at the same address."""

    url: str
    folder: Path
    clock: Path | None = None
    process: subprocess.Popen[str] | None = None
    port: int = 0
    door: str = ""
    """The address that signs the owner in, once."""
    took: float = 0.0
    """Seconds that the last start took."""

    def start(self) -> None:
        """Start, and wait until it answers."""
        self.port, start = self.port or free_port(), time.monotonic()
        more = [str(self.clock)] if self.clock else []
        self.process = subprocess.Popen(
            [
                *(sys.executable, str(HERE / "feedback_server.py"), self.url, str(self.port)),
                *(str(self.folder / "files"), *more),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        line = self.process.stdout.readline() if self.process.stdout else ""
        if not line.startswith("ready"):
            raise RuntimeError("The server did not start; its words are above.")
        self.door, self.took = line.split()[1], time.monotonic() - start

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def kill(self) -> None:
        """As a power cut would, as far as the process goes."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)

    def cpu(self) -> float:
        """Seconds of processor time so far."""
        assert self.process is not None
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def megabytes(self) -> float:
        """The most memory that it has held."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def server(url: str, folder: Path, clock: Path | None = None) -> Iterator[Server]:
    made = Server(url, folder, clock)
    made.start()
    try:
        yield made
    finally:
        made.stop()


# ---- the proof


@dataclass(frozen=True)
class Stored:
    """Answers as a database holds them."""

    events: list[Any]
    answers: list[Any]
    given: dict[int, int]
    """Answers that an item's own count says it has; items without any are left out."""
    total: int
    """Answers that the project's count says it has."""


def stored(url: str) -> Stored:
    """What a database holds of the project ``PROJECT``."""
    from sqlalchemy import select

    from backflip.feedback.projects.store import open_store
    from backflip.feedback.store.schema import Answers, Events, Items

    store = open_store(url)
    project = store.project(PROJECT)
    with store.database.read() as connection:
        events = connection.execute(
            select(
                Events.id,
                Events.kind,
                Events.client_key,
                Events.body,
                Events.item_id,
                Events.person_id,
            ).where(Events.kind.in_(("answer", "second answer")))
        ).all()
        kept = connection.execute(
            select(Answers.id, Answers.item_id, Answers.person_id, Answers.surplus)
        ).all()
        given = dict(
            connection.execute(select(Items.id, Items.given).where(Items.given > 0)).tuples().all()
        )
    total = project.tallies().get("answers", 0)
    store.close()
    return Stored(list(events), list(kept), given, total)


def proof(url: str, sent: list[dict[str, Any]]) -> dict[str, Any]:
    """Compare what raters were told with what the database holds; all but two numbers must be 0.

    Each acknowledged answer is there once, with the value that was sent, under the number that
    was told; nothing else is there but answers that were sent and never acknowledged; counts are
    what they count.
    """
    from backflip.feedback.tasks.display import in_item_order

    held = stored(url)
    by_key = {event.client_key: event for event in held.events}
    found = Counter[str]()
    for one in sent:
        event = by_key.pop(f"{one['person']}:{one['key']}", None)
        found["acknowledged"] += one["answer"] is not None
        if event is None:
            found["lost"] += one["answer"] is not None
            continue
        turned = in_item_order("compare", one["value"], event.body.get("order") or (0, 1))
        first = event.body.get("first", event.id)
        found["wrong number"] += one["answer"] not in (None, first)
        wrong = event.kind == "answer" and event.body["value"]["choice"] != turned["choice"]
        found["wrong value"] += wrong
    answers = Counter((row.person_id, row.item_id) for row in held.answers)
    counted = Counter(row.item_id for row in held.answers if not row.surplus)
    return {
        "acknowledged": found["acknowledged"],
        "stored": len(held.answers),
        "lost": found["lost"],
        "doubled": sum(count - 1 for count in answers.values()),
        "wrong value": found["wrong value"],
        "wrong number": found["wrong number"],
        "never sent": len(by_key),
        "wrong counts": int(held.total != len(held.answers))
        + sum(counted[item] != count for item, count in held.given.items())
        + sum(item not in held.given for item in counted),
        "refused": sum(bool(one["refused"]) for one in sent),
    }


def quantile(values: list[float], share: float) -> float:
    """The value below which this share lies (nearest rank)."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))] if ranked else float("nan")
