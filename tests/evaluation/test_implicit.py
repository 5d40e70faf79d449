"""A policy as a reward model: by hand, against a reward model's report, and from the commands."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import backflip as bf
from backflip.algorithms.preference.dpo import DPO
from backflip.algorithms.preference.kto import KTO
from backflip.algorithms.preference.simpo import SimPO
from backflip.cli import main as cli
from backflip.data.batches import ComparisonBatch
from backflip.data.sources import write_jsonl
from backflip.errors import UserError
from backflip.evaluation.implicit import implicit_report, implicit_rewards
from backflip.evaluation.reward_model import report
from backflip.models.causal import CausalPolicy
from backflip.training.reference import with_reference
from tests.evaluation.test_reward_model import pairs, scored
from tests.models.families import tiny
from tests.recipes.tiny import tiny_model

pytestmark = pytest.mark.usefixtures("own_cache")

BUDGET = 64


@pytest.fixture(scope="module")
def policy() -> CausalPolicy:
    return CausalPolicy(tiny("llama", seed=0))


@pytest.fixture(scope="module")
def reference() -> CausalPolicy:
    return CausalPolicy(tiny("llama", seed=1))


@pytest.fixture(scope="module")
def batch() -> ComparisonBatch:
    """Prompts with two, three and two answers, of which some tokens are the user's."""
    answers = [[[7, 8, 9], [10, 11]], [[12], [13, 14, 15, 16], [17, 18]], [[19, 20], [21, 22]]]
    masks = [[[True] * len(a) for a in row] for row in answers]
    masks[1][1] = [True, False, False, True]
    ranks = [[0, 1], [1, 0, 2], [0, 0]]
    return ComparisonBatch.of([[3, 4], [3, 5, 6], [4]], answers, ranks, masks=masks)


def by_hand(policy: CausalPolicy, batch: ComparisonBatch) -> torch.Tensor:
    """Σ log π over the own tokens of each answer, one plain forward pass an answer."""
    steps, found = batch.answers.values, []
    for row in range(len(steps)):
        prompt, answer = steps.prompt.row(row), steps.answer.row(row)
        with torch.no_grad():
            logits = policy.model(input_ids=torch.cat([prompt, answer])[None]).logits[0].double()
        logp = logits.log_softmax(-1)[len(prompt) - 1 : -1].gather(1, answer[:, None])[:, 0]
        found.append(logp[batch.mask.values[row][: len(answer)]].sum())
    return torch.stack(found).float()


def test_implicit_rewards_are_beta_times_the_log_ratio(
    policy: CausalPolicy, reference: CausalPolicy, batch: ComparisonBatch
):
    data = with_reference(batch, reference, token_budget=BUDGET)
    expected = 0.3 * (by_hand(policy, batch) - by_hand(reference, batch))
    for budget in (8, BUDGET):  # as many micro-batches as prompts, or one
        rewards = implicit_rewards(policy, data, DPO(beta=0.3), token_budget=budget)
        torch.testing.assert_close(rewards, expected, rtol=1e-4, atol=1e-5)
    unpaired = implicit_rewards(policy, data, KTO(beta=0.3), token_budget=BUDGET)
    torch.testing.assert_close(unpaired, expected, rtol=1e-4, atol=1e-5)


def test_an_objective_without_a_reference_scores_by_its_own_reward(
    policy: CausalPolicy, batch: ComparisonBatch
):
    """SimPO: β times the log-likelihood per token of the answer's own tokens."""
    own = batch.mask.values.sum(-1)
    rewards = implicit_rewards(policy, batch, SimPO(beta=2.0), token_budget=BUDGET)
    torch.testing.assert_close(rewards, 2.0 * by_hand(policy, batch) / own, rtol=1e-4, atol=1e-5)


def test_prompts_beyond_one_window_keep_their_places(
    policy: CausalPolicy, batch: ComparisonBatch, monkeypatch: pytest.MonkeyPatch
):
    whole = implicit_rewards(policy, batch, SimPO(), token_budget=BUDGET)
    monkeypatch.setattr("backflip.evaluation.implicit.WINDOW", 1)
    apart = implicit_rewards(policy, batch, SimPO(), token_budget=BUDGET)
    torch.testing.assert_close(apart, whole)


