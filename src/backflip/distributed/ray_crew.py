"""A crew of Ray actors. Imported where a recipe names a cluster, and nowhere else."""

from __future__ import annotations

import contextlib
import importlib
import os
import socket
import time
from collections.abc import Generator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from backflip.distributed.crew import Lost
from backflip.errors import UserError

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")  # nobody starts a cluster by asking one
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")  # who gets no device sees none
try:
    import ray
    from ray.exceptions import RayError, RayTaskError
except ImportError as error:
    raise UserError(
        "cluster needs Ray: pip install 'backflip[ray]' on every machine, in the same version."
    ) from error

__all__ = ["FOUND", "RayCrew", "RayMember"]

FOUND = "BACKFLIP_RAY"
"""Variable with the address of the cluster that this process was started on by Ray."""
LOCAL = "local"
FREE = 10.0
"""Seconds until what others have let go of is free."""
GIVEN = ("BACKFLIP_", "HF_", "TOKENIZERS_")
"""Beginnings of variables of the environment that members are to have too."""
ROOM = 256
"""Processes on a machine that Ray is started on for one run: they share its processors."""
STORE = 0.25
"""Of this machine's shared memory, for what Ray hands over, where it is started for one run."""


@dataclass(frozen=True)
class Place:
    """Where and among which variables the asking process runs, for members to do as it does."""

    folder: str
    variables: dict[str, str]

    @staticmethod
    def here() -> Place:
        named = {n: v for n, v in os.environ.items() if n.startswith(GIVEN)}
        return Place(str(Path.cwd()), named)

    def enter(self) -> None:
        """Raises UserError where this machine has no such folder."""
        os.environ.update(self.variables)
        if not Path(self.folder).is_dir():
            raise UserError(
                f"{socket.gethostname()} has no folder {self.folder}: all machines of a run need a "
                "file system in common. Start it in a folder that they share."
            )
        os.chdir(self.folder)


class Host:
    """The actor: a role, built from the name of its maker when it is first asked, so that what is
    raised there is told like any other error.
    """

    def __init__(self, place: Place, maker: str, *given: Any) -> None:
        self._place, self._maker, self._given = place, maker, given
        self._role: Any = None

    def ask(self, method: str, *given: Any) -> Any:
        if self._role is None:
            self._place.enter()
            module, _, function = self._maker.partition(":")
            self._role = getattr(importlib.import_module(module), function)(*self._given)
        return getattr(self._role, method)(*given)

    def pid(self) -> int:
        """Number of this process."""
        return os.getpid()


class RayMember:
    """A role in an actor."""

    def __init__(self, name: str, maker: str, given: tuple[Any, ...], options: Any) -> None:
        self.name = name
        self._maker, self._given, self._options = maker, given, options
        self._actor = self._started()

    def ask(self, method: str, *given: Any) -> Future[Any]:
        asked: Future[Any] = Future()
        reference = self._actor.ask.remote(method, *given)
        reference.future().add_done_callback(lambda found: _passed_on(found, asked, self.name))
        return asked

    def pid(self, seconds: float) -> int:
        """Number of the member's process, on the machine that it lives on."""
        return ray.get(self._actor.pid.remote(), timeout=seconds)

    def begin_again(self) -> None:
        self.end()
        self._actor = self._started()

    def end(self) -> None:
        """End the process, whatever it does."""
        ray.kill(self._actor, no_restart=True)

    def _started(self) -> Any:
        make: Any = ray.remote(Host)
        return make.options(**self._options).remote(Place.here(), self._maker, *self._given)


