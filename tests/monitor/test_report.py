import json
import re
from html.parser import HTMLParser

import pytest

from backflip.errors import UserError
from backflip.monitor.charts import nice_ticks
from backflip.monitor.folder import newest_change, read_run
from backflip.monitor.log import METRICS, Alarm, MetricsLog
from backflip.monitor.report import compare, render, write_comparison, write_report
from tests.monitor.folders import ppo_run, reward_model_run, save

ATTACK = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'{{ 7*7 }}"
LOADING = {"src", "href", "srcset", "action", "formaction", "data", "poster", "xlink:href"}


class Page(HTMLParser):
    """Tags, attributes and text, as a browser would see them."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.words = [], [], []
        self.feed(page)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data):
        self.words.append(data)

    def charts(self):
        return [json.loads(value) for _, name, value in self.attributes if name == "data-chart"]

    def labels(self):
        return [value for _, name, value in self.attributes if name == "aria-label"]


@pytest.fixture
def rlhf(tmp_path):
    """A run of three stages, of which SFT wrote no summary."""
    folder = tmp_path / "chain"
    log = MetricsLog(folder / "sft")
    for step in range(1, 4):
        log.append(step, "sft", {"loss": 3.0 - step / 2, "val_loss": 3.0})
    reward_model_run(folder / "reward_model")
    ppo_run(folder / "ppo")
    save(folder / "summary.json", {"seconds": 448})
    return folder


def test_the_page_shows_the_numbers_of_all_three_stages(rlhf):
    page = Page(render(rlhf))
    for number in ("73.2 %", "62 to 83 %", "56.8 %", "0.11 → 1.23", "7.65 nats", "7 min 28 s"):
        assert number in page.text, number
    for heading in ("Supervised fine-tuning", "Reward model", "PPO", "ECE 0.061"):
        assert heading in page.text, heading
    order = [page.text.index(f"{s} step") for s in ("fine-tuning", "Reward model", "PPO")]
    assert order == sorted(order)


def test_every_measured_number_is_in_a_curve(rlhf):
    drawn = {
        (series["name"], x, y)
        for chart in Page(render(rlhf)).charts()
        for series in chart["series"]
        for x, y in zip(series["x"], series["y"], strict=True)
    }
    for step in range(1, 31):
        assert ("reward", step, float(f"{step / 30:.5g}")) in drawn
        assert ("an_unforeseen_metric", step, step) in drawn
    assert {("training", 1, 2.5), ("validation", 3, 3.0), ("measured", 0.6, 0.55)} <= drawn


def test_text_of_a_run_cannot_become_markup(tmp_path):
    name = "a<b onclick=x>"
    folder = ppo_run(tmp_path / name, text=ATTACK)
    MetricsLog(folder).append(31, "ppo", {ATTACK: 1.0, "reward": 1.0})
    MetricsLog(folder).alarms([Alarm(3, ATTACK, "warn", ATTACK, "ppo")])
    plain = ppo_run(tmp_path / "plain")
    for page in (render(folder), compare([folder, plain])):
        seen = Page(page)
        assert seen.tags.count("script") == 1
        assert "img" not in seen.tags
        assert not [name for _, name, _ in seen.attributes if name.startswith("on")]
    page = Page(render(folder))
    assert "<img src=x onerror=alert(2)>" in page.text
    assert "{{ 7*7 }}" in page.text


def test_the_page_loads_nothing_and_runs_only_its_own_script(rlhf):
    for page in (render(rlhf), compare([rlhf, rlhf / "ppo"])):
        seen = Page(page)
        outside = [
            (name, value)
            for _, name, value in seen.attributes
            if name in LOADING and not value.startswith("#")
        ]
        assert outside == []
        assert "link" not in seen.tags
        assert not re.search(r"@import|url\(", page)
        policy = next(value for _, name, value in seen.attributes if "default-src" in value)
        assert "default-src 'none'" in policy
        assert "script-src 'sha256-" in policy
        assert "connect-src" not in policy
        assert len(page) < 500_000


def test_the_hash_in_the_policy_is_that_of_the_script(rlhf):
    import base64
    import hashlib

    page = render(rlhf)
    script = page[page.index("<script>") + len("<script>") : page.index("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page


def test_missing_pieces_are_absent(tmp_path):
    """A run that has just written its first step; and one with a recipe only."""
    MetricsLog(tmp_path / "new").append(1, "ppo", {"reward": 0.5, "kl": 0.0})
    page = Page(render(tmp_path / "new"))
    assert "0.50" in page.text
    for absent in ("Before and after", "Sampled answers", "Environment", "Recipe", "Alarm", "nan"):
        assert absent not in page.text, absent
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "recipe.yaml").write_text("method: sft\n")
    assert "Recipe" in Page(render(tmp_path / "bare")).text


@pytest.mark.parametrize(
    "summary",
    [
        {"accuracy": "high", "reliability": None, "examples": None, "reward_before": []},
        {"accuracy": 0.7, "accuracy_low": None, "reliability": [{"confidence": 0.7}]},
        {"reliability": [], "reward_before": 0.5, "reward_after": {"mean": 1.0}, "scores": {}},
    ],
)
def test_an_incomplete_summary_does_not_break_the_page(tmp_path, summary):
    MetricsLog(tmp_path).append(1, "reward_model", {"loss": 0.5})
    save(tmp_path / "summary.json", summary)
    assert "Reward model" in render(tmp_path)


def test_alarms_stand_on_top_and_on_the_curves(tmp_path):
    folder = ppo_run(tmp_path / "run")
    MetricsLog(folder).alarms([Alarm(12, "kl_too_high", "stop", "KL is 21 nats.", "ppo")])
    page = render(folder)
    assert page.index("KL is 21 nats.") < page.index("<figure")
    assert "<title>kl_too_high: KL is 21 nats.</title>" in page
    assert "PPO, step 12" in Page(page).text


def test_samples_of_many_steps_are_thinned_but_first_and_last_stay(tmp_path):
    page = render(ppo_run(tmp_path / "run", steps=90))
    steps = [int(step) for step in re.findall(r'data-step="(\d+)"', page)]
    assert steps[0] == 1
    assert steps[-1] == 90
    assert len(steps) == 20
    assert steps == sorted(set(steps))


def test_how_the_shown_prompts_were_chosen_stands_above_them(tmp_path):
    folder = ppo_run(tmp_path / "run")
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    rule = "Held-out prompts 1, 11 of 20, chosen by their place."
    save(folder / "summary.json", summary | {"examples_rule": rule})
    text = Page(render(folder)).text
    assert text.index("Before and after") < text.index(rule) < text.index("a plain answer before")


def test_before_and_after_come_from_the_samples_where_no_summary_has_them(tmp_path):
    folder = ppo_run(tmp_path / "run")
    (folder / "summary.json").unlink()
    text = Page(render(folder)).text
    assert re.search(r"Before 0\.03 a plain answer 1 After 1\.00 a plain answer 30", text)


@pytest.mark.parametrize(
    ("low", "high", "mean", "said"),
    [
        (1.0, 1.4, 1.2, "rose from 0.10 to 1.20, beyond its 95 % interval"),
        (0.2, 0.6, 0.4, "may be chance"),
        (-1.0, -0.5, -0.7, "The reward fell"),
    ],
)
def test_the_verdict_depends_on_the_intervals(tmp_path, low, high, mean, said):
    folder = ppo_run(tmp_path / "run")
    before = {"mean": 0.1, "low": -0.1, "high": 0.3, "units": 48}
    after = {"mean": mean, "low": low, "high": high, "units": 48}
    save(folder / "summary.json", {"reward_before": before, "reward_after": after})
    assert said in Page(render(folder)).text


@pytest.mark.parametrize(
    ("accuracy", "said"),
    [(0.6, "Under 65 %"), (0.64, None), (0.75, None), (0.91, None), (0.95, "Over 90 %")],
)
def test_suspicious_accuracies_get_a_word(tmp_path, accuracy, said):
    folder = reward_model_run(tmp_path / "run")
    ends = {"accuracy_low": accuracy - 0.03, "accuracy_high": accuracy + 0.03, "prompts": 900}
    save(folder / "summary.json", {"accuracy": accuracy} | ends)
    text = Page(render(folder)).text
    assert [word for word in ("Under 65 %", "Over 90 %") if word in text] == (
        [said] if said else []
    )


def test_golden_judgements_have_a_card_and_a_sentence(tmp_path):
    folder = reward_model_run(tmp_path / "run")
    golden = {"accuracy": 0.61, "accuracy_low": 0.5, "accuracy_high": 0.72, "pairs": 80}
    golden["sentences"] = ["It rewards length."]
    save(folder / "summary.json", {"accuracy": 0.75, "golden": golden})
    text = Page(render(folder)).text
    assert "Golden judgements 61.0 %" in text
    assert "80 pairs; 95 % interval 50 to 72 %" in text
    assert "It agrees with 61.0 % of the golden judgements (80 pairs). It rewards length." in text
    assert "61.0 %" in Page(compare([folder, reward_model_run(tmp_path / "other")])).text


@pytest.mark.parametrize(
    ("mean", "low", "high", "said"),
    [
        (0.3, 0.1, 0.5, "rose from 0.10 to 0.40, beyond its 95 % interval"),
        (0.3, -0.1, 0.7, "within its 95 % interval, it may be chance"),
        (-0.3, -0.5, -0.1, "The reward fell from 0.10"),
    ],
)
def test_the_gain_on_the_same_prompts_decides_where_it_was_measured(
    tmp_path, mean, low, high, said
):
    """Before and after overlap in each case: the prompts differ more than the policies do."""
    before, after = ({"mean": m, "low": m - 0.5, "high": m + 0.5} for m in (0.1, 0.1 + mean))
    gain = {"mean": mean, "low": low, "high": high, "units": 48}
    summary = {"reward_before": before, "reward_after": after, "reward_gain": gain}
    folder = ppo_run(tmp_path / "run")
    save(folder / "summary.json", summary)
    assert said in Page(render(folder)).text


@pytest.mark.parametrize(
    ("after", "gain", "said"),
    [
        (0.69, (0.2, 0.9), "The held-out reward rose with it (0.14 to 0.69)."),
        (0.69, None, "rose too (0.14 to 0.69), but within its 95 % interval: more held-out"),
        (0.69, (-0.2, 1.3), "rose too (0.14 to 0.69), but within its 95 % interval: more held-out"),
        (0.14, (-0.2, 0.2), "stayed at 0.14 (gain 0.00, −0.20 to 0.20, 48 prompts): it does not"),
        (
            0.12,
            (-0.2, 0.2),
            "went from 0.14 to 0.12 (gain −0.02, −0.20 to 0.20, 48 prompts): it does",
        ),
        (-0.40, (-0.9, -0.2), "fell (0.14 to −0.40): do not trust the gain."),
    ],
)
def test_the_heldout_reward_rises_may_rise_or_does_not_follow(tmp_path, after, gain, said):
    def around(mean, reach=0.4):
        return {"mean": mean, "low": mean - reach, "high": mean + reach, "units": 48}

    summary = {
        "reward_before": around(0.1, 0.1),
        "reward_after": around(1.2, 0.1),
        "reward_heldout_before": around(0.14),
        "reward_heldout_after": around(after),
    }
    if gain:
        low, high = gain
        summary["reward_heldout_gain"] = {
            "mean": after - 0.14,
            "low": low,
            "high": high,
            "units": 48,
        }
    folder = ppo_run(tmp_path / "run")
    save(folder / "summary.json", summary)
    text = Page(render(folder)).text
    assert said in text
    assert f"0.14 → {after:.2f}".replace("-", "−") in text


def test_a_kl_that_is_rounding_is_shown_as_none(tmp_path):
    folder = ppo_run(tmp_path / "run")
    save(folder / "summary.json", {"reward_before": 0.1, "reward_after": 0.2, "kl_after": -3e-8})
    text = Page(render(folder)).text
    assert "to 0.20, 0 nats of KL by the answers away" in text
    assert "e−8" not in text


@pytest.mark.parametrize(("step", "said"), [(0, True), (25, False), (None, False)])
def test_a_run_that_never_beat_its_start_says_so(tmp_path, step, said):
    folder = ppo_run(tmp_path / "run")
    save(folder / "summary.json", {"best_step": step})
    assert ("No checkpoint beat the start" in Page(render(folder)).text) is said


@pytest.mark.parametrize(
    ("finished", "price", "said"), [(0.02, -1.0, True), (0.5, -1.0, False), (0.02, None, False)]
)
def test_a_reward_that_is_only_the_price_of_a_missing_end_is_called_that(
    tmp_path, finished, price, said
):
    folder = ppo_run(tmp_path / "run")
    ends = {"finished_after_low": finished - 0.01, "finished_after_high": finished + 0.06}
    counted = {"finished_after_units": 60, "missing_eos": price}
    save(folder / "summary.json", {"finished_after": finished} | ends | counted)
    text = Page(render(folder)).text
    words = "98.0 % of the answers were cut off (92 to 99 %, 60 prompts) and got"
    assert (f"{words} shaping.missing_eos (−1)" in text) is said
    if said:
        for way in ("sampling.max_tokens", "SFT first", "shaping.missing_eos=null"):
            assert way in text


def test_comparing_overlays_runs_and_names_what_differs(tmp_path):
    runs = [ppo_run(tmp_path / name, kl_coef=c) for name, c in (("mild", 0.1), ("wild", 0.01))]
    page = Page(compare(runs))
    reward = next(c for c in page.charts() if {s["name"] for s in c["series"]} == {"mild", "wild"})
    assert [len(series["x"]) for series in reward["series"]] == [30, 30]
    assert len({series["colour"] for series in reward["series"]}) == 2
    assert "kl_coef 0.1 0.01" in page.text
    assert "method" not in page.text
    assert page.text.count("0.11 → 1.23") == 2


def test_runs_of_the_same_name_are_told_apart_by_their_folders(tmp_path):
    runs = [ppo_run(tmp_path / parent / "ppo") for parent in ("first", "second")]
    text = Page(compare(runs)).text
    assert "first/ppo" in text
    assert "second/ppo" in text


def test_curves_of_long_runs_are_thinned_to_means(tmp_path):
    log = MetricsLog(tmp_path / "run")
    lines = "".join(
        json.dumps({"step": s, "stage": "ppo", "time": s, "metrics": {"reward": s}}) + "\n"
        for s in range(1, 10_001)
    )
    (log.folder / METRICS).write_text(lines)
    [series] = [s for c in Page(render(log.folder)).charts() for s in c["series"]]
    assert len(series["x"]) <= 300
    assert series["y"] == pytest.approx(series["x"], rel=1e-3)
    assert sum(series["y"]) / len(series["y"]) == pytest.approx(5000.5, rel=0.01)


def test_reports_are_written_whole_beside_the_run(tmp_path):
    folder = ppo_run(tmp_path / "run", text="ein schöner Tag 🌞 \ud800")
    path = write_report(folder)
    assert path == folder / "report.html"
    assert "schöner Tag 🌞" in path.read_text(encoding="utf-8")
    both = write_comparison([folder, folder], tmp_path / "deep" / "both.html")
    assert "2 runs compared" in both.read_text(encoding="utf-8")
    assert not list(tmp_path.rglob("*.new"))


def test_a_folder_without_a_run_says_what_was_expected(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match=r"holds no run.*recipe\.yaml"):
            render(folder)
    (tmp_path / "summary.json").write_text('{"accuracy": 0.')
    with pytest.raises(UserError, match=r"summary\.json is not valid JSON"):
        render(tmp_path)


def test_states(tmp_path, rlhf):
    assert read_run(rlhf).state == "finished"
    MetricsLog(tmp_path / "run").append(1, "sft", {"loss": 1.0})
    assert read_run(tmp_path / "run").state == "running"
    import os

    os.utime(tmp_path / "run" / METRICS, (0, 0))
    assert read_run(tmp_path / "run").state == "unfinished"


def test_a_change_of_any_file_is_noticed(rlhf):
    seen = {newest_change(rlhf)}
    MetricsLog(rlhf / "ppo").append(31, "ppo", {"reward": 1.0})
    seen.add(newest_change(rlhf))
    save(rlhf / "sft" / "summary.json", {})
    seen.add(newest_change(rlhf))
    assert len(seen) == 3
    assert newest_change(rlhf) in seen


@pytest.mark.parametrize("spread", [0.0, 7e-18, 1e-12])
def test_numbers_that_differ_by_rounding_alone_make_an_axis(spread: float):
    """A mean over minibatches of one coefficient: 0.05 and 0.05 + 7e-18."""
    ticks = nice_ticks(0.05, 0.05 + spread)
    assert ticks[0] < 0.05 < ticks[-1]
