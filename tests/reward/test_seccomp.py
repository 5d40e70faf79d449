"""The filter of system calls: its numbers are the kernel's, and it denies what is listed."""

from __future__ import annotations

import errno
import operator
import os
import re
import signal
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from backflip.reward.sandbox import kernel, seccomp
from backflip.reward.sandbox.seccomp import DENIED, MACHINES, OUTSIDE, SIGNALS, filter_of
from tests.reward.witness import sandbox_here

FOUND = sandbox_here()
DENY, ABSENT = seccomp.FAIL | errno.EPERM, seccomp.FAIL | errno.ENOSYS
TESTS: dict[int, Callable[[int, int], int]] = {
    seccomp.EQUAL: operator.eq,
    seccomp.GREATER: operator.gt,
    seccomp.AT_LEAST: operator.ge,
    seccomp.ANY_BIT: operator.and_,
}
HEADERS = {
    "x86_64": ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", r"#define __NR_(\w+)\s+(\d+)"),
    "aarch64": ("/usr/include/asm-generic/unistd.h", r"#define __NR(?:3264)?_(\w+)\s+(\d+)"),
}


def asked(program: bytes, machine: int, number: int, *arguments: int) -> int:
    """What a filter answers to a system call: a machine for classic BPF, after linux/filter.h."""
    given = struct.pack("=IIQ6Q", number, machine, 0, *[*arguments, 0, 0, 0, 0, 0, 0][:6])
    held, at = 0, 0
    while True:
        code, yes, no, value = struct.unpack_from("=HBBI", program, 8 * at)
        at += 1
        if code == seccomp.LOAD:
            held = struct.unpack_from("=I", given, value)[0]
        elif code == seccomp.AND:
            held &= value
        elif code == seccomp.RETURN:
            return value
        else:
            at += yes if TESTS[code](held, value) else no


@pytest.mark.parametrize("machine", MACHINES)
def test_numbers_are_those_of_the_kernels_headers(machine: str):
    path, form = HEADERS[machine]
    if not Path(path).exists():
        pytest.skip(f"{path} is not here (package linux-libc-dev)")
    known = {name: int(number) for name, number in re.findall(form, Path(path).read_text())}
    which = list(MACHINES).index(machine)
    special = {"clone3": seccomp.CLONE3, "clone": seccomp.CLONE, "socketpair": seccomp.PAIR}
    special |= {"prlimit64": seccomp.PRLIMIT, "ioctl": seccomp.IOCTL}
    for name, numbers in {**DENIED, **OUTSIDE, **SIGNALS, **special}.items():
        assert known.get(name) == numbers[which], name


@pytest.mark.parametrize("machine", MACHINES)
def test_listed_calls_are_denied_and_others_go_through(machine: str):
    which, sign = list(MACHINES).index(machine), MACHINES[machine]
    open_filter, closed = filter_of(machine), filter_of(machine, only_itself=7, files=True)
    denied = {numbers[which] for numbers in DENIED.values()} - {None}
    outside = {numbers[which] for numbers in OUTSIDE.values()} - {None}
    signals = {numbers[which] for numbers in SIGNALS.values()}
    for number in set(range(seccomp.NEWEST + 1)) - {seccomp.PAIR[which], seccomp.CLONE3[which]}:
        assert (asked(open_filter, sign, number) == DENY) == (number in denied), number
        shut = denied | outside | signals
        assert (asked(closed, sign, number) == DENY) == (number in shut), number
    assert {asked(closed, sign, number, 7) for number in signals} == {seccomp.ALLOW}


@pytest.mark.parametrize("machine", MACHINES)
def test_arguments_decide_where_a_call_is_needed_and_dangerous(machine: str):
    which, sign, program = list(MACHINES).index(machine), MACHINES[machine], filter_of(machine)

    def allowed(call: tuple[int, int], *arguments: int) -> bool:
        return asked(program, sign, call[which], *arguments) == seccomp.ALLOW

    assert allowed(seccomp.CLONE, signal.SIGCHLD)
    assert not allowed(seccomp.CLONE, 0x10000000 | signal.SIGCHLD)
    assert allowed(seccomp.PAIR, socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    assert not allowed(seccomp.PAIR, socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    assert allowed(seccomp.PRLIMIT, 0)
    assert not allowed(seccomp.PRLIMIT, 1)
    assert allowed(seccomp.IOCTL, 0, 0x5401)
    assert not any(allowed(seccomp.IOCTL, 0, what) for what in (0x5412, 0x541C))
    assert asked(program, sign, seccomp.CLONE3[which]) == ABSENT, "libc falls back on clone"
    assert asked(program, sign, seccomp.NEWEST + 1) == ABSENT


def test_programs_of_another_instruction_set_are_killed():
    for machine, sign in MACHINES.items():
        others = {*MACHINES.values(), 0x40000003} - {sign}
        assert {asked(filter_of(machine), one, 0) for one in others} == {seccomp.KILL}
    x32 = asked(filter_of("x86_64"), MACHINES["x86_64"], 0x40000000 | 62)
    assert x32 == seccomp.KILL


@pytest.mark.skipif("seccomp" in FOUND.missing, reason=FOUND.line())
def test_signals_reach_nobody_else_where_the_filter_alone_bounds_them():
    child = os.fork()
    if child == 0:
        try:
            kernel.forbid_new_privileges()
            seccomp.install(only_itself=os.getpid(), files=True)
            os.kill(os.getpid(), 0)
            reached = []
            for whom in (os.getppid(), -1, 0, 1):
                try:
                    os.kill(whom, 0)
                    reached.append(whom)
                except PermissionError:
                    pass
            os._exit(10 + len(reached))
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 10
