"""Small things that a reader stumbles over: percent signs, empty answers, null, distinct places."""

from __future__ import annotations

import re

from backflip.data.records import Tally
from backflip.monitor.charts import Chart, Series, line_chart
from backflip.monitor.folder import flat_recipe
from backflip.monitor.log import MetricsLog
from backflip.monitor.report import render
from backflip.monitor.run import Stage
from backflip.monitor.views import view_of
from tests.monitor.folders import entries, ppo_run


def test_results_are_a_list_in_which_no_number_leaves_its_sign(tmp_path):
    page = render(ppo_run(tmp_path / "run"))
    (listed,) = re.findall(r'<ul class="verdict">(.*?)</ul>', page)
    assert "<li>" in listed
    assert re.search(r"\d\u00a0%", listed)
    assert not re.search(r"\d %", listed)


def test_an_empty_answer_is_said_to_be_empty(tmp_path):
    log = MetricsLog(tmp_path)
    log.append(1, "online", {"reward": 0.0})
    log.samples(1, [{"prompt": "Why?", "answer": " \n", "score": 0.0}])
    log.close()
    assert "<td>(empty)" in render(tmp_path)


def test_shares_of_nothing_have_an_axis_from_0():
    page = line_chart(Chart("Shares", [Series("none", [1, 2], [0, 0])], percent=True, zero=True))
    assert "−100" not in page
    assert ">100 %<" in page


def test_what_arithmetic_leaves_of_a_kl_is_0_and_nobody_games_a_model_that_is_not_there():
    """A reward by a program has no held-out head, and so no sign of a model that is gamed."""
    columns = {"reward": [0.1, 0.4], "kl": [0.2, 0.3], "val_kl": [-3.2e-7, 0.1]}
    page = "".join(
        view_of("online").main_charts(Stage("online", entries("online", **columns), [], [], {}))
    )
    assert "held-out from 0 to 0.1" in page
    assert "Reward bought with KL" in page
    assert "gamed" not in page


def test_settings_that_differ_are_spelt_as_in_the_recipe():
    flat = flat_recipe("a: null\nb: true\nc:\n  d: 1.5\n")
    assert flat == {"a": "null", "b": "true", "c.d": "1.5"}


def test_examples_of_what_was_left_out_are_of_different_rows():
    one, other = Tally(), Tally()
    for where in ("rev.jsonl:149", "rev.jsonl:149", "rev.jsonl:3"):
        one.add("no score", where)
        other.add("no score", where)
    one.update(other)
    assert one.lines() == ["6 × no score (e.g. rev.jsonl:149, rev.jsonl:3)"]
