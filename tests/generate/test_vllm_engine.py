"""vLLM as a server of the run's own: weights that follow the learner, and servers that fail.

A program in its place speaks its protocol. BACKFLIP_VLLM_PYTHON=…/bin/python has the same tests ask
the real one, too.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import backflip as bf
from backflip.errors import UserError
from backflip.generate.engine import SamplingParams
from backflip.generate.vllm.engine import VllmEngine
from backflip.models.learnt import taken_over
from backflip.monitor.log import read_metrics
from backflip.recipes.load import load_recipe
from backflip.stages.engines import Vllm as Settings
from tests.data.tiny import CHATML, byte_tokenizer
from tests.generate.reference import PROMPTS, answer_logp
from tests.generate.vllm import in_its_place
from tests.recipes.tiny import questions, tiny_model

ROOT = Path(__file__).parents[2]
REAL = os.environ.get("BACKFLIP_VLLM_PYTHON", "")
KINDS = ["fake", pytest.param("real", marks=pytest.mark.skipif(not REAL, reason="no vLLM named"))]


def learnt(model: Any, by: float = 0.05) -> None:
    """Another policy, as after much learning."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(by * torch.randn(weight.shape, generator=generator))


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """(an interpreter that finds a program in vLLM's place, the file of its faults)."""
    return in_its_place(tmp_path_factory.mktemp("fake"))


Started = Callable[..., VllmEngine]


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Started]:
    """Start an engine for a model; ended with the test."""
    engines: list[VllmEngine] = []

    def start(model: Any, python: str, **settings: Any) -> VllmEngine:
        settings = {"timeout": 20.0, "retries": 0, "folder": str(tmp_path), **settings}
        built = Settings(python=python, **settings).build(model, byte_tokenizer(CHATML), max_rows=1)
        assert isinstance(built, VllmEngine)
        engines.append(built)
        return built

    yield start
    for engine in engines:
        engine.server.stop()


