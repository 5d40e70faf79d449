"""AlpacaEval 2 from annotations in either shape, and a model judged from one call."""

from __future__ import annotations

import numpy as np
import pytest

from backflip.data.sources import write_jsonl
from backflip.errors import UserError
from backflip.evaluation.annotations import annotated, read_annotations
from backflip.evaluation.suites import alpaca_eval
from backflip.evaluation.suites.alpaca_eval import AlpacaEval, controlled
from backflip.evaluation.suites.report import reported
from tests.evaluation.test_judge_suite import Length, Says
from tests.parts import shared_file, shared_rows


def line(model, preferences, lengths=(10, 20, 30, 40)):
    rows = [[n, 25, size, p] for n, (p, size) in enumerate(zip(preferences, lengths, strict=True))]
    return {"model": model, "rows": rows}


def report(suite, data, subject=None):
    subject = subject or Says(None)
    rows = suite.examine(subject, data)
    return reported(suite, "alpaca_eval", rows, model="m", data="d", notes=subject.notes)


def test_both_shapes_are_the_same_annotations():
    """alpaca_eval's own: one row an annotation, texts in place of their lengths, 0 for a draw."""
    one, _ = read_annotations([line("m", (1.0, 2.0, 1.25, 0))])
    flat = [
        {"instruction": "i", "generator_2": "m", "output_1": "x" * 25, "output_2": "y" * size,
         "preference": p}
        for size, p in zip((10, 20, 30, 40), (1.0, 2.0, 1.25, 0.0), strict=True)
    ]  # fmt: skip
    assert read_annotations(flat)[0] == one
    assert [row["preference"] for row in one] == [0, 1, 0.25, 0.5]


def test_what_is_no_preference_is_left_out_and_counted():
    rows, notes = read_annotations([line("m", (1.0, None, 3.0, -1))])
    assert len(rows) == 1
    assert "3 × no preference between 1 and 2" in notes[0]
    with pytest.raises(UserError, match="no annotation can be used"):
        report(AlpacaEval(), [line("m", (None, None, None, None))])
    twice = [row for row in rows for _ in range(2)]
    with pytest.raises(UserError, match="annotated twice"):
        annotated(twice)


def test_one_model_alone_is_told_what_cannot_be_done():
    found = report(AlpacaEval(), [line("m", (1.0, 2.0, 1.0, 2.0))])
    assert found["win_rate"].value.estimate == 0.5
    assert "cannot be told from noise" in " ".join(found.sentences)


def test_difficulties_of_another_baseline_are_refused():
    here, _ = read_annotations([line("m", (1.0, 2.0, 1.0, 2.0))])
    other, _ = read_annotations([line("n", (1.0, 2.0, 1.0, 2.0))])
    other = [row | {"baseline_chars": 99.0} for row in other]
    known = [{"model": "n", "theta": 0.1, "phi": -1, "psi": 0.9, "lc": 40}]
    with pytest.raises(UserError, match="another baseline: in 0 of 4"):
        controlled(here, known, other)


def test_a_models_own_published_number_takes_no_part(monkeypatch):
    """Its coefficients may be in the file, and its rate: its own fit does not move with them."""
    monkeypatch.setattr(alpaca_eval, "DRAWS", 2)
    rng = np.random.default_rng(0)
    lines = [line(name, rng.uniform(1, 2, 40), rng.integers(5, 50, 40)) for name in "abc"]
    known = [{"model": n, "theta": 0.0, "phi": -1.0, "psi": 0.9, "lc": 50.0} for n in "bcdefghi"]
    rows, _ = read_annotations(lines)
    without = controlled(rows, known)[0]
    stated = {"model": "a", "theta": 3.0, "phi": 2.0, "psi": 0.1, "lc": 99.0}
    beside = controlled(rows, [*known, stated])[0]
    assert beside.refit.estimate == without.refit.estimate
    assert beside.published == 0.99
    assert np.isnan(without.published)


def test_published_win_rates(monkeypatch):
    """Ten models from one call: raw to 1e-3 points, stated within 0.6, refit within 1.2."""
    monkeypatch.setattr(alpaca_eval, "DRAWS", 2)
    suite = AlpacaEval(coefficients=str(shared_file("alpaca_eval2_coefficients")))
    data = shared_rows("alpaca_eval2")[::3]
    found = report(suite, data)
    records = {record["model"]: record for record in found.tables[0].records}
    for model in data:
        raw = records[model["model"]]["win_rate"]
        assert 100 * raw == pytest.approx(model["published"]["win_rate"], abs=1e-3)
    fair = [r for name, r in records.items() if name not in ("NullModel", "gpt4_gamed")]
    published, stated, refit = (
        np.array([100 * r[name] for r in fair])
        for name in ("published", "stated", "length_controlled")
    )
    assert np.abs(stated - published).mean() < 0.6
    assert np.abs(refit - published).mean() < 1.2
    assert np.corrcoef(refit, published)[0, 1] > 0.99


def test_a_model_answers_and_a_judge_compares(monkeypatch, tmp_path):
    """The judge likes long answers; an empty answer is put to it too, and it falls for that."""
    monkeypatch.setattr(alpaca_eval, "DRAWS", 5)
    monkeypatch.setattr(alpaca_eval, "judge_named", lambda name, asking: Length(name))
    data = [{"instruction": f"i{n}", "output": "x" * (5 if n % 2 else 60)} for n in range(40)]
    subject = Says(None)
    subject.answers = lambda prompts, each=1: [["y" * 30] for _ in prompts]
    found = report(AlpacaEval(judge="long", null=10), data, subject)
    assert found["win_rate"].value.estimate == 0.5
    assert found["null"].value.estimate == 0.5
    assert "not to be trusted" in " ".join(found.sentences)
    write_jsonl(tmp_path / "b.jsonl", [{"instruction": "i7", "output": "x"}])
    suite = AlpacaEval(judge="long", baseline=str(tmp_path / "b.jsonl"))
    (row,) = suite.examine(subject, data)
    assert (row["instruction"], row["preference"], row["baseline_chars"]) == ("7", 1, 1)
    with pytest.raises(UserError, match="who compares"):
        report(AlpacaEval(), data, subject)
