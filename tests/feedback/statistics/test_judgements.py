"""Judgements: columns, and who met whom."""

from itertools import combinations

import numpy as np
import pytest

from backflip.feedback.statistics.judgements import Judgements, pairs


def test_what_is_not_given_is_unknown():
    said = Judgements.of([0, 2], [0, 1], [1, -0.5])
    assert (len(said), said.items, said.raters) == (2, 3, 2)
    assert np.isnan(said.gold).all()
    assert np.isnan(said.seconds).all()
    assert said.answers.tolist() != [[0, 0]] * 3
    assert len(np.unique(said.answers)) == 6


def test_pairs_have_three_classes_and_ratings_those_that_were_given():
    pair = Judgements.of([0, 0, 0], [0, 1, 2], [0.25, -1, np.nan])
    assert pair.classes()[0].tolist() == [-1, 0, 1]
    assert pair.classes()[1].tolist() == [2, 0, -1]
    rated = Judgements.of([0, 0, 0], [0, 1, 2], [7, 3, np.nan], paired=False)
    assert rated.classes()[0].tolist() == [3, 7]
    assert rated.classes()[1].tolist() == [1, 0, -1]


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"seconds": [1.0]}, "one entry for each judgement"),
        ({"gold": [1.0, 1.0], "item_names": ["x"]}, "of that many items"),
        ({"groups": [{}]}, "groups of that many raters"),
        ({"speed": [1.0, 2.0]}, "no column 'speed'"),
        ({"rater_names": ["x"]}, "an item or a rater that is not there"),
    ],
)
def test_columns_that_do_not_fit_are_refused(columns, says):
    with pytest.raises(ValueError, match=says):
        Judgements.of([0, 1], [0, 1], [1.0, 1.0], **columns)


def test_pairs_are_every_two_raters_of_an_item():
    rng = np.random.default_rng(0)
    item, rater = np.divmod(rng.permutation(40)[:25], 5)
    met = pairs(item, rater)
    found = {frozenset(x) for x in zip(met.left.tolist(), met.right.tolist(), strict=True)}
    by_hand = {frozenset((j, k)) for j, k in combinations(range(25), 2) if item[j] == item[k]}
    assert found == by_hand
    assert len(met.left) == len(found)


def test_a_rater_does_not_meet_themselves():
    assert len(pairs(np.array([0, 0]), np.array([3, 3])).left) == 0


def test_answers_of_any_number_are_numbered_and_the_unknown_are_alone():
    said = Judgements.of([0, 1, 2], [0, 0, 0], [1, 1, 1], answers=[[2**62, 7], [7, -1], [-1, -1]])
    (a, b), (c, d), (e, f) = said.answers.tolist()
    assert b == c
    assert len({a, b, d, e, f}) == 5
    assert said.answers.max() == 4
