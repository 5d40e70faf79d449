"""Agreement, against the packages that have it, and Krippendorff's own worked example."""

import krippendorff as krippendorff_package
import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.inter_rater import fleiss_kappa

from backflip.feedback.statistics.agreement import (
    agreement,
    alpha,
    fleiss,
    gwet,
    krippendorff,
    percent,
    sums,
    table,
)
from backflip.feedback.statistics.judgements import Judgements

NAN = np.nan
EXAMPLE = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
)
"""Four raters, twelve items: "Computing Krippendorff's Alpha-Reliability" (2011), section C."""


def _judgements(raters_by_items, **columns):
    rater, item = np.nonzero(~np.isnan(raters_by_items))
    columns.setdefault("paired", False)
    names = [str(i) for i in range(raters_by_items.shape[1])]
    value = raters_by_items[rater, item]
    return Judgements.of(item, rater, value, item_names=names, **columns)


def _random(seed=0, raters=5, items=60, classes=4, missing=0.3, noise=0.4):
    rng = np.random.default_rng(seed)
    truth = rng.integers(1, classes + 1, items)
    said = np.where(
        rng.random((raters, items)) < noise, rng.integers(1, classes + 1, (raters, items)), truth
    ).astype(float)
    said[rng.random((raters, items)) < missing] = np.nan
    return said


def _once(said):
    counted = table(said)
    return counted, sums(counted, counted.weight[None].astype(float))


@pytest.mark.parametrize(
    ("metric", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)]
)
def test_alpha_is_what_krippendorff_computed_by_hand(metric, published):
    assert alpha(_judgements(EXAMPLE), metric=metric).estimate == pytest.approx(published, abs=5e-4)


@pytest.mark.parametrize("metric", ["nominal", "ordinal", "interval"])
@pytest.mark.parametrize("seed", range(5))
def test_alpha_agrees_with_the_krippendorff_package(metric, seed):
    said = _random(seed)
    theirs = krippendorff_package.alpha(reliability_data=said, level_of_measurement=metric)
    counted, s = _once(_judgements(said))
    ours = krippendorff(s, counted.classes, metric=metric)[0]
    assert ours == pytest.approx(theirs, abs=1e-6)


SHARED = {
    "likert": (
        *("4451322514353241", "5441232524443251", "345.311515354142"),
        *("4352.2243435.251", "544132.41434514."),
    ),
    "two": ("1112111112111211", "1112111112121111", "111.111212111111"),
}
IRRCAC = {
    ("example", "nominal"): (0.761169275422, 0.775444068127, 0.818181818182),
    ("example", "interval"): (0.864935064935, 0.914000723552, 0.975378787879),
    ("example", "ordinal"): (0.850206189397, 0.898939769908, 0.968181818182),
    ("likert", "nominal"): (0.273680760406, 0.279876513120, 0.422916666667),
    ("likert", "interval"): (0.805913000234, 0.815757575758, 0.952994791667),
    ("likert", "ordinal"): (0.745149810584, 0.756512201810, 0.930625),
    ("two", "nominal"): (0.589743589744, 0.820224719101, 0.875),
}
"""Fleiss's κ, Gwet's AC and the observed agreement, as printed by irrCAC 0.4.4's ``CAC`` with
weights identity, quadratic and ordinal. It asks for pandas 2, which Backflip does not run on, so
its answers stand here."""


@pytest.mark.parametrize(("case", "metric"), IRRCAC)
def test_fleiss_gwet_and_percent_agree_with_irrcac(case, metric):
    rows = [[NAN if c == "." else float(c) for c in row] for row in SHARED.get(case, [])]
    counted, s = _once(_judgements(np.array(rows) if rows else EXAMPLE))
    kappa, ac, observed = IRRCAC[case, metric]
    assert fleiss(s, counted.classes, metric=metric)[0] == pytest.approx(kappa, abs=1e-6)
    assert gwet(s, counted.classes, metric=metric)[0] == pytest.approx(ac, abs=1e-6)
    if metric == "nominal":
        assert percent(s)[0] == pytest.approx(observed, abs=1e-6)


def test_fleiss_agrees_with_statsmodels_where_all_items_have_as_many_raters():
    said = _random(3, missing=0.0)
    counts = np.stack([(said == c).sum(0) for c in range(1, 5)], axis=1)
    counted, s = _once(_judgements(said))
    ours = fleiss(s, counted.classes)[0]
    assert ours == pytest.approx(fleiss_kappa(counts), abs=1e-6)


