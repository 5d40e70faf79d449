"""Roles in processes of a Ray cluster: no number changes, and whoever dies is replaced."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray", reason="backflip[ray] is an extra")

from backflip import api
from backflip.distributed import ray_crew
from backflip.distributed.crew import answer
from backflip.errors import RankError, UserError
from backflip.models.learnt import learnt
from backflip.training.online import OnlineLoop
from tests.distributed import small
from tests.distributed.torchrun import assert_same_run, environment, metrics, weights
from tests.generate.test_vllm_engine import running
from tests.generate.vllm import in_its_place
from tests.recipes.tiny import questions, tiny_model

ONLINE: dict[str, Any] = small.ONLINE | {
    "steps": 5,
    "eval_every": 3,
    "reward": "exact",
    "lora": None,
    "threads": 1,
}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "grpo": ("grpo", small.GPT2),
    "ppo": ("ppo", {}),
    "ppo_lora": ("ppo", {"lora": {"rank": 4}}),
}
ALL = {"samplers": 1, "reference": True, "reward": True, "critic": True}


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One cluster on this machine for all runs here."""
    import ray

    ray_crew._joined("local", 8)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same runs, each in one process."""
    folder = tmp_path_factory.mktemp("alone")
    for name in KINDS:
        train(name, folder / name)
    return folder


@pytest.fixture(scope="module")
def calm(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two samplers to which nothing happens."""
    return apart("grpo", tmp_path_factory.mktemp("calm") / "grpo", samplers=2)


def apart(name: str, run: Path, **cluster: Any) -> Path:
    return train(name, run, cluster={"patience": 10} | cluster)


def train(name: str, run: Path, **more: Any) -> Path:
    recipe, settings = KINDS[name]
    settings = ONLINE | settings | more
    if settings["model"] == "@gpt2":
        settings["model"] = str(small.gpt2_in(run.parent))
    with small.drawn_into(run):
        api.train(recipe, run=run, **settings)
    return run


@pytest.fixture
def members(monkeypatch: pytest.MonkeyPatch) -> dict[str, ray_crew.RayMember]:
    """Members by their names, as they are started."""
    found: dict[str, ray_crew.RayMember] = {}
    start = ray_crew.RayCrew.start

    def started(self: ray_crew.RayCrew, name: str, *given: Any) -> ray_crew.RayMember:
        found[name] = start(self, name, *given)
        return found[name]

    monkeypatch.setattr(ray_crew.RayCrew, "start", started)
    return found


def before_steps(monkeypatch: pytest.MonkeyPatch, what: dict[int, Callable[[], None]]) -> None:
    """Do something before the steps of these numbers."""
    step = OnlineLoop.step

    def stepped(self: OnlineLoop, index: int, prompts: Any) -> dict[str, float]:
        if index in what:
            what.pop(index)()
        return step(self, index, prompts)

    monkeypatch.setattr(OnlineLoop, "step", stepped)


def test_samplers_that_live_elsewhere_change_no_number(alone: Path, calm: Path):
    assert_same_run(alone / "grpo", calm)
    assert small.drawn(alone / "grpo") == small.drawn(calm)


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(
    ("name", "cluster_settings"),
    [("ppo", ALL), ("ppo_lora", {"samplers": 2, "critic": True})],
)
def test_roles_that_live_elsewhere_change_no_number(
    name: str, cluster_settings: dict[str, Any], alone: Path, tmp_path: Path
):
    run = apart(name, tmp_path / "run", **cluster_settings)
    assert_same_run(alone / name, run)
    assert small.drawn(alone / name) == small.drawn(run)


