"""Written launch files are read by the programs that they are for, and start what was asked."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from torch.distributed.run import parse_args
from typer.main import get_command

from backflip.cli.main import app, main
from backflip.cluster.job import GRACE, LEAD, Job, Machines
from backflip.cluster.kuberay import kuberay
from backflip.cluster.skypilot import skypilot
from backflip.cluster.slurm import slurm
from backflip.errors import UserError
from backflip.recipes.names import pairs

NASTY = 'it\'s "a" $HOME `b`\\ \n\tc; rm *'
SBATCH = {
    "account", "exclusive", "gpus-per-node", "job-name", "mem", "nodes", "ntasks-per-node",
    "open-mode", "output", "partition", "requeue", "signal", "time",
}  # fmt: skip
"""Long options of sbatch (slurm.schedmd.com/sbatch.html); 22.05 takes the script as it is."""
TASK = {"name", "workdir", "num_nodes", "resources", "envs", "file_mounts", "setup", "run"}
RESOURCES = {"accelerators", "infra", "job_recovery", "image_id", "disk_size", "use_spot"}
"""Fields of a task (SkyPilot 0.14.1, sky/utils/schemas.py), and of its resources."""
VARIABLES = {"SKYPILOT_NODE_IPS", "SKYPILOT_NODE_RANK", "SKYPILOT_TASK_ID"}
"""Set by SkyPilot for `run` (sky/skylet/constants.py)."""
RAY_JOB = {
    "activeDeadlineSeconds", "backoffLimit", "entrypoint", "rayClusterSpec", "runtimeEnvYAML",
    "shutdownAfterJobFinishes", "submissionMode", "ttlSecondsAfterFinished",
}  # fmt: skip
"""Fields of RayJobSpec (ray-operator/apis/ray/v1/rayjob_types.go)."""


def job(folder: Path, *settings: str, recipe: str = "dpo", nodes: int = 2, **more: Any) -> Job:
    machines = Machines(nodes=nodes, devices=4, device=more.pop("device", "h100"))
    return Job.of(recipe, settings, machines, more.pop("hours", 24.0), folder)


def program(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/bash\n{text}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def machine(tmp_path: Path) -> dict[str, str]:
    """An environment in which torchrun notes its arguments, and Slurm's commands theirs."""
    programs = tmp_path / "bin"
    note = f'printf "%s\\0" "$@" > {tmp_path}/'
    program(programs, "torchrun", f'{note}torchrun; echo "$TORCH_ELASTIC_SHUTDOWN_TIMEOUT" > grace')
    program(programs, "srun", 'while [ "${1:0:2}" = -- ]; do shift; done; exec "$@"')
    requeue = f"if [ $1 = requeue ]; then {note}requeue; else echo first; echo second; fi"
    program(programs, "scontrol", requeue)
    program(programs, "scancel", f"{note}scancel; kill -TERM $(cat {tmp_path}/pid)")
    path = f"{programs}:{os.environ['PATH']}"
    slurm = {"SLURM_JOB_NODELIST": "x[1-2]", "SLURM_JOB_ID": "7"}
    sky = {"SKYPILOT_NODE_IPS": "first\nsecond", "SKYPILOT_TASK_ID": "sky-1"}
    return os.environ | slurm | sky | {"PATH": path}


def started(tmp_path: Path) -> tuple[Any, list[str]]:
    """(torchrun's own reading of its arguments, the command behind them)."""
    words = (tmp_path / "torchrun").read_text().split("\0")[:-1]
    given = parse_args(words)
    return given, [given.training_script, *given.training_script_args]


