"""Layers of the sandbox: how a process enters each, and whatever is open without it."""

from __future__ import annotations

import os
import resource

from backflip.reward.sandbox import kernel, landlock, namespaces, seccomp

__all__ = ["ADOPTS", "LAYERS", "OPEN", "enter_last", "enter_namespaces", "limit"]

LAYERS = ("rights", "limits", "privileges", "landlock", "seccomp", "namespaces", "sweep")
"""Every layer in the order in which it is entered."""
OPEN = {
    "a program of root's has root's rights": ("rights",),
    "one program may take all memory, processes and time of a core": ("limits",),
    "files of the machine may be read and written": ("landlock", "namespaces"),
    "the network is within reach": ("seccomp", "namespaces"),
    "other processes may be read and ended": ("landlock", "seccomp", "namespaces"),
    "set-user-ID programs keep their rights": ("privileges", "landlock", "namespaces"),
    "memory files and rare system calls are within reach": ("seccomp",),
    "names and sizes of files are seen, and no place to write is bounded": ("namespaces",),
    "a program's children go on when it has ended": ("namespaces", "sweep"),
}
"""Whatever is open where all of some layers are missing."""
ADOPTS = 36
"""``PR_SET_CHILD_SUBREAPER``: orphans below a process become its children."""


def limit(limits: dict, *, own_users: bool) -> None:
    """Limits of this process and of each that it starts (``setrlimit``)."""
    seconds = max(1, round(limits["seconds"]))
    bounds = {
        resource.RLIMIT_CPU: (seconds, seconds + 1),
        resource.RLIMIT_AS: limits["memory"],
        resource.RLIMIT_FSIZE: limits["disk"],
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_NPROC: limits["processes"] + (0 if own_users else tasks_of(os.getuid())),
        resource.RLIMIT_STACK: 8 << 20,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    for kind, value in bounds.items():
        low, high = value if isinstance(value, tuple) else (value, value)
        most = resource.getrlimit(kind)[1]
        if most != resource.RLIM_INFINITY:
            low, high = min(low, most), min(high, most)
        resource.setrlimit(kind, (low, high))


def tasks_of(user: int) -> int:
    """Threads of a user's processes, which the kernel counts together."""
    found = 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.stat(f"/proc/{name}").st_uid == user:
                found += len(os.listdir(f"/proc/{name}/task"))
        except OSError:
            continue  # it has ended
    return found


def enter_namespaces(job: dict) -> bool:
    """Drops root's rights and enters namespaces; whether the process has users of its own.

    Root builds the file system before it drops its rights, so that an interpreter in root's own
    folder can be shown; no interpreter has the program yet.
    """
    layers, limits = job["layers"], job["limits"]
    proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    root, wanted = os.geteuid() == 0, "namespaces" in layers
    built = root and wanted and _own_mounts()
    if built:
        namespaces.build_root(job["mounts"], job["hidden"], limits)
    if root and "rights" in layers:
        namespaces.drop_rights(job["user"] + os.getpid())
    if wanted:
        user, group = os.geteuid(), os.getegid()
        flags = namespaces.ALL & ~(namespaces.MOUNTS if built else 0)
        namespaces.unshare(flags)
        namespaces.name_users(proc, user, group)
        if not built:
            namespaces.build_root(job["mounts"], job["hidden"], limits)
    os.close(proc)
    return wanted


def _own_mounts() -> bool:
    try:
        namespaces.unshare(namespaces.MOUNTS)
    except PermissionError:
        return False
    return True


def enter_last(job: dict) -> None:
    """The layers that a process enters last, just before it becomes the program."""
    layers, apart = job["layers"], "namespaces" in job["layers"]
    if "limits" in layers:
        limit(job["limits"], own_users=apart)
    if "privileges" in layers:
        kernel.forbid_new_privileges()
    scoped = apart
    if "landlock" in layers:
        writes = ["/dev/null", *([namespaces.WORK] if apart else [])]
        reads = job["mounts"] if apart else job["files"]
        lists = ["/"] if apart else [job["library"]]
        scoped |= landlock.restrict(reads, lists, writes) >= landlock.SIGNALS
    if "seccomp" in layers:
        seccomp.install(only_itself=None if scoped else os.getpid(), files=not apart)
