"""A vLLM server in an environment of its own, started here, watched, and ended with the run."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from backflip.distributed import supervisor
from backflip.errors import UserError
from backflip.generate.openai.client import Client
from backflip.progress import task
from backflip.text import counted

__all__ = ["OwnServer"]

PLUGIN = {"backflip_vllm.py": "plugin.py", "backflip_ways.py": "ways.py"}
"""Files of our back end for weights: as they are called there, and here."""
ENTRY_POINTS = "[vllm.general_plugins]\nbackflip = backflip_vllm:register\n"
METADATA = "Metadata-Version: 2.1\nName: backflip-vllm\nVersion: 1\n"
MODULE = "vllm.entrypoints.openai.api_server"
MOST_STARTS = 5
"""In an hour, after the first."""
HOUR = 3600.0
LINES = 30
"""Last lines of its log that an error shows."""
OURS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR")
OURS += ("MASTER_PORT", "ROLE_RANK", "ROLE_WORLD_SIZE", "PYTHONHOME", "VIRTUAL_ENV")
GRACE = 20.0
"""Seconds that its processes have to end by themselves, where this one is gone."""
ENDING = 25.0
"""Seconds that it has to end by itself."""


@dataclass
class OwnServer:
    """One server process, on a free port of this machine."""

    python: str
    """Interpreter of vLLM's environment."""
    model: Path
    """Folder of the model that it begins with."""
    log: Path
    """What it prints goes here."""
    options: Sequence[str] = ()
    """Further options of the server."""
    patience: float = 900.0
    """Seconds until it must serve."""
    port: int = 0
    starts: list[float] = field(default_factory=list[float])
    """Times at which it was started again."""
    process: subprocess.Popen[bytes] | None = None
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    closed: bool = False
    """Whether it was ended for good."""

    @property
    def url(self) -> str:
        """Its address, with the version."""
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        """Start it and wait until it serves. Raises UserError where it does not."""
        self.port = self.port or _free_port()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        command = [self.python, "-m", MODULE, f"--model={self.model}", "--host=127.0.0.1"]
        command += [f"--port={self.port}", "--logprobs-mode=processed_logprobs"]
        command += [f"--weight-transfer-config={json.dumps({'backend': 'backflip'})}"]
        with self.lock, self.log.open("ab") as out:
            if self.closed:
                raise UserError("engine: the run has ended, and its vLLM with it.")
            self.process = subprocess.Popen(
                [sys.executable, supervisor.__file__, str(GRACE), *command, *self.options],
                env=_environment(_installed(self.log.parent / "plugin")),
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        atexit.register(self.stop)
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    def alive(self) -> bool:
        """Whether its process runs."""
        return self.process is not None and self.process.poll() is None

    def ends_within(self, seconds: float) -> bool:
        """Whether its process has ended, or does so in this time."""
        if self.process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(seconds)
        return not self.alive()

    def start_again(self, why: str) -> str:
        """End what is left of it and start anew; a sentence that says so.

        Raises UserError where that happened too often within an hour.
        """
        now = time.monotonic()
        self.starts = [then for then in self.starts if now - then < HOUR]
        if len(self.starts) >= MOST_STARTS:
            raise UserError(
                f"engine: vLLM had to be started again {MOST_STARTS} times within an hour; now "
                f"{why}. {self._last_words()}"
            )
        self.starts.append(now)
        self.stop()
        self.start()
        times = counted(len(self.starts), "start")
        return f"vLLM was started again ({why}; {times} more than one within an hour)"

    def close(self) -> None:
        """End it for good: whoever still wants to start it is told that the run has ended."""
        with self.lock:
            self.closed = True
        self.stop()

    def stop(self) -> None:
        """End it, with all that it has started."""
        process, self.process = self.process, None
        if process is None:
            return
        atexit.unregister(self.stop)
        if process.stdin is not None:
            process.stdin.close()  # by which its supervisor knows
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(ENDING)
        with contextlib.suppress(ProcessLookupError):  # whatever has outlived that
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def _wait(self) -> None:
        until = time.monotonic() + self.patience
        client = Client(url=self.url, timeout=5.0, retries=0)
        with task("starting vLLM"):
            while time.monotonic() < until:
                if not self.alive():
                    raise UserError(f"engine: vLLM did not start. {self._last_words()}")
                with contextlib.suppress(UserError):
                    client.ask(f"{client.root}/health", plain=True)
                    return
                time.sleep(0.2)
        raise UserError(
            f"engine: vLLM does not serve after {self.patience:g} s (engine.start_seconds). "
            f"{self._last_words()}"
        )

    def _last_words(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LINES:]
        said = "\n".join(lines)
        return f"Its log, {self.log}, ends:\n{said}" if said else f"Its log, {self.log}, is empty."


def _installed(folder: Path) -> Path:
    """A folder in which vLLM finds our back end for weights, as if it were a package of its own."""
    about = folder / "backflip_vllm-1.dist-info"
    about.mkdir(parents=True, exist_ok=True)
    (about / "METADATA").write_text(METADATA, encoding="utf-8")
    (about / "entry_points.txt").write_text(ENTRY_POINTS, encoding="utf-8")
    for there, file in PLUGIN.items():
        shutil.copyfile(Path(__file__).parent / file, folder / there)
    return folder


def _environment(packages: Path) -> dict[str, str]:
    """Variables of the server: those of this process but for what says that it is one of several,
    and where its packages lie.
    """
    own = os.environ.items()
    kept = {n: v for n, v in own if n not in OURS and not n.startswith("TORCHELASTIC")}
    return kept | {
        "PYTHONPATH": str(packages),
        "VLLM_SERVER_DEV_MODE": "1",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
