"""The direct family from a recipe to a finished run, on a tiny model."""

from __future__ import annotations

import dataclasses
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from transformers import AutoModelForCausalLM

from backflip.algorithms.discover import DIRECT
from backflip.algorithms.preference.base import tell
from backflip.algorithms.preference.mixture import Mixture
from backflip.data.batches import ComparisonBatch, LabelledBatch
from backflip.data.ragged import Ragged
from backflip.data.records import Comparison, Labelled
from backflip.data.referenced import ReferencedComparisons
from backflip.data.sources import write_jsonl
from backflip.errors import Interrupted
from backflip.monitor.log import read_lines, read_metrics
from backflip.monitor.progress import Progress
from backflip.recipes.load import load_recipe
from backflip.recipes.names import shipped
from backflip.recipes.run import resume, train
from backflip.stages.context import StageContext
from backflip.stages.preferences import without_formatting
from backflip.training.checkpoints import CheckpointStore
from backflip.training.offline import assess

PAIRED = [n for n, k in DIRECT.items() if k.learns_from is Comparison and k is not Mixture]
pytestmark = pytest.mark.usefixtures("own_cache")

METHODS = [name for name in shipped() if load_recipe(name).stage == "direct"]
QUICK: dict[str, Any] = {"sampled_prompts": 2, "sampled_tokens": 6, "data.held_out": 0.2}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Sixty comparisons in which the good answer always wins; both are equally long."""
    path = tmp_path_factory.mktemp("data") / "rows.jsonl"
    write_jsonl(
        path,
        [
            {"prompt": f"Is it {n}?", "chosen": f"good {n}", "rejected": f"evil {n}"}
            for n in range(60)
        ],
    )
    return str(path)


def direct(name: str, model: str, data: str, run: Path, **settings: Any) -> Any:
    given = {"model": model, "data": data, "run": str(run), **QUICK, **settings}
    return load_recipe(name, given)


def heard(recipe: Any) -> tuple[Path, str]:
    """(folder, what was said) of a run."""
    out = io.StringIO()
    folder = train(recipe, progress=Progress(Console(file=out, width=1000)))
    return folder, out.getvalue()


def summary(run: Path) -> dict[str, Any]:
    return json.loads((run / "summary.json").read_text())


@pytest.mark.parametrize("name", METHODS)
def test_every_shipped_method_learns_the_preference(
    name: str, model: str, rows: str, tmp_path: Path
):
    """Held-out implicit accuracy, on prompts that were never seen: half of them by chance."""
    settings = {"optimizer.lr": 5e-3, "steps": 12, "lora": {"rank": 8, "alpha": 16}}
    run, _ = heard(direct(name, model, rows, tmp_path / "run", **settings))
    found = summary(run)
    assert found["accuracy"] > 0.9, found["accuracy"]
    assert (run / "model" / "config.json").is_file()
    assert (run / "report.html").is_file()


def test_the_reference_speaks_once_for_all_runs_on_the_same_rows(
    model: str, rows: str, tmp_path: Path
):
    first, said = heard(direct("dpo", model, rows, tmp_path / "a", steps=2))
    assert "120 answers computed" in said
    again, said = heard(direct("dpo", model, rows, tmp_path / "b", steps=2))
    assert "120 of 120 answers from the cache, 0 computed" in said
    _, said = heard(direct("dpo", model, rows, tmp_path / "c", steps=1, reference_cache=False))
    assert "120 answers computed" in said
    _, said = heard(direct("simpo", model, rows, tmp_path / "d", steps=1))
    assert "reference:" not in said
    for one, other in zip(read_metrics(first), read_metrics(again), strict=True):
        assert one.metrics == other.metrics


@pytest.mark.parametrize(
    ("name", "settings"),
    [("dpo", {}), ("dpo", {"lora": None}), ("kto", {}), ("bco", {}), ("tr_dpo", {}), ("orpo", {})],
    ids=lambda value: value if isinstance(value, str) else ",".join(value) or "lora",
)
def test_an_interrupted_run_goes_on_to_the_same_bits(
    name: str, settings: dict[str, Any], model: str, rows: str, tmp_path: Path
):
    """Power is cut at a validation; the reference is still the model that the run started from."""
    more = {**settings, "steps": 4, "eval_every": 2, "checkpoint_every": 1, "optimizer.lr": 1e-3}
    # From a cache KTO's pairs would come as they were read among its labels: other last bits.
    more |= {"reference_cache": False}
    whole, _ = heard(direct(name, model, rows, tmp_path / "whole", **more))
    broken = direct(name, model, rows, tmp_path / "broken", **more)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("backflip.stages.direct._Samples.metrics", _power_cut)
        with pytest.raises(Interrupted, match=f"backflip resume {broken.run}"):
            train(broken)
    resume(broken.run)
    ends = [CheckpointStore(run / "checkpoints").latest() for run in (whole, broken.run)]
    assert ends[0] is not None
    assert ends[1] is not None
    for key, value in ends[0].weights("policy").items():
        assert torch.equal(value, ends[1].weights("policy")[key]), key
    gone = ("seconds", "run")
    first, second = summary(whole), summary(broken.run)
    assert {k: v for k, v in first.items() if k not in gone} == {
        k: v for k, v in second.items() if k not in gone
    }


def _power_cut(*_: Any):
    raise KeyboardInterrupt


def test_all_weights_can_learn_with_the_start_as_their_reference(
    model: str, rows: str, tmp_path: Path
):
    run, _ = heard(
        direct("dpo", model, rows, tmp_path / "run", lora=None, steps=3, **{"optimizer.lr": 1e-3})
    )
    found = summary(run)
    assert found["trainable"] == found["parameters"]
    assert abs(found["kl_before"]) < 1e-3
    assert abs(found["kl_after"]) > 0.01
    before, after = (
        AutoModelForCausalLM.from_pretrained(p).state_dict() for p in (model, run / "model")
    )
    assert all(not torch.equal(before[name], after[name]) for name in before if "proj" in name)


@pytest.mark.parametrize("name", METHODS)
def test_every_shipped_method_runs_on_all_weights(name: str, model: str, rows: str, tmp_path: Path):
    """At the rate that the recipe has for them."""
    more = {"lora": None, "sampled_prompts": 0, "steps": 2, "data.limit": 20}
    run, _ = heard(direct(name, model, rows, tmp_path / "run", **more))
    found = summary(run)
    assert found["trainable"] == found["parameters"]
    before, after = (
        AutoModelForCausalLM.from_pretrained(p).state_dict() for p in (model, run / "model")
    )
    assert all(bool(value.isfinite().all()) for value in after.values())
    assert any(not torch.equal(before[name], after[name]) for name in before if "proj" in name)


def test_no_copy_is_kept_where_nothing_is_compared_with_it(
    model: str, rows: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Without sampled answers the policy states its own numbers before it learns."""

    def forbidden(_: Any):
        raise AssertionError("a copy was made")

    monkeypatch.setattr("backflip.models.causal.CausalPolicy.reference", forbidden)
    more = {"lora": None, "sampled_prompts": 0, "steps": 2}
    run, _ = heard(direct("dpo", model, rows, tmp_path / "run", **more))
    assert "kl_after" not in summary(run)
    assert not (run / "samples.jsonl").exists()


