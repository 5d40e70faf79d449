from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from backflip.data.batches import ComparisonBatch
from backflip.errors import UserError
from backflip.evaluation.reward_model import report, size_class


def comparisons(
    prompts: list[list[int]],
    answers: list[list[list[int]]],
    ranks: list[list[int]],
    soft: float = 1.0,
) -> ComparisonBatch:
    """One row per prompt, with its answers and their ranks."""
    batch = ComparisonBatch.of(prompts, answers, ranks)
    return replace(batch, soft=torch.full((len(prompts),), soft))


def pairs(number: int, lengths: tuple[int, int] = (3, 3), soft: float = 1.0) -> ComparisonBatch:
    """``number`` prompts, all different; the first of two answers is the better one."""
    better, worse = ([7] * n for n in lengths)
    return comparisons(
        [[3, 4 + i] for i in range(number)],
        [[better, worse]] * number,
        [[0, 1]] * number,
        soft,
    )


def scored(batch: ComparisonBatch, deltas: list[float], **more: Any) -> Any:
    """A report on scores whose differences, pair by pair, are given."""
    scores = torch.tensor([part for d in deltas for part in (d / 2, -d / 2)])
    return report(scores, batch, **more)


def test_accuracy_log_loss_and_brier_by_hand():
    """Three pairs right by ln 3 (stated 3/4), one wrong by ln 3 (stated 1/4)."""
    said = scored(pairs(4), [math.log(3)] * 3 + [-math.log(3)])
    assert said.accuracy.estimate == 0.75
    expected = (3 * -math.log(0.75) - math.log(0.25)) / 4
    assert said.log_loss.estimate == pytest.approx(expected, rel=1e-6)
    assert said.brier.estimate == pytest.approx((3 * 0.25**2 + 0.75**2) / 4, rel=1e-6)


def test_a_model_that_states_what_happens_is_calibrated():
    """Stated 3/4, right 3 times in 4: no calibration error, slope and temperature 1."""
    said = scored(pairs(8), [math.log(3)] * 6 + [-math.log(3)] * 2)
    assert said.ece == pytest.approx(0, abs=1e-6)
    assert said.slope.estimate == pytest.approx(1, rel=1e-5)
    assert said.reliability == ((pytest.approx(0.75), pytest.approx(0.75), 8),)


def test_doubled_scores_claim_twice_as_much():
    said = scored(pairs(80), [2 * math.log(3)] * 60 + [-2 * math.log(3)] * 20)
    assert said.temperature == pytest.approx(2, rel=1e-5)
    assert any("divide scores by 2" in sentence for sentence in said.sentences)


def test_the_interval_is_wider_when_rows_share_a_prompt():
    """The same 20 rows as 20 prompts or as 2: rows of one prompt stand and fall together."""
    deltas = [1.0] * 10 + [-1.0] * 10
    apart = pairs(20)
    together = comparisons([[3, 4]] * 10 + [[3, 5]] * 10, [[[7, 7], [7, 7]]] * 20, [[0, 1]] * 20)
    first, second = scored(apart, deltas), scored(together, deltas)
    assert (first.prompts, second.prompts) == (20, 2)
    width = [said.accuracy.high - said.accuracy.low for said in (first, second)]
    assert width[1] > 2 * width[0]


def test_the_longer_reply_is_counted_in_tokens():
    """Right for lengths 5 > 2, wrong for 2 < 5, half a point for equal ones."""
    batch = comparisons(
        [[3, 4], [3, 5], [3, 6]],
        [[[7] * 5, [7] * 2], [[7] * 2, [7] * 5], [[7] * 3, [7] * 3]],
        [[0, 1]] * 3,
    )
    said = scored(batch, [1.0, 1.0, 1.0])
    assert said.longer.estimate == pytest.approx(0.5)
    assert {part.name: part.pairs for part in said.slices} == {
        "longer reply preferred": 1,
        "shorter reply preferred": 1,
        "lengths within 10 %": 1,
    }


