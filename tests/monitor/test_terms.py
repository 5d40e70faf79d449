"""A mix of rewards, and episodes, in pictures and words."""

from __future__ import annotations

from backflip.monitor.outcomes import terms
from backflip.monitor.run import Stage
from backflip.monitor.views import view_of
from backflip.monitor.views.accuracy import verdict_sentences
from tests.monitor.folders import entries


def mixed(**more: list[float]) -> Stage:
    """Verdicts of ``exact`` count; ``taste`` gives some of its own, ``brief`` a number."""
    columns = {"answers": [8, 8], "reward": [0.6, 0.9], "reward_std": [0.3, 0.3]}
    columns |= {"reward_exact": [0.25, 0.5], "reward_taste": [0.1, 0.2], "reward_brief": [0.3, 0.2]}
    for name, right in (("", [0.25, 0.5]), ("exact_", [0.25, 0.5]), ("taste_", [0.5, 0.75])):
        columns[f"reward_{name}correct"] = right
        columns[f"reward_{name}incorrect"] = [1 - share for share in right]
        columns[f"reward_{name}unparsable"] = [0, 0]
    return Stage("online", entries("online", **columns, **more), [], [], {})


def test_the_terms_of_a_mix_are_one_picture_and_their_verdicts_have_names():
    stage = mixed()
    panels = {panel.title: panel for panel in view_of("online").panels(stage)}
    assert list(panels["Terms of the reward"].metrics.values()) == ["exact", "taste", "brief"]
    assert "reward_correct" in panels["Verdicts of exact"].metrics
    assert "reward_taste_correct" in panels["Verdicts of taste"].metrics
    assert verdict_sentences(stage) == [
        "Verdicts of exact on the 16 answers learnt from: 6 correct, 10 incorrect, 0 unparsable."
    ]


def test_where_no_term_counts_for_all_each_tells_its_own_verdicts():
    columns: dict[str, list[float]] = {"answers": [4], "reward": [0.5]}
    for term in ("one", "two"):
        columns |= {f"reward_{term}": [0.5], f"reward_{term}_correct": [0.5]}
    said = verdict_sentences(Stage("online", entries("online", **columns), [], [], {}))
    assert [line.split(" on ")[0] for line in said] == ["Verdicts of one", "Verdicts of two"]


def test_what_stands_beside_a_score_is_no_term():
    beside = ("reward", "reward_std", "reward_heldout", "reward_spread", "reward_correct")
    assert terms([*beside, "reward_turns", "reward_exact"]) == []
    two = ("reward_model", "reward_model_heldout", "reward_word_error", "reward_word_error_error")
    assert terms([*beside, *two]) == ["model", "word_error"]


def test_episodes_have_a_picture_of_their_course():
    columns = {f"reward_{n}": [1.0, 2.0] for n in ("turns", "calls", "malformed", "failed")}
    stage = Stage("online", entries("online", reward=[0.1, 0.2], **columns), [], [], {})
    (panel,) = (p for p in view_of("online").panels(stage) if p.title == "Episodes")
    assert list(panel.metrics) == list(columns)
    assert "Episodes" not in [p.title for p in view_of("online").panels(mixed())]