def test_the_report_is_that_of_a_reward_model_with_these_scores(
    policy: CausalPolicy, reference: CausalPolicy, batch: ComparisonBatch
):
    data = with_reference(batch, reference, token_budget=BUDGET)
    said = implicit_report(policy, data, DPO(), token_budget=BUDGET)
    same = report(implicit_rewards(policy, data, DPO(), token_budget=BUDGET), batch)
    numbers, others = said.to_json(), same.to_json()
    del numbers["sentences"], others["sentences"]
    assert numbers == others
    assert (said.pairs, said.ties) == (4, 1)


def test_a_policy_that_has_not_moved_is_told_so(reference: CausalPolicy, batch: ComparisonBatch):
    data = with_reference(batch, reference, token_budget=BUDGET)
    said = implicit_report(reference, data, DPO(), token_budget=BUDGET)
    assert said.log_loss.estimate == pytest.approx(math.log(2), abs=1e-4)
    assert any("the policy is still its reference" in sentence for sentence in said.sentences)


def test_without_a_reference_nothing_is_made_up(policy: CausalPolicy, batch: ComparisonBatch):
    for objective in (DPO(), KTO()):
        with pytest.raises(ValueError, match="measures the policy against a reference"):
            implicit_report(policy, batch, objective, token_budget=BUDGET)


# ---- the baselines, and what is said


def test_the_shorter_reply_wins_where_the_longer_does_not():
    """Lengths 5 > 2, 2 < 5, 2 < 5, 3 = 3: longer 1½ of 4, shorter 2½."""
    answers = [[[7] * n for n in row] for row in ((5, 2), (2, 5), (2, 5), (3, 3))]
    batch = ComparisonBatch.of([[3, 4 + i] for i in range(4)], answers, [[0, 1]] * 4)
    said = scored(batch, [1.0] * 4)
    assert said.longer.estimate == pytest.approx(1.5 / 4)
    assert said.shorter.estimate == pytest.approx(2.5 / 4)
    assert said.to_json()["baseline_shorter"] == pytest.approx(2.5 / 4)


def test_a_model_must_beat_the_better_of_the_two_baselines():
    said = scored(pairs(60, lengths=(2, 5)), [1.0] * 45 + [-1.0] * 15)
    assert any("shorter reply would get 100.0 %" in sentence for sentence in said.sentences)


def test_a_model_that_rewards_brevity_is_told_so():
    longer, shorter = [[7] * 9, [7] * 2], [[7] * 2, [7] * 9]
    prompts = [[3, 4 + i] for i in range(40)]
    batch = ComparisonBatch.of(prompts, [longer] * 20 + [shorter] * 20, [[0, 1]] * 40)
    said = scored(batch, [-1.0] * 20 + [1.0] * 20)
    assert any("rewards brevity" in sentence for sentence in said.sentences)


@pytest.mark.parametrize(
    ("delta", "right", "said"),
    [
        (2 * math.log(3), 60, "claim more than they know: divide them by 2 "),
        (math.log(3) / 4, 60, "claim less than they know: multiply them by 4 "),
        (math.log(3), 60, None),
        (math.log(3), 20, "order against people"),
    ],
)
def test_calibration_of_implicit_rewards_is_relative_to_beta(
    delta: float, right: int, said: str | None
):
    sentences = scored(pairs(80), [delta] * right + [-delta] * (80 - right), beta=0.1).sentences
    about = [s for s in sentences if "implicit rewards" in s]
    assert len(about) == (said is not None)
    assert said is None or said in about[0]


def test_advice_for_reward_models_is_not_given_to_policies():
    """Only differences of implicit rewards mean anything, so that none of them is too large."""
    deltas = [300.0] * 45 + [-300.0] * 15
    assert any("centering_coef" in s for s in scored(pairs(60), deltas).sentences)
    assert not any("centering_coef" in s for s in scored(pairs(60), deltas, beta=0.1).sentences)
    small = [1e-4] * 45 + [-1e-4] * 15  # as SPPO's, whose beta is 0.001
    assert not any("the same" in s for s in scored(pairs(60), small, beta=1e-3).sentences)


