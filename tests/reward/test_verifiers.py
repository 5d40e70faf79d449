"""Verifiers as sources of reward: found by their files, named in recipes, counted by outcome."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import backflip as bf
from backflip.data.batches import Rollouts, TokenSteps
from backflip.data.chat import ChatTemplate
from backflip.data.records import Prompt, messages
from backflip.data.sources import write_jsonl
from backflip.errors import UserError
from backflip.monitor.log import read_metrics
from backflip.recipes import slips
from backflip.recipes.load import load_recipe
from backflip.reward.function import Texts
from backflip.reward.verifier import Verdict
from backflip.reward.verifiers.discover import VERIFIERS
from backflip.reward.verifiers.exact import Exact
from backflip.reward.verifiers.format import Format
from backflip.reward.verifiers.repetition import Repetition
from backflip.reward.verifiers.source import VerifierReward
from tests.data.tiny import CHATML, byte_tokenizer
from tests.recipes.tiny import tiny_model

pytestmark = pytest.mark.usefixtures("own_cache")
QUICK = {
    "steps": 2,
    "prompts_per_step": 4,
    "answers_per_prompt": 2,
    "sampling.max_tokens": 4,
    "validation_prompts": 3,
    "threads": 1,
    "shaping.missing_eos": None,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_model(tmp_path_factory.mktemp("tiny")))


@pytest.mark.parametrize("name", VERIFIERS)
def test_a_verifier_goes_to_a_worker_that_never_imports_torch(name: str):
    """What is pickled here is read in a fresh process, where torch would take seconds."""
    code = (
        "import pickle, sys; pickle.loads(sys.stdin.buffer.read());"
        "print([m for m in ('torch', 'numpy', 'pydantic', 'sympy') if m in sys.modules])"
    )
    sent = pickle.dumps(VERIFIERS[name]())
    done = subprocess.run([sys.executable, "-c", code], input=sent, capture_output=True, check=True)
    assert done.stdout == b"[]\n"


@pytest.mark.parametrize(
    ("given", "case"),
    [
        (["reward=exact"], True),
        (["reward={name: exact, case: false}"], False),
        (["reward=exact", "reward.case=false"], False),
        (["reward.name=exact", "reward.case=false"], False),
        ({"reward.name": "exact", "reward.case": False}, False),
    ],
)
def test_a_verifier_is_a_reward_in_any_form(given, case: bool):
    if isinstance(given, list):
        slips.check("grpo", given)
    assert load_recipe("grpo", given).reward == Exact(case=case)


def test_a_verifier_is_a_term_of_a_mix():
    mix = {"name": "mix", "terms": ["exact", {"name": "exact", "case": False}], "weights": [1, 0.1]}
    reward = load_recipe("grpo", {"reward": mix}).reward
    assert reward.terms == (Exact(), Exact(case=False))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"incorrect": 2.0}, "wrong answers would be paid for"),
        ({"seconds": 0.0}, "reward.seconds is 0; it must be above 0"),
        ({"workers": 0}, "reward.workers is 0"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_words(settings, problem: str):
    faults = load_recipe("grpo", {"reward": {"name": "exact", **settings}}).faults()
    assert any(problem in fault for fault in faults)


def test_a_package_that_is_missing_is_named_with_the_command_that_brings_it(monkeypatch):
    monkeypatch.setattr("backflip.reward.verifiers.base.find_spec", lambda name: None)
    (fault,) = load_recipe("grpo", ["reward=mathematics"]).faults()
    assert "math_verify, which is not installed: pip install 'backflip[math]'" in fault


def test_a_share_of_being_right_lies_between_the_scores_of_wrong_and_right():
    scores = Exact(correct=3.0, incorrect=-1.0, unparsable=-2.0)
    verdicts = [Verdict("scored", 0.25), Verdict("unparsable"), Verdict("timeout")]
    assert [scores.score(one) for one in verdicts] == [0.0, -2.0, None]


def test_questions_without_a_key_are_left_out_and_counted(model: str, tmp_path: Path, capsys):
    rows = [{"prompt": f"{n} + 1?", "reference": str(n + 1) if n % 4 else ""} for n in range(40)]
    write_jsonl(tmp_path / "a.jsonl", rows)
    run = bf.train(
        "grpo", model=model, data=str(tmp_path / "a.jsonl"), run=tmp_path / "r", reward="exact",
        **QUICK,
    )  # fmt: skip
    said = " ".join(capsys.readouterr().out.split())
    counts = [int(count) for count in re.findall(r"left out, .*?: (\d+) × no reference", said)]
    assert sum(counts) == 10
    steps = [entry.metrics for entry in read_metrics(run.folder) if entry.step > 0]
    assert all(entry["reward"] == 0 and "unscored" not in entry for entry in steps)
    assert all("reward_incorrect" in entry or "reward_unparsable" in entry for entry in steps)


def test_data_without_any_key_is_refused(model: str, tmp_path: Path):
    rows = [{"prompt": f"{n} + 1?"} for n in range(40)]
    with pytest.raises(UserError, match=r"no prompt can be judged.*data\.columns\.reference"):
        bf.train("grpo", model=model, data=rows, run=tmp_path / "r", reward="exact", **QUICK)


@pytest.mark.parametrize(
    ("verifier", "shares", "correct"),
    [(Format(share=True), [0.2, 0.4], [0, 0]), (Repetition(partial=True, n=1), [2 / 3, 1.0], None)],
)
def test_where_every_answer_is_right_in_part_none_is_right(verifier, shares, correct):
    """Repetition measures, and says of no answer that it is right or wrong."""
    texts = ["<think> a a", "<answer> <think>"]
    template = ChatTemplate(byte_tokenizer(CHATML))
    tokens = [template.tokenizer.encode(one) for one in texts]
    steps = TokenSteps.of([[65], [65]], tokens)
    rollouts = Rollouts(
        steps=steps,
        mask=steps.mask,
        logp=torch.zeros(steps.mask.shape),
        group=torch.tensor([0, 0]),
        finished=torch.tensor([True, True]),
        row=torch.tensor([0, 0]),
    )
    record = Prompt(messages(("user", "q")))
    made = VerifierReward(verifier=verifier, template=template, records=[record])(rollouts)
    assert made.scores.tolist() == pytest.approx(shares)
    found = made.right()
    assert (None if found is None else found.tolist()) == correct


def test_a_linear_check_is_made_here_and_an_error_of_it_is_one_answers(
    monkeypatch: pytest.MonkeyPatch,
):
    def fail(*_: object) -> Verdict:
        raise ValueError("odd")

    record = Prompt(messages(("user", "q")), reference="12")
    given = [Texts("q", answer, record, "row 1") for answer in ("12", "21")]
    template = ChatTemplate(byte_tokenizer(CHATML))
    source = VerifierReward(verifier=Exact(), template=template, records=[])
    monkeypatch.setattr("backflip.reward.verifiers.source.pool_of", fail)
    assert [one.outcome for one in source.verdicts(given)] == ["correct", "incorrect"]
    monkeypatch.setattr(Exact, "check", fail)
    assert [one.reason for one in source.verdicts(given)] == ["ValueError: odd"] * 2
