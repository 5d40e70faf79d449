"""A crew of Ray actors. Imported where a recipe names a cluster, and nowhere else."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from backflip.distributed.crew import Lost
from backflip.errors import UserError

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
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
ROOM = 256
"""Processes on a machine that Ray is started on for one run: they share its processors."""
STORE = 512 << 20
"""Bytes of Ray's store of objects on a machine that Ray is started on for one run."""


class Host:
    """The actor: a role, built from the name of its maker."""

    def __init__(self, maker: str, *given: Any) -> None:
        module, _, function = maker.partition(":")
        self._role = getattr(importlib.import_module(module), function)(*given)

    def ask(self, method: str, *given: Any) -> Any:
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
        return make.options(**self._options).remote(self._maker, *self._given)


class RayCrew:
    """The members of a run in a Ray cluster."""

    def __init__(self, address: str, *, members: int, gpus: float | None = None) -> None:
        """``address``: ``local`` starts Ray on this machine for this run, ``auto`` finds the one
        that runs here, else HOST:PORT. ``members``: as many will be started; ``gpus``: of each,
        None: one where the cluster has some.

        Raises UserError where nobody is there, or the members do not fit.
        """
        self._members = list[RayMember]()
        self._began = not ray.is_initialized()
        if self._began:
            _joined(os.environ.get(FOUND, address), members)
        there = ray.cluster_resources()
        self._gpus = float(there.get("GPU", 0) > 0) if gpus is None else gpus
        try:
            fits(there, {"CPU": float(members), "GPU": members * self._gpus}, members)
        except UserError:
            self.close()
            raise

    @property
    def found_at(self) -> str:
        """Address by which other processes find the cluster."""
        return ray.get_runtime_context().gcs_address

    def start(self, name: str, maker: str, *given: Any) -> RayMember:
        options = {"num_cpus": 1, "num_gpus": self._gpus, "max_restarts": 0}
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
    """Raises UserError, with numbers, where a cluster has less than is wanted."""
    short = {name: much for name, much in wanted.items() if much > there.get(name, 0.0)}
    if short:
        said = ", ".join(
            f"{much:g} {name} (it has {there.get(name, 0):g})" for name, much in short.items()
        )
        raise UserError(
            f"the cluster is too small for {members} processes: they need {said}. Ask for fewer "
            "(cluster.samplers, cluster.reference, cluster.reward, cluster.critic), or add some."
        )


def _joined(address: str, members: int) -> None:
    """Connect to a cluster, or start one here with room for the members."""
    how: dict[str, Any] = {"namespace": "backflip", "log_to_driver": False}
    how |= {"logging_level": "ERROR", "configure_logging": True}
    if address == LOCAL:
        room = max(members, ROOM)
        how |= {"num_cpus": room, "include_dashboard": False, "object_store_memory": STORE}
        how |= {"address": "local"}
    else:
        how |= {"address": address}
    try:
        ray.init(**how)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(
            f"cluster.address is {address}, and no Ray cluster answers there "
            f"({str(error).splitlines()[0][:200]}). Start one with ray start --head, or set "
            "cluster.address=local."
        ) from error


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
