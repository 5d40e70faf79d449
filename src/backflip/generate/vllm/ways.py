"""Ways of weights into a vLLM that is running, with both of their ends.

``FileWay`` writes a file that the other side reads. ``Broadcast`` sends them through a group of
processes: the learner is rank 0, vLLM's workers are the others; by NCCL between devices, by gloo on
CPUs. ``SharedMemory`` lets vLLM read the learner's own memory on a CUDA device, by CUDA IPC.

The learner's end runs here, the other (``Receiver``) in vLLM's environment, which this file is
copied into and which knows nothing of Backflip: it imports torch and safetensors alone.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["Broadcast", "FileWay", "Receiver", "SharedMemory", "Way"]

MOST = 1 << 28
"""Bytes that are sent at once, unless a single weight has more."""
HERE = "127.0.0.1"
STORE: Any = dist.TCPStore  # pyright: ignore[reportPrivateImportUsage]
EVERY = 0.002
"""Seconds between two looks whether the other side is there, or has failed."""


class Way(Protocol):
    """The learner's end. ``failed`` says whether the other end has given up meanwhile."""

    def meeting(self, workers: int, device: torch.device) -> dict[str, Any]:
        """All that the other end has to know beforehand; ``device``: of the learner's weights."""
        ...

    def meet(self, failed: Callable[[], bool]) -> None:
        """Done while the other end meets."""
        ...

    def update(self, weights: Mapping[str, Tensor], version: str) -> dict[str, Any]:
        """All that the other end has to know of these weights."""
        ...

    def send(self, failed: Callable[[], bool]) -> None:
        """Done while the other end takes them."""
        ...

    def done(self) -> None:
        """They have been taken, or have not: nothing of them is left on the way."""
        ...


class FileWay:
    """Through a folder that both sides see under the same name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.expanduser().resolve()
        self.path: Path | None = None

    def meeting(self, workers: int, device: torch.device) -> dict[str, Any]:
        del workers, device
        return {"way": "file"}

    def meet(self, failed: Callable[[], bool]) -> None:
        """A file needs no meeting."""

    def update(self, weights: Mapping[str, Tensor], version: str) -> dict[str, Any]:
        from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]

        self.folder.mkdir(parents=True, exist_ok=True)
        self.path = self.folder / f"{version}.safetensors"
        plain = {name: weight.detach().cpu().contiguous() for name, weight in weights.items()}
        try:
            save_file(plain, self.path)
        except Exception as error:  # safetensors has an error of its own for a full disk
            raise OSError(f"{self.path} could not be written: {error}") from error
        return {"path": str(self.path)}

    def send(self, failed: Callable[[], bool]) -> None:
        """It lies there."""

    def done(self) -> None:
        if self.path is not None:
            self.path.unlink(missing_ok=True)
            self.path = None


class Broadcast:
    """Through a group of processes on this machine."""

    def __init__(self, seconds: float) -> None:
        """``seconds``: that the sides wait for each other."""
        self.seconds, self.device = seconds, torch.device("cpu")
        self._store, self._group, self._size, self._count = None, None, 0, 0
        """``_count``: of the parts that were sent since the last meeting."""
        self._weights: list[Tensor] = []

    def meeting(self, workers: int, device: torch.device) -> dict[str, Any]:
        self.device = device
        wait = timedelta(seconds=self.seconds)
        self._store = STORE(HERE, 0, is_master=True, wait_for_workers=False, timeout=wait)
        self._size = workers + 1
        meeting = {"way": "broadcast", "port": self._store.port, "size": self._size}
        return meeting | {"seconds": self.seconds}

    def meet(self, failed: Callable[[], bool]) -> None:
        self._count = 0
        if self._all(-1, failed):
            self._group = _joined(self._store, 0, self._size, self.seconds, self.device)

    def update(self, weights: Mapping[str, Tensor], version: str) -> dict[str, Any]:
        del version
        self._weights = [weight.detach() for weight in weights.values()]
        return {"names": [*weights], **_described(self._weights)}

    def send(self, failed: Callable[[], bool]) -> None:
        for part in _parts([weight.nbytes for weight in self._weights]):
            packed = torch.cat([_bytes(self._weights[n]) for n in part])
            if not self._all(self._count, failed):
                return
            self._count += 1
            _sent(self._group, packed).wait()

    def done(self) -> None:
        self._weights = []

    def _all(self, count: int, failed: Callable[[], bool]) -> bool:
        """Wait until all workers wait for a part; False where the other end has failed before.

        So that no part is ever sent to somebody who will not take it, for which a process waits
        even as it ends.
        """
        store: Any = self._store
        keys = [_ready(rank) for rank in range(1, self._size)]
        until = time.monotonic() + self.seconds
        while not (store.check(keys) and all(int(store.get(key)) >= count for key in keys)):
            if failed():
                return False
            if time.monotonic() > until:
                raise RuntimeError(f"not all of {len(keys)} workers came within {self.seconds:g} s")
            time.sleep(EVERY)
        return True


class SharedMemory:
    """The learner's own memory on a device that vLLM runs on too."""

    def __init__(self) -> None:
        self._weights: list[Tensor] = []

    def meeting(self, workers: int, device: torch.device) -> dict[str, Any]:
        del workers, device
        return {"way": "ipc"}

    def meet(self, failed: Callable[[], bool]) -> None:
        """Handles go with each update."""

    def update(self, weights: Mapping[str, Tensor], version: str) -> dict[str, Any]:
        del version
        self._weights = [weight.detach() for weight in weights.values()]
        torch.cuda.synchronize()
        devices = [
            str(torch.cuda.get_device_properties(weight.device).uuid) for weight in self._weights
        ]
        handles = [_handle(weight) for weight in self._weights]
        described = _described(self._weights)
        return {"names": [*weights], "devices": devices, "handles": handles, **described}

    def send(self, failed: Callable[[], bool]) -> None:
        """The other side reads it."""

    def done(self) -> None:
        self._weights = []
        torch.cuda.ipc_collect()