# ---- from a name, in Python and on the command line


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A policy, and what it came from."""
    return a_policy_and_its_start(tmp_path_factory.mktemp("models"))


def a_policy_and_its_start(folder: Path) -> tuple[str, str]:
    from transformers import AutoModelForCausalLM

    start, policy = tiny_model(folder / "start"), tiny_model(folder / "policy")
    moved = AutoModelForCausalLM.from_pretrained(policy)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    moved.save_pretrained(policy)
    return str(policy), str(start)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("data") / "rows.jsonl"
    made = [
        {"prompt": f"Is it {i}?", "chosen": f"Yes, {i}.", "rejected": f"It is not {i}, I say."}
        for i in range(12)
    ]
    write_jsonl(path, made)
    return str(path)


def a_direct_run(folder: Path, models: tuple[str, str], **settings: Any) -> Path:
    """What a run of the direct family leaves behind, as far as it is evaluated."""
    folder.mkdir(parents=True)
    (folder / "model").symlink_to(models[0])
    recipe = {"stage": "direct", "model": models[1], "data": {"source": "elsewhere.jsonl"}}
    recipe["optimizer"] = {"lr": 1e-5}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe | settings))
    return folder


def test_a_language_model_is_evaluated_against_its_reference(
    models: tuple[str, str], rows: str, capsys: pytest.CaptureFixture[str]
):
    policy, start = models
    said = bf.evaluate(policy, rows, reference=start).measured
    assert (said.pairs, said.shorter.estimate) == (12, 1.0)
    assert said.scores.std > 0
    twice = bf.evaluate(policy, rows, reference=start, beta=0.2)
    assert twice.measured.scores.std == pytest.approx(2 * said.scores.std, rel=1e-5)
    with pytest.raises(SystemExit) as left:
        cli.main(["evaluate", policy, f"data={rows}", f"reference={start}", "beta=0.2", "--json"])
    assert left.value.code == 0
    assert json.loads(capsys.readouterr().out) == twice.to_json()
    with pytest.raises(SystemExit):
        cli.main(["evaluate", policy, rows, f"reference={start}"])
    assert "the shorter reply wins" in capsys.readouterr().out


def test_a_direct_run_knows_objective_and_reference(
    models: tuple[str, str], rows: str, tmp_path: Path
):
    policy, start = models
    run = a_direct_run(tmp_path / "run", models, objective={"name": "dpo", "beta": 0.25})
    said = bf.evaluate(run, rows).to_json()
    assert "elsewhere.jsonl" in said["sentences"][0], "what was learnt from cannot be read here"
    alone = bf.evaluate(policy, rows, reference=start, beta=0.25).to_json()
    assert said | {"sentences": said["sentences"][1:], "page": ""} == alone
    assert (run / "trust.html").is_file()
    assert bf.evaluate(bf.Run(run), rows, beta=0.1).to_json() != said
    other = a_direct_run(tmp_path / "other", models, objective="dpo", reference=policy)
    assert bf.evaluate(other, rows).measured.scores.std == pytest.approx(0, abs=1e-6)
    chain = tmp_path / "chain"
    a_direct_run(chain / "direct", models, objective={"name": "dpo", "beta": 0.25})
    assert bf.evaluate(chain, rows).measured == bf.evaluate(run, rows).measured


def test_formatting_that_was_masked_in_training_is_masked_here(
    models: tuple[str, str], rows: str, tmp_path: Path
):
    spread = [
        bf.evaluate(a_direct_run(tmp_path / str(masked), models, mask_formatting=masked), rows)
        for masked in (False, True)
    ]
    assert spread[0].measured.scores != spread[1].measured.scores


def test_the_reference_is_gone_before_the_policy_is_loaded(
    models: tuple[str, str], rows: str, monkeypatch: pytest.MonkeyPatch
):
    import weakref

    from backflip.evaluation import implicit

    alive: list[Any] = []
    load = implicit.load_causal

    def watched(name: str) -> Any:
        assert not [model for model in alive if model() is not None], "two models in memory"
        model = load(name)
        alive.append(weakref.ref(model))
        return model

    monkeypatch.setattr(implicit, "load_causal", watched)
    bf.evaluate(models[0], rows, reference=models[1])
    assert len(alive) == 2


def refusal(*words: str) -> str:
    """What the command says where it refuses."""
    with pytest.raises(UserError) as error:
        cli.app(args=["evaluate", *words], standalone_mode=False)
    return str(error.value)


def test_what_cannot_be_evaluated_is_refused_with_a_way_out(
    models: tuple[str, str], rows: str, tmp_path: Path
):
    policy, start = models
    alone = refusal(policy, rows)
    for way in ("not a reward model", "reference=MODEL", "backflip train reward_model", "run"):
        assert way in alone
    assert "above 0" in refusal(policy, rows, f"reference={start}", "beta=0")
    assert "above 0" in refusal(policy, rows, f"reference={start}", "beta=much")
    assert "Did you mean reference?" in refusal(policy, rows, f"refrence={start}")
    assert "no comparisons are named" in refusal(policy, f"reference={start}")
    free = a_direct_run(tmp_path / "free", models, objective={"name": "simpo"})
    assert "simpo, which needs no reference" in refusal(str(free), rows, f"reference={start}")
    unfinished = a_direct_run(tmp_path / "new", models)
    (unfinished / "model").unlink()
    assert "has no model yet" in refusal(str(unfinished), rows)


def test_a_reward_model_needs_no_reference(models: tuple[str, str], rows: str, tmp_path: Path):
    run = tmp_path / "judge"
    bf.train("reward_model", model=models[1], data=rows, steps=1, run=str(run))
    assert "scores by itself" in refusal(str(run), rows, f"reference={models[1]}")


def test_a_reference_with_other_tokens_is_refused(
    models: tuple[str, str], rows: str, tmp_path: Path
):
    stranger = tiny_model(tmp_path / "stranger")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(stranger)
    tokenizer.add_tokens(["<new>"])
    tokenizer.save_pretrained(stranger)
    assert "another tokenizer than the policy" in refusal(models[0], rows, f"reference={stranger}")


def test_scores_of_the_two_heads_are_no_business_of_a_policy(batch: ComparisonBatch):
    """``head`` belongs to reward models: the implicit reward is one, whatever it says."""
    policy = CausalPolicy(tiny("llama", seed=0))
    other = dataclasses.replace(batch, head=torch.ones(len(batch), dtype=torch.long))
    rewards = [implicit_rewards(policy, b, SimPO(), token_budget=BUDGET) for b in (batch, other)]
    torch.testing.assert_close(*rewards)


def test_rows_in_memory_are_evaluated_and_what_is_left_or_unused_is_said(
    models: tuple[str, str], rows: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    policy, start = models
    usual = bf.evaluate(policy, rows, reference=start)
    made = [json.loads(line) for line in Path(rows).read_text().splitlines()]
    assert bf.evaluate(policy, made, reference=start) == usual
    others = [
        {"topic": row["prompt"], "chosen": row["chosen"], "rejected": row["rejected"], "zeal": 1}
        for row in made
    ]
    others.append({**others[0], "topic": None})
    others.append({**others[0], "topic": "word " * 200})
    given = {"reference": start, "columns": {"prompt": "topic"}, "max_length": 500}
    said = bf.evaluate(policy, others, **given)
    assert said.measured.accuracy == usual.measured.accuracy
    text = "\n".join(said.sentences)
    assert "not used: zeal" in text
    assert "left out: 1 × no prompt: column 'topic' is null" in text
    assert "left out: 1 × longer than 500 tokens" in text or "left out: 1 × too long" in text
    write_jsonl(tmp_path / "o.jsonl", others)
    words = [str(tmp_path / "o.jsonl"), f"reference={start}", "columns.prompt=topic"]
    with pytest.raises(SystemExit) as left:
        cli.main(["evaluate", policy, *words, "max_length=500", "--json"])
    assert left.value.code == 0
    shown = json.loads(capsys.readouterr().out)
    assert any("not used: zeal" in line for line in shown["sentences"])
