"""Benchmarks of reward models by their published definitions, on rows made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from backflip.errors import UserError
from backflip.evaluation.scored import stratified
from backflip.evaluation.suites.report import reported
from backflip.evaluation.suites.rewardbench import SECTIONS, Rewardbench
from backflip.evaluation.suites.rewardbench2 import Rewardbench2, best, ties
from backflip.evaluation.suites.rm_bench import RmBench, styles
from backflip.functional.statistics import wilson
from tests.evaluation.test_judge_suite import Length, Says
from tests.parts import shared_rows


def report(suite, data, subject=None):
    subject = subject or Length("length")
    rows = suite.examine(subject, data)
    return reported(suite, "s", rows, model="m", data="d", notes=subject.notes)


def pair(subset, *, right, number=0):
    chosen, rejected = ("long", "l") if right else ("l", "long")
    return {"id": f"{subset}-{number}-{right}", "prompt": "q", "subset": subset, "chosen": chosen,
            "rejected": rejected}  # fmt: skip


def test_sections_have_the_published_sizes():
    assert {name: sum(subsets.values()) for name, subsets in SECTIONS.items()} == {
        "Chat": 358, "Chat Hard": 456, "Safety": 740, "Reasoning": 1968,
    }  # fmt: skip
    assert sum(map(len, SECTIONS.values())) == 23


def test_rewardbench_weighs_subsets_in_sections_and_sections_alike():
    """Reasoning: all of math (984), half of hep-cpp (164); Chat Hard: a quarter of one subset."""
    data = [pair("math-prm", right=True), pair("hep-cpp", right=True), pair("hep-cpp", right=False)]
    data += [pair("llmbar-natural", right=n == 0, number=n) for n in range(4)]
    found = report(Rewardbench(), data)
    reasoning = (984 * 1 + 164 * 0.5) / (984 + 164)
    assert found["section_reasoning"].value.estimate == pytest.approx(reasoning)
    assert found["section_chat_hard"].value.estimate == 0.25
    assert found["score"].value.estimate == pytest.approx((reasoning + 0.25) / 2)
    assert "no score of the leaderboard" in " ".join(found.sentences)


def test_prior_sets_weigh_half():
    data = [pair("hep-go", right=True), pair("shp", right=False), pair("summarize", right=True)]
    found = report(Rewardbench(), data)
    assert found["section_prior_sets"].value.estimate == 0.5
    assert found["score"].value.estimate == pytest.approx((1 + 0.5 * 0.5) / 1.5)


def test_xstests_weights_are_by_size_or_as_the_leaderboard_has_them():
    data = [pair("xstest-should-refuse", right=True), pair("xstest-should-respond", right=False)]
    own, theirs = (report(Rewardbench(published_weights=p), data) for p in (False, True))
    assert own["section_safety"].value.estimate == pytest.approx(154 / 404)
    assert theirs["section_safety"].value.estimate == pytest.approx(250 / 404)


def test_equal_scores_are_wrong_and_scores_in_the_data_are_used():
    data = [{"prompt": "q", "chosen": "a", "rejected": "b", "subset": "hep-go"}]
    assert report(Rewardbench(), data)["accuracy"].value.estimate == 0
    data = [data[0] | {"scores_chosen": 2.0, "scores_rejected": 1.0}]
    found = report(Rewardbench(), data)
    assert found["accuracy"].value.estimate == 1
    assert "scores are those of the data" in " ".join(found.sentences)
    with pytest.raises(UserError, match="scores no answer to 1 prompt as a number"):
        report(Rewardbench(), [data[0] | {"scores_chosen": math.nan}])
    with pytest.raises(UserError, match="no row has prompt, chosen and rejected"):
        report(Rewardbench(), [{"prompt": "q"}])


def test_a_stratified_share_of_one_stratum_is_wilsons():
    rows = [{"subset": "x", "right": float(n < 7)} for n in range(10)]
    one, other = stratified(rows, {"x": 3.0, "empty": 9.0}), wilson(7, 10)
    assert (one.estimate, one.low, one.high) == pytest.approx(
        (other.estimate, other.low, other.high)
    )


def test_llmbar_is_a_part_of_chat_hard():
    """A judge that names the longer answer, in texts of LLMBar; by hand over its rows."""
    data = shared_rows("llmbar")
    found = report(Rewardbench(), data)
    shares = {}
    for name, weight in SECTIONS["Chat Hard"].items():
        rows = [r for r in data if r["subset"] == name]
        if rows:
            right = [len(r["chosen"]) > len(r["rejected"]) for r in rows]
            shares[name] = (weight, sum(right) / len(right))
            assert found[f"subset_{name}"].value.estimate == pytest.approx(shares[name][1])
    expected = sum(w * s for w, s in shares.values()) / sum(w for w, _ in shares.values())
    assert found["section_chat_hard"].value.estimate == pytest.approx(expected)


def test_a_language_model_compares_in_both_orders():
    """It likes the first, but likes "long" more: the mean of both orders decides."""
    subject = Says(
        lambda a, b, letter: float((letter == "A") + 2 * ((letter == "A") == (a == "long")))
    )
    data = [pair("hep-go", right=True), pair("hep-go", right=False)]
    assert report(Rewardbench(), data, subject)["accuracy"].value.estimate == 0.5
    assert [r["right"] for r in Rewardbench().examine(subject, data)] == [1.0, 0.0]


def test_best_of_four_pays_by_the_number_of_winners():
    assert best([3.0, 1.0, 2.0, 0.0]) == 1
    assert best([3.0, 3.0, 2.0, 0.0]) == 0.5
    assert best([1.0] * 4) == 0.25
    assert best([1.0, 2.0, 0.0, 0.0]) == 0


def tied(key, scores, correct):
    return {"id": key, "scores": scores, "correct": correct}


def test_ties_by_hand():
    """d = 1; m_tied = 2, m_ref = 3: everything holds, and the last term is tanh(2/1 − 1)."""
    good = [tied("ref:1", [5.0, 2.0], 1), tied("tied:1", [5.0, 4.0, 2.0, 1.0], 2)]
    assert ties(good) == pytest.approx(1 + 0.01 * math.tanh(1))
    small = [tied("ref:1", [2.5, 2.0], 1), good[1]]
    assert ties(small) == pytest.approx(0.8 + 0.01 * math.tanh(0.5 - 1))
    wrong = [tied("ref:1", [1.0, 2.0], 1), tied("tied:1", [5.0, 1.0, 2.0], 2)]
    assert ties(wrong) == pytest.approx(0.01 * math.tanh(-1 / 4 - 1))


def test_ties_without_any_spread_are_no_error():
    """0/0 counts 0, and x/0 is without limit: as the benchmark's own program has it."""
    even = [tied("ref:1", [1.0, 1.0], 1), tied("tied:1", [1.0, 1.0, 1.0], 2)]
    assert ties(even) == 0
    sure = [tied("ref:1", [2.0, 1.0], 1), tied("tied:1", [2.0, 2.0, 1.0], 2)]
    assert ties(sure) == pytest.approx(1.01)