class Receiver:
    """The end in one of vLLM's workers."""

    def __init__(self, rank: int, device: torch.device) -> None:
        """``rank``: of the worker, from 0."""
        self.rank, self.device = rank + 1, device
        self._store: Any = None
        self._group, self._count = None, 0

    def meet(self, way: str, port: int = 0, size: int = 1, seconds: float = 60.0) -> None:
        """Take part in a meeting, as the learner has called it."""
        if way != "broadcast":
            return
        wait = timedelta(seconds=seconds)
        self._store = STORE(HERE, port, is_master=False, timeout=wait)
        self._store.set(_ready(self.rank), "-1")
        self._group, self._count = _joined(self._store, self.rank, size, seconds, self.device), 0

    def weights(self, update: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
        """Weights by their names, as the learner has announced them."""
        if "path" in update:
            from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType]

            yield from load_file(update["path"]).items()
        elif "handles" in update:
            yield from self._shared(update)
        else:
            yield from self._broadcast(update)

    def settle(self) -> None:
        """Wait until all is copied: the learner may change its own after that."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def close(self) -> None:
        """Leave the group."""
        self._store, self._group = None, None

    def _broadcast(self, update: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
        kinds = [getattr(torch, kind) for kind in update["types"]]
        shapes, names = [torch.Size(shape) for shape in update["shapes"]], update["names"]
        sizes = [shape.numel() * kind.itemsize for shape, kind in zip(shapes, kinds, strict=True)]
        for part in _parts(sizes):
            each = [sizes[n] for n in part]
            packed = torch.empty(sum(each), dtype=torch.uint8, device=self.device)
            self._store.set(_ready(self.rank), str(self._count))
            self._count += 1
            _sent(self._group, packed).wait()
            for n, piece in zip(part, packed.split(each), strict=True):
                yield names[n], piece.clone().view(kinds[n]).view(shapes[n])

    def _shared(self, update: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
        there = {
            str(torch.cuda.get_device_properties(n).uuid): n
            for n in range(torch.cuda.device_count())
        }
        fields = zip(
            update["names"],
            update["devices"],
            update["handles"],
            update["types"],
            update["shapes"],
            strict=True,
        )
        for name, device, handle, kind, shape in fields:
            if device not in there:
                raise ValueError(
                    f"the learner's weights lie on device {device}, which vLLM does not see "
                    f"(it sees {', '.join(there) or 'none'}): engine.handover=broadcast goes "
                    "between devices"
                )
            yield name, _opened(handle, there[device], getattr(torch, kind), shape)


def _ready(rank: int) -> str:
    """The key under which a worker writes the number of the part that it waits for; −1: the
    meeting.
    """
    return f"ready-{rank}"


def _described(weights: Sequence[Tensor]) -> dict[str, Any]:
    return {
        "types": [str(weight.dtype).removeprefix("torch.") for weight in weights],
        "shapes": [list(weight.shape) for weight in weights],
    }


def _bytes(weight: Tensor) -> Tensor:
    return weight.contiguous().view(-1).view(torch.uint8)


def _parts(sizes: Iterable[int]) -> Iterator[list[int]]:
    """Numbers of weights that go together, in order: as many as ``MOST`` bytes hold, or one."""
    part, held = list[int](), 0
    for number, size in enumerate(sizes):
        if part and held + size > MOST:
            yield part
            part, held = [], 0
        part.append(number)
        held += size
    if part:
        yield part


def _joined(store: Any, rank: int, size: int, seconds: float, device: torch.device) -> Any:
    """A group of its own, beside whatever other groups a process is in."""
    wait = timedelta(seconds=seconds)
    if device.type != "cuda":
        return dist.ProcessGroupGloo(store, rank, size, wait)
    torch.cuda.set_device(device)
    options = dist.ProcessGroupNCCL.Options()
    options._timeout = wait
    return dist.ProcessGroupNCCL(store, rank, size, options)


def _sent(group: Any, packed: Tensor) -> Any:
    """The work of rank 0's bytes on their way to all others."""
    options = dist.BroadcastOptions()
    options.rootRank, options.rootTensor = 0, 0
    return group.broadcast([packed], options)


def _handle(weight: Tensor) -> dict[str, Any]:
    """A weight's place in the memory of its device, in JSON."""
    from torch.multiprocessing.reductions import reduce_tensor

    made: Any = reduce_tensor(weight)[1]
    stride, offset, storage = made[2], made[3], made[7:]
    raw = [{"b": base64.b64encode(x).decode()} if isinstance(x, bytes) else x for x in storage]
    return {"stride": list(stride), "offset": offset, "storage": raw}


def _opened(handle: Any, index: int, kind: torch.dtype, shape: Sequence[int]) -> Tensor:
    """The weight that a handle of this device is of."""
    from torch.multiprocessing.reductions import rebuild_cuda_tensor

    storage = [base64.b64decode(x["b"]) if isinstance(x, Mapping) else x for x in handle["storage"]]
    return rebuild_cuda_tensor(
        torch.Tensor,
        torch.Size(shape),
        tuple(handle["stride"]),
        handle["offset"],
        torch.storage.TypedStorage,
        kind,
        index,
        *storage,
    )