def test_fine_tuning_comes_first_and_its_weights_are_the_reference(
    model: str, rows: str, tmp_path: Path
):
    """The cache knows models by their weights: the base model's numbers are not the tuned one's."""
    more = {"steps": 2, "eval_every": 1}
    heard(direct("dpo", model, rows, tmp_path / "on_base", **more))
    sft = {"model": model, "data": rows, "run": str(tmp_path / "sft"), "optimizer.lr": 1e-3}
    tuned = train(load_recipe("sft", {**sft, "steps": 4}))
    run, said = heard(direct("dpo", str(tuned), rows, tmp_path / "on_sft", **more))
    assert "120 answers computed" in said
    assert abs(summary(run)["kl_before"]) < 1e-3
    first = read_metrics(run)[0].metrics
    assert first["margin"] == pytest.approx(0.0, abs=1e-5)


def test_another_model_can_be_the_reference(model: str, rows: str, tmp_path: Path):
    sft = {"model": model, "data": rows, "run": str(tmp_path / "sft"), "optimizer.lr": 1e-3}
    tuned = train(load_recipe("sft", {**sft, "steps": 4}))
    more = {"reference": model, "steps": 1}
    run, _ = heard(direct("dpo", str(tuned), rows, tmp_path / "run", **more))
    assert read_metrics(run)[0].metrics["margin"] != pytest.approx(0.0, abs=1e-5)
    assert abs(summary(run)["kl_before"]) > 0.01


