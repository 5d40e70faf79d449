"""A witness of what a program of the sandbox reads, writes, reaches and leaves behind outside."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from backflip.errors import UserError
from backflip.reward.sandbox import processes
from backflip.reward.sandbox.box import Sandbox, opened
from backflip.reward.sandbox.interpreter import candidates
from backflip.reward.sandbox.kernel import prctl
from backflip.reward.sandbox.layers import ADOPTS
from backflip.reward.sandbox.runner import Limits
from backflip.reward.sandbox.suite import Problem, check
from tests.reward.hostile import PROGRAMS

LIMITS = Limits(seconds=2.0, wall=6.0)
DOUBLE = Problem(tests=("assert double(2) == 4", "assert double([1]) == [1, 1]"))
ENDS = {"11": "output", "12": "output", "13": "output"}
ENDS |= dict.fromkeys(("32", "33", "34", "35"), "timeout")
AT_ONCE = "import functools\nprint = functools.partial(print, flush=True)\n"
SHARED = ("/tmp", "/dev/shm", "/var/tmp", "/run", "/")


@dataclass
class Witness:
    """Things outside of the sandbox, in a folder that everybody may write."""

    folder: Path
    victim: subprocess.Popen[bytes]
    reached: list[str] = field(default_factory=list[str])
    places: dict[str, str] = field(default_factory=dict[str, str])
    """What stands for ``@NAMES@`` of programs."""

    def seen(self) -> list[str]:
        """Whatever has changed."""
        mark = self.places["MARK"]
        inside = {path.name for path in self.folder.iterdir()} - {"secret", "socket"}
        written = [f"{place}/{mark}" for place in SHARED if os.path.exists(f"{place}/{mark}")]
        changed = (self.folder / "secret").read_text() != self.places["FLAG"]
        killed = self.victim.poll() is not None
        said = [f"wrote {name}" for name in [*inside, *written]]
        said += ["changed the secret"] * changed + ["killed the victim"] * killed
        return said + self.reached


@contextlib.contextmanager
def witness() -> Iterator[Witness]:
    """Listens on sockets, holds a secret and a process, while programs run."""
    with contextlib.ExitStack() as stack:
        folder = Path(name := tempfile.mkdtemp())
        stack.callback(subprocess.run, ["rm", "-rf", name], check=True)
        folder.chmod(0o777)
        flag = secrets.token_hex(8)
        (folder / "secret").write_text(flag)
        victim = stack.enter_context(subprocess.Popen(["sleep", "600"]))
        stack.callback(victim.kill)
        made = Witness(folder, victim)
        made.places = {
            "FLAG": flag, "MARK": f"backflip-{flag}", "SECRET": str(folder / "secret"),
            "OUTSIDE": name, "REPOSITORY": __file__, "VICTIM": str(victim.pid),
            "LAUNCHING": str(os.getpid()), "UNIX": f"{name}/socket", "ABSTRACT": flag,
            "ADDRESS": "0x" + Path(f"/proc/{victim.pid}/maps").read_text().split("-")[0],
        }  # fmt: skip
        _listen(made, stack)
        os.chmod(folder / "socket", 0o777)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            made.places["FREE"] = str(free.getsockname()[1])
        os.environ["BACKFLIP_FLAG"] = flag
        stack.callback(os.environ.pop, "BACKFLIP_FLAG", None)
        try:
            yield made
        finally:
            for place in SHARED:
                Path(place, made.places["MARK"]).unlink(missing_ok=True)


def _listen(made: Witness, stack: contextlib.ExitStack) -> None:
    """Opens sockets of every kind, and notes who reaches them."""
    flag, name = made.places["FLAG"], str(made.folder)
    unix, stream, datagram = socket.AF_UNIX, socket.SOCK_STREAM, socket.SOCK_DGRAM
    listening = [
        ("PORT", socket.AF_INET, stream, ("127.0.0.1", 0)),
        ("UDP", socket.AF_INET, datagram, ("127.0.0.1", 0)),
        ("", unix, stream, f"{name}/socket"),
        ("", unix, stream, f"\0{flag}"),
        ("", unix, datagram, f"\0{flag}-d"),
    ]
    for place, family, kind, address in listening:
        one = stack.enter_context(socket.socket(family, kind))
        one.bind(address)
        if place:
            made.places[place] = str(one.getsockname()[1])
        if kind == stream:
            one.listen()
        threading.Thread(target=_hear, args=(one, made.reached), daemon=True).start()


def _hear(one: socket.socket, reached: list[str]) -> None:
    with contextlib.suppress(OSError):
        while True:
            if one.type == socket.SOCK_STREAM:
                one.accept()[0].close()
            else:
                one.recv(100)
            reached.append(f"reached {one.family.name} {one.type.name}")


def _knock(port: int, stop: threading.Event, reached: list[str]) -> None:
    """Tries from outside to reach a program that listens."""
    while not stop.wait(0.1):
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 0.5).close()
            reached.append("was reached from outside")


def _left(before: set[int]) -> list[str]:
    """Processes that are there after a run, and not in the middle of their end."""
    for _ in range(40):
        left = set(processes.below(os.getpid())) - before
        for pid in left:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        if not left:
            return []
        time.sleep(0.05)
    for pid in left:
        with contextlib.suppress(OSError):
            os.kill(pid, 9)
    return [f"left {len(left)} processes"]


def attack(box: Sandbox, name: str, outside: Witness) -> list[str]:
    """What a hostile program achieved: nothing, where the sandbox holds."""
    prctl(ADOPTS, 1)  # whatever outlives its launcher becomes ours, and is seen
    before, began = set(processes.below(os.getpid())), time.monotonic()
    outside.reached.clear()
    places = outside.places | {
        "HERE": "/work" if "namespaces" in box.layers else str(outside.folder)
    }
    program = AT_ONCE + PROGRAMS[name]
    for place, value in places.items():
        program = program.replace(f"@{place}@", value)
    stop = threading.Event()
    knocking = threading.Thread(
        target=_knock, args=(int(places["FREE"]), stop, outside.reached), daemon=True
    )
    if name[:2] == "20":
        knocking.start()
    ran = box.run(program, limits=LIMITS)
    stop.set()
    found = [line[:60] for line in (ran.stdout + ran.stderr).splitlines() if "LEAK" in line]
    if name[:2] == "15":
        found = ["orders to the terminal"] if set(ran.stdout) & set("\x1b\x9b\0\u202e") else []
    if name[:2] in ("37", "38", "39"):
        said = check(box, program, DOUBLE, LIMITS)
        found += ["passed its tests"] * (said.outcome == "tested" and said.passed == said.total)
    if ran.outcome != ENDS.get(name[:2], ran.outcome) or ran.outcome == "error":
        found.append(f"ended by {ran.outcome} ({ran.reason})")
    if any(f"{word}Error" in ran.stderr for word in ("Name", "Syntax", "Attribute")):
        found.append(f"the program itself is wrong: {ran.stderr[-200:]}")
    if name[:2] == "31":
        time.sleep(1.2)
    found += ["went on"] * (time.monotonic() - began > 60) + outside.seen()
    return found + _left(before)


def as_user(user: int, function: Callable[[], list[str]]) -> list[str]:
    """Lines of a function that is called in a fork of this process with another user's rights."""
    mine, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
            prctl(4, 1)
            said = function()
        except UserError as error:
            said = [f"SKIP {error}"]
        except BaseException as error:
            said = [f"the test itself failed: {type(error).__name__}: {error}"]
        os.write(theirs, json.dumps(said).encode())
        os._exit(0)
    os.close(theirs)
    with open(mine, encoding="utf-8") as heard:
        text = heard.read()
    os.waitpid(child, 0)
    lines = json.loads(text) if text else ["the test itself was killed"]
    if lines and lines[0].startswith("SKIP"):
        pytest.skip(lines[0])
    return lines


def sandbox_here() -> Sandbox:
    """The sandbox of this machine, with whatever layers it has; no tests where there is none."""
    try:
        return opened("weak")
    except UserError as error:
        pytest.skip(str(error), allow_module_level=True)


def readable_by_all() -> bool:
    """Whether an ordinary user finds an interpreter and the package here."""
    package = Path(processes.__file__)
    open_to_all = all(one.stat().st_mode & 1 for one in package.parents)
    return open_to_all and any(one.runs_for_all() for one in candidates())
