"""Dawid-Skene, against crowd-kit, by its own equations, and on raters of known reliability."""

import numpy as np
import pandas as pd
import pytest
from crowdkit.aggregation import DawidSkene as CrowdKit

from backflip.feedback.statistics.aggregate import majority, right
from backflip.feedback.statistics.dawid_skene import dawid_skene, posterior_of
from backflip.feedback.statistics.judgements import Judgements
from backflip.feedback.statistics.simulate import Items, Population, assign, simulate

SEEDS = range(20)


def _frame(said):
    return pd.DataFrame({"task": said.item, "worker": said.rater, "label": said.value})


def _sorted(frame):
    return frame.sort_index().sort_index(axis=1)


def _rated(seed=0, items=80, raters=8, classes=4):
    rng = np.random.default_rng(seed)
    item = np.repeat(np.arange(items), 4)
    rater = np.concatenate([rng.permutation(raters)[:4] for _ in range(items)])
    truth = rng.integers(1, classes + 1, items)[item]
    skill = np.linspace(0.5, 0.95, raters)[rater]
    value = np.where(rng.random(len(item)) < skill, truth, rng.integers(1, classes + 1, len(item)))
    return Judgements.of(item, rater, value, paired=False)


@pytest.mark.parametrize("steps", [1, 5, 60])
@pytest.mark.parametrize("pairs", [False, True])
def test_unsmoothed_and_unmirrored_it_is_crowd_kits_step_by_step(steps, pairs):
    said = _rated()
    if pairs:
        said = simulate(Population.drawn(6, seed=1), Items.drawn(60, seed=1), raters_per_item=4)
    theirs = CrowdKit(n_iter=steps, tol=-np.inf).fit(_frame(said))
    plain = {"smoothing": 0.0, "mirrored": False, "tolerance": -1.0, "draws": 0}
    ours, next_step = (dawid_skene(said, steps=n, **plain) for n in (steps, steps + 1))
    np.testing.assert_allclose(ours.labels.posterior, _sorted(theirs.probas_), atol=1e-6)
    np.testing.assert_allclose(next_step.prior, theirs.priors_.sort_index(), atol=1e-6)
    for k in range(said.raters):
        errors = _sorted(theirs.errors_.xs(k, level="worker"))
        seen = np.isin(said.classes()[0], errors.index)
        np.testing.assert_allclose(next_step.confusion[k].T[seen], errors, atol=1e-6)


def test_turning_every_item_round_turns_every_label_round():
    """Which answer is called a is arbitrary; a mirrored fit must not care."""
    said = simulate(Population.drawn(8, seed=2), Items.drawn(120, seed=2), raters_per_item=4)
    turned = Judgements.of(said.item, said.rater, -said.value)
    one, two = dawid_skene(said), dawid_skene(turned)
    np.testing.assert_allclose(one.labels.posterior, two.labels.posterior[:, ::-1], atol=1e-9)
    np.testing.assert_allclose(one.confusion, one.confusion[:, ::-1, ::-1], atol=1e-12)
    np.testing.assert_allclose(one.reliability, two.reliability, atol=1e-9)


def test_the_posterior_is_bayes_rule_with_the_confusions_found():
    said = _rated(5)
    found = dawid_skene(said, tolerance=1e-12, steps=5000)
    _, code = said.classes()
    for item in range(10):
        joint = found.prior.copy()
        for row in np.flatnonzero(said.item == item):
            joint *= found.confusion[said.rater[row], :, code[row]]
        np.testing.assert_allclose(found.labels.posterior[item], joint / joint.sum(), atol=1e-4)


def test_a_rater_who_turns_answers_round_is_as_good_as_one_who_does_not():
    rng = np.random.default_rng(0)
    truth = rng.choice([-1.0, 1.0], 300)
    hit = rng.random((5, 300)) < np.array([[0.85], [0.85], [0.85], [0.85], [0.1]])
    said = Judgements.of(
        np.tile(np.arange(300), 5),
        np.repeat(np.arange(5), 300),
        np.where(hit, truth, -truth).ravel(),
    )
    found = dawid_skene(said)
    assert found.reliability[4] == pytest.approx(0.1, abs=0.05)
    assert right(found.labels, truth).mean() > right(majority(said), truth).mean() + 0.02


