"""The feedback server under load and under faults, into feedback_load.md.

    python benchmarks/feedback_load.py                     everything: about half an hour
    python benchmarks/feedback_load.py --only load kill    also tabs, lease, clock, disk, million
    python benchmarks/feedback_load.py --short --out /tmp  a trial: its figures mean nothing

The server is that of ``backflip collect``, on 127.0.0.1; raters are a process of their own
(``feedback_raters.py``) on the same cores. Needs PostgreSQL's programs, and root for the full disk.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from feedback_checks import HERE, PROJECT, Server, Size, database, fill, proof, quantile, server
from feedback_faults import clock, disk, lease, million
from feedback_report import page

KINDS = ("sqlite", "postgresql")
SHORT = Size(raters=20, seconds=8.0, items=1000, kills=2, million=20_000, answered=300)


def raters(
    where: Server, people: list[dict[str, Any]], folder: Path, **plan: Any
) -> subprocess.Popen[bytes]:
    """Start the process of raters; ``found`` reads what it saw."""
    told = {"base": where.base, "project": PROJECT, "raters": people, **plan}
    (folder / "plan.json").write_text(json.dumps(told))
    command = [sys.executable, str(HERE / "feedback_raters.py")]
    return subprocess.Popen([*command, str(folder / "plan.json"), str(folder / "found.json")])


def found(process: subprocess.Popen[bytes], folder: Path) -> dict[str, Any]:
    if process.wait(1200):
        raise RuntimeError("The raters' process failed; its words are above.")
    return json.loads((folder / "found.json").read_text())


# ---- load


def load(kind: str, size: Size, folder: Path) -> dict[str, Any]:
    """Everybody answers every two seconds for three minutes."""
    with database(kind, folder) as url:
        people = fill(url, size.items, size.raters)
        with server(url, folder) as running:
            before, start = running.cpu(), time.monotonic()
            plan = {"seconds": size.seconds, "every": size.every, "pages": True}
            seen = found(raters(running, people, folder, **plan), folder)
            busy = (running.cpu() - before) / (time.monotonic() - start)
            memory = running.megabytes()
        checked = proof(url, seen["sent"])
    times = [one["ms"] for one in seen["sent"] if one["ms"] is not None]
    return {
        "raters": size.raters,
        "seconds": size.seconds,
        "answers a second": len(times) / size.seconds,
        "median ms": quantile(times, 0.5),
        "95th percentile ms": quantile(times, 0.95),
        "99th percentile ms": quantile(times, 0.99),
        "longest ms": max(times),
        "opening the page, 95th percentile ms": quantile(seen["pages_ms"], 0.95),
        "raters behind their time, 95th percentile ms": 1000
        * quantile([one["late"] for one in seen["sent"]], 0.95),
        "server, cores": busy,
        "raters, cores": seen["cpu"],
        "server, MB": memory,
        "nothing to answer": seen["empty"],
        "broken requests": seen["broken"],
        **checked,
    }


# ---- faults


def kill(kind: str, size: Size, folder: Path) -> dict[str, Any]:
    """``kill -9`` in the middle of answering, again and again; and after it everybody goes on."""
    chance = random.Random(kind)
    with database(kind, folder) as url:
        people = fill(url, size.items, 20)
        with server(url, folder) as running:
            marks = {name: str(folder / name) for name in ("enough", "worked", "restarted")}
            process = raters(running, people, folder, seconds=900, every=0.3, resume=marks)
            for _ in range(size.kills):
                time.sleep(3.0 + 2 * chance.random())
                running.kill()
                running.start()
            time.sleep(3.0)
            (folder / "enough").touch()
            while not (folder / "worked").exists() and process.poll() is None:
                time.sleep(0.1)
            running.kill()
            running.start()
            (folder / "restarted").touch()
            seen = found(process, folder)
            took = running.took
        checked = proof(url, seen["sent"])
    return {
        "kills": size.kills + 1,
        "seconds until it was back": took,
        "broken requests": seen["broken"],
        "pages that went on where they were": f"{sum(seen['resumed'])} of {len(seen['resumed'])}",
        **checked,
    }


def tabs(kind: str, size: Size, folder: Path) -> dict[str, Any]:
    """Two tabs each, double clicks, and connections that are lost before the acknowledgement."""
    with database(kind, folder) as url:
        people = fill(url, size.items, 15)
        with server(url, folder) as running:
            plan = {"seconds": min(30.0, size.seconds), "every": 0.5, "tabs": 2}
            seen = found(raters(running, people, folder, **plan, double=0.3, cut=0.2), folder)
        checked = proof(url, seen["sent"])
    return {
        "tabs": 2 * len(people),
        "double clicks": len(seen["double"]),
        "of them told two numbers": sum(a != b for a, b in seen["double"]),
        "connections cut": seen["lost"],
        **checked,
    }


# ---- all of it

WORKS: dict[str, Callable[[str, Size, Path], dict[str, Any]]] = {
    "load": load,
    "kill": kill,
    "tabs": tabs,
    "lease": lease,
    "clock": clock,
    "disk": disk,
    "million": million,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=[*WORKS], nargs="*", help="some parts")
    parser.add_argument("--kind", choices=KINDS, nargs="*", default=KINDS)
    parser.add_argument("--short", action="store_true", help="a trial that measures nothing")
    parser.add_argument(
        "--out", type=Path, default=HERE, help="folder of feedback_load.md and .json"
    )
    given = parser.parse_args()
    size = SHORT if given.short else Size()
    kept = given.out / "feedback_load.json"
    rows: dict[str, Any] = json.loads(kept.read_text()) if kept.is_file() else {}
    for work in given.only or WORKS:
        for kind in given.kind:
            with tempfile.TemporaryDirectory(prefix="backflip-load-") as folder:
                made = WORKS[work](kind, size, Path(folder))
            if made:
                rows.setdefault(work, {})[kind] = made
                print(work, kind, json.dumps(made, indent=1), flush=True)
    from report import machine

    rows["machine"] = machine()
    kept.write_text(json.dumps(rows, indent=1) + "\n")
    (given.out / "feedback_load.md").write_text(page(rows))


if __name__ == "__main__":
    main()
