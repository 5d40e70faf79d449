"""Numbers as they are printed, and words that must hold of them: for any numbers at all."""

from __future__ import annotations

import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from backflip.functional.statistics import wilson
from backflip.monitor.log import Alarm, Entry
from backflip.monitor.report import cards, sentences
from backflip.monitor.run import Run, Stage
from backflip.monitor.text import Estimate, apart, change, ranged, share, share_ranged

NUMBERS = st.floats(-200, 200)
NEAR = st.floats(-0.02, 0.02)
SHARES = st.floats(0, 1)
VERDICTS = (
    "rose",
    "fell",
    "beyond",
    "may be chance",
    "clearly",
    "memorised",
    "noisy",
    "trivial",
    "worse",
    "trust",
    "confirm",
    "displacement",
    "far",
    "follows length",
    "rewards",
)
"""Words that say more than what was counted."""


def read(text):
    return float(text.replace("−", "-"))


def run_of(name, summary, *entries, alarms=()):
    stage = Stage(name, entries, [], alarms, summary)
    return Run(name, Path(name), "finished", [stage], "", {}, {})


def estimates(mean, reach, units):
    return {"mean": mean, "low": mean - reach, "high": mean + reach, "units": units}


# ---- numbers


@given(st.lists(st.one_of(NUMBERS, NEAR), min_size=2, max_size=5), st.booleans())
def test_numbers_that_differ_are_printed_in_their_order(values, percent):
    texts = apart(values, digits=1, percent=percent)
    for a, one in zip(values, texts, strict=True):
        for b, other in zip(values, texts, strict=True):
            if abs(a - b) > 2e-6:
                assert (read(one) > read(other)) == (a > b)
    assert not any(text.startswith("−") and read(text) == 0 for text in texts)


@given(st.one_of(NUMBERS, NEAR), st.floats(0, 1), st.floats(0, 1))
def test_an_interval_is_printed_with_a_width_or_said_to_have_none(value, down, up):
    said, ends = ranged(Estimate(value, value - down, value + up), digits=2, beside=(0.0,))
    if down + up > 1e-5:
        low, high = map(read, ends.split(" to "))
        assert low < high
        assert low <= read(said) <= high
    if down == up == 0:
        assert ends == "all the same"


@given(st.integers(1, 500), st.integers(0, 500))
def test_a_share_is_printed_inside_of_its_interval_and_on_the_side_of_a_coin(trials, right):
    found = wilson(min(right, trials), trials)
    value, ends = share_ranged(Estimate.of(found), beside=(0.5,))
    low, high = (read(text) for text in re.findall(r"[\d.]+", ends))
    assert low <= read(value.removesuffix(" %")) <= high
    assert low < high
    assert (low > 50) == (found.low > 0.5)
    assert (high < 50) == (found.high < 0.5)
    assert (low == 0) == (found.low == 0)
    assert (high == 100) == (found.high == 1)


def test_a_share_that_is_not_quite_whole_is_not_called_so():
    assert share(1.0) == "100.0 %"
    assert share(0.9999) == "99.99 %"
    assert share(1e-5) == "0.001 %"


def test_a_change_that_rounding_would_hide_gets_more_digits():
    assert change(-0.5412, -0.5389) == ("from −0.541 to −0.539", 1)
    assert change(0.25, 0.25) == ("stayed at 0.25", 0)


# ---- sentences about rewards


@given(st.one_of(NUMBERS, NEAR), NEAR, st.floats(0, 0.05), st.one_of(st.none(), st.integers(1, 90)))
def test_words_about_a_reward_hold_of_the_numbers_in_the_same_sentence(before, gain, reach, units):
    """Small gains and small intervals: where rounding could say the opposite."""
    summary = {"reward_gain": estimates(gain, reach, units), "kl_after": 0.3}
    for name in ("reward", "reward_heldout"):
        summary |= {
            f"{name}_before": estimates(before, 0.5, units),
            f"{name}_after": estimates(before + gain, 0.5, units),
            f"{name}_gain": estimates(gain, reach, units),
        }
    said = sentences(run_of("ppo", summary))
    assert len(said) == 2
    for sentence in said:
        numbers = re.search(r"(−?[\d.]+) to (−?[\d.]+)", sentence)
        if "rose" in sentence:
            assert read(numbers[1]) < read(numbers[2])
        if "fell" in sentence:
            assert read(numbers[1]) > read(numbers[2])
        if "went" in sentence:
            assert numbers[1] != numbers[2]
    ends = re.search(r"gain (−?[\d.]+), (−?[\d.]+) to (−?[\d.]+)", said[0])
    if "beyond" in said[0]:
        assert ends is None or read(ends[2]) * read(ends[3]) > 0
        assert gain * (gain - reach) * (gain + reach) != 0
    if "may be chance" in said[0]:
        assert read(ends[2]) <= 0 <= read(ends[3])
    if units is None or units < 30:
        assert not any(word in " ".join(said) for word in VERDICTS)
        assert "cannot tell" in said[0] if units is None else "too few to tell" in said[0]
    else:
        assert "few" not in " ".join(said)


def test_a_rise_that_two_digits_hide_is_shown_and_one_of_nothing_is_none():
    """Seen: "rose too (−0.54 to −0.54)"."""
    summary = {"reward_before": estimates(0.1, 0.1, 48), "reward_after": estimates(1.1, 0.1, 48)}
    for gain, words in (
        (0.003, "rose too (−0.543 to −0.540), but within"),
        (0.0, "stayed at −0.54"),
    ):
        told = {
            "reward_heldout_before": estimates(-0.543, 0.2, 48),
            "reward_heldout_after": estimates(-0.543 + gain, 0.2, 48),
            "reward_heldout_gain": estimates(gain, 0.1, 48),
        }
        assert words in " ".join(sentences(run_of("ppo", summary | told)))