def test_the_order_of_a_file_does_not_outvote_its_raters():
    """Of most rows the first answer is the better one. What two careful raters both say of another
    is not overruled because of that, and three labels do not make certainty.
    """
    for seed in range(10):
        rng = np.random.default_rng(seed)
        truth = rng.choice([-1.0, 1.0], 70, p=[0.1, 0.9])
        item = np.concatenate([np.arange(70), np.arange(0, 70, 2), np.arange(0, 70, 3)])
        rater = np.repeat([0, 1, 2], [70, 35, 24])
        hit = rng.random(len(item)) < np.array([0.6, 0.95, 0.9])[rater]
        said = Judgements.of(item, rater, np.where(hit, truth[item], -truth[item]))
        votes = np.bincount(item, said.value)
        count = np.bincount(item)
        found = dawid_skene(said)
        agreed = (np.abs(votes) == count) & (count > 1)
        np.testing.assert_array_equal(found.labels.value[agreed], np.sign(votes[agreed]))
        assert found.labels.certainty[count == 1].max() < 0.99


def test_a_tie_is_half_right_where_one_is_better():
    """Eight raters who are always right make the labels sure. Of five answers of the ninth two are
    right, one is a tie, one is wrong; the fifth is to a tie, and tells nothing of who chooses well.
    """
    truth = np.array([1.0, -1.0, 1.0, -1.0, 0.0])
    value = np.concatenate([np.tile(truth, 8), [1, -1, 0, 1, 1]])
    said = Judgements.of(np.tile(np.arange(5), 9), np.repeat(np.arange(9), 5), value)
    assert dawid_skene(said).reliability[8] == pytest.approx(2.5 / 4, abs=0.01)


@pytest.fixture(scope="module")
def projects():
    """Twenty projects: 20 raters of known reliability with every habit, 150 labels each, 5 an
    item."""
    found = []
    for seed in SEEDS:
        people, items = Population.drawn(20, seed=seed), Items.drawn(600, seed=seed)
        said = simulate(people, items, raters_per_item=5)
        assert set(np.bincount(said.rater)) == {150}
        found.append((people, items, said, dawid_skene(said)))
    return found


def test_labels_beat_the_majority_in_every_project(projects):
    gains = [
        right(found.labels, items.gold).mean() - right(majority(said), items.gold).mean()
        for _, items, said, found in projects
    ]
    assert min(gains) > 0.02
    assert np.mean(gains) > 0.05


@pytest.fixture(scope="module")
def crowded():
    """As ``backflip collect --simulate 20`` makes them: ten raters on each of 300 pairs."""
    found = []
    for seed in range(40):
        items = Items.drawn(300, seed=seed)
        said = simulate(Population.drawn(20, seed=seed), items, raters_per_item=10)
        found.append((items, said, dawid_skene(said, draws=0)))
    return found


def test_with_ten_raters_hard_pairs_do_not_become_ties(crowded):
    """6 % of the votes are ties, and no pair is one. EM filled its tie class with hard pairs, and
    fell behind the majority in one project of five.
    """
    gains = [
        right(found.labels, items.gold).mean() - right(majority(said), items.gold).mean()
        for items, said, found in crowded
    ]
    assert min(gains) > 0
    assert np.mean(gains) > 0.04
    assert all(found.split for *_, found in crowded)
    assert max((found.labels.value == 0).mean() for *_, found in crowded) < 0.05


def test_reliabilities_do_not_leave_hard_pairs_out(crowded):
    """They are the share of a rater's answers that are right, all pairs counted."""
    off = np.stack([f.reliability - _share_right(items, said) for items, said, f in crowded])
    assert abs(off.mean()) < 0.01
    assert np.sqrt((off**2).mean()) < 0.03


def test_a_pair_that_all_call_a_tie_is_one_among_pairs_that_are_only_hard(crowded):
    _, said, _ = crowded[0]
    ten = np.arange(10)
    more = Judgements.of(
        np.concatenate([said.item, np.full(10, 300)]),
        np.concatenate([said.rater, ten]),
        np.concatenate([said.value, np.zeros(10)]),
    )
    found = dawid_skene(more, draws=0)
    assert found.split
    assert found.labels.value[300] == 0
    assert found.labels.certainty[300] > 0.99
    codes = np.full(10, 1)
    alone = posterior_of(found.prior, found.confusion[ten], codes, split=found.split)
    np.testing.assert_allclose(alone, found.labels.posterior[300], atol=1e-3)


def test_what_raters_call_a_tie_is_one():
    """A fifth of the pairs are equal, and most raters say so."""
    rng = np.random.default_rng(0)
    truth = rng.choice([-1.0, 0.0, 1.0], 300, p=[0.4, 0.2, 0.4])
    item, rater = np.repeat(np.arange(300), 6), np.tile(np.arange(6), 300)
    guess = np.where(truth[item] == 0, rng.choice([-1.0, 1.0], 1800), truth[item])
    tie = rng.random(1800) < np.where(truth[item] == 0, 0.7, 0.1)
    wrong = np.where(rng.random(1800) < 0.2, -1.0, 1.0)
    found = dawid_skene(Judgements.of(item, rater, np.where(tie, 0.0, guess * wrong)))
    assert not found.split
    assert (found.labels.value == truth)[truth == 0].mean() > 0.85
    assert (found.labels.value == truth).mean() > 0.85


