"""A PostgreSQL of the tests' own: in a temporary folder, on a socket alone, as an ordinary user."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin")


def program(name: str) -> str | None:
    """Where one of PostgreSQL's programs is; Debian keeps them off the path."""
    found = [str(path) for place in PLACES for path in Path("/").glob(f"{place[1:]}/{name}")]
    return shutil.which(name) or (sorted(found)[-1] if found else None)


def missing() -> str:
    """Why there can be no server; empty where there can."""
    for name in ("initdb", "pg_ctl", "pg_dump"):
        if program(name) is None:
            return f"PostgreSQL is not installed: {name} was not found"
    if os.geteuid() == 0 and ordinary_user() is None:
        return "PostgreSQL refuses to run as root, and there is no user 'postgres' or 'nobody'"
    return ""


def ordinary_user() -> str | None:
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in known), None)


@dataclass(frozen=True)
class Cluster:
    """A server that runs until the tests end."""

    folder: Path
    names: Iterator[int] = field(default_factory=itertools.count)

    def url(self, database: str) -> str:
        return f"postgresql://tester@/{database}?host={self.folder}"

    def create(self, template: str = "template0") -> str:
        """A new database, as a copy of another one; its URL."""
        import psycopg

        name = f"test{next(self.names)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
        return self.url(name)


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Make a server, and stop it at the end."""
    folder = Path(tempfile.mkdtemp(prefix="backflip-pg-"))
    user = ordinary_user() if os.geteuid() == 0 else None
    if user:
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
    data = folder / "data"

    def run(name: str, *arguments: str) -> None:
        where = {"cwd": folder, "user": user, "capture_output": True, "text": True}
        done = subprocess.run([program(name) or name, *arguments], **where, check=False)
        assert done.returncode == 0, f"{name}: {done.stderr or done.stdout}"

    try:
        run("initdb", "-D", str(data), "-U", "tester", "-A", "trust", "-E", "UTF8", "--no-sync")
        options = f"-c listen_addresses='' -k {folder} -c fsync=off -c max_connections=200"
        run("pg_ctl", "-D", str(data), "-w", "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield Cluster(folder)
        finally:
            run("pg_ctl", "-D", str(data), "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
