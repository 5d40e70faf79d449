"""Simulated raters through a real store: what comes out as judgements is what went in as habits."""

from dataclasses import replace

import numpy as np
import pytest

from backflip.feedback.statistics.aggregate import majority, right
from backflip.feedback.statistics.agreement import agreement
from backflip.feedback.statistics.dawid_skene import dawid_skene
from backflip.feedback.statistics.gauges import gauges
from backflip.feedback.statistics.raters import rater_reports
from backflip.feedback.statistics.simulate import Population
from backflip.feedback.tasks.simulated_answers import Bench, write_pairs
from tests.feedback.answered import opened

RATERS, ITEMS = 7, 80


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """Everybody answers every pair, as displayed; one always takes the first, one tosses coins."""
    store = opened(tmp_path_factory.mktemp("simulated"))
    settings = {"kind": "compare", "scale": 8, "gold_share": 0.0, "raters_per_item": RATERS}
    project = store.create("tone", settings, salt="the same in every run")
    people = [store.people.add().id for _ in range(RATERS)]
    for person in people:
        project.enrol(person)
    payloads = write_pairs(ITEMS, seed=1)
    project.add_items(payloads)
    habits = Population.uniform(RATERS, reliability=0.85, seed=1)
    reliability, first = habits.reliability.copy(), habits.prefers_first.copy()
    reliability[5], first[6] = 0.5, 0.95
    bench = Bench.of(replace(habits, reliability=reliability, prefers_first=first), payloads)
    for rater, person in enumerate(people):
        while shown := project.next(person):
            value, taken = bench.answer(shown[0].payload, rater, project.settings)
            project.answer(person, shown[0].item_id, value, seconds=taken)
    said = project.judgements()
    names = [store.people.get(person).pseudonym for person in people]
    place = [said.rater_names.index(name) for name in names]
    yield bench, said, place
    store.close()


def test_every_answer_is_there_once_with_sides_and_features(filled):
    bench, said, _ = filled
    assert len(said) == RATERS * ITEMS
    assert set(np.bincount(said.item)) == {RATERS}
    assert abs(said.first.mean()) < 0.15
    np.testing.assert_array_equal(
        np.sort(np.abs(said.features["length"])), np.sort(np.abs(bench.items.features["length"]))
    )
    assert len(np.unique(said.answers)) == 2 * ITEMS


def test_labels_out_of_the_store_are_the_gold_that_went_in(filled):
    bench, said, _ = filled
    gold = bench.items.gold[
        [int(name) - min(map(int, said.item_names)) for name in said.item_names]
    ]
    by_em = right(dawid_skene(said).labels, gold).mean()
    assert by_em >= right(majority(said), gold).mean() - 2.5 / ITEMS  # two pairs by chance
    assert by_em > 0.85
    assert agreement(said.sides()).alpha.low > 0


def test_the_two_odd_raters_stand_out(filled):
    _, said, place = filled
    coin, side = place[5], place[6]
    found = gauges(said)
    assert int(found.accuracy.argmin()) == coin
    assert found.by_rater[side]["first"].own.low > 0.65
    others = [found.by_rater[k]["first"].biased for k in place[:5]]
    assert sum(others) <= 1
    agreed = [report.agreement.estimate for report in rater_reports(said)]
    assert set(np.argsort(agreed)[:2]) == {coin, side}
