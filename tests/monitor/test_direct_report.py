"""What the report says and draws of a run of the direct family."""

import pytest

from backflip.monitor.folder import read_run
from backflip.monitor.log import Alarm, MetricsLog
from backflip.monitor.report import compare, render, sentences, table
from backflip.monitor.views.direct import PANELS
from tests.monitor.folders import direct_run, reward_model_run, save
from tests.monitor.test_report import Page


def verdict(folder):
    return " ".join(sentences(read_run(folder)))


def test_the_verdict_tells_accuracy_the_baseline_and_what_became_of_the_chosen(tmp_path):
    said = verdict(direct_run(tmp_path / "run"))
    assert said.startswith(
        "Held-out implicit accuracy is 63.2 % (57–69 %); “the shorter reply wins” gets 55.0 %. "
        "Chosen answers became 3.1 nats less likely."
    )
    assert (
        "KL by the answers that the policy writes is 4.0 nats from the reference (32 prompts)"
        in said
    )
    assert "follows length (correlation −0.60): shorter answers win" in said
    assert "reward model" not in said


@pytest.mark.parametrize(("low", "doubtful"), [(0.571, False), (0.54, True), (0.55, True)])
def test_an_interval_that_holds_the_baseline_is_called_no_better(tmp_path, low, doubtful):
    said = verdict(direct_run(tmp_path / "run", accuracy_low=low))
    assert ("not clearly better" in said) is doubtful


@pytest.mark.parametrize(
    ("fall", "said"),
    [
        (-9.0, "Chosen answers became 9.0 nats less likely: likelihood displacement"),
        (-3.1, "Chosen answers became 3.1 nats less likely."),
        (2.0, "Chosen answers became 2.0 nats more likely."),
        (0.0, "Chosen answers are as likely as under the reference."),
    ],
)
def test_a_great_fall_of_the_chosen_is_named(tmp_path, fall, said):
    assert said in verdict(direct_run(tmp_path / "run", fall=fall))


def test_the_held_out_change_goes_before_that_of_the_last_batches(tmp_path):
    """Memorised rows become likelier while others of their kind do not."""
    folder = direct_run(tmp_path / "run", fall=2.0)
    last = {"logp_change_chosen": 2.0, "val_logp_change_chosen": -4.0}
    MetricsLog(folder).append(61, "direct", last)
    assert "became 4.0 nats less likely" in verdict(folder)


def test_a_running_run_says_what_it_has(tmp_path):
    MetricsLog(tmp_path / "run").append(1, "direct", {"loss": 0.69, "logp_change_chosen": -1.0})
    assert verdict(tmp_path / "run") == "Chosen answers became 1.0 nats less likely."


def test_every_number_to_watch_has_its_panel(tmp_path):
    page = Page(render(direct_run(tmp_path / "run")))
    labels = " ".join(page.labels())
    for panel in PANELS:
        assert f"{panel.title}: " in labels, panel.title
    drawn = {
        (s["name"], x, y)
        for chart in page.charts()
        for s in chart["series"]
        for x, y in zip(s["x"], s["y"], strict=True)
    }
    assert {("training", 60, 0.75), ("held-out", 60, 0.75)} <= drawn  # accuracy
    assert {("chosen", 60, -3.1), ("rejected", 60, -12.1)} <= drawn  # change of log-probability
    assert {("KL by the answers that it writes", 60, 4.0), ("sampled", 60, 50.0)} <= drawn
    assert ("measured", 0.8, 0.75) in drawn  # the reliability diagram
    assert "Reliability (ECE 0.050)" in page.text
    assert "the shorter reply wins" in page.text


@pytest.mark.parametrize(("name", "said"), [("dpo", "DPO"), ("simpo", "SimPO")])
def test_the_stage_is_called_by_its_objective(tmp_path, name, said):
    folder = direct_run(tmp_path / "run", objective=name)
    MetricsLog(folder).alarms([Alarm(9, "pairs_separated", "warn", "All apart.", "direct")])
    page = Page(render(folder))
    assert f"{said} step 60" in page.text
    assert f"{said}, step 9" in page.text


def test_runs_of_several_objectives_are_compared_on_the_same_curves(tmp_path):
    runs = [direct_run(tmp_path / n, objective=n) for n in ("dpo", "kto")]
    page = Page(compare(runs))
    assert "DPO, KTO" in page.text
    assert page.text.count("63.2 %") == 2
    head, rows = table([(f.name, read_run(f)) for f in runs])
    assert {"Implicit accuracy", "Chosen answers", "KL to the reference"} <= set(head)
    assert [row[head.index("Chosen answers")] for row in rows] == ["−3.1 nats"] * 2


def test_in_a_chain_the_reward_model_keeps_its_own_sentence(tmp_path):
    reward_model_run(tmp_path / "reward_model")
    direct_run(tmp_path / "direct")
    save(tmp_path / "summary.json", {"seconds": 448})
    said = verdict(tmp_path)
    assert "The reward model agrees with 73.2 %" in said
    assert "Held-out implicit accuracy is 63.2 %" in said


def test_single_answers_are_reported_without_margins(tmp_path):
    """KTO logs no margins, and a KL estimated on mismatched answers."""
    log = MetricsLog(tmp_path / "run")
    for step in range(1, 6):
        log.append(step, "direct", {"loss": 0.5, "kl": 0.1 * step, "reward_chosen": 0.1})
    page = Page(render(tmp_path / "run"))
    names = {s["name"] for chart in page.charts() for s in chart["series"]}
    assert "KL by mismatched answers" in names
    assert "Margin" not in page.text


@pytest.mark.parametrize(
    "summary",
    [
        {"accuracy": None, "baseline_longer": "high", "reliability": None},
        {"accuracy_low": None, "baseline_shorter": None, "baseline_longer": None},
    ],
)
def test_an_incomplete_summary_does_not_break_the_page(tmp_path, summary):
    assert "DPO" in Page(render(direct_run(tmp_path / "run", **summary))).text
