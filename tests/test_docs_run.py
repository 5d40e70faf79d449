"""Every block of README and docs that a reader may copy is executed, with a tiny model.

In place of SmolLM2 stands a model of two layers, trainings take a step or two, and the files that
pages name are made before. What cannot run here is listed with its reason.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import shutil
from pathlib import Path

import pytest

for package in ("fastapi", "sqlalchemy", "nh3"):
    pytest.importorskip(package, reason="the feedback server's packages are an extra")

from backflip.cli import main as cli  # noqa: E402
from backflip.data.sources import write_jsonl  # noqa: E402
from tests.recipes.tiny import tiny_model  # noqa: E402

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow
BLOCK = re.compile(r"```(sh|bash|python)\n(.*?)```", re.DOTALL)
PAGES = [
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md")))
    if BLOCK.search(path.read_text(encoding="utf-8"))
]
NOT_RUN = {
    "pip install": "asks a package index",
    "make": "makes environments of its own, and this very test is a part of it",
    "bash .ci/run": "runs all tests, this one among them",
    "torchrun": "starts several processes: tests/distributed",
    "backflip ray": "starts several processes: tests/distributed/test_ray.py",
    "backflip train grpo model=runs/sft reward=runs/rm data=prompts.jsonl cluster": "the same",
    "docker": "asks a registry for the image that ours is built on",
    "python3.11 -m venv /envs/vllm": "asks a package index for gigabytes",
    "backflip launch": "names an image, a volume and a folder of a cluster: tests/cluster",
    "backflip check dpo data=comparisons.jsonl --nodes": "its tests are in tests/cluster",
    "backflip push": "publishes: tests/cli/test_push.py pushes to a hub of its own",
    "backflip resume": "goes on with a run that broke off: tests/training/test_resume.py",
    "VLLM_": "serves until it is stopped, and needs a GPU",
    "backflip train grpo model=runs/sft reward=runs/rm data=prompts.jsonl engine=openai": "asks "
    "that server: tests/stages/test_engines.py asks one of its own",
    "backflip train grpo model=runs/sft reward=runs/rm data=prompts.jsonl engine=vllm": "starts "
    "vLLM in an environment of its own: tests/generate/test_vllm_engine.py",
    "backflip feedback serve": "serves until it is stopped: tests/server/test_serve.py",
}
"""Beginnings of lines that are not executed, each with the reason; a line end ends the line."""
SMALL = {
    "sft": "steps=1",
    "reward_model": "steps=1 normalise=false",
    "ppo": "steps=1 prompts_per_step=4 sampling.max_tokens=4",
    "process_reward_model": "steps=1",
    "step_dpo": "steps=1 sampled_prompts=0",
    "grpo_process": "steps=1 prompts_per_step=4 sampling.max_tokens=4",
    "grpo": "steps=1 prompts_per_step=4 sampling.max_tokens=4",
    "rlhf": "sft.steps=1 reward_model.steps=1 ppo.steps=1 ppo.prompts_per_step=4 "
    "ppo.sampling.max_tokens=4",
    "iterative_dpo": "rounds=1 prompts_per_round=8 answers_per_prompt=3 "
    "sampling.max_tokens=4 validation_prompts=4 filters.cut_off=true",
    "dpo": "steps=1 sampled_prompts=0",
    "calculator": "steps=1 prompts_per_step=4 sampling.max_tokens=4",
    "kto": "steps=1 sampled_prompts=0",
    "rpo": "steps=1 sampled_prompts=0",
    "overoptimization": "model=scratch:24x1 labels=[8] sizes=[] noise=[] remedies=[] best_of=4 "
    "best_of_prompts=4 sft.steps=40 sft.optimizer.lr=1e-2 reward_model.steps=1 online.steps=10 "
    "online.prompts_per_step=2 online.answers_per_prompt=2 online.validation_prompts=2",
    "sorting": "model=scratch:24x1 sft.steps=1 online.steps=1 online.validation_prompts=2 "
    "online.validation_answers=1",
}
INSTEAD = [
    ("probes=200", "probes=2"),
    ("n=16", "n=2 limit=4 max_tokens=4"),
    ("trial 20", "trial 3"),
    ("max_tokens=64", "max_tokens=4"),
    ("MY-SFT", "sft"),
    ("MY-REWARD-MODEL", "rm"),
]
PEOPLE = ("backflip feedback import tone", "backflip feedback simulate tone 3")
"""Behind the first command come answers, by the second."""


def lines(page: str) -> list[str]:
    """Commands of a page, and its blocks of Python, each as one text that ends its line."""
    found: list[str] = []
    for language, text in BLOCK.findall((ROOT / page).read_text(encoding="utf-8")):
        plain = [re.sub(r"\s+#.*", "", line) for line in text.splitlines()]
        found += [text] if language == "python" else [f"{line}\n" for line in plain if line]
    return found


def kept_back(line: str) -> list[str]:
    return [start for start in NOT_RUN if re.sub(" +", " ", line).startswith(start)]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, the files that pages name, two runs, and a project with answers."""
    folder = tmp_path_factory.mktemp("docs")
    tiny_model(folder / "tiny")
    pairs = [{"prompt": f"Is {n} even?", "chosen": f"{n}: yes.", "rejected": f"{n}."}
             for n in range(40)]  # fmt: skip
    for pair in pairs[::4]:  # a longer answer is not always the better one
        pair["chosen"], pair["rejected"] = pair["rejected"], pair["chosen"]
    for name in ("comparisons", "heldout", "pairs", "golden"):
        write_jsonl(folder / f"{name}.jsonl", pairs)
    answers = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in pairs]
    write_jsonl(folder / "demonstrations.jsonl", answers)
    write_jsonl(folder / "thumbs.jsonl", [{**a, "label": n % 2 > 0} for n, a in enumerate(answers)])
    sums = [{"prompt": f"{n} + 1?", "solution": str(n + 1), "level": n % 3} for n in range(40)]
    write_jsonl(folder / "sums.jsonl", sums)
    solved = [{"question": f"{n} + 1?", "answer": f"One more.\n#### {n + 1}"} for n in range(40)]
    write_jsonl(folder / "gsm8k.jsonl", solved)
    asked = {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
    write_jsonl(folder / "ifeval.jsonl", [{"prompt": row["prompt"], **asked} for row in pairs])
    (folder / "my_rewards.py").write_text("def brevity(answer): return -len(answer)")
    named = [{"topic": p["prompt"], "good": p["chosen"], "bad": p["rejected"]} for p in pairs]
    write_jsonl(folder / "named.jsonl", named)
    write_jsonl(folder / "questions.jsonl", sums[:4])
    write_jsonl(folder / "prompts.jsonl", [{"prompt": row["prompt"]} for row in pairs[:16]])
    return folder


@pytest.fixture
def place(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BACKFLIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("BACKFLIP_FEEDBACK", raising=False)
    return tmp_path


def small(line: str) -> list[str]:
    """The words of a command, with the tiny model and a step or two."""
    for old, new in INSTEAD:
        line = line.replace(old, new)
    if "=topic" in line:
        line = line.replace("pairs.jsonl", "named.jsonl")
    words = [re.sub(r"\bsmollm2$", "tiny", word) for word in shlex.split(line)[1:]]
    if words[0] == "train":
        at = next((i for i, word in enumerate(words) if word.startswith("--")), len(words))
        more = SMALL[words[1]]
        model = [] if "model=" in line or more.startswith("model=") else ["model=tiny"]
        words[at:at] = [*model, *more.split()]
    return words


def execute(line: str) -> str:
    """Run a command or a block of Python, or write its file; what it says if it fails."""
    if file := re.match(r"# (\w+\.py)\n", line):
        Path(file[1]).write_text(line, encoding="utf-8")
        return ""
    if not line.startswith("backflip "):
        for run in re.findall(r'run="(.+?)"', line):  # a reader takes this way or the shell's
            shutil.rmtree(run, ignore_errors=True)
        exec(line.replace('"smollm2"', '"tiny"'), {})
        return ""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main(small(line))
        except SystemExit as left:
            return f"{line}{err.getvalue()}" if left.code else ""
    return ""


@pytest.mark.parametrize("page", PAGES)
def test_every_block_that_can_run_runs(page: str, place: Path, monkeypatch: pytest.MonkeyPatch):
    todo = [line for line in lines(page) if not kept_back(line)]
    if page.startswith("docs/"):
        before = [line for line in lines("README.md") if re.search(r"run=runs/(sft|rm)\b", line)]
        todo = [*before[:2], "backflip feedback import tone pairs.jsonl kind=compare", *todo]
    for line in todo:
        monkeypatch.setattr("sys.stdin", io.StringIO("Hello there\n"))
        assert execute(line) == ""
        if line.startswith(PEOPLE[0]):
            assert execute(PEOPLE[1]) == ""


def test_what_is_not_run_stands_in_a_page():
    said = {start for page in PAGES for line in lines(page) for start in kept_back(line)}
    assert said == set(NOT_RUN)
