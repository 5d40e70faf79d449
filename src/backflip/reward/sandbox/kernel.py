"""Calls to Linux that Python has no names for. Standard library alone: the launcher imports it."""

from __future__ import annotations

import ctypes
import os

__all__ = ["MissingError", "checked", "forbid_new_privileges", "machine", "prctl", "syscall"]

LIBC = ctypes.CDLL(None, use_errno=True)
NO_NEW_PRIVILEGES = 38


class MissingError(OSError):
    """A layer that this machine does not give, with the reason."""


def machine() -> str:
    """``x86_64``, ``aarch64`` or another name of the processor's instructions."""
    return os.uname().machine


def checked(result: int, doing: str) -> int:
    """The result of a call of libc. Raises OSError with errno where it is negative."""
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{doing}: {os.strerror(code)}")
    return result


def syscall(number: int, *arguments: int | bytes | ctypes.Array[ctypes.c_char] | None) -> int:
    """A system call by number. Raises OSError."""
    values = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    return checked(LIBC.syscall(ctypes.c_long(number), *values), f"system call {number}")


def prctl(option: int, *arguments: int) -> int:
    """``prctl`` with up to four numbers. Raises OSError."""
    values = [*arguments, 0, 0, 0, 0][:4]
    return checked(LIBC.prctl(option, *map(ctypes.c_ulong, values)), f"prctl {option}")


def forbid_new_privileges() -> None:
    """Programs that are started from here gain no rights from set-user-ID bits or capabilities."""
    prctl(NO_NEW_PRIVILEGES, 1)