@pytest.mark.usefixtures("cluster")
def test_a_killed_sampler_and_a_stuck_one_are_replaced_and_no_batch_is_lost(
    calm: Path,
    tmp_path: Path,
    members: dict[str, ray_crew.RayMember],
    monkeypatch: pytest.MonkeyPatch,
):
    """To the last bit."""

    def send(name: str, number: int) -> Callable[[], None]:
        return lambda: os.kill(members[name].pid(30), number)

    before_steps(
        monkeypatch,
        {5: send("sampler 0", signal.SIGKILL), 8: send("sampler 1", signal.SIGSTOP)},
    )
    with pytest.warns(UserWarning, match="sampler . is started again") as said:
        run = apart("grpo", tmp_path / "run", samplers=2)
    lines = [str(w.message) for w in said if "started again" in str(w.message)]
    assert any("sampler 0" in line and "died" in line for line in lines)
    assert any(
        "sampler 1" in line and "no answer within cluster.patience=10" in line for line in lines
    )
    assert_same_run(calm, run)
    assert small.drawn(calm) == small.drawn(run)
    ended, before = weights(run), weights(calm)
    assert all(bool((ended[name] == before[name]).all()) for name in before)


@pytest.mark.usefixtures("cluster")
def test_reference_and_reward_are_replaced_and_told_again(
    alone: Path,
    tmp_path: Path,
    members: dict[str, ray_crew.RayMember],
    monkeypatch: pytest.MonkeyPatch,
):
    def both() -> None:
        for name in ("reference", "reward"):
            os.kill(members[name].pid(30), signal.SIGKILL)

    before_steps(monkeypatch, {3: both})
    with pytest.warns(UserWarning, match="is started again"):
        run = apart("ppo", tmp_path / "run", reference=True, reward=True)
    assert_same_run(alone / "ppo", run)


@pytest.mark.usefixtures("cluster")
def test_a_critic_that_dies_ends_the_run_and_resume_goes_on_from_the_checkpoint(
    alone: Path,
    tmp_path: Path,
    members: dict[str, ray_crew.RayMember],
    monkeypatch: pytest.MonkeyPatch,
):
    before_steps(monkeypatch, {4: lambda: os.kill(members["critic"].pid(30), signal.SIGKILL)})
    with pytest.raises(RankError, match=r"critic died .* backflip resume RUN"):
        apart("ppo", tmp_path / "run", critic=True)
    api.resume(tmp_path / "run")
    one, two = weights(alone / "ppo"), weights(tmp_path / "run")
    assert all(bool((one[name] == two[name]).all()) for name in one)


@pytest.mark.usefixtures("cluster")
def test_samplers_that_draw_ahead_draw_as_one_process_does(tmp_path: Path):
    train("grpo", tmp_path / "one", ahead=1)
    train("grpo", tmp_path / "ray", ahead=1, cluster={"samplers": 2})
    assert_same_run(tmp_path / "one", tmp_path / "ray")
    assert max(m.get("lag_max", 0.0) for m in metrics(tmp_path / "ray")) == 1


@pytest.mark.usefixtures("cluster")
def test_who_dies_again_and_again_ends_the_run(
    tmp_path: Path, members: dict[str, ray_crew.RayMember], monkeypatch: pytest.MonkeyPatch
):
    before_steps(monkeypatch, {2: lambda: os.kill(members["sampler 0"].pid(30), signal.SIGKILL)})
    with pytest.raises(UserError, match=r"sampler 0: .*died.* 0 times within an hour"):
        apart("grpo", tmp_path / "run", samplers=1, restarts=0)


@pytest.mark.usefixtures("cluster")
def test_each_sampler_has_a_vllm_of_its_own(tmp_path: Path):
    """Programs in the place of vLLM, which are handed weights after each step."""
    python, _ = in_its_place(tmp_path)
    model, data = tiny_model(tmp_path / "m"), questions(tmp_path / "q.jsonl")
    engine = {"name": "vllm", "python": str(python)}
    settings: dict[str, Any] = {"engine": engine, "lora": None, "steps": 3, "prompts_per_step": 4}
    settings |= {"validation_prompts": 2, "sampling": {"max_tokens": 4}}
    settings |= {"reward": {"name": "length", "most": 3}, "optimizer": {"lr": 1e-2}}
    run = tmp_path / "run"
    api.train(
        "grpo", model=str(model), data=str(data), run=run, cluster={"samplers": 2}, **settings
    )
    gaps = [m["sampler_gap"] for m in metrics(run) if "sampler_gap" in m]
    assert len(gaps) == 3
    assert max(gaps) < 1e-4
    assert not running("backflip-vllm")


