"""What is added to a score before anybody learns from it."""

import torch

from backflip.functional.shaping import (
    clip_scores,
    length_penalty,
    missing_eos,
    overlong,
)


def test_an_answer_that_was_cut_off_gets_the_fixed_score_however_good_it_looked():
    scores, finished = torch.tensor([5.0, 5.0, -9.0]), torch.tensor([True, False, False])
    assert missing_eos(scores, finished).tolist() == [5.0, -1.0, -1.0]
    assert missing_eos(scores, finished, score=-4.0).tolist() == [5.0, -4.0, -4.0]


def test_length_costs_the_same_per_token():
    shaped = length_penalty(torch.tensor([1.0, 1.0]), torch.tensor([0, 100]), per_token=0.01)
    torch.testing.assert_close(shaped, torch.tensor([1.0, 0.0]))


def test_the_overlong_penalty_by_hand():
    """Limit 100, buffer 20: free up to 80, half way at 90, full from 100 on."""
    lengths = torch.tensor([0, 80, 85, 90, 100, 120])
    expected = torch.tensor([0.0, 0.0, -0.25, -0.5, -1.0, -1.0])
    torch.testing.assert_close(overlong(lengths, limit=100, buffer=20), expected)


def test_clipped_scores_stay_in_their_range():
    assert clip_scores(torch.tensor([-9.0, 0.5, 9.0]), limit=2.0).tolist() == [-2.0, 0.5, 2.0]