def test_items_folded_or_one_by_one_are_the_same_sums():
    """The fold is what makes a million items cheap; it must change nothing."""
    said = _random(2, raters=3, items=500, classes=2, missing=0.1)
    counted, folded = _once(_judgements(said))
    assert len(counted.counts) < 12
    shown = ~np.isnan(said).all(0)
    counts = np.stack([(said[:, shown] == c).sum(0) for c in (1, 2)], axis=1).astype(float)
    flat = type(counted)(counts, np.ones(len(counts), int), counted.classes)
    unfolded = sums(flat, np.ones((1, len(counts))))
    for name in ("coincidences", "pairs", "shares", "judged", "compared"):
        np.testing.assert_allclose(getattr(folded, name), getattr(unfolded, name))


def test_the_interval_of_alpha_covers_what_endless_items_would_give():
    """Raters right with chance 0.8 on two sides: α = (2·0.8 − 1)² = 0.36."""
    rng, hits = np.random.default_rng(0), 0
    for seed in range(200):
        truth = rng.integers(0, 2, 120)
        said = np.where(rng.random((3, 120)) < 0.8, truth, 1 - truth).astype(float)
        found = alpha(_judgements(said), resamples=300, seed=seed)
        hits += found.low <= 0.36 <= found.high
    assert 0.90 <= hits / 200 <= 0.99


def test_perfect_agreement_is_one_and_one_class_alone_is_unknown():
    same = np.array([[1.0, 2, 1, 2], [1, 2, 1, 2]])
    found = agreement(_judgements(same))
    assert (found.percent.estimate, found.alpha.estimate) == (1, 1)
    assert (found.fleiss.estimate, found.gwet.estimate) == (1, 1)
    alone = agreement(_judgements(np.ones((2, 4))))
    assert alone.percent.estimate == 1
    assert np.isnan(alone.alpha.estimate)
    assert (alone.alpha.low, alone.alpha.high) == (-np.inf, np.inf)


def test_nobody_has_said_anything_yet():
    found = agreement(Judgements.of([], [], []))
    assert (found.items, found.judgements) == (0, 0)
    assert np.isnan(found.alpha.estimate)
    assert np.isnan(found.percent.estimate)


def test_repeats_and_silence_are_left_out():
    said = Judgements.of(
        [0, 0, 1, 1, 1], [0, 1, 0, 1, 0], [1, 1, -1, NAN, -1], repeat=[0, 0, 0, 0, 1]
    )
    found = agreement(said)
    assert (found.items, found.judgements) == (1, 3)


def test_strength_counts_until_sides_are_asked_for():
    said = Judgements.of([0, 0, 1, 1], [0, 1, 0, 1], [1.0, 0.25, -1.0, -0.25])
    assert agreement(said).percent.estimate == 0
    assert agreement(said.sides()).percent.estimate == 1


def test_gwet_stands_where_kappa_falls():
    """95 % of replies are fine: raters agree on nine in ten, κ and α say almost nothing (the
    paradox of Feinstein and Cicchetti, 1990)."""
    both = np.tile([1.0] * 90 + [1.0] * 5 + [2.0] * 5, (2, 1))
    both[1, 90:] = [2.0] * 5 + [1.0] * 5
    found = agreement(_judgements(both))
    assert found.percent.estimate == pytest.approx(0.9)
    assert found.fleiss.estimate < 0
    assert found.gwet.estimate > 0.85


@pytest.mark.parametrize("metric", ["nominal", "ordinal", "interval"])
def test_gwets_coefficient_is_1_where_all_gave_the_same_thumb(metric):
    """Chance is Σ π(1 − π)/(C − 1), 0 for any number of classes; α and κ have nothing to say."""
    said = Judgements.of([0, 0, 1, 1], [0, 1, 0, 1], [1, 1, 1, 1], paired=False)
    found = agreement(said, metric=metric, resamples=20)
    assert (found.percent.estimate, found.gwet.estimate) == (1, 1)
    assert np.isnan(found.alpha.estimate)
    alone = Judgements.of([0, 1], [0, 1], [1, 1], paired=False)
    assert np.isnan(agreement(alone, metric=metric, resamples=20).gwet.estimate)


def test_a_handful_of_items_that_all_agree_on_is_no_certainty():
    """Every resample of them agrees too: quantiles alone would say 1 to 1."""
    said = np.array([[1.0, -1.0, 1.0, -1.0], [1.0, -1.0, 1.0, -1.0]])
    found = agreement(_judgements(said), resamples=50)
    wilson = stats.binomtest(4, 4).proportion_ci(0.95, method="wilson")
    assert (found.percent.low, found.percent.high) == pytest.approx((wilson.low, 1.0))
    assert found.percent.units == 4
    for one in (found.alpha, found.fleiss, found.gwet):
        assert one.estimate == one.high == 1
        assert one.low < 0.2
