"""System calls that a program of the sandbox may not make, as a filter of the kernel (seccomp).

The list is of denied calls rather than of allowed ones: Python and libc need some two hundred,
others with each version. Calls newer than the table do not exist in the sandbox (``ENOSYS``), and
programs of another instruction set (32-bit, x32) are killed at their first call, so that a second
numbering is no way around the first. Numbers: ``asm/unistd_64.h``, ``asm-generic/unistd.h``.
"""

from __future__ import annotations

import ctypes
import errno
import struct

from backflip.reward.sandbox import kernel

__all__ = ["DENIED", "MACHINES", "OUTSIDE", "SIGNALS", "filter_of", "install"]

MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""Names that the kernel's audit gives to instruction sets (``linux/audit.h``)."""
NEWEST = 450
"""The newest call of the table. From 424 on all machines share one numbering."""
Numbers = tuple[int | None, int | None]
"""A call on x86-64 and on arm64; None where it does not exist."""
DENIED: dict[str, Numbers] = {
    # sockets: a pair of streams alone may be made (asyncio, pipes of multiprocessing)
    "socket": (41, 198), "connect": (42, 203), "accept": (43, 202), "bind": (49, 200),
    "listen": (50, 201), "accept4": (288, 242),
    # other processes
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "kcmp": (312, 272), "pidfd_send_signal": (424, 424), "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438), "process_madvise": (440, 440), "process_mrelease": (448, 448),
    "move_pages": (279, 239), "migrate_pages": (256, 238), "perf_event_open": (298, 241),
    "setpriority": (141, 140), "sched_setaffinity": (203, 122), "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119), "sched_setattr": (314, 274), "ioprio_set": (251, 30),
    # namespaces, mounts, other ways to files
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39),
    "pivot_root": (155, 41), "chroot": (161, 51), "open_tree": (428, 428),
    "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431),
    "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "mknod": (133, None),
    "mknodat": (259, 33), "fanotify_init": (300, 262), "inotify_init": (253, None),
    "inotify_init1": (294, 26), "quotactl": (179, 60), "quotactl_fd": (443, 443),
    "swapon": (167, 224), "swapoff": (168, 225), "acct": (163, 89), "uselib": (134, None),
    "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7),
    # memory that belongs to no process, so that no limit counts it
    "memfd_create": (319, 279), "memfd_secret": (447, 447), "shmget": (29, 194),
    "shmat": (30, 196), "shmctl": (31, 195), "msgget": (68, 186), "msgsnd": (69, 189),
    "semget": (64, 190), "mq_open": (240, 180),
    # doors into the kernel
    "bpf": (321, 280), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427), "io_setup": (206, 0), "userfaultfd": (323, 282),
    "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218),
    "personality": (135, 92), "modify_ldt": (154, None), "vmsplice": (278, 75),
    "remap_file_pages": (216, 234), "iopl": (172, None), "ioperm": (173, None),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142),
    "syslog": (103, 116), "sysfs": (139, None), "ustat": (136, None), "vhangup": (153, 58),
    "lookup_dcookie": (212, 18), "nfsservctl": (180, 42), "_sysctl": (156, None),
    # the machine's clock and name
    "settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171),
    "clock_adjtime": (305, 266), "sethostname": (170, 161), "setdomainname": (171, 162),
}  # fmt: skip
"""Denied with ``EPERM``, in whatever namespaces."""
OUTSIDE: dict[str, Numbers] = {
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "chown": (92, None),
    "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54), "utime": (132, None),
    "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88),
    "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
}  # fmt: skip
"""Changes to files that Landlock does not see; denied where no mount namespace hides the files."""
SIGNALS: dict[str, Numbers] = {
    "kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
}  # fmt: skip
"""Signals; a program may send them to itself alone where no other layer bounds whom they reach."""
CLONE3, CLONE, PAIR, PRLIMIT, IOCTL = (435, 435), (56, 220), (53, 199), (302, 261), (16, 29)
NAMESPACES = 0x7E020080
"""``CLONE_NEW…`` flags: cgroup, ipc, mount, network, pid, time, user, uts."""
PUSH_INPUT, TO_CONSOLE = 0x5412, 0x541C
ALLOW, KILL, FAIL = 0x7FFF0000, 0x80000000, 0x00050000
LOAD, EQUAL, GREATER, AT_LEAST, ANY_BIT, AND, RETURN = 0x20, 0x15, 0x25, 0x35, 0x45, 0x54, 0x06
X32 = 0x40000000


def _step(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)


def _argument(number: int | None, place: int, *test: bytes) -> bytes:
    """A denial of one call where a test of one of its arguments (the low 32 bits) says so."""
    if number is None:
        return b""
    steps = [_step(LOAD, 16 + 8 * place), *test, _step(RETURN, FAIL | errno.EPERM), _step(LOAD, 0)]
    return b"".join([_step(EQUAL, number, 0, len(steps)), *steps])


def filter_of(machine: str, *, only_itself: int | None = None, files: bool = False) -> bytes:
    """The filter as instructions of classic BPF.

    Args:
        machine: one of MACHINES.
        only_itself: the one process that signals may be sent to; None leaves them to other layers.
        files: deny OUTSIDE as well.

    """
    which = list(MACHINES).index(machine)
    steps = [_step(LOAD, 4), _step(EQUAL, MACHINES[machine], 1, 0), _step(RETURN, KILL)]
    steps += [_step(LOAD, 0)]
    if machine == "x86_64":
        steps += [_step(AT_LEAST, X32, 0, 1), _step(RETURN, KILL)]
    steps += [_step(GREATER, NEWEST, 0, 1), _step(RETURN, FAIL | errno.ENOSYS)]
    steps += [_step(EQUAL, CLONE3[which], 0, 1), _step(RETURN, FAIL | errno.ENOSYS)]
    for numbers in {**DENIED, **(OUTSIDE if files else {})}.values():
        if (number := numbers[which]) is not None:
            steps += [_step(EQUAL, number, 0, 1), _step(RETURN, FAIL | errno.EPERM)]
    steps += [
        _argument(CLONE[which], 0, _step(ANY_BIT, NAMESPACES, 0, 1)),
        _argument(PAIR[which], 1, _step(AND, 0xF), _step(EQUAL, 1, 1, 0)),
        _argument(PRLIMIT[which], 0, _step(EQUAL, 0, 1, 0)),
        _argument(IOCTL[which], 1, _step(EQUAL, PUSH_INPUT, 1, 0), _step(EQUAL, TO_CONSOLE, 0, 1)),
    ]
    if only_itself is not None:
        own = _step(EQUAL, only_itself, 1, 0)
        steps += [_argument(numbers[which], 0, own) for numbers in SIGNALS.values()]
    return b"".join([*steps, _step(RETURN, ALLOW)])


def install(*, only_itself: int | None = None, files: bool = False) -> None:
    """Puts the filter on this process and all that it starts. Raises OSError, MissingError."""
    machine = kernel.machine()
    if machine not in MACHINES:
        raise kernel.MissingError(f"no table of system calls for {machine}")
    text = filter_of(machine, only_itself=only_itself, files=files)
    instructions = ctypes.create_string_buffer(text, len(text))
    head = struct.pack("=HxxxxxxQ", len(text) // 8, ctypes.addressof(instructions))
    program = ctypes.create_string_buffer(head, len(head))
    kernel.prctl(22, 2, ctypes.addressof(program))
