"""Ranks on a Ray cluster: what ``torchrun`` does on machines that one can log in to.

Each rank is a process beside an agent. When one fails, all are ended and started again, and go on
from the last checkpoint.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import wait
from dataclasses import dataclass, field

from backflip.distributed.crew import Lost, Member, answer
from backflip.distributed.joining import BEGAN
from backflip.distributed.ray_crew import FOUND, RayCrew
from backflip.errors import Interrupted, UserError, WaitingForLabels
from backflip.training.signals import Signals

__all__ = ["Ranks"]

AGENT = "backflip.cluster.agent:Agent"
EVERY = 0.2
"""Seconds between two looks at the processes."""
ANSWER = 60.0
"""Seconds for an agent to answer."""
STARTED = 300.0
"""Seconds for an agent to be there."""
GRACE = 20.0
"""Seconds that the others have to say what they know, once one has failed."""
FINAL = (UserError.exit_code, Interrupted.exit_code, WaitingForLabels.exit_code)
"""Exit codes that another start would not change."""
ALL = "RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"
"""Variable by which Ray leaves every process all devices."""
GIVEN = ("BACKFLIP_", "HF_", "NCCL_", "GLOO_", "TORCH_", "TOKENIZERS_", "PYTHONPATH", "OMP_NUM")
"""Beginnings of variables of the environment that ranks are to have too."""


@dataclass
class Rank:
    """An agent, and how far its process has been heard."""

    agent: Member
    read: tuple[int, int] = (0, 0)
    code: int | None = None


@dataclass
class Ranks:
    """A command, carried out by several processes together."""

    words: Sequence[str]
    """Of the command, without ``backflip``: ``train``, ``dpo``, …"""
    size: int
    address: str = "local"
    """Of the cluster, as ``cluster.address``."""
    restarts: int = 3
    """How often all are started again after one has failed."""
    gpus: float | None = None
    """Devices of each; None: one where the cluster has some."""
    _ranks: list[Rank] = field(default_factory=list[Rank], repr=False)
    _sees_one: bool = True
    """Whether each process sees a device of its own alone, as Ray has it."""
    _began: float = field(default_factory=time.time)

    def run(self) -> int:
        """Exit code of the command, once all have ended. Raises UserError without a cluster."""
        if self.gpus is not None and self.gpus % 1:
            raise UserError(f"--gpus is {self.gpus:g}: a rank needs whole devices, or 0 for none.")
        crew = RayCrew(self.address, members=self.size, gpus=self.gpus)
        self._sees_one = crew.gpus > 0 and ALL not in os.environ
        try:
            self._ranks = [Rank(crew.start(f"rank {n}", AGENT)) for n in range(self.size)]
            with Signals() as signals:
                for start in range(self.restarts + 1):
                    code = self._once(start, crew.found_at, signals)
                    last = start == self.restarts or signals.first is not None
                    if code == 0 or code in FINAL or last:
                        return code
                    _complain(f"all {self.size} are started again ({start + 1} of {self.restarts})")
        finally:
            self._kill()
            crew.close()
        raise AssertionError("the last start returns")

    def _once(self, start: int, cluster: str, signals: Signals) -> int:
        """One start of all processes, until they have ended: the first code that is not 0."""
        try:
            self._started(start, cluster)
            return self._ended(signals)
        except Lost as why:
            _complain(str(why))
            for rank in self._ranks:
                rank.agent.begin_again()
            return 1

    def _started(self, start: int, cluster: str) -> None:
        places = [
            answer(asked, STARTED, rank.agent.name)
            for rank, asked in [(rank, rank.agent.ask("place")) for rank in self._ranks]
        ]
        usual = {n: v for n, v in os.environ.items() if n.startswith(GIVEN)}
        machines = [machine for machine, _ in places]
        for number, rank in enumerate(self._ranks):
            beside = [n for n, machine in enumerate(machines) if machine == machines[number]]
            variables = usual | {
                "RANK": str(number),
                "WORLD_SIZE": str(self.size),
                "LOCAL_RANK": "0" if self._sees_one else str(beside.index(number)),
                "LOCAL_WORLD_SIZE": str(len(beside)),
                "MASTER_ADDR": machines[0],
                "MASTER_PORT": str(places[0][1]),
                "TORCHELASTIC_RESTART_COUNT": str(start),
                FOUND: cluster,
                BEGAN: str(self._began),
            }
            rank.read, rank.code = (0, 0), None
            asked = rank.agent.ask("start", list(self.words), variables)
            answer(asked, ANSWER, rank.agent.name)

    def _ended(self, signals: Signals) -> int:
        told, since = False, float("inf")
        while True:
            self._hear()
            codes = [rank.code for rank in self._ranks]
            failed = [code for code in codes if code]
            final = [code for code in failed if code in FINAL]
            if None not in codes:
                return (final or failed or [0])[0]
            if signals.first is not None and not told:
                told = True
                for rank in self._ranks:
                    rank.agent.ask("stop")
            since = min(since, time.monotonic()) if failed else since
            if time.monotonic() - since > GRACE:
                self._kill()
                return (final or failed)[0]
            time.sleep(EVERY)

    def _hear(self) -> None:
        """Pass on what the processes have printed."""
        asked = [(rank, rank.agent.ask("news", rank.read)) for rank in self._ranks]
        for rank, news in asked:
            rank.code, out, err = answer(news, ANSWER, rank.agent.name)
            while out or err:
                rank.read = (rank.read[0] + len(out), rank.read[1] + len(err))
                for said, stream in ((out, sys.stdout), (err, sys.stderr)):
                    stream.buffer.write(said)
                    stream.flush()
                _, out, err = answer(rank.agent.ask("news", rank.read), ANSWER, rank.agent.name)

    def _kill(self) -> None:
        """End what is left of the processes."""
        wait([rank.agent.ask("end") for rank in self._ranks], ANSWER)


def _complain(message: str) -> None:
    sys.stderr.write(f"backflip ray: {message}\n")