class RayCrew:
    """The members of a run in a Ray cluster."""

    def __init__(
        self, address: str, *, members: int, gpus: float | None = None, taken: int = 0
    ) -> None:
        """``address``: ``local`` starts Ray on this machine for this run, ``auto`` finds the one
        that runs here, else HOST:PORT. ``members``: as many will be started; ``gpus``: of each,
        None: one where the cluster has some; ``taken``: devices of this machine that learners have.

        Raises UserError where nobody is there, or the members do not fit.
        """
        self._members = list[RayMember]()
        self._began = not ray.is_initialized()
        if self._began:
            _joined(os.environ.get(FOUND, address), members, taken)
        self.gpus = float(ray.cluster_resources().get("GPU", 0) > 0) if gpus is None else gpus
        """Of each member."""
        try:
            _wait_for({"CPU": float(members), "GPU": members * self.gpus}, members)
        except UserError:
            self.close()
            raise

    @property
    def found_at(self) -> str:
        """Address by which other processes find the cluster."""
        return ray.get_runtime_context().gcs_address

    def start(self, name: str, maker: str, *given: Any) -> RayMember:
        options = {"num_cpus": 1, "num_gpus": self.gpus, "max_restarts": 0}
        self._members.append(RayMember(name, maker, given, options))
        return self._members[-1]

    def share(self, value: Any) -> Any:
        return ray.put(value)

    def close(self) -> None:
        for member in self._members:
            member.end()
        self._members.clear()
        if self._began:
            ray.shutdown()


def fits(there: Mapping[str, float], wanted: Mapping[str, float], members: int) -> None:
    """Raises UserError, with numbers, where less of a cluster is free than is wanted."""
    short = {name: much for name, much in wanted.items() if much > there.get(name, 0.0)}
    if short:
        said = ", ".join(
            f"{much:g} {name} ({there.get(name, 0):g} are free)" for name, much in short.items()
        )
        raise UserError(
            f"the cluster is too small for {members} processes: they need {said}. Ask for fewer "
            "(cluster.samplers, cluster.reference, cluster.reward, cluster.critic), or add some."
        )


def _wait_for(wanted: Mapping[str, float], members: int) -> None:
    """As ``fits``, of what is free or soon will be."""
    until = time.monotonic() + FREE
    while True:
        try:
            fits(ray.available_resources(), wanted, members)
        except UserError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)
        else:
            return


@contextlib.contextmanager
def _spared(taken: int) -> Generator[None]:
    """Inside, a cluster that is started here finds the devices behind the first ``taken`` alone,
    which are the learner's.
    """
    name, before = "CUDA_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES")
    here = (
        [str(n) for n in range(torch.cuda.device_count())] if before is None else before.split(",")
    )
    os.environ[name] = ",".join(here[taken:])
    try:
        yield
    finally:
        os.environ.pop(name)
        os.environ.update({} if before is None else {name: before})


def _joined(address: str, members: int, taken: int = 0) -> None:
    """Connect to a cluster, or start one here with room for the members.

    ``taken``: devices of this machine that are in use.
    """
    how: dict[str, Any] = {"namespace": "backflip", "log_to_driver": False}
    how |= {"logging_level": "ERROR", "configure_logging": True}
    if address == LOCAL:
        room, store = max(members, ROOM), max(int(STORE * _shared_memory()), 128 << 20)
        how |= {"num_cpus": room, "include_dashboard": False, "object_store_memory": store}
        how |= {"address": "local"}
    else:
        how |= {"address": address}
    try:
        with _spared(taken) if address == LOCAL else contextlib.nullcontext():
            ray.init(**how)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(
            f"cluster.address is {address}, and no Ray cluster answers there "
            f"({str(error).splitlines()[0][:200]}). Start one with ray start --head, or set "
            "cluster.address=local. Does this machine have its token (RAY_AUTH_TOKEN) and its "
            "versions of Ray and Python?"
        ) from error


def _shared_memory() -> int:
    """Bytes that are free of it."""
    found = os.statvfs("/dev/shm")
    return found.f_bavail * found.f_frsize


def _passed_on(found: Future[Any], asked: Future[Any], name: str) -> None:
    """Hand an answer of Ray's over; the end of an actor becomes Lost."""
    error = found.exception()
    if error is None:
        asked.set_result(found.result())
    elif isinstance(error, RayTaskError):
        cause = getattr(error, "cause", None)
        asked.set_exception(cause if isinstance(cause, Exception) else error)
    elif isinstance(error, RayError):
        asked.set_exception(Lost(f"{name} died ({str(error).splitlines()[0][:200]})"))
    else:
        asked.set_exception(error)
