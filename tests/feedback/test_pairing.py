"""Pairs of answers: all of them, some of them, the widest; none twice and none with itself."""

from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from backflip.feedback.pairing import best_against_worst, draw_pairs, every_pair


def _as_sets(pairs):
    return Counter(frozenset(pair) for pair in pairs.tolist())


def test_every_pair_of_a_prompts_answers_comes_once():
    prompt = np.array([0, 1, 0, 2, 1, 0])
    wanted = {frozenset(p) for p in combinations([0, 2, 5], 2)} | {frozenset((1, 4))}
    assert _as_sets(every_pair(prompt)) == Counter(wanted)
    assert len(every_pair(np.zeros(0, np.int64))) == 0


def test_copies_of_a_text_never_meet_and_do_not_double_a_pair():
    prompt, same = np.zeros(4, np.int64), np.array([7, 7, 8, 9])
    texts = _as_sets(same[every_pair(prompt, same)])
    assert texts == Counter([frozenset((7, 8)), frozenset((7, 9)), frozenset((8, 9))])
    assert len(every_pair(prompt, np.full(4, 7))) == 0


def test_more_pairs_than_fit_in_memory_are_refused():
    with pytest.raises(ValueError, match="draw_pairs"):
        every_pair(np.zeros(4000, np.int64))


@pytest.mark.parametrize("count", [1, 5, 100])
def test_drawn_pairs_are_different_and_as_many_as_there_are(count):
    prompt = np.array([0, 1, 0, 2, 1, 0, 3, 3])
    found = draw_pairs(prompt, count, seed=count)
    assert len(found) == min(count, 5)
    assert max(_as_sets(found).values()) == 1
    assert (prompt[found[:, 0]] == prompt[found[:, 1]]).all()


def test_all_pairs_are_drawn_equally_often():
    prompt = np.array([0] * 5 + [1] * 2)
    seen = Counter()
    for seed in range(2200):
        seen += _as_sets(draw_pairs(prompt, 2, seed=seed))
    assert len(seen) == 11
    assert min(seen.values()) > 400 * 0.85
    assert max(seen.values()) < 400 * 1.15


def test_what_was_asked_before_is_not_drawn_again():
    prompt, same = np.zeros(5, np.int64), np.arange(10, 15)
    known = {(10, 11), (14, 12)}
    found = _as_sets(same[draw_pairs(prompt, 99, same=same, known=known)])
    assert len(found) == 8
    assert not found.keys() & {frozenset(p) for p in known}


def test_drawing_from_billions_of_pairs_takes_no_memory():
    found = draw_pairs(np.zeros(100_000, np.int64), 1000)
    assert len(_as_sets(found)) == 1000
    assert len(draw_pairs(np.zeros(5000, np.int64), 10, same=np.zeros(5000, np.int64))) == 0


def test_the_best_meets_the_worst_of_its_own_prompt():
    score = np.array([3.0, 1.0, 2.0, -5.0, -4.0, 9.0])
    prompt = np.array([0, 0, 0, 1, 1, 2])
    assert best_against_worst(score, prompt).tolist() == [[0, 1], [4, 3]]
    assert best_against_worst(score[:2], prompt[:2], np.array([4, 4])).tolist() == []
