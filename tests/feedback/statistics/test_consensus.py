"""Ways to come to a label, held against one another on judgements small enough to see through."""

import numpy as np
import pytest

from backflip.feedback.statistics.consensus import Consensus, compared, least_sure
from backflip.feedback.statistics.dawid_skene import dawid_skene, posterior_of
from backflip.feedback.statistics.judgements import Judgements
from backflip.feedback.statistics.simulate import Items, Population, simulate


def said(rows: list[list[float]], **more) -> Judgements:
    """``rows`` [I, R], not a number where a rater did not judge."""
    value = np.array(rows)
    item, rater = np.nonzero(~np.isnan(value))
    return Judgements.of(item, rater, value[item, rater], **more)


def test_one_e_step_with_the_habits_found_is_the_posterior_found():
    crowd = simulate(Population.drawn(8, seed=1), Items.drawn(200, seed=1), raters_per_item=4)
    found = dawid_skene(crowd, tolerance=1e-12, steps=2000, draws=0)
    known = crowd.said()
    _, code = known.classes()
    for item in range(20):
        mine = known.item == item
        p = posterior_of(found.prior, found.confusion[known.rater[mine]], code[mine])
        np.testing.assert_allclose(p, found.labels.posterior[item], atol=1e-5)


def test_bayes_by_hand():
    """Two classes, a rater right on 9 of 10 and one on 6 of 10 who differ: 0.9·0.4 to 0.1·0.6."""
    habits = np.array([[[0.9, 0.1], [0.1, 0.9]], [[0.6, 0.4], [0.4, 0.6]]])
    p = posterior_of(np.array([0.5, 0.5]), habits, np.array([1, 0]))
    assert p[1] == pytest.approx(0.36 / (0.36 + 0.06))


def test_where_all_agree_no_label_differs_and_nothing_is_unsure():
    consensus = Consensus(said([[1, 1, 1], [-1, -1, -1]] * 10, gold=[1.0, -1.0] * 10))
    for one in compared(consensus):
        assert (one.differs.estimate, one.undecided, one.right.estimate, one.gold) == (0, 0, 1, 20)
    assert least_sure(consensus) == []


def test_the_majority_is_undecided_where_the_reliable_rater_is_believed():
    """Two raters who split 5 of 40 items; on the others a third tells who is right."""
    rows = [[1.0, 1.0, 1.0], [-1.0, -1.0, -1.0]] * 10
    rows += [[1.0, -1.0, 1.0]] * 15  # the second is often wrong
    rows += [[1.0, -1.0, np.nan]] * 5
    consensus = Consensus(said(rows))
    found = {one.method: one for one in compared(consensus)}
    assert found["majority"].undecided == 5
    assert found["dawid_skene"].undecided == found["weighted"].undecided == 0
    assert next(iter(found)) == "dawid_skene"
    verdict = consensus.of("39")
    assert verdict is not None
    assert verdict.value == 1
    assert np.isnan(found["majority"].right.estimate)
    assert set(least_sure(consensus, count=5, below=1.0)) == {str(i) for i in range(35, 40)}


def test_items_with_gold_are_never_unsure():
    consensus = Consensus(said([[1.0, -1.0]] * 4, gold=[1.0, np.nan, np.nan, -1.0]))
    assert set(least_sure(consensus)) == {"1", "2"}


def test_nobody_said_anything():
    consensus = Consensus(said([[np.nan, np.nan]], item_names=["0"]))
    assert compared(consensus) == least_sure(consensus) == []