def test_answers_on_the_way_are_on_record_with_their_kl(model: str, rows: str, tmp_path: Path):
    more = {"steps": 4, "eval_every": 2, "optimizer.lr": 1e-2}
    run, _ = heard(direct("dpo", model, rows, tmp_path / "run", **more))
    samples = list(read_lines(run / "samples.jsonl"))
    assert [s["step"] for s in samples] == [0, 0, 2, 2, 4, 4]
    assert all("<|im_start|>" not in s["prompt"] for s in samples)
    assert all(abs(s["kl"]) < 1e-3 for s in samples[:2])
    measured = [e.metrics for e in read_metrics(run) if "val_sampled_kl" in e.metrics]
    assert len(measured) == 2
    assert measured[-1]["val_sampled_kl"] == pytest.approx(summary(run)["kl_after"])
    assert 0 < summary(run)["length_after"] <= 6


def test_golden_judgements_are_probed_at_the_end(model: str, rows: str, tmp_path: Path):
    golden = tmp_path / "golden.jsonl"
    write_jsonl(golden, [{"prompt": "Is it so?", "chosen": "good one", "rejected": "evil one"}])
    for name in ("dpo", "kto"):
        more = {"golden": str(golden), "steps": 1}
        run, said = heard(direct(name, model, rows, tmp_path / name, **more))
        assert summary(run)["golden"]["pairs"] == 1
        assert "golden judgements: Only 1 pair of 1 prompt measured: too few to tell" in said


def test_labels_made_of_comparisons_are_judged_on_the_comparisons_held_out(
    model: str, rows: str, tmp_path: Path
):
    run, _ = heard(direct("kto", model, rows, tmp_path / "a", steps=1))
    pairs, _ = heard(direct("dpo", model, rows, tmp_path / "b", steps=1))
    assert summary(run)["pairs"] == summary(pairs)["pairs"] > 0
    assert summary(run)["rows"] == 2 * summary(pairs)["rows"]
    labels = tmp_path / "labels.jsonl"
    write_jsonl(
        labels,
        [
            {"prompt": f"Is it {n}?", "completion": "good" if n % 2 else "evil", "label": n % 2 > 0}
            for n in range(30)
        ],
    )
    run, _ = heard(direct("kto", model, str(labels), tmp_path / "c", steps=1))
    assert "accuracy" not in summary(run)
    assert "val_accuracy" in read_metrics(run)[-1].metrics


