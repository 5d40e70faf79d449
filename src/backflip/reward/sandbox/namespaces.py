"""Namespaces of a program's own: no other processes, no network, no files but those to read.

The root folder is a small tmpfs that shows an interpreter's files, read-only. ``WORK`` is a tmpfs
of bounded size and inodes, the only place to write. There is no ``/proc``.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable

from backflip.reward.sandbox import kernel

__all__ = ["NOBODY", "WORK", "build_root", "drop_rights", "mount_work", "unshare"]

NOBODY = 65534
WORK = "/work"
MOUNTS, USERS, PROCESSES, NETWORK = 0x00020000, 0x10000000, 0x20000000, 0x40000000
MESSAGES, NAMES, CONTROL = 0x08000000, 0x04000000, 0x02000000
ALL = MOUNTS | USERS | PROCESSES | NETWORK | MESSAGES | NAMES | CONTROL
NO_SETUID, NO_DEVICES, NO_EXEC, BIND, RECURSIVE, PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18
READ_ONLY, AT_RECURSIVE, AT_CURRENT, DETACH = 1, 0x8000, -100, 2
DUMPABLE = 4
SCRATCH = "/tmp"
"""A folder of the host over which the new root is built; the host sees nothing of it."""
OLD = "/old"


def _mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    texts = [text.encode() if text is not None else None for text in (source, target, kind)]
    result = kernel.LIBC.mount(*texts, kernel.ctypes.c_ulong(flags), options.encode() or None)
    kernel.checked(result, f"mount {kind or source} on {target}")


def _lock(path: str) -> None:
    """Makes a mount and all below it read-only, without set-user-ID files."""
    flags = READ_ONLY | NO_SETUID
    attributes = kernel.ctypes.create_string_buffer(flags.to_bytes(8, "little") + bytes(24), 32)
    kernel.syscall(442, AT_CURRENT, path.encode(), AT_RECURSIVE, attributes, 32)


def unshare(flags: int) -> None:
    kernel.checked(kernel.LIBC.unshare(flags), "unshare")


def drop_rights(user: int) -> None:
    """From root to a user who owns nothing; ``NOBODY`` where the wished one is not known here."""
    os.setgroups([])
    for one in (user, NOBODY):
        try:
            os.setresgid(one, one, one)
            os.setresuid(one, one, one)
        except OSError:
            if one == NOBODY:
                raise
        else:
            break
    kernel.prctl(DUMPABLE, 1)  # else the kernel keeps /proc/self as root's


def name_users(proc: int, user: int, group: int) -> None:
    """Maps the one user of a new user namespace; ``proc`` is an open ``/proc``."""
    texts = {"setgroups": "deny", "uid_map": f"{NOBODY} {user} 1", "gid_map": f"{NOBODY} {group} 1"}
    for name, text in texts.items():
        file = os.open(f"self/{name}", os.O_WRONLY, dir_fd=proc)
        os.write(file, text.encode())
        os.close(file)


def build_root(reads: Iterable[str], hidden: Iterable[str], limits: dict) -> None:
    """Makes a root that holds ``reads``, ``hidden`` folders of them empty, and ``WORK``."""
    _mount("none", "/", None, RECURSIVE | PRIVATE)
    _mount("tmpfs", SCRATCH, "tmpfs", NO_SETUID, "size=1m,nr_inodes=4096,mode=755")
    os.mkdir(SCRATCH + OLD)
    kernel.checked(kernel.LIBC.pivot_root(SCRATCH.encode(), (SCRATCH + OLD).encode()), "pivot_root")
    os.chdir("/")
    for path in reads:
        _show(path)
    for path in hidden:
        if os.path.isdir(path):
            _mount("tmpfs", path, "tmpfs", NO_SETUID, "size=4k,nr_inodes=1,mode=555")
    kernel.checked(kernel.LIBC.umount2(OLD.encode(), DETACH), "umount2")
    os.rmdir(OLD)
    os.mkdir(WORK)
    if not os.path.lexists("/tmp"):
        os.symlink(WORK, "/tmp")
    _lock("/")
    mount_work(limits)


def mount_work(limits: dict) -> None:
    """Mounts the place to write, of bounded size and inodes."""
    options = f"size={limits['disk']},nr_inodes={limits['files']},mode=1777"
    _mount("tmpfs", WORK, "tmpfs", NO_SETUID | NO_DEVICES | NO_EXEC, options)


def _show(path: str) -> None:
    """Shows a file or folder of the host at the same place, links on the way as links."""
    old = OLD + path
    try:
        kind = os.lstat(old).st_mode
    except OSError:
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if stat.S_ISLNK(kind):
        if not os.path.lexists(path):
            os.symlink(os.readlink(old), path)
        return
    if stat.S_ISDIR(kind):
        os.makedirs(path, exist_ok=True)
    else:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o444))
    _mount(old, path, None, BIND | RECURSIVE)