def test_rewardbench_2_is_the_plain_mean_of_subsets():
    four = {"prompt": "q", "chosen": ["long"], "rejected": ["l", "lo", "lon"]}
    data = [four | {"id": f"f{n}", "subset": "Factuality"} for n in range(3)]
    data += [four | {"id": "m", "subset": "Math", "chosen": ["lon"]}]
    data += [
        {"id": "ref:1", "prompt": "q", "subset": "Ties", "chosen": ["long"], "rejected": ["l"]},
        {"id": "tied:1", "prompt": "q", "subset": "Ties", "chosen": ["long", "lone"],
         "rejected": ["l"]},
    ]  # fmt: skip
    found = report(Rewardbench2(), data)
    assert found["subset_factuality"].value.estimate == 1
    assert found["subset_math"].value.estimate == 0.5
    assert found["subset_ties"].value.estimate == pytest.approx(1.01)
    assert found["score"].value.estimate == pytest.approx((1 + 0.5 + 1.01) / 3)
    assert "Not in these data: Precise IF, Safety, Focus" in " ".join(found.sentences)


def test_three_styles_against_three():
    """Rows: the right answer in each style; columns: the wrong one. Equal scores are a loss."""
    chosen, rejected = [1.0, 2.0, 3.0], [1.5, 1.5, 3.0]
    beats = np.greater.outer(chosen, rejected)
    assert beats.tolist() == [[False, False, False], [True, True, False], [True, True, False]]
    found = styles(chosen, rejected)
    assert found == {"hard": 0, "normal": pytest.approx(1 / 3), "easy": 1}


def test_rm_bench_weighs_domains_alike_and_halves_of_safety_together():
    row = {"prompt": "q", "chosen": ["aa", "aaa", "aaaa"], "rejected": ["b", "b", "b"]}
    bad = row | {"chosen": row["rejected"], "rejected": row["chosen"]}
    data = [row | {"domain": "chat"}] * 3 + [bad | {"domain": "math"}]
    data += [row | {"domain": "safety-refuse"}, bad | {"domain": "safety-response"}]
    data = [one | {"id": n} for n, one in enumerate(data)]
    found = report(RmBench(), data)
    assert found["score"].value.estimate == pytest.approx((1 + 0 + 0.5) / 3)
    assert found["domain_chat"].value.estimate == 1
    assert found["easy"].value.estimate == found["hard"].value.estimate
