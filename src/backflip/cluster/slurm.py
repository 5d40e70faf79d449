"""A batch script for Slurm: one ``torchrun`` on every node; before its time is up the run saves,
and the job stands in line again.
"""

from __future__ import annotations

import shlex

from backflip.cluster.job import GRACE, LEAD, Job

__all__ = ["slurm"]

HEADER = """\
#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --nodes={nodes}
#SBATCH --ntasks-per-node=1
{devices}#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --time={time}
#SBATCH --signal=B:USR1@{lead}
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output={name}-%j.log
# Whole nodes with all of their memory: take --exclusive and --mem out to share them with others.
# Partition and account are yours to add: sbatch --partition=… --account=… FILE
# The Python environment is that of the shell that calls sbatch. The folder below, the data and the
# run lie on a file system that all nodes share.
"""
BODY = """\
# {lead} seconds before the end the run finishes its step and saves; then the job is queued again,
# and goes on from there. Where a node dies Slurm does that by itself (--requeue).
asked=""
trap 'asked=yes; scancel --signal=TERM "$SLURM_JOB_ID.0"' USR1  # srun would not wait for it
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
number="$SLURM_JOB_ID-${{SLURM_RESTART_COUNT:-0}}"
srun --kill-on-bad-exit=1 --cpu-bind=none \\
  {torchrun} &
step=$!
wait "$step"
code=$?
if [ -n "$asked" ]; then
  wait "$step"
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""


def slurm(job: Job) -> str:
    """The script."""
    minutes = round(job.hours * 60)
    devices = f"#SBATCH --gpus-per-node={job.machines.devices}\n"
    header = HEADER.format(
        name=job.name,
        nodes=job.machines.nodes,
        devices="" if job.machines.plain else devices,
        time=f"{minutes // 60:02d}:{minutes % 60:02d}:00",
        lead=LEAD,
    )
    torchrun = job.torchrun(head="$head", number="$number")
    lines = [
        f"cd {shlex.quote(str(job.folder))} || exit 1",
        f"{job.graces()}  # seconds, of {LEAD}",
        *job.begin(),
    ]
    assert GRACE < LEAD, "Slurm kills what has not saved by then"
    return header + "\n".join(lines) + "\n" + BODY.format(lead=LEAD, torchrun=torchrun)
