"""The interpreter that runs programs of the sandbox, and the files that it reads."""

from __future__ import annotations

import functools
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Interpreter", "candidates"]

SYSTEM = ("/usr/bin/python3", "/usr/local/bin/python3")
LIBRARIES = ("/lib", "/usr/lib")
LINKS = ("/lib", "/lib64")
EXTRAS = ("/etc/ld.so.cache", "/usr/share/zoneinfo", "/dev/null", "/dev/zero", "/dev/urandom")
PACKAGES = ("site-packages", "dist-packages")
ASK = (
    "import os,sys,sysconfig as s;print(os.path.realpath(sys.executable),s.get_path('stdlib'),"
    "s.get_config_var('MULTIARCH') or '',sys.base_prefix,*sys.version_info[:2],sep='\\n')"
)
OLDEST = (3, 11)
FLAGS = ("-P", "-s", "-S", "-B", "-X", "utf8")
"""Nothing comes from the folder, the user or site-packages; no bytecode is written."""
ENVIRONMENT = {"PYTHONHASHSEED": "0", "PYTHONCOERCECLOCALE": "0"}
"""One order of sets, so that a verdict can be repeated; emptied before a program begins."""


@dataclass(frozen=True)
class Interpreter:
    """A Python with its standard library."""

    path: str
    library: str
    """The folder of the standard library."""
    prefix: str
    machine: str
    """Name of the folder of shared libraries, such as ``x86_64-linux-gnu``; may be empty."""

    def mounts(self) -> list[str]:
        """Files and folders that the interpreter reads, with the links that lead to them."""
        links = [path for path in LINKS if os.path.islink(path)]
        return [*links, *self._shared(), *EXTRAS, self.path, self.library]

    def hidden(self) -> list[str]:
        """Folders of installed packages among them."""
        return [f"{self.library}/{name}" for name in PACKAGES]

    def files(self) -> list[str]:
        """The same files for a list that cannot leave out the folders of packages."""
        inside = [f"{self.library}/{n}" for n in os.listdir(self.library) if n not in PACKAGES]
        return [*self._shared(), *EXTRAS, self.path, *inside]

    def _shared(self) -> list[str]:
        """Folders of shared libraries, or the libraries where packages lie in the same folder."""
        folders = [f"/usr/lib/{self.machine}", f"/lib/{self.machine}", "/lib64", "/usr/lib64"]
        whole = {os.path.realpath(path) for path in folders if self.machine or "64" in path}
        beside = [Path(self.prefix, "lib")] if self.prefix not in ("/usr", "/") else []
        if not any(os.path.isdir(f"{top}/{self.machine}") for top in LIBRARIES if self.machine):
            beside += map(Path, LIBRARIES)
        files = [path for folder in beside for path in folder.glob("*.so*")]
        single = {str(one) for path in files for one in (path, path.resolve())}
        return sorted(path for path in whole | single if os.path.exists(path))

    def runs_for_all(self) -> bool:
        """Whether every user of this machine may read it, and not its owner alone."""
        needed = (Path(self.path), Path(self.library))
        folders = [parent for path in needed for parent in path.parents]
        return all(one.stat().st_mode & stat.S_IXOTH for one in (*needed, *folders))


@functools.cache
def _asked(path: str) -> Interpreter | None:
    command = [os.path.realpath(path), "-I", "-S", "-B", "-c", ASK]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    real, library, machine, prefix, major, minor = done.stdout.split("\n")[:6]
    if (int(major), int(minor)) < OLDEST:
        return None
    return Interpreter(real, library, prefix, machine)


def candidates() -> Iterator[Interpreter]:
    """Interpreters that this user can start: that of this process, then the system's."""
    own = getattr(sys, "_base_executable", None) or sys.executable
    for path in (own, *SYSTEM):
        if path and os.access(path, os.X_OK) and (found := _asked(path)):
            yield found