def test_recovered_reliabilities_correlate_with_the_truth(projects):
    """And come close to what nobody could better: the share of each rater's answers that were
    right, if somebody told."""
    found = [np.corrcoef(people.reliability, f.reliability)[0, 1] for people, _, _, f in projects]
    told = [
        np.corrcoef(people.reliability, _share_right(items, said))[0, 1]
        for people, items, said, _ in projects
    ]
    assert np.mean(found) > 0.955
    assert min(found) > 0.92
    assert np.mean(found) > np.mean(told) - 0.015


def _share_right(items, said):
    truth, value = items.gold[said.item], np.sign(said.value)
    hit = np.where(value == 0, 0.5, value == truth)
    return np.bincount(said.rater, weights=hit) / np.bincount(said.rater)


@pytest.mark.parametrize(("low", "high"), [(0.5, 0.99), (0.55, 0.95)])
def test_of_coins_with_a_known_bias_it_finds_nearly_what_the_truth_would_tell(low, high):
    """One coin a rater, items equally hard: the model's own world, at 300 items of 10 raters."""
    found, told = [], []
    for seed in SEEDS:
        rng = np.random.default_rng([seed, 7])
        skill, truth = rng.uniform(low, high, 20), rng.choice([-1.0, 1.0], 300)
        rater, item = assign(300, 20, 10, rng).ravel(), np.repeat(np.arange(300), 10)
        hit = rng.random(3000) < skill[rater]
        said = Judgements.of(item, rater, np.where(hit, truth[item], -truth[item]))
        share = np.bincount(rater, weights=hit) / 150
        found.append(np.corrcoef(skill, dawid_skene(said, draws=0).reliability)[0, 1])
        told.append(np.corrcoef(skill, share)[0, 1])
    assert np.mean(found) > 0.95
    assert np.mean(found) > np.mean(told) - 0.01


def test_posteriors_are_calibrated(projects):
    """Of labels that claim 0.9, nine in ten are right, give or take what hard items hide."""
    claimed = np.concatenate([f.labels.certainty for *_, f in projects])
    hit = np.concatenate([right(f.labels, items.gold) for _, items, _, f in projects])
    for low, high in ((0.5, 0.7), (0.7, 0.9), (0.9, 1.01)):
        band = (claimed >= low) & (claimed < high)
        assert hit[band].mean() == pytest.approx(claimed[band].mean(), abs=0.08)


def test_error_bars_hold_the_posterior_that_known_raters_would_give():
    """With the raters' true habits each posterior is exact; the bars say how far off EM's may
    be."""
    inside = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        skill = rng.uniform(0.6, 0.95, 12)
        item = np.repeat(np.arange(100), 4)
        rater = np.concatenate([rng.permutation(12)[:4] for _ in range(100)])
        truth = rng.choice([-1.0, 1.0], 100)
        value = np.where(rng.random(400) < skill[rater], truth[item], -truth[item])
        found = dawid_skene(Judgements.of(item, rater, value), seed=seed)
        weight = np.log(skill / (1 - skill))[rater] * value
        exact = 1 / (1 + np.exp(-np.bincount(item, weights=weight)))
        best = np.where(found.labels.value > 0, exact, 1 - exact)
        inside.append((found.labels.low <= best) & (best <= found.labels.high))
    assert 0.9 < np.mean(inside) < 0.99


def test_items_and_raters_without_judgements_stay_unknown():
    said = Judgements.of(
        [0, 0, 2], [0, 1, 0], [1, 1, -1], item_names=["x", "y", "z"], rater_names=["p", "q", "r"]
    )
    found = dawid_skene(said)
    assert found.labels.label.tolist()[1] == -1
    assert np.isnan(found.labels.posterior[1]).all()
    assert np.isnan(found.reliability[2])
    assert np.isfinite(found.reliability[:2]).all()


def test_nobody_has_said_anything_yet():
    assert dawid_skene(Judgements.of([], [], [])).labels.label.tolist() == []


def test_more_labels_make_narrower_bars():
    few = simulate(Population.uniform(6), Items.drawn(60, seed=3), raters_per_item=3)
    many = simulate(Population.uniform(6), Items.drawn(3000, seed=3), raters_per_item=3)
    one, two = dawid_skene(few).labels, dawid_skene(many).labels
    assert np.nanmean(two.high - two.low) < np.nanmean(one.high - one.low)
