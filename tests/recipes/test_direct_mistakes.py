"""What the direct family finds wrong before it trains, and what it says of rows it cannot use."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from transformers import AutoTokenizer

from backflip.data.sources import write_jsonl
from backflip.errors import UserError
from backflip.monitor.progress import Progress
from backflip.recipes.check import check_recipe
from backflip.recipes.load import load_recipe
from backflip.recipes.run import train
from tests.recipes.tiny import tiny_model

pytestmark = pytest.mark.usefixtures("own_cache")

Rows = list[dict[str, Any]]
FINE: Rows = [
    {"prompt": f"Is it {n}?", "chosen": f"good {n}", "rejected": f"evil {n}"} for n in range(12)
]


def run(name: str, model: str, rows: Rows, folder: Path, **settings: Any) -> str:
    """What a run of one step says."""
    write_jsonl(folder / "rows.jsonl", rows)
    given = {"model": model, "data": str(folder / "rows.jsonl"), "run": str(folder / "run")}
    quick = {"steps": 1, "sampled_prompts": 0, "data.held_out": 0.2}
    recipe = load_recipe(name, {**given, **quick, **settings})
    check_recipe(recipe)
    out = io.StringIO()
    train(recipe, progress=Progress(Console(file=out, width=1000)))
    return out.getvalue()


# ---- rows


def test_a_chosen_that_equals_its_rejected_is_counted_and_left_out(model: str, tmp_path: Path):
    same = {"prompt": "Which?", "chosen": "this one", "rejected": "this one"}
    said = run("dpo", model, [*FINE, same, same], tmp_path)
    assert "left out: 2 × " in said
    assert "identical" in said


def test_an_empty_reply_is_counted_and_left_out(model: str, tmp_path: Path):
    said = run("dpo", model, [*FINE, {**FINE[0], "rejected": " "}], tmp_path)
    assert "left out: 1 × empty answer" in said


def test_a_row_with_one_answer_is_counted_and_left_out(model: str, tmp_path: Path):
    ranked = [
        {
            "prompt": r["prompt"],
            "completions": [r["chosen"], r["rejected"], "no"],
            "rank": [0, 1, 1],
        }
        for r in FINE
    ]
    alone = {"prompt": "Well?", "completions": ["good"], "rank": [0]}
    said = run("plackett_luce_dpo", model, [*ranked, alone], tmp_path)
    assert "left out: 1 × fewer than two answers" in said
    assert "more than two answers, all of which are learnt from: " in said


@pytest.mark.parametrize("name", ["kto", "bco", "apo_zero_unpaired"])
@pytest.mark.parametrize("label", [True, False])
def test_labels_of_one_kind_are_refused(name: str, label: bool, model: str, tmp_path: Path):
    rows = [{"prompt": r["prompt"], "completion": r["chosen"], "label": label} for r in FINE]
    kind, other = ("good", "bad") if label else ("bad", "good")
    with pytest.raises(UserError, match=rf"labelled {kind} .*Add answers labelled {other}"):
        run(name, model, rows, tmp_path)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["dpo", "simpo", "plackett_luce_dpo"])
def test_nothing_but_ties_is_refused_where_ties_say_nothing(name: str, model: str, tmp_path: Path):
    rows = [{**row, "tie": True} for row in FINE]
    with pytest.raises(UserError, match=r"nothing but ties.*objective=davidson_dpo or "):
        run(name, model, rows, tmp_path)
    assert "ties, which say nothing" not in run("davidson_dpo", model, rows, tmp_path)


def test_ties_among_the_rows_are_counted_aloud(model: str, tmp_path: Path):
    rows = [{**row, "tie": n < 4} for n, row in enumerate(FINE)]
    said = run("dpo", model, rows, tmp_path, **{"data.held_out": 0})
    assert "ties, which say nothing to this objective: 4 of 12 rows" in said


def test_labels_out_of_balance_are_told_with_the_weight_to_set(model: str, tmp_path: Path):
    """Two bad answers for ten good ones: KTO's authors weigh the bad ones up, BCO's repeat them."""
    rows = [
        {"prompt": r["prompt"], "completion": r["chosen"], "label": n % 6 != 0}
        for n, r in enumerate(FINE * 2)
    ]
    said = run("kto", model, rows, tmp_path)
    assert "set undesirable_weight=" in said
    (tmp_path / "bco").mkdir()
    said = run("bco", model, rows, tmp_path / "bco")
    assert "repeat the bad ones, or give their rows weight=" in said
    (tmp_path / "even").mkdir()
    even = [{**row, "weight": 1 if row["label"] else 5} for row in rows]
    said = run("bco", model, even, tmp_path / "even", **{"data.held_out": 0})
    assert "repeat the" not in said


def test_labels_that_an_objective_does_not_heed_are_said_once(model: str, tmp_path: Path):
    rows = [{**row, "margin": 1.0, "p_chosen": 0.8} for row in FINE]
    said = run("apo_zero", model, rows, tmp_path, **{"data.held_out": 0})
    assert said.count("margins, which apo_zero does not heed: 12 of 12 rows") == 1
    assert said.count("soft labels, which apo_zero does not heed: 12 of 12 rows") == 1
    (tmp_path / "dpo").mkdir()
    assert "does not heed" not in run("dpo", model, rows, tmp_path / "dpo")


def test_golden_judgements_without_a_winner_are_refused(model: str, tmp_path: Path):
    golden = tmp_path / "golden.jsonl"
    write_jsonl(golden, [{**FINE[0], "tie": True}])
    with pytest.raises(UserError, match=r"golden: .*nothing but ties"):
        run("dpo", model, FINE, tmp_path, golden=str(golden))


# ---- the reference


def test_a_reference_with_another_vocabulary_is_refused(model: str, tmp_path: Path):
    other = tiny_model(tmp_path / "other")
    tokenizer = AutoTokenizer.from_pretrained(other)
    tokenizer.add_tokens(["unheard-of"])
    tokenizer.save_pretrained(other)
    with pytest.raises(UserError, match="another tokenizer than the policy: 1 entries differ"):
        run("dpo", model, FINE, tmp_path, reference=str(other))
    assert not (tmp_path / "run").exists()


def test_a_reference_that_is_not_there_is_named(model: str, tmp_path: Path):
    with pytest.raises(UserError, match="reference: there is no model"):
        run("dpo", model, FINE, tmp_path, reference="/nowhere/model")


# ---- settings


def test_certain_labels_have_no_logit(model: str, tmp_path: Path):
    with pytest.raises(UserError, match=r"psi_po .* certain"):
        run("psi_po", model, FINE, tmp_path, **{"objective.label_smoothing": 0})


def test_labels_cannot_be_learnt_by_what_takes_comparisons(model: str, tmp_path: Path):
    rows = [{"prompt": r["prompt"], "completion": r["chosen"], "label": True} for r in FINE]
    with pytest.raises(UserError, match=r"no usable comparisons: 12 × no bad answer"):
        run("dpo", model, rows, tmp_path)