def test_a_cluster_that_is_too_small_is_refused_with_numbers():
    there = {"CPU": 16.0, "GPU": 2.0}
    ray_crew.fits(there, {"CPU": 4.0, "GPU": 2.0}, 4)
    with pytest.raises(
        UserError, match=r"too small for 4 processes: they need 4 GPU \(2 are free\)"
    ):
        ray_crew.fits(there, {"CPU": 4.0, "GPU": 4.0}, 4)
    with pytest.raises(UserError, match=r"20 CPU \(16 are free\), 20 GPU \(0 are free\)"):
        ray_crew.fits({"CPU": 16.0}, {"CPU": 20.0, "GPU": 20.0}, 20)


def ray(*words: str, folder: Path, more: Sequence[str] = ()) -> subprocess.Popen[str]:
    """``backflip ray`` with settings of a tiny GRPO, in a folder of its own."""
    settings = "model=scratch:48x2 steps=6 checkpoint_every=1 data=task:sorting data.limit=16"
    settings += " data.held_out=0.25 sampling.max_tokens=8 prompts_per_step=3 reward=exact"
    settings += " validation_prompts=3 answers_per_prompt=4 optimizer.lr=1e-3"
    folder.mkdir()
    return subprocess.Popen(
        [sys.executable, "-m", "backflip", *words, "train", "grpo", *settings.split(), *more],
        env=environment(),
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def run_in(folder: Path) -> Path:
    """The only run there."""
    (run,) = (folder / "runs").iterdir()
    return run


def saved_in(folder: Path) -> int:
    """Steps of the newest checkpoint there."""
    names = (path.name for path in folder.glob("runs/*/checkpoints/step_*"))
    return max((int(name[5:]) for name in names if name[5:].isdecimal()), default=0)


def ranks_of(folder: Path) -> dict[str, int]:
    """Processes of the ranks that run there, by rank."""
    found: dict[str, int] = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().split(b"\0")
            entries = (place / "environ").read_bytes().split(b"\0")
            where = (place / "cwd").readlink()
        except OSError:
            continue
        rank = next((entry[5:] for entry in entries if entry.startswith(b"RANK=")), None)
        if rank is not None and words[1:3] == [b"-m", b"backflip"] and where == folder:
            found[rank.decode()] = int(place.name)
    return found


def wait_until(holds: Callable[[], bool], program: subprocess.Popen[str] | None = None) -> None:
    until = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < until
        assert program is None or program.poll() is None, program.communicate()
        time.sleep(0.05)


def agent_of(rank: int) -> int:
    """The agent beside a process: it has started the first of the rank's session."""
    status = Path(f"/proc/{os.getsid(rank)}/status").read_text()
    return int(status.partition("PPid:")[2].split()[0])


@pytest.mark.slow
def test_ranks_with_a_sampler_beside_end_as_one_process_though_one_is_killed(tmp_path: Path):
    """And the agent of the other. Answers are drawn ahead; a checkpoint holds those that wait, and
    one process goes on from it.

    Without ``run=`` all starts of the ranks are one run.
    """
    more = ["ahead=2", "cluster.samplers=1", "lora.rank=4", "steps=12"]
    one = ray(folder=tmp_path / "one", more=more)
    _, said = one.communicate(timeout=120)
    assert one.returncode == 0, said
    two = ray("ray", "--ranks", "2", folder=tmp_path / "two", more=more)
    wait_until(lambda: saved_in(tmp_path / "two") >= 2, two)
    first = ranks_of(tmp_path / "two")["1"]
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: ranks_of(tmp_path / "two").get("1") not in (None, first), two)
    begun_at = saved_in(tmp_path / "two")
    wait_until(lambda: saved_in(tmp_path / "two") > begun_at, two)
    os.kill(agent_of(ranks_of(tmp_path / "two")["0"]), signal.SIGKILL)
    _, said = two.communicate(timeout=180)
    assert two.returncode == 0, said
    assert "rank 1 of 2 is gone without a word" in said
    assert "all 2 are started again (1 of 3)" in said
    assert "backflip ray: rank 0 died" in said
    assert "all 2 are started again (2 of 3)" in said
    ended, begun = run_in(tmp_path / "one"), run_in(tmp_path / "two")
    assert_same_run(ended, begun)
    assert max(m.get("lag_max", 0.0) for m in metrics(begun)) == 2
    (begun / "summary.json").unlink()
    shutil.rmtree(begun / "model")
    shutil.rmtree(begun / "checkpoints" / "step_000012")
    api.resume(begun)
    one_process, again = weights(ended), weights(begun)
    assert max(float((one_process[n] - again[n]).abs().max()) for n in again) < 1e-5


