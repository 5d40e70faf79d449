"""What the report says and draws of a run that went by rounds."""

from __future__ import annotations

import pytest

from backflip.monitor.charts import Chart, Series, line_chart
from backflip.monitor.folder import read_run
from backflip.monitor.log import Alarm, MetricsLog
from backflip.monitor.report import cards, render, sentences
from backflip.monitor.views import view_of


def rounds_run(folder, *, head=None, lengths=(20.0, 21.0, 22.0), kl=3.0, rates=(0.5, 0.58, 0.66)):
    """Two rounds; ``head``: win rate of the last one by the held-out head, ± 10 points."""
    log = MetricsLog(folder)
    for number, (rate, length) in enumerate(zip(rates, lengths, strict=True)):
        metrics = {
            "win_rate": rate,
            "win_rate_low": rate - 0.1 * (number > 0),
            "win_rate_high": rate + 0.1 * (number > 0),
            "reward": -0.5 + number,
            "reward_low": -0.7 + number,
            "reward_high": -0.3 + number,
            "longer": 0.5 + 0.1 * number,
            "length": length,
            "finished": 0.9,
            "kl": kl * number,
            "prompts": 60.0,
        }
        if head is not None:
            now = head if number == len(rates) - 1 else 0.5
            metrics |= {
                "win_rate_heldout": now,
                "win_rate_heldout_low": now - 0.1,
                "win_rate_heldout_high": now + 0.1,
            }
        if number:
            metrics |= {"learnt_rows": 60.0, "dropped_all_usable_answers_score_the_same": 0.1}
        log.append(number, "iterative", metrics)
    log.close()
    return folder


def table(folder):
    stage = read_run(folder).stages[0]
    return view_of(stage.name).table(stage)


def said(folder):
    return " ".join(sentences(read_run(folder)))


def test_the_table_has_a_row_a_round_with_intervals(tmp_path):
    head, rows = table(rounds_run(tmp_path / "run", head=0.6))
    assert head[:3] == ["round", "win rate", "by the held-out head"]
    assert rows[2][:3] == ["2", "66 % [56, 76]", "60 % [50, 70]"]
    assert "−0.50 [−0.70, −0.30]" in rows[0]


def test_what_nobody_measured_is_no_column(tmp_path):
    head, _ = table(rounds_run(tmp_path / "run"))
    assert not any("head" in name for name in head)


@pytest.mark.parametrize(
    ("rate", "words"),
    [(0.66, "beyond its 95 % interval"), (0.55, "may be chance"), (0.3, "it got worse")],
)
def test_a_win_rate_is_called_what_its_interval_makes_it(tmp_path, rate, words):
    folder = rounds_run(tmp_path / "run", rates=(0.5, 0.5, rate))
    assert words in said(folder)
    assert "After 2 rounds the judge prefers" in said(folder)


@pytest.mark.parametrize(("head", "warned"), [(0.5, True), (0.65, False)])
def test_a_gain_that_the_held_out_head_does_not_see_is_not_to_be_trusted(tmp_path, head, warned):
    assert ("Do not trust the gain" in said(rounds_run(tmp_path / "run", head=head))) is warned


@pytest.mark.parametrize(("last", "word"), [(40.0, "longer"), (10.0, "shorter"), (21.0, None)])
def test_a_change_of_length_is_told_with_what_length_alone_would_win(tmp_path, last, word):
    text = said(rounds_run(tmp_path / "run", lengths=(20.0, 20.0, last)))
    if word is None:
        assert "grew" not in text
    else:
        assert f"Answers grew {word}, from 20 to {last:.0f} tokens" in text
        assert "would win on 70 %" in text


def test_a_policy_far_from_its_start_is_named(tmp_path):
    assert "24 nats an answer away from the start" in said(rounds_run(tmp_path / "run", kl=12.0))


def test_a_card_shows_the_last_win_rate(tmp_path):
    card = cards(read_run(rounds_run(tmp_path / "run")))[0]
    assert (card.label, card.value) == ("Win rate against round 0", "66.0 %")
    assert "56 to 76 %" in card.detail
    assert "round 1" in card.picture


def test_a_run_that_has_only_begun_says_nothing(tmp_path):
    folder = rounds_run(tmp_path / "run", rates=(0.5,), lengths=(20.0,))
    assert said(folder) == ""
    assert "Win rate against round 0" not in {card.label for card in cards(read_run(folder))}


def test_the_page_draws_intervals_reasons_and_the_alarms_of_the_rounds(tmp_path):
    folder = rounds_run(tmp_path / "run", head=0.6)
    log = MetricsLog(folder)
    log.alarms([Alarm(1, "chosen_falls", "warn", "direct, step 8: chosen fell", "iterative")])
    log.close()
    page = render(folder)
    assert page.count('class="area band') == 3  # two win rates and the reward
    assert "Prompts that taught nothing" in page
    assert "all usable answers score the same" in page
    assert "direct, step 8: chosen fell" in page
    assert "<td>66 % [56, 76]</td>" in page
    assert "win rate low" not in page  # ends of intervals are no curves of their own
    assert ">round</text>" in page


def test_a_metric_without_an_interval_has_no_band(tmp_path):
    stage = read_run(rounds_run(tmp_path / "run")).stages[0]
    charts = {
        str(c).partition("<b>")[2].partition("<")[0]: str(c)
        for c in view_of("rounds").main_charts(stage)
    }
    assert "area band" in charts["Reward"]
    assert "area band" not in charts["KL to the start"]


def test_a_band_lies_within_the_axes():
    """Its ends decide what is shown, not the curve alone."""
    series = Series("x", [0.0, 1.0], [0.5, 0.6], band=[(0.5, 0.5), (0.1, 0.9)])
    drawn = str(line_chart(Chart("t", [series])))
    points = drawn.partition('class="area band c1" points="')[2].partition('"')[0].split()
    heights = [float(point.split(",")[1]) for point in points]
    assert min(heights) >= 30
    assert max(heights) <= 190
    assert len(points) == 4
