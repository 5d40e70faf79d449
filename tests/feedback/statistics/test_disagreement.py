"""Items most disagreed on, and preferences in a circle."""

from itertools import combinations, permutations, product

import numpy as np
import pytest

from backflip.feedback.statistics.disagreement import CHANCE, circles, most_disagreed
from backflip.feedback.statistics.judgements import Judgements


def _votes(*items):
    """Each item's votes, one rater after another."""
    item = [i for i, votes in enumerate(items) for _ in votes]
    rater = [k for votes in items for k in range(len(votes))]
    return Judgements.of(item, rater, [v for votes in items for v in votes])


def test_an_even_split_of_many_comes_before_an_even_split_of_few():
    said = _votes([1, -1], [1, -1] * 5, [1, 1, 1, -1], [1, 1], [-1, 0, 1], [1])
    found = most_disagreed(said)
    assert found[0].item == 4  # three raters, three opinions
    order = [d.item for d in found]
    assert order.index(1) < order.index(0)
    assert order.index(1) < order.index(2)
    assert set(order) == {0, 1, 2, 4}
    assert found[order.index(2)].votes == {-1.0: 1, 1.0: 3}


def test_count_cuts_the_list():
    assert len(most_disagreed(_votes(*[[1, -1]] * 9), count=4)) == 4


def test_all_eight_ways_to_join_three_answers_have_two_circles():
    """Enumerated: the reason why coin tosses get a quarter."""
    circular = 0
    for xy, yz, xz in product((-1.0, 1.0), repeat=3):
        said = Judgements.of([0, 1, 2], [0, 0, 0], [xy, yz, xz], answers=[[0, 1], [1, 2], [0, 2]])
        found = circles(said)
        assert found.triples.tolist() == [1]
        by_hand = any(
            {(a, b), (b, c), (c, a)} <= _beats(xy, yz, xz) for a, b, c in permutations(range(3))
        )
        assert found.circular[0] == by_hand
        circular += found.circular[0]
    assert circular / 8 == CHANCE


def _beats(xy, yz, xz):
    return {
        (0, 1) if xy > 0 else (1, 0),
        (1, 2) if yz > 0 else (2, 1),
        (0, 2) if xz > 0 else (2, 0),
    }


def test_which_answer_is_called_a_makes_no_difference():
    pairs = [[1, 0], [1, 2], [2, 0]]  # 0 over 1 over 2 over 0
    found = circles(Judgements.of([0, 1, 2], [0, 0, 0], [-1, 1, 1], answers=pairs))
    assert found.circular.tolist() == [1]


def test_triples_are_counted_within_a_rater_and_ties_are_not_choices():
    pairs = [[0, 1], [1, 2], [0, 2]]
    said = Judgements.of(
        [0, 1, 2, 0, 1, 2], [0, 0, 1, 2, 2, 2], [1, 1, -1, 1, 0, -1], answers=pairs
    )
    assert circles(said).triples.tolist() == [0, 0, 0]


@pytest.mark.parametrize("seed", range(3))
def test_a_count_by_hand_over_a_random_tournament(seed):
    rng = np.random.default_rng(seed)
    pairs = [p for p in combinations(range(7), 2) if rng.random() < 0.8]
    pairs = [p[::-1] if rng.random() < 0.5 else p for p in pairs]
    value = rng.choice([-1.0, 1.0], len(pairs))
    found = circles(Judgements.of(np.arange(len(pairs)), [0] * len(pairs), value, answers=pairs))
    beats = {p if v > 0 else p[::-1] for p, v in zip(pairs, value, strict=True)}
    met = {frozenset(p) for p in pairs}
    triples = circular = 0
    for a, b, c in combinations(range(7), 3):
        if {frozenset((a, b)), frozenset((b, c)), frozenset((a, c))} <= met:
            triples += 1
            circular += {(a, b), (b, c), (c, a)} <= beats or {(b, a), (c, b), (a, c)} <= beats
    assert (found.triples[0], found.circular[0]) == (triples, circular)


def test_coin_tosses_run_in_circles_a_quarter_of_the_time_and_scores_never():
    rng = np.random.default_rng(0)
    pairs = np.array(list(combinations(range(40), 2)))
    coins = circles(
        Judgements.of(
            np.arange(len(pairs)),
            [0] * len(pairs),
            rng.choice([-1.0, 1.0], len(pairs)),
            answers=pairs,
        )
    )
    assert coins.triples[0] == 40 * 39 * 38 / 6
    assert coins.share().estimate == pytest.approx(CHANCE, abs=0.03)
    score = rng.normal(size=40)
    value = np.sign(score[pairs[:, 0]] - score[pairs[:, 1]])
    ranked = circles(Judgements.of(np.arange(len(pairs)), [0] * len(pairs), value, answers=pairs))
    assert ranked.circular[0] == 0


def test_nobody_has_said_anything_yet():
    nothing = Judgements.of([], [], [])
    assert most_disagreed(nothing) == []
    assert np.isnan(circles(nothing).share().estimate)