@pytest.mark.parametrize("kind", ["slurm", "skypilot", "kuberay"])
def test_what_was_asked_arrives_whole_however_it_is_spelt(
    kind: str, tmp_path: Path, machine: dict[str, str]
):
    folder = tmp_path / "a 'folder'"
    folder.mkdir()
    run = f"{tmp_path}/{NASTY}"
    asked = job(
        folder,
        f"data={json.dumps(NASTY)}",
        f"run={json.dumps(run)}",
        nodes=1 if kind == "kuberay" else 2,
    )
    if kind == "slurm":
        text = slurm(asked)
    elif kind == "skypilot":
        task = yaml.safe_load(skypilot(asked, None))
        assert task["workdir"] == str(folder)
        text = task["run"]
    else:
        script, _ = yaml.safe_load_all(kuberay(asked, "image", "claim"))
        text = script["data"]["start.sh"].replace("cd /backflip ", f"cd {tmp_path} ")
    subprocess.run(["bash", "-n", "-c", text], check=True)
    if checker := shutil.which("shellcheck"):
        head = "" if text.startswith("#!") else "#!/bin/bash\n"
        subprocess.run(
            [checker, "--severity=warning", "-"], input=head + text, text=True, check=True
        )
    subprocess.run(["bash", "-c", text], check=True, env=machine, cwd=tmp_path)
    given, command = started(tmp_path)
    assert (given.nnodes, given.nproc_per_node) == ("1" if kind == "kuberay" else "2", "4")
    assert (given.rdzv_backend, given.max_restarts, given.module) == ("c10d", 3, True)
    head = "localhost" if kind == "kuberay" else "first"
    assert given.rdzv_endpoint == f"{head}:29500"
    assert command[:4] == ["backflip", "train", "dpo", f"data={json.dumps(NASTY)}"]
    assert pairs(command[4:])["run"] == run == asked.run


def test_a_job_that_is_started_again_goes_on_and_one_that_is_done_ends(
    tmp_path: Path, machine: dict[str, str]
):
    run = tmp_path / "a run"
    run.mkdir()
    (run / "recipe.yaml").touch()
    text = slurm(job(tmp_path, f"run={run}"))
    subprocess.run(["bash", "-c", text], check=True, env=machine)
    assert started(tmp_path)[1] == ["backflip", "resume", str(run)]
    assert int((tmp_path / "grace").read_text()) == GRACE < LEAD
    (tmp_path / "torchrun").unlink()
    (run / "summary.json").touch()
    subprocess.run(["bash", "-c", text], check=True, env=machine)
    assert not (tmp_path / "torchrun").exists()


def test_before_its_time_is_up_a_job_tells_the_run_waits_and_queues_again(
    tmp_path: Path, machine: dict[str, str]
):
    """The run notes that it saved before the job may be queued."""
    waits = f'echo $$ > {tmp_path}/pid; trap "sleep 0.3; touch {tmp_path}/saved; exit 1" TERM'
    program(tmp_path / "bin", "torchrun", f"{waits}; while :; do sleep 0.1; done")
    program(
        tmp_path / "bin", "scontrol", f"[ $1 = show ] || mv {tmp_path}/saved {tmp_path}/requeued"
    )
    batch = subprocess.Popen(["bash", "-c", slurm(job(tmp_path))], env=machine)
    for _ in range(200):
        if (tmp_path / "pid").exists():
            break
        time.sleep(0.05)
    batch.send_signal(signal.SIGUSR1)
    batch.wait(20)
    assert (tmp_path / "requeued").exists()
    assert (tmp_path / "scancel").read_text().split("\0")[:2] == ["--signal=TERM", "7.0"]


def test_options_of_sbatch_are_real_and_say_what_was_asked(tmp_path: Path):
    text = slurm(job(tmp_path, nodes=8, hours=36.5))
    found = dict(re.findall(r"^#SBATCH --([a-z-]+)=?(.*)$", text, re.MULTILINE))
    assert set(found) <= SBATCH
    assert (found["nodes"], found["gpus-per-node"], found["time"]) == ("8", "4", "36:30:00")
    assert found["signal"] == f"B:USR1@{LEAD}"
    assert "requeue" in found
    assert "gpus" not in slurm(job(tmp_path, device="cpu"))


def test_a_task_of_skypilot_has_fields_of_its_schema(tmp_path: Path):
    task = yaml.safe_load(skypilot(job(tmp_path, "run=/shared/run", nodes=3), "pip install x"))
    assert set(task) <= TASK
    assert set(task["resources"]) <= RESOURCES
    assert (task["num_nodes"], task["resources"]["accelerators"]) == (3, "H100:4")
    assert set(re.findall(r"SKYPILOT_\w+", task["run"])) <= VARIABLES
    assert task["setup"].splitlines()[0] == "pip install x"


