"""Noisy Bradley-Terry, against choix, a general optimiser and what it claims to know."""

from dataclasses import replace
from itertools import combinations

import choix
import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from backflip.feedback.statistics.aggregate import majority, right
from backflip.feedback.statistics.crowd_bt import crowd_bt
from backflip.feedback.statistics.dawid_skene import dawid_skene
from backflip.feedback.statistics.judgements import Judgements
from backflip.feedback.statistics.simulate import Items, Population, simulate


def _tournament(answers=8, games=120, raters=4, seed=0):
    rng = np.random.default_rng(seed)
    pairs = np.array(list(combinations(range(answers), 2)))
    item = rng.integers(0, len(pairs), games)
    score = np.linspace(-1, 1, answers)
    a, b = pairs[item].T
    value = np.where(rng.random(games) < expit(2 * (score[a] - score[b])), 1.0, -1.0)
    return Judgements.of(item, rng.integers(0, raters, games), value, answers=pairs)


def test_raters_beyond_doubt_leave_bradley_terry_as_in_choix():
    """A Beta prior that leaves no doubt makes η = 1; N(0, 1) on scores is choix's α = ½."""
    said = _tournament()
    a, b = said.answers[said.item].T
    wins = [(x, y) if v > 0 else (y, x) for x, y, v in zip(a, b, said.value, strict=True)]
    theirs = choix.opt_pairwise(8, wins, alpha=0.5, tol=1e-12)
    ours = crowd_bt(said, sharpness=1.0, beta=(1e3, 1.0))
    np.testing.assert_allclose(ours.reliability, 1, atol=1e-6)
    np.testing.assert_allclose(ours.score, theirs - theirs.mean(), atol=1e-5)


@pytest.mark.parametrize("ties", [False, True])
def test_the_mode_is_that_of_the_written_posterior(ties):
    """The formula, rater by rater, in the hands of a method that needs no gradient."""
    said = _tournament(answers=4, games=40, raters=2, seed=1)
    if ties:
        said = replace(said, value=np.where(np.arange(40) % 5 == 0, 0.0, said.value))

    def minus_log_posterior(x):
        score, eta = x[:4], expit(x[4:])
        total = (score**2).sum() / 2 - (3 * np.log(eta) + np.log(1 - eta)).sum()
        for i, k, v in zip(said.item, said.rater, said.value, strict=True):
            a, b = said.answers[i]
            p = expit(5 * (score[a] - score[b]))
            took_a = eta[k] * p + (1 - eta[k]) * (1 - p)
            total -= (1 + v) / 2 * np.log(took_a) + (1 - v) / 2 * np.log(1 - took_a)
        return total

    ours = crowd_bt(said)
    at = np.concatenate([ours.score, np.log(ours.reliability / (1 - ours.reliability))])
    theirs = minimize(minus_log_posterior, at + 0.05, method="Powell", options={"ftol": 1e-14})
    np.testing.assert_allclose(at, theirs.x, atol=2e-3)
    assert minus_log_posterior(at) <= theirs.fun + 1e-9


def test_errors_are_the_inverse_of_the_information():
    """One component of four answers, by the dense formula."""
    said = _tournament(answers=4, games=60, raters=2, seed=2)
    found = crowd_bt(said)
    information = np.eye(4)
    for i, k in zip(said.item, said.rater, strict=True):
        a, b = said.answers[i]
        p, eta = expit(5 * (found.score[a] - found.score[b])), found.reliability[k]
        chance = eta * p + (1 - eta) * (1 - p)
        curve = (5 * (2 * eta - 1) * p * (1 - p)) ** 2 / (chance * (1 - chance))
        information += curve * np.outer(e := np.eye(4)[a] - np.eye(4)[b], e)
    covariance = np.linalg.inv(information)
    np.testing.assert_allclose(found.error, np.sqrt(np.diag(covariance)), atol=1e-9)
    a, b = said.answers[3]
    gap = 5 * abs(found.score[a] - found.score[b])
    error = 5 * np.sqrt(covariance[a, a] + covariance[b, b] - 2 * covariance[a, b])
    assert found.labels.low[3] == pytest.approx(expit(gap - 1.96 * error))


def _shared(seed):
    """170 prompts with four answers each; all six pairs are asked of three raters."""
    rng = np.random.default_rng(seed)
    people, quality = Population.drawn(20, seed=seed), rng.normal(size=(170, 4))
    pairs = np.array(list(combinations(range(4), 2)))
    a, b = ((np.arange(170)[:, None] * 4 + pairs[None, :, s]).ravel() for s in (0, 1))
    margin = (quality.ravel()[a] - quality.ravel()[b]) / np.sqrt(2)
    items = replace(Items.drawn(len(a), seed=seed), margin=margin)
    said = replace(simulate(people, items, raters_per_item=3), answers=np.column_stack([a, b]))
    return people, items, said


def test_answers_that_items_share_are_worth_more_than_votes():
    gains, over_em, recovered = [], [], []
    for seed in range(5):
        people, items, said = _shared(seed)
        found = crowd_bt(said)
        hit = right(found.labels, items.gold).mean()
        gains.append(hit - right(majority(said), items.gold).mean())
        over_em.append(hit - right(dawid_skene(said).labels, items.gold).mean())
        recovered.append(np.corrcoef(people.reliability, found.reliability)[0, 1])
    assert min(gains) > 0.03
    assert np.mean(over_em) > 0
    assert np.mean(recovered) > 0.85


def test_three_lucky_answers_do_not_make_a_perfect_rater():
    found = crowd_bt(Judgements.of([0, 1, 2, 0, 1, 2], [0, 0, 0, 1, 1, 1], np.ones(6)))
    assert found.reliability.max() < 0.95


def test_answers_and_items_without_judgements_stay_unknown():
    said = Judgements.of([0], [0], [1.0], answers=[[0, 1], [2, 3]], item_names=["x", "y"])
    found = crowd_bt(said)
    assert found.score[2:].tolist() == [0, 0]
    assert found.error[2:] == pytest.approx([1, 1])
    assert found.labels.label.tolist() == [2, -1]
    assert crowd_bt(Judgements.of([], [], [])).labels.label.tolist() == []


def test_ratings_are_refused():
    with pytest.raises(ValueError, match="ratings have no sides"):
        crowd_bt(Judgements.of([0], [0], [4.0], paired=False))