def test_a_model_that_rewards_length_is_told_so():
    longer, shorter = [[7] * 9, [7] * 2], [[7] * 2, [7] * 9]
    batch = comparisons(
        [[3, 4 + i] for i in range(40)], [longer] * 20 + [shorter] * 20, [[0, 1]] * 40
    )
    said = scored(batch, [1.0] * 20 + [-1.0] * 20)
    assert any("rewards length" in sentence for sentence in said.sentences)
    assert any("longer reply would get 50.0 %" in sentence for sentence in said.sentences)


def test_ties_are_counted_and_left_out():
    batch = comparisons([[3, 4], [3, 5]], [[[7], [8]], [[7], [8]]], [[0, 1], [0, 0]])
    said = scored(batch, [1.0, -5.0])
    assert (said.pairs, said.ties, said.accuracy.estimate) == (1, 1, 1.0)


def test_all_pairs_of_a_ranking_are_compared():
    """Ranks 0, 1, 2 make three pairs; scores 3, 1, 2 have one of them wrong."""
    batch = comparisons([[3, 4]], [[[7], [8], [9]]], [[0, 1, 2]])
    said = report(torch.tensor([3.0, 1.0, 2.0]), batch)
    assert said.pairs == 3
    assert said.accuracy.estimate == pytest.approx(2 / 3)


def test_only_ties_are_an_error_that_says_what_to_give():
    batch = comparisons([[3, 4]], [[[7], [8]]], [[0, 0]])
    with pytest.raises(UserError, match="none of 1 comparison is decided"):
        report(torch.tensor([1.0, 2.0]), batch)


@pytest.mark.parametrize(
    ("deltas", "said"),
    [
        ([1.0] * 30 + [-1.0] * 30, "noisy, or training has not converged"),
        ([1.0] * 60, "memorised the data, or the comparisons are trivial"),
        ([1.0] * 45 + [-1.0] * 15, None),
    ],
)
def test_accuracies_out_of_the_ordinary_are_put_into_words(deltas: list[float], said: str | None):
    sentences = " ".join(scored(pairs(60), deltas).sentences)
    assert ("noisy" in sentences, "memorised" in sentences) == (
        said is not None and "noisy" in said,
        said is not None and "memorised" in said,
    )


def test_saturated_scores_and_scores_without_spread_are_put_into_words():
    assert any("beyond ±100" in s for s in scored(pairs(60), [300.0] * 60).sentences)
    assert any("score the same" in s for s in scored(pairs(60), [1e-5] * 60).sentences)


def test_scores_that_are_not_numbers_are_put_into_words():
    said = scored(pairs(2), [math.nan, 1.0])
    assert any("not numbers" in sentence for sentence in said.sentences)
    json.dumps(said.to_json(), allow_nan=False)


@pytest.mark.parametrize(
    ("mine", "policy", "warned"),
    [
        (135_000_000, 494_000_000, False),  # one class below
        (135_000_000, 1_500_000_000, True),  # two below
        (7_000_000_000, 8_000_000_000, False),
        (70_000_000_000, 135_000_000, False),  # above is no problem
    ],
)
def test_a_reward_model_far_smaller_than_the_policy_is_put_into_words(
    mine: int, policy: int, warned: bool
):
    deltas = [1.0] * 45 + [-1.0] * 15
    said = scored(pairs(60), deltas, parameters=mine, policy_parameters=policy)
    assert any("size class" in sentence for sentence in said.sentences) is warned


def test_published_sizes_fall_into_the_class_that_bears_their_name():
    published = [124e6, 494e6, 1.5e9, 3e9, 7.6e9, 14e9, 32e9, 70e9, 175e9]
    assert [size_class(int(size)) for size in published] == list(range(9))


def test_the_report_is_json_without_numbers_that_json_lacks():
    """All right by the same amount: the best slope is infinite."""
    said = scored(pairs(60), [1.0] * 60)
    assert math.isinf(said.slope.estimate)
    plain = json.loads(json.dumps(said.to_json(), allow_nan=False))
    assert plain["calibration_slope"] is None
    assert plain["accuracy"] == 1.0
    assert plain["reliability"][0].keys() == {"confidence", "accuracy", "count"}