def llama(*, tied: bool = False) -> Any:
    """A model whose heads are as wide as vLLM's CPU kernels ask for."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    tokenizer = byte_tokenizer(CHATML)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=256,
        tie_word_embeddings=tied, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def python_of(kind: str, fake: tuple[str, Path]) -> tuple[str, dict[str, Any]]:
    if kind == "fake":
        return fake[0], {}
    options = ("--enforce-eager", "--max-model-len=256", "--max-num-seqs=16")
    return REAL, {"options": options, "timeout": 120.0}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("tied", "way"), [(False, "file"), (True, "file"), (False, "broadcast"), (True, "broadcast")]
)
def test_its_answers_are_those_of_the_learners_weights(
    kind: str, tied: bool, way: str, fake: tuple[str, Path], started: Started
):
    model = llama(tied=tied)
    python, more = python_of(kind, fake)
    more |= {"handover": way}
    engine, params = started(model, python, **more), SamplingParams(max_tokens=8, temperature=0.8)
    for update in range(3):
        engine.sync(model)
        answers = engine.generate(PROMPTS, params, group=2, seed=3)
        assert engine.generate(PROMPTS, params, group=2, seed=3) == answers
        for answer in answers:
            prompt = PROMPTS[answer.prompt_index]
            row = torch.tensor([[*prompt, *answer.tokens]])
            with torch.no_grad():
                logits = model(row).logits[0, len(prompt) - 1 : -1] / 0.8
            own = logits.log_softmax(-1).gather(1, row[0, len(prompt) :, None])[:, 0]
            torch.testing.assert_close(torch.tensor(answer.logp), own, atol=1e-4, rtol=0)
        learnt(model, 0.02 * (update + 1))
    engine.server.stop()
    assert not engine.server.alive()


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_sleeps_while_the_policy_learns_answers_with_its_weights(
    kind: str, fake: tuple[str, Path], started: Started
):
    """Asleep after all answers; woken for weights, and then for keys."""
    model = llama()
    python, more = python_of(kind, fake)
    engine, params = started(model, python, sleeps=True, **more), SamplingParams(max_tokens=8)
    for seed in range(3):
        if seed:  # once without new weights
            learnt(model)
            engine.sync(model)
        for _ in range(2):
            for answer in engine.generate(PROMPTS, params, seed=seed):
                expected = answer_logp(model, PROMPTS[answer.prompt_index], answer.tokens)
                torch.testing.assert_close(torch.tensor(answer.logp), expected, atol=1e-4, rtol=0)
            asleep = engine.client.ask(f"{engine.client.root}/is_sleeping")
            assert asleep == {"is_sleeping": True}


@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_come_in_the_middle_of_answers_are_those_of_the_tokens_behind(
    kind: str, fake: tuple[str, Path], started: Started
):
    """Log-probabilities of each span are those of its weights, and spans cover all tokens."""
    model = llama()
    python, more = python_of(kind, fake)
    engine: Any = started(model, python, in_flight=True, **more)
    first = {name: p.detach().clone() for name, p in model.named_parameters()}
    learnt(model)
    second = {name: p.detach().clone() for name, p in model.named_parameters()}
    engine.renew(model, first, 3)
    engine.generate(PROMPTS[:1], SamplingParams(max_tokens=4))
    later = threading.Timer(0.4, lambda: engine.renew(model, second, 4))
    later.start()
    answers = engine.generate(PROMPTS[:2], SamplingParams(max_tokens=200), group=2, seed=1)
    later.join()
    assert {step for answer in answers for step in answer.versions or []} == {3, 4}
    for answer in answers:
        assert answer.versions == sorted(answer.versions or [])
        stated, of = torch.tensor(answer.logp), torch.tensor(answer.versions)
        for step, weights in ((3, first), (4, second)):
            taken_over(model, weights)
            read = answer_logp(model, PROMPTS[answer.prompt_index], answer.tokens)
            own = of == step
            torch.testing.assert_close(stated[own], read[own], atol=1e-3, rtol=0)


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("fault", "way"),
    [
        pytest.param("die", "file", marks=SLOW),
        pytest.param("hang", "file", marks=SLOW),
        ("die", "broadcast"),
    ],
)
def test_what_a_server_loses_is_asked_again_of_a_new_one(
    fault: str, way: str, fake: tuple[str, Path], started: Started
):
    """The same answers as without the fault, by the weights that the learner had handed over."""
    model, params = llama(), SamplingParams(max_tokens=6)
    engine = started(model, fake[0], timeout=4.0, handover=way)
    learnt(model)
    engine.sync(model)
    calm = engine.generate(PROMPTS, params, group=2, seed=5)
    fake[1].write_text(f"none\n{fault}\n")
    with pytest.warns(UserWarning, match="vLLM was started again"):
        assert engine.generate(PROMPTS, params, group=2, seed=5) == calm


def test_a_server_that_dies_time_and_again_is_given_up(fake: tuple[str, Path], started: Started):
    engine = started(llama(), fake[0])
    engine.server.starts = [float("inf")] * 5
    fake[1].write_text("die\n")
    with pytest.raises(UserError, match="started again 5 times within an hour; now it had died"):
        engine.generate(PROMPTS, SamplingParams(max_tokens=6))


def test_a_server_goes_with_a_process_that_was_killed(fake: tuple[str, Path], tmp_path: Path):
    """Nobody is left to end it: its supervisor does."""
    program = f"""
