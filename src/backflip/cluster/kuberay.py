"""A RayJob for KubeRay: on one node its entrypoint starts the processes of all devices by torchrun,
on several Ray starts them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from backflip.cluster.job import Job, as_yaml
from backflip.errors import UserError

__all__ = ["kuberay"]

WORK, SCRIPT = "/backflip", "/backflip-job"
"""Where the volume and the script are mounted."""
START = "start.sh"
COMMENT = """\
# kubectl apply -f FILE
# The image has ray and backflip; the volume holds the data and keeps the run.
"""


def kuberay(job: Job, image: str | None, volume: str | None) -> str:
    """Two documents: a ConfigMap with the script, and the RayJob that calls it.

    The script has a file of its own, since an entrypoint goes through several shells, of which
    not all quote alike.

    Raises UserError where image or volume are not given.
    """
    for name, value, meant in (
        ("--image", image, "an image with ray and backflip"),
        ("--volume", volume, "a PersistentVolumeClaim that holds the data and keeps the run"),
    ):
        if not value:
            raise UserError(f"kuberay needs {name}: {meant}.")
    files = {START: _script(job)}
    if job.file is not None:
        files[f"{job.name}.yaml"] = job.file.read_text(encoding="utf-8")
    script = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": job.name},
        "data": files,
    }
    return COMMENT + as_yaml(script, _ray_job(job, str(image), str(volume)))


def _script(job: Job) -> str:
    if job.file is not None:
        job = replace(job, words=(f"{SCRIPT}/{job.name}.yaml", *job.words[1:]))
    lines = [
        f"cd {WORK} || exit 1",
        *job.begin(),
        job.graces(),
        job.ray() if job.machines.nodes > 1 else job.torchrun(head="localhost", number=job.name),
    ]
    return "\n".join(lines) + "\n"


def _ray_job(job: Job, image: str, volume: str) -> dict[str, Any]:
    gpus = {} if job.machines.plain else {"nvidia.com/gpu": job.machines.devices}
    container = {
        "name": "ray",
        "image": image,
        "resources": {"limits": gpus, "requests": gpus} if gpus else {},
        "volumeMounts": [
            {"name": "work", "mountPath": WORK},
            {"name": "script", "mountPath": SCRIPT},
            {"name": "shm", "mountPath": "/dev/shm"},
        ],
    }
    volumes = [
        {"name": "work", "persistentVolumeClaim": {"claimName": volume}},
        {"name": "script", "configMap": {"name": job.name}},
        {"name": "shm", "emptyDir": {"medium": "Memory"}},  # processes exchange tensors there
    ]
    pod = {"spec": {"containers": [container], "volumes": volumes}}
    group: dict[str, Any] = {"rayStartParams": {}, "template": pod}
    others = {"groupName": "others", "replicas": job.machines.nodes - 1, **group}
    more = {"workerGroupSpecs": [others]} if job.machines.nodes > 1 else {}
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {"name": job.name},
        "spec": {
            "entrypoint": f"bash {SCRIPT}/{START}",
            "shutdownAfterJobFinishes": True,
            "activeDeadlineSeconds": round(job.hours * 3600),
            "backoffLimit": 3,
            "rayClusterSpec": {"headGroupSpec": group, **more},
        },
    }
