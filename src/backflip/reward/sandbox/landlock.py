"""Files, TCP ports and signals that a program may reach, ruled by the kernel (Landlock).

What a ruleset handles and no rule allows is denied, to the program and to all that it starts. Each
version of the kernel's interface handles more; see https://docs.kernel.org/userspace-api/landlock.html.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable

from backflip.reward.sandbox import kernel

__all__ = ["restrict", "version"]

CREATE, ADD_RULE, RESTRICT = 444, 445, 446
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, TRUNCATE = 1, 2, 4, 8, 1 << 14
MAKE_DEVICE = 1 << 6 | 1 << 11
READ = EXECUTE | READ_FILE | READ_DIR
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | 1 << 15
SIGNALS = 6
"""The version from which on signals and abstract sockets stay inside."""


def version() -> int:
    """The version of the kernel's interface. Raises OSError where there is none."""
    return kernel.syscall(CREATE, None, 0, 1)


def _handled(abi: int) -> int:
    return (1 << (13 if abi < 2 else 14 if abi < 3 else 15 if abi < 5 else 16)) - 1


def restrict(reads: Iterable[str], lists: Iterable[str], writes: Iterable[str]) -> int:
    """Leaves to this process, and to all that it starts, what is named here; returns the version.

    Args:
        reads: files and folders that may be read and run, with all that is in them.
        lists: folders whose names may be listed, with those of all folders in them.
        writes: folders in which files may be made, and files that may be written.

    Raises OSError.

    """
    abi = version()
    handled = _handled(abi)
    fields = [handled, *([3] if abi >= 4 else []), *([3] if abi >= SIGNALS else [])]
    form = struct.pack(f"={len(fields)}Q", *fields)
    ruleset = kernel.syscall(CREATE, ctypes.create_string_buffer(form, len(form)), len(form), 0)
    write = handled & ~MAKE_DEVICE & ~EXECUTE
    rules = [(reads, READ), (lists, READ_DIR), (writes, write)]
    for path, rights in [(path, rights) for paths, rights in rules for path in paths]:
        _allow(ruleset, path, rights & handled)
    kernel.syscall(RESTRICT, ruleset, 0)
    os.close(ruleset)
    return abi


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        file = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # a file that is not there needs no rule
    try:
        if not stat.S_ISDIR(os.fstat(file).st_mode):
            rights &= OF_FILES
        rule = struct.pack("=Qi", rights, file)
        kernel.syscall(ADD_RULE, ruleset, 1, ctypes.create_string_buffer(rule, len(rule)), 0)
    finally:
        os.close(file)
