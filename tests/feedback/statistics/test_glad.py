"""GLAD, against crowd-kit and by what it claims to know."""

import numpy as np
import pandas as pd
import pytest
from crowdkit import aggregation
from scipy.stats import spearmanr

from backflip.feedback.statistics.aggregate import majority, right
from backflip.feedback.statistics.glad import glad
from backflip.feedback.statistics.judgements import Judgements
from backflip.feedback.statistics.simulate import Items, Population, simulate


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_it_is_crowd_kits(seed):
    """On raters good enough for the likelihood to have one mode; both run until they rest."""
    people = Population.uniform(6, reliability=0.85, seed=seed)
    pairs = simulate(people, Items.drawn(12, seed=seed), raters_per_item=6)
    said = Judgements.of(pairs.item, pairs.rater, pairs.value, paired=False)
    frame = pd.DataFrame({"task": said.item, "worker": said.rater, "label": said.value})
    exact = aggregation.GLAD(n_iter=15, tol=-np.inf, m_step_max_iter=60, m_step_tol=1e-9)
    theirs = exact.fit(frame)
    ours = glad(said, steps=5000, newton_steps=20, tolerance=1e-13)
    np.testing.assert_allclose(ours.labels.posterior, theirs.probas_.sort_index(axis=1), atol=1e-6)
    np.testing.assert_allclose(ours.ability, theirs.alphas_.sort_index(), atol=1e-5)
    np.testing.assert_allclose(np.log(ours.ease), theirs.betas_.sort_index(), atol=1e-5)


def test_it_beats_the_majority_and_ranks_raters():
    gains, ranks = [], []
    for seed in range(5):
        people, items = Population.drawn(20, seed=seed), Items.drawn(600, seed=seed)
        said = simulate(people, items, raters_per_item=5)
        found = glad(said)
        gains.append(
            right(found.labels, items.gold).mean() - right(majority(said), items.gold).mean()
        )
        ranks.append(spearmanr(people.reliability, found.ability).statistic)
    assert min(gains) > 0
    assert np.mean(ranks) > 0.9


def test_items_on_which_good_raters_part_are_hard():
    rng = np.random.default_rng(0)
    chance = np.repeat([0.95, 0.6], 100)
    truth = rng.choice([-1.0, 1.0], 200)
    hit = rng.random((9, 200)) < chance
    said = Judgements.of(
        np.tile(np.arange(200), 9),
        np.repeat(np.arange(9), 200),
        np.where(hit, truth, -truth).ravel(),
    )
    ease = glad(said).ease
    assert ease[:100].mean() > 1.5 * ease[100:].mean()


def test_a_rater_who_turns_answers_round_has_a_negative_ability():
    rng = np.random.default_rng(1)
    truth = rng.choice([-1.0, 1.0], 200)
    hit = rng.random((6, 200)) < np.array([[0.9]] * 5 + [[0.1]])
    said = Judgements.of(
        np.tile(np.arange(200), 6),
        np.repeat(np.arange(6), 200),
        np.where(hit, truth, -truth).ravel(),
    )
    found = glad(said)
    assert found.ability[5] < -0.5
    assert found.reliability[5] < 0.3
    assert found.reliability[:5].min() > 0.7


def test_items_without_judgements_stay_unknown():
    found = glad(Judgements.of([0, 0], [0, 1], [1, 1], item_names=["x", "y"]))
    assert found.labels.label.tolist() == [2, -1]
    assert np.isnan(found.ease[1])
    assert glad(Judgements.of([], [], [])).labels.label.tolist() == []
