"""A task for SkyPilot: ``sky jobs launch`` finds the machines, copies the folder and starts it."""

from __future__ import annotations

from typing import Any

from backflip.cluster.job import Job, as_yaml
from backflip.errors import UserError

__all__ = ["skypilot"]

NAMES = {"a100": "A100-80GB", "a100-40gb": "A100"}
"""Kinds of devices that SkyPilot has other names for; the rest are ours in capitals."""
COMMENT = """\
# sky jobs launch FILE     (a managed job: it is started again where a machine is lost)
# Every node runs `run`. Files below `workdir` are copied; data elsewhere must be on every node.
# The run must outlive the machines: a folder of a volume that all nodes mount, not a bucket,
# whose folders cannot be renamed in one piece.
"""


def skypilot(job: Job, setup: str | None) -> str:
    """The task; ``setup`` is the command that installs backflip on a fresh machine.

    Raises UserError where the kind of device is not given, or files do not lie where nodes look.
    """
    job.inside("skypilot")
    machines = job.machines
    if machines.device is None:
        raise UserError("skypilot must know which devices to find: give --device, as in h100.")
    kind = NAMES.get(machines.device.lower(), machines.device.upper())
    recovery = {"job_recovery": {"max_restarts_on_errors": 3}}
    found = {} if machines.plain else {"accelerators": f"{kind}:{machines.devices}"}
    run = [
        *job.begin(),
        job.graces(),
        'head=$(echo "$SKYPILOT_NODE_IPS" | head -n 1)',
        job.torchrun(head="$head", number="$SKYPILOT_TASK_ID"),
    ]
    task: dict[str, Any] = {
        "name": job.name,
        "workdir": str(job.folder),
        "num_nodes": machines.nodes,
        "resources": {**found, **recovery},
        "setup": f"{setup}\nbackflip --version\n" if setup else "backflip --version\n",
        "run": "\n".join(run) + "\n",
    }
    return COMMENT + as_yaml(task)
