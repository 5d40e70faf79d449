"""Several processes as one, by a process group of torch: what ``torchrun`` starts.

Imported where more than one process runs, and nowhere else.
"""

from __future__ import annotations

import datetime
import os
import pickle
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from backflip.distributed.faults import Faults
from backflip.distributed.joining import began
from backflip.distributed.meeting import meet
from backflip.distributed.sharding import shard
from backflip.distributed.world import ALONE, settled
from backflip.errors import RankError

__all__ = ["Gang", "join"]

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Gang:
    """The ranks of a process group."""

    rank: int
    size: int
    began: float
    mesh: Any
    """Device mesh over which models are laid out."""

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def deal(self, pieces: Sequence[T]) -> list[tuple[T, bool]]:
        return [(pieces[min(at, len(pieces) - 1)], at < len(pieces)) for at in self._mine(pieces)]

    def spread(self, pieces: Sequence[T], work: Callable[[T], R]) -> list[R]:
        if not pieces:
            return []
        lists = self.everyone([work(piece) for piece, _ in self.deal(pieces)])
        found = zip(map(self._of(pieces), range(self.size)), lists, strict=True)
        placed = {
            at: value for places, values in found for at, value in zip(places, values, strict=False)
        }
        return [placed[at] for at in range(len(pieces))]

    def everyone(self, said: T) -> list[T]:
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, said)
        return found

    def tell(self, said: T) -> T:
        told: list[Any] = [said]
        dist.broadcast_object_list(told, src=0)
        return said if self.leads else told[0]

    def once(self, work: Callable[[], T]) -> T:
        told: Any = (None, None)
        if self.leads:
            try:
                with settled(ALONE):  # nobody else comes along
                    told = (work(), None)
            except Exception as error:
                self.tell((None, _portable(error)))
                raise
        found, wrong = self.tell(told)
        if wrong is not None:
            raise wrong
        return found

    def shard(self, model: Any) -> Any:
        return shard(model, self.mesh)

    def leave(self) -> None:
        """The work is done: every rank has come so far."""
        self.everyone(None)
        dist.destroy_process_group()

    def _mine(self, pieces: Sequence[Any]) -> list[int]:
        return self._of(pieces)(self.rank)

    def _of(self, pieces: Sequence[Any]) -> Callable[[int], list[int]]:
        """Places of the pieces of a rank: there and back, as they come largest first."""
        rounds = -(-len(pieces) // self.size)

        def places(rank: int) -> list[int]:
            return [
                n * self.size + (self.size - 1 - rank if n % 2 else rank) for n in range(rounds)
            ]

        return places


def _portable(error: Exception) -> Exception:
    """The error itself where it can travel, else its words."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # an error with arguments of its own
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def join(patience: float) -> tuple[Gang, Faults]:
    """Meet the other processes that ``torchrun`` started; ``patience``: seconds to wait for any.

    Raises RankError where they do not meet.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
    limit = datetime.timedelta(seconds=patience)
    try:
        store, rank, size, met = meet(patience)
        given: Any = {"store": store, "rank": rank, "world_size": size}
        dist.init_process_group(backend, timeout=limit, **given)
        met()
    except RuntimeError as error:
        raise RankError(
            f"rank {os.environ['RANK']} of {os.environ['WORLD_SIZE']} has not met the others "
            f"({str(error).splitlines()[0][:200]}). Did they start, and can they reach "
            f"{os.environ['MASTER_ADDR']}? torchrun --max-restarts 3 tries again."
        ) from error
    faults = Faults(rank, size, patience)
    told: list[Any] = [_began()]
    dist.broadcast_object_list(told, src=0)
    return Gang(rank, size, told[0], _mesh(device, size)), faults


def _began() -> float:
    """When torchrun was started, which a restart of the processes does not change."""
    if (said := began()) is not None:
        return said
    try:
        boot = Path("/proc/stat").read_text(encoding="ascii").partition("btime ")[2].split()[0]
        start = Path(f"/proc/{os.getppid()}/stat").read_text(encoding="utf-8")
        ticks = int(start.rpartition(")")[2].split()[19])
        return int(boot) + ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):  # a system without /proc
        return time.time()


def _mesh(device: str, size: int) -> Any:
    """One line of ranks; or, over several nodes, sharded within each and replicated among them."""
    local = int(os.environ.get("LOCAL_WORLD_SIZE", size))
    init: Any = dist.device_mesh.init_device_mesh
    if local >= size or size % local:
        return init(device, (size,))
    return init(device, (size // local, local), mesh_dim_names=("nodes", "local"))
