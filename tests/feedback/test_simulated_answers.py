"""Simulated raters in front of real items: fit for the page, and with the habits of their
population."""

from dataclasses import replace

import numpy as np
import pytest

from backflip.feedback.kinds.registry import kind_of
from backflip.feedback.statistics.aggregate import majority, right
from backflip.feedback.statistics.judgements import Judgements
from backflip.feedback.statistics.simulate import Items, Population, simulate
from backflip.feedback.tasks.display import as_displayed, in_item_order, order_of
from backflip.feedback.tasks.identity import identify
from backflip.feedback.tasks.items import payload_of, value_of
from backflip.feedback.tasks.settings import settings_of
from backflip.feedback.tasks.simulated_answers import Bench, quality, write_pairs

COMPARE = settings_of({"kind": "compare", "scale": 8})


def test_written_pairs_are_items_that_differ_in_length_and_lists():
    pairs = write_pairs(300, seed=1)
    known = [identify(payload_of(p, "compare")) for p in pairs]
    assert len({k.digest for k in known}) == 300
    assert not any(k.twins for k in known)
    assert np.std([k.length for k in known]) > 100
    assert 0.2 < np.mean([k.lists != 0 for k in known]) < 0.8
    assert pairs == write_pairs(300, seed=1)


def test_quality_is_a_standard_normal_of_the_text():
    drawn = quality(np.arange(20_000))
    assert (drawn.mean(), drawn.std()) == pytest.approx((0, 1), abs=0.03)
    assert (quality(np.arange(5), seed=1) != quality(np.arange(5))).all()


def _through_the_page(bench, payloads, raters):
    """As a driver would: display by a seed, answer what is displayed, turn it back."""
    rows = []
    for item, given in enumerate(payloads):
        payload = payload_of(given, "compare")
        for rater in raters:
            order = order_of(payload, seed=1000 * item + rater)
            shown = as_displayed(payload, order)
            value, taken = bench.answer(shown, rater, COMPARE)
            stored = in_item_order("compare", value, order)
            value_of(stored, payload, COMPARE)
            assert taken > 0
            said = kind_of("compare").score(stored, COMPARE)
            rows.append((item, rater, said, 1.0 if order[0] == 0 else -1.0))
    item, rater, value, first = map(np.array, zip(*rows, strict=True))
    return Judgements.of(item, rater, value, first=first, gold=bench.items.gold)


def test_through_the_page_raters_agree_with_gold_as_often_as_they_are_reliable():
    people = replace(Population.uniform(3), reliability=np.array([0.55, 0.75, 0.95]))
    payloads = write_pairs(800, seed=2)
    bench = Bench.of(people, payloads)
    said = _through_the_page(bench, payloads, range(3))
    for rater, reliability in enumerate(people.reliability):
        mine = said.rater == rater
        hit = np.sign(said.value[mine]) == said.gold[said.item[mine]]
        assert hit.mean() == pytest.approx(reliability, abs=0.04)
    assert right(majority(said), said.gold).mean() > 0.8


def test_through_the_page_the_first_answer_is_the_one_displayed_first():
    people = replace(
        Population.uniform(1, reliability=0.5), prefers_first=np.array([0.8]), ties=np.array([0.2])
    )
    payloads = write_pairs(600, seed=3)
    said = _through_the_page(Bench.of(people, payloads), payloads, [0])
    decided = said.value != 0
    took_first = np.sign(said.value) == said.first
    assert took_first[decided].mean() == pytest.approx(0.8, abs=0.05)
    assert 0.1 < (~decided).mean() < 0.3


def test_all_at_once_or_through_the_page_is_the_same():
    people, payloads = Population.drawn(4, seed=4), write_pairs(30, seed=4)
    people = replace(people, fatigue=np.zeros(4))
    bench = Bench.of(people, payloads)
    at_once = simulate(people, bench.items, raters_per_item=4, levels=4)
    for n in range(0, 120, 7):
        item, rater = int(at_once.item[n]), int(at_once.rater[n])
        order = (0, 1) if at_once.first[n] > 0 else (1, 0)
        shown = as_displayed(payload_of(payloads[item], "compare"), order)
        value, _ = bench.answer(shown, rater, COMPARE)
        stored = in_item_order("compare", value, order)
        assert kind_of("compare").score(stored, COMPARE) == pytest.approx(at_once.value[n])


def test_where_no_tie_is_possible_nobody_gives_one():
    settings = settings_of({"kind": "compare", "scale": 8, "allow_tie": False})
    people = replace(Population.uniform(1), ties=np.array([0.9]))
    payloads = write_pairs(40, seed=5)
    bench = Bench.of(people, payloads)
    for payload in payloads:
        assert bench.answer(payload, 0, settings)[0]["choice"] in ("a", "b")


def test_a_pair_from_elsewhere_is_refused():
    bench = Bench.of(Population.uniform(1), write_pairs(2, seed=6))
    with pytest.raises(ValueError, match="not among those"):
        bench.answer(write_pairs(1, seed=7)[0], 0, COMPARE)


PROMPT = [{"role": "user", "content": "How are you?"}]


@pytest.mark.parametrize(
    ("settings", "payload"),
    [
        ({"kind": "rank"}, {"prompt": PROMPT, "answers": [{"text": t} for t in "abcde"]}),
        ({"kind": "rate"}, {"prompt": PROMPT, "answer": {"text": "Fine."}}),
        ({"kind": "thumbs"}, {"prompt": PROMPT, "answer": {"text": "Fine."}}),
        ({"kind": "steps", "stop_at_bad": True}, {"prompt": PROMPT, "steps": list("abcdefgh")}),
        ({"kind": "principles"}, {"principle": "Be kind."}),
    ],
)
def test_other_kinds_are_answered_within_their_rules_and_the_same_each_time(settings, payload):
    settings = settings_of(settings)
    bench = Bench.of(Population.drawn(5, seed=1), [])
    item = payload_of(payload, settings.kind)
    said = [bench.answer(payload, rater, settings) for rater in range(5)]
    for value, taken in said:
        value_of(value, item, settings)
        assert taken > 0
    assert said == [bench.answer(payload, rater, settings) for rater in range(5)]


def test_a_ranking_agrees_with_pairs():
    """Gumbel noise on scores: of two answers, the better is first as often as in a comparison."""
    people = Population.uniform(1, reliability=0.8)
    settings, hits = settings_of({"kind": "rank"}), []
    for n in range(600):
        answers = [{"text": f"{n} one"}, {"text": f"{n} other"}]
        payload = {"prompt": PROMPT, "answers": answers}
        bench = Bench.of(people, [payload | {"kind": "compare"}], length_quality=0.0)
        ranks = bench.answer(payload, 0, settings)[0]["ranks"]
        hits.append((ranks[0] < ranks[1]) == (bench.items.gold[0] > 0))
    assert np.mean(hits) == pytest.approx(0.8, abs=0.04)


def test_what_simulated_raters_cannot_do_is_refused():
    bench = Bench.of(Population.uniform(1), [])
    with pytest.raises(ValueError, match="cannot do write"):
        bench.answer({"prompt": PROMPT}, 0, settings_of({"kind": "write"}))


def test_the_truth_is_that_of_simulated_items():
    """Bench and Items speak of the same margins: r.m.s. 1, longer a little better."""
    items = Bench.of(Population.uniform(1), write_pairs(1000, seed=8)).items
    drawn = Items.drawn(1000)
    for one in (items, drawn):
        assert np.sqrt((one.margin**2).mean()) == pytest.approx(1)
        assert 0.15 < np.corrcoef(one.margin, one.sways["length"])[0, 1] < 0.4
