"""Each layer tried out in a process of its own: it is entered, and its effect is looked for."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from typing import Any

from backflip.reward.sandbox import kernel, landlock, layers, namespaces, processes, seccomp

__all__ = ["tried"]

Job = dict[str, Any]


def tried(job: Job) -> dict[str, str]:
    """For each layer, why this machine does not give it; empty where it does."""
    return {name: _alone(TRIALS[name], job) for name in layers.LAYERS}


def _alone(trial: Callable[[Job], None], job: Job) -> str:
    """The reason why a trial failed, which a process of its own was given to."""
    mine, theirs = os.pipe()
    if os.fork() == 0:
        try:
            trial(job)
        except BaseException as error:
            os.write(theirs, f"{error}"[:300].encode("utf-8", "replace"))
        finally:
            os._exit(0)
    os.close(theirs)
    with open(mine, encoding="utf-8") as said:
        reason = said.read()
    os.wait()
    return reason


def _must(holds: bool, otherwise: str) -> None:
    if not holds:
        raise kernel.MissingError(otherwise)


def _denied(action: Callable[[], Any]) -> bool:
    try:
        action()
    except OSError:
        return True
    return False


def _rights(job: Job) -> None:
    if os.geteuid() == 0:
        namespaces.drop_rights(job["user"] + os.getpid())
        _must(_denied(lambda: os.setuid(0)), "root came back")


def _limits(job: Job) -> None:
    layers.limit(job["limits"], own_users=False)
    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    _must(0 < most <= job["limits"]["memory"], "the limit of memory was not kept")


def _privileges(job: Job) -> None:
    kernel.forbid_new_privileges()
    _must(kernel.prctl(39) == 1, "the kernel forgot it")


def _landlock(job: Job) -> None:
    kernel.forbid_new_privileges()
    landlock.restrict([], [], ["/dev/null"])
    _must(_denied(lambda: os.listdir("/")), "a forbidden folder was read")


def _seccomp(job: Job) -> None:
    kernel.forbid_new_privileges()
    seccomp.install()
    _must(_denied(lambda: os.memfd_create("denied")), "a forbidden call was made")


def _namespaces(job: Job) -> None:
    layers.enter_namespaces(job | {"layers": ["rights", "namespaces"]})
    mine, theirs = os.pipe()
    if os.fork() == 0:
        os.write(theirs, str(os.getpid()).encode())
        os._exit(0)
    _must(os.read(mine, 16) == b"1", "processes are not apart")
    _must(_denied(lambda: os.mkdir("/made")), "a folder was made outside")
    os.mkdir(f"{namespaces.WORK}/made")
    room = os.statvfs(namespaces.WORK)
    _must(room.f_blocks * room.f_frsize <= job["limits"]["disk"] + 65536, "size has no bound")
    _must(0 < room.f_files <= job["limits"]["files"], "the number of files has no bound")


def _sweep(job: Job) -> None:
    kernel.prctl(layers.ADOPTS, 1)
    mine, theirs = os.pipe()
    if os.fork() == 0:
        if os.fork():
            os._exit(0)
        os.close(mine)
        os.setsid()
        os.write(theirs, b"x")
        time.sleep(60)
        os._exit(0)
    os.read(mine, 1)
    processes.sweep(os.getpid())
    _must(not processes.below(os.getpid()), "a process was left")


TRIALS: dict[str, Callable[[Job], None]] = {
    "rights": _rights,
    "limits": _limits,
    "privileges": _privileges,
    "landlock": _landlock,
    "seccomp": _seccomp,
    "namespaces": _namespaces,
    "sweep": _sweep,
}