def test_the_tokens_that_end_a_turn_can_be_left_out_of_the_comparison(model: str, rows: str):
    """One token an answer, the last; the reference is asked with the same mask. The likelihood
    of the chosen answer, which is to keep the form of an answer, has it."""
    recipe = direct("dpo", model, rows, Path("nowhere"))
    kto = direct("kto", model, rows, Path("nowhere"))
    context = StageContext.of(recipe, print)
    for one, kind in ((recipe, Comparison), (kto, Labelled)):
        train_rows, _ = replace(context, recipe=one).records(kind)
        plain = one.tokenize(train_rows, context.template).data
        bare = without_formatting(plain, context.template.stop_tokens)
        if isinstance(plain, ComparisonBatch):
            assert isinstance(bare, ComparisonBatch)
            masks, steps = (plain.mask.values, bare.mask.values), plain.answers.values
            assert torch.equal(bare.imitated.values, plain.mask.values)
        else:
            assert isinstance(bare, LabelledBatch)
            masks, steps = (plain.mask, bare.mask), plain.steps
            gone = plain.mismatched_mask.sum(-1) - bare.mismatched_mask.sum(-1)
            assert (gone == 1).all()
        assert (masks[0].sum(-1) - masks[1].sum(-1) == 1).all()
        for row, (answer, left) in enumerate(zip(steps.answer.rows(), masks[1], strict=True)):
            kept = answer[left[: len(answer)]]
            assert not torch.isin(kept, torch.tensor(context.template.stop_tokens)).any(), row


def test_masked_rows_are_learnt_from_too(model: str, rows: str, tmp_path: Path):
    """Each answer is one token shorter to the losses."""
    lengths = []
    for masked in (False, True):
        more = {"steps": 1, "mask_formatting": masked}
        run, _ = heard(direct("dpo", model, rows, tmp_path / str(masked), **more))
        lengths.append(read_metrics(run)[0].metrics["length_chosen"])
    assert lengths[0] - lengths[1] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("name", "field", "heeded"),
    [
        ("dpo", "margin", True),
        ("dpo", "soft", True),
        ("ipo", "margin", False),
        ("ipo", "soft", True),
        ("apo_zero", "soft", False),
        ("orpo", "margin", False),
        ("sppo", "margin", False),
        ("psi_po", "soft", True),
    ],
)
def test_whether_an_objective_heeds_a_label_is_tried_out(name: str, field: str, heeded: bool):
    recipe: Any = load_recipe(name)
    assert uses_labels(recipe.objective, field) is heeded


@pytest.mark.parametrize("field", ["margin", "soft"])
@pytest.mark.parametrize("name", PAIRED)
def test_an_objective_heeds_what_it_says(name: str, field: str):
    objective: Any = load_recipe(name).objective  # type: ignore[union-attr]
    assert uses_labels(objective, field) is (field in objective.uses_labels)


def uses_labels(objective: Any, field: str) -> bool:
    """Whether ``margin`` or ``soft`` of a comparison changes its loss: tried out on one."""
    batch = ComparisonBatch.of([[1]], [[[2, 3], [4]]], [[0, 1]])
    batch = dataclasses.replace(batch, soft=torch.full((1,), 0.9))  # some refuse certainty
    logp = torch.tensor([[-1.0, -2.0], [-1.5, 0.0]])
    ref = Ragged(torch.tensor([-2.0, -1.2]), batch.answers.offsets)
    other = dataclasses.replace(batch, **{field: torch.full((1,), 0.7)})
    plain, changed = (
        objective.per_prompt(tell(logp, ReferencedComparisons(rows, ref)), rows)
        for rows in (batch, other)
    )
    return not torch.equal(plain, changed)


def test_held_out_answers_are_judged_by_what_the_objective_has_become(
    model: str, rows: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """BCO's δ moves with the rewards; at δ = 0 its held-out loss would be of another objective."""
    seen = list[Any]()

    def kept(objective: Any, *more: Any) -> dict[str, float]:
        seen.append(objective)
        return assess(objective, *more)

    monkeypatch.setattr("backflip.stages.course.assess", kept)
    settings = {"steps": 4, "eval_every": 2, "lora": None, "optimizer.lr": 1e-3}
    train(direct("bco", model, rows, tmp_path / "run", **settings))
    assert abs(seen[-1].shift) > 1e-6
