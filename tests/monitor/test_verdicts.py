"""Verdicts of programs in a run's summary."""

from __future__ import annotations

from typing import Any

from backflip.monitor.folder import read_run
from backflip.monitor.log import MetricsLog
from backflip.monitor.rules.answers import FailedChecks, FarSampler
from backflip.monitor.run import Stage
from backflip.monitor.views import view_of
from backflip.monitor.views.accuracy import accuracy_panels, verdict_sentences
from tests.monitor.folders import entries


def said(**columns: list[float | None]) -> str:
    return " ".join(verdict_sentences(Stage("online", entries("online", **columns), [], [], {})))


def test_verdicts_are_counted_over_the_steps():
    """8 and 16 answers; of the second step's 20, four had no score."""
    assert said(
        answers=[8, 16],
        reward_correct=[0.25, 0.5],
        reward_incorrect=[0.75, None],
        reward_unparsable=[None, 0.5],
        unscored=[None, 0.2],
        reward_error=[None, 0.05],
        reward_timeout=[None, 0.15],
    ) == (
        "Verdicts on the 24 answers learnt from: 10 correct, 6 incorrect, 8 unparsable; "
        "checks that were not made: 1 error, 3 timeout."
    )


def test_shares_of_being_right_are_counted_apart_and_rewards_without_verdicts_say_nothing():
    assert said(answers=[8], reward_correct=[0.5]) == (
        "Verdicts on the 8 answers learnt from: 4 correct, 0 incorrect, 0 unparsable, "
        "4 scored by a number."
    )
    assert said(answers=[8], reward=[0.5]) == ""


def test_a_step_in_which_no_answer_had_a_verdict_counts_all_the_same(tmp_path):
    """Two of three steps of a reward that also gives numbers have no verdict among their answers:
    shares of none are 0, in the picture as in the sentence, whether or not the log has them.
    """
    log = MetricsLog(tmp_path)
    for step, verdicts in enumerate([{}, {"reward_correct": 0.25}, {}], start=1):
        log.append(step, "online", {"reward": 0.5, "answers": 8.0} | verdicts)
    log.close()
    (stage,) = read_run(tmp_path).stages
    assert verdict_sentences(stage)[0] == (
        "Verdicts on the 24 answers learnt from: 2 correct, 0 incorrect, 0 unparsable, "
        "22 scored by a number."
    )
    drawn = next(panel for panel in accuracy_panels(stage) if panel.title == "Verdicts")
    assert stage.series("reward_correct") == ([1, 2, 3], [0, 0.25, 0])
    assert stage.series("reward_incorrect")[1] == [0, 0, 0]
    (between,) = (name for name, label in drawn.metrics.items() if label == "scored by a number")
    assert stage.series(between)[1] == [1, 0.75, 1]


def test_programs_that_take_too_long_and_score_are_no_numbers_between():
    assert said(
        answers=[10], reward_correct=[0.5], reward_timeout=[0.5], answers_drawn=[10], reward=[0.5]
    ) == (
        "Verdicts on the 10 answers learnt from: 5 correct, 0 incorrect, 0 unparsable; "
        "checks that were not made: 5 timeout, of which 5 have a score all the same."
    )


def test_checks_that_fail_ring_with_their_count():
    """38 of 100 in five steps; a tenth and less is silent, and so is what a run begins with."""
    often = entries("online", reward=[0.1] * 5, answers=[20.0] * 5, reward_timeout=[0.38] * 5)
    alarm = FailedChecks().check(often)
    assert alarm is not None
    assert "38 % of the checks of the last 5 steps failed (38 timeout, of 100 answers)" in (
        alarm.sentence
    )
    assert FailedChecks().check(often[:4]) is None
    seldom = entries("online", reward=[0.1] * 5, answers=[20.0] * 5, reward_error=[0.1] * 5)
    assert FailedChecks().check(seldom) is None


def test_a_sampler_far_from_the_learner_rings_with_what_to_do():
    near = entries("online", sampler_gap=[0.02] * 5, effective_share=[0.9] * 5, lag=[2.0] * 5)
    assert FarSampler().check(near) is None
    older = entries("online", sampler_gap=[0.09] * 5, effective_share=[0.9] * 5, lag=[2.0] * 5)
    assert FarSampler().check(older) is None, "older answers are far by nature, and weighed"
    old = entries("online", sampler_gap=[0.4] * 5, effective_share=[0.31] * 5, lag=[8.0] * 5)
    assert FarSampler().check(old[:4]) is None
    alarm = FarSampler().check(old)
    assert alarm is not None
    assert "worth 31 % of as many equal ones" in alarm.sentence
    assert "fewer steps ahead" in alarm.sentence
    other = entries("online", sampler_gap=[0.09] * 5, effective_share=[0.9] * 5)
    alarm = FarSampler().check(other)
    assert alarm is not None
    assert "0.090 nats a token from the learner's" in alarm.sentence
    assert "See that the engine has the policy's weights" in alarm.sentence
    usual: dict[str, Any] = {"sampler_gap": [0.02] * 5, "effective_share": [0.9] * 5}
    usual |= {"lag": [1.0] * 5, "correction_held": [0.2] * 5, "sampler_kl": [0.01] * 5}
    assert FarSampler().check(entries("online", **usual)) is None
    for more, words in (
        ({"correction_held": [0.4] * 5}, "weights of 40 % of the choices were cut or dropped"),
        ({"sampler_kl": [0.3] * 5}, "was 0.30 nats a token from the sampler"),
    ):
        alarm = FarSampler().check(entries("online", **usual | more))
        assert alarm is not None
        assert words in alarm.sentence


def test_rounds_and_short_steps_of_a_curriculum_are_counted():
    columns = {"reward": [0.5] * 4, "answers": [16, 12, 16, 8], "rounds": [1, 3, 2, 3]}
    columns |= {"prompts_short": [None, 1, 0, 2]}
    stage = Stage("online", entries("online", **columns), [], [], {})
    assert (
        "Of 4 steps, 1 drew 1 round, 1 drew 2 rounds, 2 drew 3 rounds; 2 stayed short "
        "all the same, by 3 prompts in all, and learnt from fewer answers (52 in 4 steps)."
    ) in view_of("online").sentences(stage)
    once = Stage("online", entries("online", reward=[0.5], answers=[16], rounds=[1]), [], [], {})
    assert not any("round" in line for line in view_of("online").sentences(once))