@pytest.mark.usefixtures("cluster")
def test_nobody_is_left_behind_where_the_command_is_killed(tmp_path: Path):
    """On a cluster that was there before, and stays."""
    import ray as library

    address = library.get_runtime_context().gcs_address
    words = ["ray", "--ranks", "2", "--address", address]
    program = ray(*words, folder=tmp_path / "run", more=["steps=100000"])
    wait_until(lambda: any((tmp_path / "run").glob("runs/*/checkpoints/step_*")), program)
    assert sorted(ranks_of(tmp_path / "run")) == ["0", "1"]
    program.kill()
    wait_until(lambda: not ranks_of(tmp_path / "run"))


@pytest.mark.slow
def test_ctrl_c_ends_all_ranks_behind_their_step_and_says_how_to_go_on(tmp_path: Path):
    """To the command and all that it has started on this machine, as a terminal sends it."""
    folder = tmp_path / "run"
    program = ray("ray", "--ranks", "2", folder=folder, more=["steps=100000"])
    wait_until(lambda: any(folder.glob("runs/*/checkpoints/step_*")), program)
    os.killpg(program.pid, signal.SIGINT)
    _, said = program.communicate(timeout=120)
    assert program.returncode == 130, said
    assert said.count("finishing this step, then saving") == 1
    stopped = re.search(r"SIGTERM: stopped after step (\d+) of 100000 and saved", said)
    assert stopped, said
    saved = run_in(folder) / "checkpoints" / f"step_{int(stopped[1]):06d}"
    assert saved.is_dir()
    assert f"backflip resume {run_in(folder).relative_to(folder)}" in said
    assert "Traceback" not in said
    assert not ranks_of(folder)


@pytest.mark.usefixtures("cluster")
def test_members_live_where_the_command_does_and_say_why_they_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_SOMETHING", "here")
    crew = ray_crew.RayCrew("local", members=2)
    system = crew.start("system", "importlib:import_module", "os")
    assert answer(system.ask("getcwd"), 60, "system") == str(tmp_path)
    assert answer(system.ask("getenv", "HF_SOMETHING"), 60, "system") == "here"
    broken = crew.start("broken", "backflip.models.load:load_config", "no_such_folder")
    with pytest.raises(UserError, match="no_such_folder"):
        answer(broken.ask("anything"), 60, "broken")
    crew.close()


@pytest.mark.usefixtures("cluster")
def test_other_weights_under_the_same_name_are_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The fleet forgets to hand over what was learnt."""
    monkeypatch.setattr("backflip.generate.fleet.copied", lambda model: {
        name: tensor * 0.5 for name, tensor in learnt(model).items()
    })  # fmt: skip
    with pytest.raises(UserError, match="nats a token apart"):
        apart("grpo", tmp_path / "run", samplers=1)