import os, signal
from pathlib import Path
from backflip.generate.vllm.server import OwnServer
from tests.generate.test_vllm_engine import llama
from tests.data.tiny import CHATML, byte_tokenizer
folder = Path({str(tmp_path)!r})
llama().save_pretrained(folder / "model")
byte_tokenizer(CHATML).save_pretrained(folder / "model")
server = OwnServer({fake[0]!r}, folder / "model", folder / "log.txt", ["--dtype=float32"])
server.start()
os.kill(os.getpid(), signal.SIGKILL)
"""
    path = os.pathsep.join((str(ROOT / "src"), str(ROOT)))
    killed = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": path}, check=False
    )
    assert killed.returncode == -9
    until = time.monotonic() + 60
    while left := running(str(tmp_path)):
        assert time.monotonic() < until, left
        time.sleep(0.2)


def test_a_server_that_was_ended_is_not_started_again(fake: tuple[str, Path], started: Started):
    engine = started(llama(), fake[0])
    engine.close()
    assert not engine.server.alive()
    with pytest.raises(UserError, match="no answer from"):
        engine.generate(PROMPTS, SamplingParams(max_tokens=6))
    with pytest.raises(UserError, match="the run has ended"):
        engine.server.start()


def test_a_server_that_does_not_start_says_why(fake: tuple[str, Path], started: Started):
    with pytest.raises(UserError, match=r"(?s)vLLM did not start.*there is no such device"):
        started(llama(), fake[0], options=("--refuse",))
    with pytest.raises(UserError, match=r"(?s)vLLM did not start.*No module named"):
        started(llama(), sys.executable)


def test_an_interpreter_is_needed_and_must_be_one():
    words = ["reward=some/model", "run=r", "engine=vllm"]
    (fault,) = load_recipe("grpo", words).faults()
    assert "engine.python is needed" in fault
    (fault,) = load_recipe("grpo", [*words, "engine.python=/no/such/python"]).faults()
    assert "which is no program" in fault


def running(of: str) -> list[str]:
    """Servers whose command line names this."""
    shown = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return [line for line in shown.stdout.splitlines() if "api_server" in line and of in line]


def followed(python: str, folder: Path, **settings: Any) -> tuple[list[Any], dict[str, Any]]:
    """(metrics of three steps, weights at the end) of a run with a server of its own."""
    run = bf.train(
        "grpo",
        model=str(tiny_model(folder / "m")),
        data=questions(folder / "q.jsonl"),
        reward=len,
        run=str(folder / "r"),
        engine={"name": "vllm", "python": python, "timeout": 5.0, "retries": 0},
        steps=3,
        prompts_per_step=2,
        validation_prompts=2,
        threads=1,
        **{"sampling.max_tokens": 4, "optimizer.lr": 1e-2, "algorithm.epochs": 1, **settings},
    )
    assert not running("backflip-vllm"), "the server goes with the run"
    metrics = [e.metrics for e in read_metrics(run.folder) if "sampler_gap" in e.metrics]
    newest = max((Path(run.folder) / "checkpoints").glob("step_*"))
    return metrics, load_file(newest / "policy.safetensors")


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize("lora", [None, {"rank": 2}])
def test_a_run_is_followed_by_its_server(lora: Any, fake: tuple[str, Path], tmp_path: Path):
    """Each step's answers are of the weights before it: the learner finds them where it left."""
    metrics, _ = followed(fake[0], tmp_path, lora=lora)
    assert max(step["sampler_gap"] for step in metrics) < 1e-4
    assert metrics[-1]["kl"] != 0


@pytest.mark.slow
@pytest.mark.usefixtures("own_cache")
def test_a_run_hands_weights_over_while_its_server_writes(fake: tuple[str, Path], tmp_path: Path):
    more = {"engine.in_flight": True, "sampling.max_tokens": 12}
    metrics, _ = followed(fake[0], tmp_path, lora=None, ahead=2, **more)
    assert len(metrics) == 3
    assert max(step["lag_max"] for step in metrics) <= 2
    assert max(step["sampler_gap"] for step in metrics if step["lag_max"] == 0) < 1e-4


@pytest.mark.slow
@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize("ahead", [0, 1])
def test_a_run_whose_server_dies_and_hangs_ends_as_one_whose_did_not(
    ahead: int, fake: tuple[str, Path], tmp_path: Path
):
    """To the last bit: no answer is missing, none is doubled."""
    calm, weights = followed(fake[0], tmp_path / "calm", lora=None, ahead=ahead)
    fake[1].write_text("no no no die no no no hang")
    with pytest.warns(UserWarning, match="vLLM was started again"):
        struck, others = followed(fake[0], tmp_path / "struck", lora=None, ahead=ahead)
    assert fake[1].read_text() == "", "all of it has happened"
    for one, other in zip(calm, struck, strict=True):
        assert {k: v for k, v in one.items() if not k.startswith("share_")} == {
            k: v for k, v in other.items() if not k.startswith("share_")
        }
    assert all(weights[name].equal(others[name]) for name in weights)
