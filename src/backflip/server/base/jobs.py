"""Jobs: commands that run beside the server, with a log, a state and a report.

Each is a folder with ``job.json`` and ``log.txt``, so a list of them outlives the server. Several
servers may share the folder: each holds a lock as long as it lives, by which the others know that
its jobs go on. A job whose server was killed is found and said to have broken off.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from backflip.errors import UserError

State: TypeAlias = Literal["waiting", "running", "done", "failed", "stopped", "broken off"]
LOG_BYTES = 20_000
"""Of a log's end that a page shows."""
GRACE = 20.0
"""Seconds between asking a job to stop and making it."""
POLL = 0.2


def _held(lock: Path) -> bool:
    """Whether a server lives that holds this lock. A file that nobody holds is cleared away."""
    try:
        with lock.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lock.unlink()
    except BlockingIOError:
        return True
    except FileNotFoundError:
        pass
    return False


@dataclass(frozen=True)
class Job:
    """One command, as it stands."""

    id: str
    project: str
    title: str
    command: tuple[str, ...]
    run: str
    """The folder that it writes into; empty: none."""
    state: State = "waiting"
    begun: float = 0.0
    ended: float = 0.0
    code: int | None = None
    server: str = ""
    """Which of the servers that share the folder started it."""

    @property
    def over(self) -> bool:
        return self.state not in ("waiting", "running")


class Jobs:
    """Starts jobs, some at a time, and remembers all of them."""

    def __init__(self, folder: Path, most: int, environment: Mapping[str, str]) -> None:
        self.folder, self.environment = folder, dict(environment)
        self._long, self._short = threading.Semaphore(most), threading.Semaphore(1)
        self._lock = threading.Lock()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._server = ""
        self._alive: Any = None
        self._bury()

    def _bury(self) -> None:
        """Say of jobs whose server is gone that they broke off."""
        alive = {path.stem for path in self.folder.glob("*.lock") if _held(path)}
        for job in self.every():
            if not job.over and job.server not in alive:
                self._keep(replace(job, state="broken off", ended=time.time()))

    def _named(self) -> str:
        """Our name. The lock that says that we live is taken with the first job."""
        with self._lock:
            while self._alive is None:
                self._server = secrets.token_hex(6)
                self.folder.mkdir(parents=True, exist_ok=True)
                path = self.folder / f"{self._server}.lock"
                file = path.open("wb")
                fcntl.flock(file, fcntl.LOCK_EX)
                # Another server may just have cleared it away as nobody's.
                self._alive = file if path.exists() else None
            return self._server

    def start(
        self,
        project: str,
        title: str,
        command: Sequence[str],
        run: str = "",
        *,
        short: bool = False,
    ) -> Job:
        """Queue a command. It is given as words, so that no shell reads it.

        ``short``: it takes seconds or minutes, and waits for others of that kind alone.
        """
        fresh = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
        server = self._named()
        job = Job(fresh, project, title, tuple(command), run, begun=time.time(), server=server)
        self._place(job.id).mkdir(parents=True)
        self._keep(job)
        lane = self._short if short else self._long
        threading.Thread(target=self._work, args=(job, lane), daemon=True).start()
        return job

    def _work(self, job: Job, lane: threading.Semaphore) -> None:
        with lane:
            if self._stopping(job.id):
                self._keep(replace(job, state="stopped", ended=time.time()))
                return
            job = replace(job, begun=time.time())
            with (self._place(job.id) / "log.txt").open("ab") as log:
                code = self._run(job, log)
        stopped = self._stopping(job.id)
        state: State = "stopped" if stopped else "done" if code == 0 else "failed"
        self._keep(replace(job, state=state, ended=time.time(), code=code))

    def _run(self, job: Job, log: Any) -> int:
        try:
            process = subprocess.Popen(
                job.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.environment, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )
        except OSError as error:
            log.write(f"The command could not be started: {error}\n".encode())
            return 1
        with self._lock:
            self._processes[job.id] = process
        # Said only now: until its program has begun, a child still holds the lock that says
        # that we live, and would speak for us if we were killed.
        self._keep(replace(job, state="running"))
        asked = 0.0
        while process.poll() is None:
            if self._stopping(job.id):
                asked = asked or time.monotonic()
                late = time.monotonic() - asked > GRACE
                _signal(process, signal.SIGKILL if late else signal.SIGTERM)
            time.sleep(POLL)
        with self._lock:
            self._processes.pop(job.id, None)
        return process.returncode

    def stop(self, project: str, name: str) -> None:
        """Ask a job to stop: a run checkpoints first."""
        self.find(project, name)
        (self._place(name) / "stop").touch()  # a file, since the job may be another server's

    def _stopping(self, name: str) -> bool:
        return (self._place(name) / "stop").exists()

    def close(self) -> None:
        """Stop all that runs: the server is leaving."""
        with self._lock:
            running = dict(self._processes)
        for name, process in running.items():
            (self._place(name) / "stop").touch()
            _signal(process, signal.SIGTERM)

    def find(self, project: str, name: str) -> Job:
        """A job of a project. Raises UserError where there is none of that name."""
        job = _read(self.folder / name) if name.replace("-", "").isalnum() else None
        if job is None or job.project != project:
            raise UserError(f"there is no job {name[:40]!r} in this project")
        return job

    def of(self, project: str) -> list[Job]:
        """The jobs of a project, the newest first."""
        return [job for job in self.every() if job.project == project]

    def every(self) -> list[Job]:
        folders = sorted(self.folder.iterdir(), reverse=True) if self.folder.is_dir() else []
        return [job for folder in folders if (job := _read(folder))]

    def lately_failed(self, project: str, title: str, seconds: float) -> bool:
        """Whether the newest job of this title failed just now: trying again would be in vain."""
        newest = next((job for job in self.of(project) if job.title == title), None)
        failed = newest is not None and newest.state in ("failed", "broken off")
        return failed and newest is not None and time.time() - newest.ended < seconds

    def log(self, job: Job) -> str:
        """The end of a job's log."""
        path = self._place(job.id) / "log.txt"
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_BYTES))
            return file.read().decode("utf-8", errors="replace")

    def _place(self, name: str) -> Path:
        return self.folder / name

    def _keep(self, job: Job) -> None:
        path = self._place(job.id) / "job.json"
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(asdict(job)), encoding="utf-8")
        temporary.replace(path)


def _read(folder: Path) -> Job | None:
    """The job of a folder; none where there is no whole one."""
    try:
        kept = json.loads((folder / "job.json").read_text(encoding="utf-8"))
        return Job(**{**kept, "command": tuple(kept["command"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal to a job and all that it started."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return
