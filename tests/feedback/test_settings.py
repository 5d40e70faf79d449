"""Settings: unknown keys fail, contradictions are named."""

from __future__ import annotations

import pytest

from backflip.errors import UserError
from backflip.feedback.kinds.registry import KINDS
from backflip.feedback.tasks.settings import settings_of


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_alone_is_enough_but_for_spans(kind):
    given = {"kind": kind, "span_labels": ["error"]} if kind == "spans" else {"kind": kind}
    assert settings_of(given).kind == kind


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "kind: is missing"),
        ({"kind": "compare", "rater_per_item": 3}, "rater_per_item: is not known here"),
        ({"kind": "compare", "scale": 10}, "scale: .*less than or equal to 9.*seen: '10'"),
        ({"kind": "compare", "raters_per_item": "3"}, "raters_per_item: .*integer.*seen: '3'"),
        ({"kind": "spans"}, "spans need span_labels"),
        ({"kind": "rank", "overlap": {}}, "overlap needs one of the kinds compare"),
        (
            {"kind": "compare", "raters_per_item": 6, "overlap": {"max_raters": 5}},
            "max_raters is 5, below raters_per_item, 6",
        ),
        ({"kind": "compare", "gold_warn": 0.4}, "gold_warn is below gold_pause"),
        ({"kind": "rate", "attributes": [{"name": "x", "low": 3, "high": 3}]}, "'x' runs from 3"),
        ({"kind": "rate", "attributes": [{"name": "x"}, {"name": "x"}]}, "the same name"),
        ({"kind": "compare", "gold_share": 0.6, "repeat_share": 0.4}, "less than a tenth"),
        ({"kind": "compare", "lease_seconds": float("nan")}, "lease_seconds"),
        ({"kind": "compare", "lease_seconds": 10**20}, "lease_seconds: .*less than or equal"),
        ({"kind": "compare", "repeat_gap": 2**63}, "repeat_gap: .*less than or equal"),
        ({"kind": "compare", "raters_per_item": 2**63}, "raters_per_item: .*less than or equal"),
    ],
)
def test_what_is_wrong_is_named(given, said):
    with pytest.raises(UserError, match=said):
        settings_of(given)


def test_a_scale_with_a_middle_has_a_tie():
    """2 points: better or worse. 9: four strengths on each side of a tie. 8: Anthropic's."""
    for scale, levels, tie in ((2, 1, False), (8, 4, False), (9, 4, True)):
        settings = settings_of({"kind": "compare", "scale": scale, "allow_tie": False})
        assert (settings.levels, settings.tie_possible) == (levels, tie)


def test_ratings_have_the_usual_attributes_unless_others_are_given():
    assert [a.name for a in settings_of({"kind": "rate"}).attributes] == [
        "helpful",
        "honest",
        "harmless",
    ]
    assert len(settings_of({"kind": "rate", "attributes": [{"name": "wit"}]}).attributes) == 1


def test_settings_come_back_from_their_own_json():
    settings = settings_of(
        {
            "kind": "compare",
            "overlap": {"threshold": 0.95, "max_raters": 7},
            "screening": {"questions": 3},
            "groups": {"language": ["de", "en"]},
            "budget": {"money": 10.5, "price_per_answer": 0.2},
        }
    )
    assert settings_of(settings.model_dump(mode="json")) == settings
    assert settings_of(settings.model_dump_json()) == settings