def test_a_ray_job_has_fields_of_its_schema_and_brings_the_recipe(tmp_path: Path):
    recipe = tmp_path / "My recipe.yaml"
    recipe.write_text("stage: sft\nmodel: smollm2\ndata: rows.jsonl\n")
    asked = job(tmp_path, recipe=str(recipe), nodes=1)
    script, made = yaml.safe_load_all(kuberay(asked, "image", "claim"))
    assert set(made["spec"]) <= RAY_JOB
    assert script["data"][f"{asked.name}.yaml"] == recipe.read_text()
    assert f"train /backflip-job/{asked.name}.yaml" in script["data"]["start.sh"]
    pod = made["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    mounted = {volume["name"] for volume in pod["containers"][0]["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
    assert re.fullmatch("[a-z0-9]([-a-z0-9]*[a-z0-9])?", made["metadata"]["name"])


def test_on_several_nodes_ray_starts_what_was_asked(tmp_path: Path, machine: dict[str, str]):
    asked = job(tmp_path, f"data={json.dumps(NASTY)}", f"run={json.dumps(NASTY)}", nodes=3)
    script, made = yaml.safe_load_all(kuberay(asked, "image", "claim"))
    cluster = made["spec"]["rayClusterSpec"]
    (others,) = cluster["workerGroupSpecs"]
    assert others["replicas"] == 2
    assert others["template"] == cluster["headGroupSpec"]["template"]
    note = f'printf "%s\\0" "$@" > {tmp_path}/ray'
    program(Path(machine["PATH"].split(":")[0]), "backflip", note)
    text = script["data"]["start.sh"].replace("cd /backflip ", f"cd {tmp_path} ")
    subprocess.run(["bash", "-c", text], check=True, env=machine, cwd=tmp_path)
    words = (tmp_path / "ray").read_text().split("\0")[:-1]
    commands: Any = get_command(app)
    assert words[:3] == ["ray", "--address", "auto"]
    given = commands.commands["ray"].make_context("ray", words[1:]).params
    assert (given["ranks"], given["restarts"], given["gpus"]) == (12, 3, 1.0)
    assert given["command"][:3] == ["train", "dpo", f"data={json.dumps(NASTY)}"]
    assert pairs(given["command"][3:])["run"] == NASTY


def test_what_nodes_could_not_do_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="needs --image"):
        kuberay(job(tmp_path, nodes=1), None, "claim")
    with pytest.raises(UserError, match="give --device"):
        skypilot(job(tmp_path, "run=/shared/run", device=None), None)
    with pytest.raises(UserError, match="a node's own disk"):
        skypilot(job(tmp_path, "run=here"), None)
    with pytest.raises(UserError, match=r"--hours is 0\.01"):
        job(tmp_path, hours=0.01)
    with pytest.raises(UserError, match="--nodes is 0"):
        job(tmp_path, nodes=0)
    with pytest.raises(UserError, match=r"unknown setting 'objective\.bet'"):
        job(tmp_path, "objective.bet=1")


def test_files_that_nodes_may_lack_are_said(tmp_path: Path):
    elsewhere = tmp_path / "rows.jsonl"
    elsewhere.touch()
    folder = tmp_path / "work"
    folder.mkdir()
    (said,) = job(folder, f"data={elsewhere}").remarks()
    assert "outside" in said
    (said,) = job(folder, "data=nowhere.jsonl").remarks()
    assert "not on this machine" in said
    assert not [*job(tmp_path, f"data={elsewhere}").remarks()]


def test_the_command_writes_the_file_and_prints_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    words = ["launch", "slurm", "dpo", "--nodes", "3", "run=runs/here"]
    with pytest.raises(SystemExit) as ended:
        main(words)
    printed = capsys.readouterr()
    assert ended.value.code == 0
    assert (tmp_path / "backflip-dpo-slurm.sh").read_text() == printed.out
    assert "#SBATCH --nodes=3\n" in printed.out
    assert "sbatch backflip-dpo-slurm.sh" in printed.err
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert "is there already" in capsys.readouterr().err
