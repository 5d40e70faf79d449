"""Namespaces by bubblewrap, for machines that let it make them and nobody else.

Hardened systems forbid users to make namespaces but let ``bwrap`` do so. It shows the same files as
``namespaces``; a launcher inside bounds ``WORK``, for which bubblewrap has no number of inodes.
"""

from __future__ import annotations

import marshal
import os

from backflip.reward.sandbox import kernel, namespaces

__all__ = ["TRIAL", "become", "found", "inside"]

INSIDE = "launcher.inside(int(sys.argv[2]))"
FOLDER = "/launcher/backflip/reward/sandbox"
"""The place of these modules inside, which no program may read where Landlock holds."""
TRIAL = """
import os
try: os.mkdir('/made')
except OSError: room = os.statvfs('/work')
print(os.getpid() < 9, room.f_blocks * room.f_frsize, room.f_files)
"""
"""A program that says whether its processes are apart, and what bounds the place to write."""


def found() -> str:
    """The path of ``bwrap``; empty where it is not installed."""
    places = (f"{folder}/bwrap" for folder in ("/usr/bin", "/usr/local/bin", "/bin"))
    return next((path for path in places if os.access(path, os.X_OK)), "")


def _shown(job: dict, folder: str) -> list[str]:
    """Options that show the interpreter's files, and the launcher's."""
    options: list[str] = []
    for path in job["mounts"]:
        if os.path.islink(path):
            options += ["--symlink", os.readlink(path), path]
        elif os.path.exists(path):
            options += ["--dev-bind" if path.startswith("/dev/") else "--ro-bind", path, path]
    for path in filter(os.path.isdir, job["hidden"]):
        options += ["--tmpfs", path, "--remount-ro", path]
    if not any(path.startswith("/tmp/") for path in job["mounts"]):
        options += ["--symlink", namespaces.WORK, "/tmp"]
    return [*options, "--dir", namespaces.WORK, "--ro-bind", folder, FOLDER]


def become(job: dict, boot: str, files: list[int], status: int) -> None:
    """Replaces this process by bubblewrap, in which a launcher starts the program."""
    if os.geteuid() == 0 and "rights" in job["layers"]:
        namespaces.drop_rights(job["user"] + os.getpid())
    folder = os.path.dirname(os.path.abspath(__file__))
    told = os.memfd_create("job", 0)
    os.write(told, marshal.dumps((job, files, status), 2))
    os.lseek(told, 0, os.SEEK_SET)
    for file in (*files, status):
        os.set_inheritable(file, True)
    nobody = str(namespaces.NOBODY)
    options = ["--unshare-all", "--die-with-parent", "--uid", nobody, "--gid", nobody]
    options += ["--cap-add", "CAP_SYS_ADMIN", *_shown(job, folder), "--remount-ro", "/"]
    python = [job["interpreter"], "-I", "-S", "-B", "-c", boot + INSIDE, FOLDER, str(told)]
    os.execve(job["bubblewrap"], ["bwrap", *options, "--chdir", "/", "--", *python], {})


def inside(file: int) -> tuple[dict, list[int], int]:
    """What ``become`` was told, in the namespaces, where files can now be written."""
    with open(file, "rb") as told:
        job, files, status = marshal.load(told)
    namespaces.mount_work(job["limits"])
    for one in (*files, status):
        os.set_inheritable(one, False)
    kernel.prctl(47, 4)  # the right to mount is not handed on
    return job, files, status
