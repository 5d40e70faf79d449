"""The report on a reward: each number by hand or by simulation, each verdict where it is due."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from backflip.evaluation.trust.agreement import Agreement, raters_agreement
from backflip.evaluation.trust.calibration import (
    Rescaled,
    cross_fitted,
    ece_of_a_calibrated_model,
)
from backflip.evaluation.trust.golden import measured_golden
from backflip.evaluation.trust.members import measured_members
from backflip.evaluation.trust.page import trust_page
from backflip.evaluation.trust.pairs import Refusal, combined, difference_interval
from backflip.evaluation.trust.report import TrustReport
from backflip.evaluation.trust.slices import by_columns
from backflip.evaluation.trust.words import remarks_of
from backflip.functional.statistics import calibration_error
from tests.evaluation.trusting import comparison, drawn, judged, reported, scores_of

MANY = [comparison(n) for n in range(400)]


def words(said: TrustReport) -> str:
    return "\n".join(remarks_of(said))


# ---- calibration


def test_each_half_is_scaled_by_the_temperature_of_the_other():
    """Scores three times too sure: T is 3 on either half, and what is left is calibrated."""
    rng = np.random.default_rng(0)
    records = [comparison(n) for n in range(2000)]
    scaled = cross_fitted(judged(3 * drawn(rng, rng.exponential(1.0, 2000)), records))
    assert isinstance(scaled, Rescaled)
    assert scaled.temperatures == pytest.approx((3, 3), rel=0.2)
    assert scaled.slope.low < 1 < scaled.slope.high
    assert scaled.gain.low > 0


def test_labels_of_a_half_do_not_reach_its_own_temperature():
    """Turn a pair round: one temperature moves, and it is that of the other half."""
    deltas = drawn(np.random.default_rng(1), np.full(400, 1.0)) * np.linspace(0.5, 1.5, 400)
    before = cross_fitted(judged(deltas, MANY))
    deltas[0] *= -1
    after = cross_fitted(judged(deltas, MANY))
    assert isinstance(before, Rescaled)
    assert isinstance(after, Rescaled)
    same = [a == b for a, b in zip(before.temperatures, after.temperatures, strict=True)]
    assert sorted(same) == [False, True]


@pytest.mark.parametrize(
    ("deltas", "records", "why"),
    [
        ([1.0, -1.0, 2.0], [comparison(0, prompt="one?")] * 3, "single prompt"),
        ([1.0] * 40, MANY[:40], "no pair that is ordered wrong"),
        ([0.0] * 40, MANY[:40], "no two scores that differ"),
        ([-1.0] * 40, MANY[:40], "no better than backwards"),
    ],
)
def test_where_no_temperature_can_be_fitted_that_is_said(deltas, records, why):
    scaled = cross_fitted(judged(deltas, records))
    assert isinstance(scaled, Refusal)
    assert why in scaled.reason


def test_chance_alone_makes_the_calibration_error_that_is_named():
    """The mean error over calibrated models with the same claims, drawn apart from ours."""
    rng = np.random.default_rng(2)
    claims = rng.exponential(1.0, 150)
    errors = [calibration_error(drawn(rng, claims)) for _ in range(300)]
    assert ece_of_a_calibrated_model(claims) == pytest.approx(np.mean(errors), rel=0.08)


def test_a_model_that_is_sure_and_wrong_is_called_saturated():
    sure = words(reported([9.0] * 250 + [-9.0] * 150, MANY))
    assert "Saturated: it claims 99 % or more on 100" in sure
    assert "Saturated" not in words(reported([9.0] * 10 + [-9.0] * 10, MANY[:20])), "a handful"


# ---- slices


def in_two_groups(weak: int = 90, strong: int = 310, **info: object) -> list:
    groups = ["weak"] * weak + ["strong"] * strong
    return [comparison(n, group=group, **info) for n, group in enumerate(groups)]


def test_the_worst_group_is_named_where_its_interval_says_so():
    deltas = [1.0, -1.0] * 45 + [1.0, 1.0, 1.0, 1.0, -1.0] * 62
    said = reported(deltas, in_two_groups())
    (column,) = said.columns
    assert {s.name: (s.pairs, s.accuracy.estimate) for s in column.slices} == {
        "strong": (310, 0.8),
        "weak": (90, 0.5),
    }
    assert column.worst is not None
    assert column.worst.name == "weak"
    assert column.worst.behind.estimate == pytest.approx(-0.3)
    assert column.worst.behind.level == pytest.approx(0.975), "two groups were compared"
    assert "Worst group: weak, −30.0 points" in words(said)


def test_groups_that_differ_by_chance_alone_are_hardly_ever_named():
    """Five groups alike: one is always lowest, and is named in at most one in twenty samples."""
    rng, named = np.random.default_rng(3), 0
    records = [comparison(n, group=f"g{n % 5}") for n in range(300)]
    pairs = judged([1.0] * 300, records)
    for _ in range(100):
        deltas = np.where(rng.random(300) < 0.7, 1.0, -1.0)
        (column,) = by_columns(dataclasses.replace(pairs, delta=deltas), {"group": "group"})
        named += column.worst is not None
    assert named <= 9


def test_nothing_is_said_of_a_group_of_three_raters():
    records = [comparison(n, group="abc"[n % 3], rater=f"{n % 3}{n // 3 % 9}") for n in range(300)]
    records += [comparison(300 + n, group="few", rater=f"few{n % 3}") for n in range(90)]
    said = reported([1.0, -1.0] * 195, records)
    groups = next(column for column in said.columns if column.name == "group")
    assert [s.name for s in groups.slices] == ["a", "b", "c"]
    assert "few: 3 raters, too few to speak for a group" in groups.refused
    assert groups.worst is None


def test_numbers_are_cut_into_quarters_and_values_of_one_pair_each_are_not_shown():
    records = [comparison(n, confidence=n / 400, topic=f"topic {n}") for n in range(400)]
    pairs = judged([1.0] * 200 + [-1.0] * 200, records)
    columns = by_columns(pairs, {"confidence": "confidence", "domain": "topic"})
    assert [column.name for column in columns] == ["confidence"]
    assert [s.accuracy.estimate for s in columns[0].slices] == [1.0, 1.0, 0.0, 0.0]


# ---- raters


def rows_by_raters(votes: list[tuple[bool, ...]]) -> list:
    """A row for each judgement: True prefers the first answer."""
    rows = []
    for item, said in enumerate(votes):
        for person, first in enumerate(said):
            sides = ("yes", "no") if first else ("no", "yes")
            rows.append(comparison(0, sides, prompt=f"Item {item}?", rater=f"p{person}"))
    return rows


def test_agreement_of_raters_and_with_the_model_by_hand():
    """2 to 1: one pair of raters in three agrees; the model, on the side of the two, with 2/3."""
    rows = rows_by_raters([(True, True, False), (True, True, True)])
    deltas = [1.0 if row.answers[0][0].content == "yes" else -1.0 for row in rows]
    said = raters_agreement(judged(deltas, rows), {"rater": "rater"})
    assert isinstance(said, Agreement)
    assert (said.pairs, said.judgements) == (2, 6)
    assert said.raters.estimate == pytest.approx((1 / 3 + 1) / 2)
    assert said.model.estimate == pytest.approx((2 / 3 + 1) / 2)


def test_the_ceiling_is_met_by_the_best_model_where_all_pairs_are_alike():
    """Every judgement goes to the better side with 0.8: a model that knows it agrees with 0.8."""
    rng = np.random.default_rng(4)
    rows = rows_by_raters([tuple(rng.random(5) < 0.8) for _ in range(250)])
    deltas = [1.0 if row.answers[0][0].content == "yes" else -1.0 for row in rows]
    said = raters_agreement(judged(deltas, rows), {"rater": "rater"})
    assert isinstance(said, Agreement)
    assert said.ceiling.low < 0.8 < said.ceiling.high
    assert said.model.estimate == pytest.approx(said.ceiling.estimate, abs=0.02)
    assert said.gap.low > 0, "two raters agree on 0.68 only"


def test_shares_of_counted_people_are_votes_and_posteriors_are_not():
    def agreement(softs: list[float]) -> Agreement | Refusal:
        rows = [comparison(n, raters=["a", "b", "c", "d"]) for n in range(len(softs))]
        rows = [dataclasses.replace(r, soft=s) for r, s in zip(rows, softs, strict=True)]
        return raters_agreement(judged([1.0] * len(rows), rows), {"rater": "raters"})

    said = agreement([0.75, 1.0])
    assert isinstance(said, Agreement)
    assert said.raters.estimate == pytest.approx((0.5 + 1) / 2)
    assert isinstance(agreement([0.93, 0.71]), Refusal)
    assert isinstance(agreement([1.0, 1.0]), Refusal), "hard labels are majorities"


def test_the_same_row_twice_is_no_second_judgement():
    rows = [comparison(0, prompt="same?")] * 2
    assert isinstance(raters_agreement(judged([1.0, 1.0], rows), {}), Refusal)


# ---- ensembles, golden rows, scores that are not numbers


def test_members_are_brought_to_one_scale():
    """A member with a hundredfold scale has one voice, and the mean scale stays."""
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=(2, 50))
    narrow, wide = (torch.tensor(np.stack([a, scale * b], 1)) for scale in (1.0, 100.0))
    ours, theirs = (combined(scores, scores) for scores in (narrow, wide))
    torch.testing.assert_close(theirs / theirs.std(), ours / ours.std())
    torch.testing.assert_close(combined(narrow[:, :1], narrow[:, :1]), narrow[:, 0])


def test_disagreement_of_members_is_held_against_errors():
    """Three members, right with 0.75 each and apart: where they agree they are right oftener."""
    rng = np.random.default_rng(6)
    deltas = np.where(rng.random((400, 3)) < 0.75, 1.0, -1.0)
    said = reported(deltas, MANY)
    members = measured_members(judged(deltas, MANY))
    assert members is not None
    assert said.members == members
    united = (deltas == deltas[:, :1]).all(1)
    assert members.united.estimate == pytest.approx((deltas[united, 0] > 0).mean())
    majority = (deltas.sum(1) > 0).mean() - (deltas > 0).mean()
    assert members.gain.estimate == pytest.approx(majority)
    assert "Disagreement of the members tells of errors" in words(said)


def test_golden_rows_that_fail_are_listed_the_worst_first():
    records = [comparison(n) for n in range(4)]
    golden = measured_golden("golden.jsonl", judged([1.0, -2.0, 0.0, math.nan], records))
    assert [(f.where, f.by) for f in golden.failures] == [
        ("rows.jsonl:2", -2.0),
        ("rows.jsonl:3", 0),
    ]
    assert (golden.pairs, golden.unscored, golden.accuracy.estimate) == (4, 1, 0.25)
    said = reported([1.0] * 4, records, golden=golden)
    assert "3 of 4 golden pairs are ordered wrong" in words(said)
    assert "Question 1?" in trust_page(said)


def test_pairs_without_a_score_are_counted_and_in_no_number():
    said = reported([math.nan, 1.0, 1.0, -1.0], MANY[:4])
    assert said.measured.accuracy.estimate == pytest.approx(2 / 3)
    assert (said.unscored, said.measured.pairs) == (1, 3)
    assert "1 pair in none of these numbers" in words(said)
    everything = reported([math.nan] * 4, MANY[:4])
    assert math.isnan(everything.measured.accuracy.estimate)
    json.dumps(everything.to_json(), allow_nan=False)
    assert "4 pairs in none of these numbers" in words(everything)


# ---- the whole


def test_a_handful_of_rows_gets_intervals_and_no_verdict():
    said = reported([-3.0] * 6, in_two_groups(3, 3))
    text = words(said)
    for verdict in ("noisy", "Saturated", "rewards", "Worst", "wrong way"):
        assert verdict not in text
    assert "too few to tell" in text
    assert said.measured.accuracy.high > 0.3


def test_a_single_prompt_has_an_interval_as_wide_as_can_be():
    said = reported([1.0, 1.0, -1.0], [comparison(0, prompt="one?")] * 3)
    assert (said.measured.accuracy.low, said.measured.accuracy.high) == (0.0, 1.0)
    assert "single prompt" in words(said)


def test_the_page_holds_every_picture_and_loads_nothing():
    rng = np.random.default_rng(7)
    records = in_two_groups()
    page = trust_page(reported(drawn(rng, rng.exponential(1.0, 400)), records))
    for text in ("Reliability, as it is", "temperature-scaled", "Accuracy by group", "length"):
        assert text in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "<script src" not in page


def test_the_gap_between_longer_and_shorter_preferred_by_hand():
    longer, shorter = ("a long answer it is", "no"), ("no", "a long answer it is")
    records = [comparison(n, longer if n < 40 else shorter) for n in range(80)]
    said = reported([1.0] * 30 + [-1.0] * 10 + [1.0] * 10 + [-1.0] * 30, records)
    assert said.length_gap.estimate == pytest.approx(30 / 40 - 10 / 40)
    assert said.length_gap.low > 0
    assert "it rewards length" in " ".join(said.measured.sentences)
    alike = reported([1.0] * 40, MANY[:40])
    assert math.isnan(alike.length_gap.estimate), "no lengths that differ"


def test_a_difference_of_shares_has_a_width_where_nothing_is_wrong():
    """10 of 10 less 0 of 10, of Wilson's two intervals by Newcombe's method 10."""
    rows = np.arange(20)
    found = difference_interval((rows < 10).astype(float), rows < 10, rows)
    wilson = 1.96**2 / (10 + 1.96**2)
    assert found.estimate == 1.0
    assert found.low == pytest.approx(1 - math.hypot(wilson, wilson), abs=1e-3)
    assert found.high == 1.0


def test_a_difference_of_shares_holds_the_truth_nineteen_times_in_twenty():
    """Prompts of four pairs that stand and fall together, with pairs on both sides."""
    rng, held = np.random.default_rng(8), 0
    group, side = np.repeat(np.arange(60), 4), np.tile([True, True, False, False], 60)
    for _ in range(300):
        chance = rng.beta(2, 1, 60)[group] + np.where(side, 0.0, -0.2) * 0.5
        x = (rng.random(240) < chance.clip(0, 1)).astype(float)
        found = difference_interval(x, side, group)
        truth = 2 / 3 - TRUTH
        held += found.low <= truth <= found.high
    assert held >= 276


TRUTH = float(np.clip(np.random.default_rng(9).beta(2, 1, 10**6) - 0.1, 0, 1).mean())
"""Mean of the lower side, whose chances are cut at 0."""


def test_scores_are_made_as_the_tests_say():
    assert scores_of([2.0, -1.0])[:, 0].tolist() == [1.0, -1.0, -0.5, 0.5]