def test_numbers_that_contradict_each_other_get_no_verdict():
    summary = {
        "reward_before": estimates(1.0, 0.1, 48),
        "reward_after": estimates(0.5, 0.1, 48),
        "reward_gain": estimates(0.5, 0.1, 48),
    }
    (said,) = sentences(run_of("ppo", summary))
    assert not any(word in said for word in VERDICTS)


def test_rewards_without_any_spread_have_no_interval_by_name():
    same = estimates(-1.0, 0.0, 48)
    summary = {"reward_before": same, "reward_after": same, "reward_gain": estimates(0, 0, 48)}
    (card,) = cards(run_of("ppo", summary))
    assert card.detail == "after: all the same, 48 prompts"


@given(st.integers(1, 29), st.floats(0.0, 0.09))
def test_few_answers_that_were_cut_off_are_no_verdict(units, finished):
    summary = wilson(finished * units, units).named("finished_after") | {"missing_eos": -1.0}
    (said,) = sentences(run_of("ppo", summary))
    on = r"were cut off \([\d.]+ to [\d.]+ %, \d+ prompts?\)"
    assert re.search(rf"{on}, and each got shaping.missing_eos \(−1\): too few to tell\.$", said)


# ---- sentences about accuracies


@given(st.integers(1, 200), SHARES, SHARES, st.sampled_from(["reward_model", "direct"]))
def test_words_about_an_accuracy_hold_of_its_interval(prompts, right, longer, stage):
    found = wilson(round(right * prompts), prompts)
    summary = found.named("accuracy") | {"baseline_longer": longer, "baseline_shorter": 1 - longer}
    said = " ".join(sentences(run_of(stage, summary)))
    if prompts < 30:
        assert "too few to tell" in said
        assert not any(word in said for word in VERDICTS)
        return
    assert ("Under 65 %" in said) == (found.high < 0.65)
    assert ("Over 90 %" in said) == (found.low > 0.9)
    best = max(longer, 1 - longer)
    if "not clearly better" in said:
        assert found.low <= best + 1e-5
    if "is worse than that" in said:
        assert found.high < best


def test_three_pairs_of_which_all_are_right_are_three_pairs():
    """Seen: "100 % (100 to 100 %)", and "it may have memorised"."""
    summary = wilson(3, 3).named("accuracy") | {"prompts": 3}
    (said,) = sentences(run_of("reward_model", summary))
    assert "agrees with 100.0 % of the held-out comparisons (43 to 100 %, 3 prompts)" in said
    assert said.endswith("too few to tell.")


@given(st.integers(1, 200), SHARES, SHARES)
def test_words_about_rounds_hold_of_their_intervals(prompts, wins, head):
    rows = [
        Entry(0, "iterative", 0.0, {"win_rate": 0.5, "length": 20.0}),
        Entry(1, "iterative", 1.0, {"length": 40.0, "longer": 0.7, "kl": 30.0, "prompts": prompts}),
    ]
    rates = {"win_rate": wins, "win_rate_heldout": head}
    for name, rate in rates.items():
        rows[1].metrics.update(wilson(round(rate * prompts), prompts).named(name))
    said = sentences(run_of("iterative", {}, *rows))
    for sentence in said[:2]:
        value, low, high = map(
            read, re.findall(r"on ([\d.]+) %.*?\(([\d.]+)–([\d.]+) %\)", sentence)[0]
        )
        assert low <= value <= high
        if "beyond" in sentence:
            assert low > 50
        if "worse" in sentence:
            assert high < 50
        if "may be chance" in sentence:
            assert low <= 50 <= high
    if prompts < 30:
        assert all("too few to tell" in sentence for sentence in said)
        assert not any(word in " ".join(said) for word in VERDICTS)


# ---- one cause


def direct_stage(change, prompts, *alarms):
    metrics = {
        "val_logp_change_chosen": change,
        "val_units": float(prompts),
        "val_sampled_kl": 30.0,
    }
    metrics |= {"val_sampled_kl_units": float(prompts), "val_length_reward_correlation": 0.8}
    fired = [vars(Alarm(5, name, "warn", f"{name} says so.", "direct")) for name in alarms]
    return run_of("direct", {}, Entry(5, "direct", 1.0, metrics), alarms=fired)


def test_what_few_prompts_show_of_a_policy_is_shown_without_a_name():
    said = sentences(direct_stage(-9.0, 8))
    assert any("became 9.0 nats less likely (8 prompts, too few to tell)" in one for one in said)
    assert not any(word in " ".join(said) for word in VERDICTS)


def test_the_summary_names_what_no_alarm_contradicts():
    said = " ".join(sentences(direct_stage(-9.0, 200)))
    assert "likelihood displacement" in said
    same = " ".join(sentences(direct_stage(-9.0, 200, "likelihood_displacement")))
    assert same == said
    other = " ".join(sentences(direct_stage(-9.0, 200, "non_finite", "kl_too_high")))
    assert "displacement" not in other
    assert "Look first at the alarm of step 5: non_finite says so." in other


def test_a_reward_that_fell_points_at_the_alarm_that_explains_it_and_at_no_other():
    summary = {"reward_before": estimates(1.0, 0.1, 48), "reward_after": estimates(0.5, 0.1, 48)}
    names = ("length_drift", "answers_cut_off", "mode_collapse_words")
    fired = [vars(Alarm(9, name, "warn", f"{name} says so.", "ppo")) for name in names]
    said = sentences(run_of("ppo", summary, alarms=fired))
    assert said[-1] == "Look first at the alarm of step 9: answers_cut_off says so."
    assert "alarm" not in " ".join(sentences(run_of("ppo", summary)))
