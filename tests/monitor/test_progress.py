import io
import os
import signal
import time

import pytest
from rich.console import Console

from backflip.monitor import progress as progress_module
from backflip.monitor.progress import Progress, amount, headline, line
from backflip.monitor.views import view_of
from backflip.progress import Task, each, task
from backflip.text import duration
from backflip.training.signals import Signals


def console(*, terminal=False, width=120):
    return Console(file=io.StringIO(), force_terminal=terminal, width=width, color_system=None)


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when told to."""
    now = [0.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    return now


def run(screen, clock, *, steps=10, seconds=4.0, every=10.0, metrics=None, name="ppo", done=0):
    with Progress(screen, every=every) as progress:
        shown = view_of(name).headlines
        stage = progress.stage(name, total=steps, done=done, headlines=shown)
        for step in range(done, steps):
            clock[0] += seconds
            stage.advance(metrics or {"reward": step / 10, "kl": 1.5, "policy_loss": 0.123})
    return screen.file.getvalue()


def test_without_a_terminal_there_is_a_line_every_few_seconds_and_one_at_the_end(clock):
    lines = run(console(), clock).splitlines()
    assert [line.split()[1] for line in lines] == ["1/10", "4/10", "7/10", "10/10"]


def test_a_line_shows_reward_kl_and_time_left_but_no_policy_loss(clock):
    first = run(console(), clock).splitlines()[0]
    assert first == "ppo 1/10 (10 %)  reward 0  kl 1.5 nats  36 s left"


def test_time_left_of_a_resumed_run_is_judged_by_this_sessions_steps(clock):
    first = run(console(), clock, steps=10, done=8).splitlines()[0]
    assert first.startswith("ppo 9/10")
    assert first.endswith("4 s left")


def test_a_number_not_measured_now_keeps_its_last_value(clock):
    screen = console()
    with Progress(screen, every=0.0) as progress:
        stage = progress.stage("reward_model", total=2, headlines=("loss", "val_accuracy"))
        stage.advance({"loss": 0.5, "val_accuracy": 0.7})
        stage.advance({"loss": 0.4})
    assert "loss 0.4  val. accuracy 70 %" in screen.file.getvalue().splitlines()[1]


def test_a_terminal_gets_bars_with_the_same_numbers(clock):
    shown = run(console(terminal=True), clock, name="sft", metrics={"loss": 1.25})
    assert "sft" in shown
    assert "10/10" in shown
    assert "loss 1.25" in shown


def test_metrics_and_sentences_are_not_read_as_markup(clock):
    screen = console()
    with Progress(screen) as progress:
        progress.say("[bold]KL[/] is 21")
    assert screen.file.getvalue() == "[bold]KL[/] is 21\n"


def test_parts_of_a_stage_share_its_clock_and_quick_ones_are_not_told(clock):
    screen = console()
    with Progress(screen, every=10.0) as progress:
        stage = progress.stage("sft", total=3, headlines=("loss",))
        clock[0] += 4
        stage.advance({"loss": 2.0})
        with task("validation", 20, "rows") as validation:
            for _ in range(4):
                clock[0] += 4
                validation.advance()
        with task("saving") as saving:
            clock[0] += 1
            saving.advance()
    assert screen.file.getvalue().splitlines() == [
        "sft 1/3 (33 %)  loss 2  8 s left",
        "sft 1/3 (33 %)  loss 2  32 s left: validation 3/20 rows (15 %)  1 min 8 s left",
        "sft 1/3 (33 %)  loss 2",
    ]


def test_lines_that_say_nothing_new_come_ever_later_and_one_of_one_is_not_told(clock):
    screen = console()
    with Progress(screen, every=10.0) as progress:
        progress.stage("sft", total=4, headlines=())
        with task("learning", 1, "micro-batches"):
            for _ in range(300):
                clock[0] += 1
                progress.look()
    told = screen.file.getvalue().splitlines()
    assert [line.split("  ")[1] for line in told[:4]] == [
        "10 s so far",
        "20 s so far",
        "40 s so far",
        "1 min 20 s so far",
    ]
    assert all(line.startswith("sft 0/4 (0 %)") for line in told)


def test_something_that_nobody_counts_is_told_while_it_lasts():
    """By a thread of its own: whoever loads a model comes back when it is loaded."""
    screen = console()
    with Progress(screen, every=0.2), task("loading m") as loading:
        loading.began -= 30
        time.sleep(1.0)
    assert "loading m  31 s so far" in screen.file.getvalue()


def test_no_line_is_wider_than_the_terminal_and_none_is_broken():
    for width in (30, 50, 79, 120):
        screen = console(terminal=True, width=width)
        progress = Progress(screen)
        for label in ("reward model", "answering the held-out prompts of the last round"):
            made = Task(label, 12_000, "answers", done=77, lasting=True)
            made.numbers = "loss 0.693  accuracy 50 %  val. accuracy 51 %"
            progress.begin(made)
        drawn = screen.render_lines(progress._drawn(), pad=False)
        assert len(drawn) == 2
        room = width - len("^C")  # which a terminal writes behind it
        assert all(sum(segment.cell_length for segment in row) <= room for row in drawn)


def test_one_stage_and_one_part_of_it_are_drawn_however_many_are_nested(clock):
    progress = Progress(console(terminal=True))
    with progress, task("ppo", 4, lasting=True), task("outer", 3):
        clock[0] += 5
        with task("inner", 3):
            assert len(progress._drawn().renderables) == 2
            assert progress._current().label == "outer"
            clock[0] += 5
            assert progress._current().label == "inner"


def test_a_stage_that_was_stopped_leaves_its_last_line(clock):
    screen = console(terminal=True)
    with Progress(screen) as progress:
        stage = progress.stage("ppo", total=40, headlines=("reward", "kl"))
        clock[0] += 2
        stage.advance({"reward": 1.0, "kl": 21.0})
    assert "ppo 1/40 (2 %)  reward 1  kl 21 nats\n" in screen.file.getvalue()


def test_without_a_listener_a_task_only_counts():
    with task("reading") as reading:
        assert list(each([3, 4], "rows")) == [3, 4]
        reading.reach(7, 10)
    assert (reading.done, reading.share) == (7, 0.7)


def test_time_left_of_what_is_asked_for_its_position(clock):
    """As a file that is being read is: nobody counts its bytes row by row."""
    made = Task("reading rows.jsonl", 40_000_000, "bytes", position=lambda: 10_000_000)
    clock[0] += 10
    assert line(made) == "reading rows.jsonl 10.0/40.0 MB (25 %)  30 s left"


def test_counts_have_shares_only_where_the_total_is_known():
    assert amount(Task("x", None, "rows", done=1200)) == "1,200 rows"
    assert amount(Task("x", 1200, "rows", done=1200)) == "1,200/1,200 rows"
    assert amount(Task("x", 1200, "rows", done=1199)) == "1,199/1,200 rows (99 %)"
    assert amount(Task("x")) == ""


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (59.4, "59 s"), (60, "1 min 0 s"), (448, "7 min 28 s"), (7500, "2 h 5 min")],
)
def test_durations(seconds, said):
    assert duration(seconds) == said


def test_headlines_carry_their_units():
    assert headline("kl", 3.14159) == "kl 3.14 nats"
    assert headline("val_accuracy", 0.714) == "val. accuracy 71 %"
    assert headline("reward_heldout", 0.5) == "held-out 0.5"
    assert headline("kl", -3e-8) == "kl 0 nats"
    assert headline("accuracy", float("nan")) == "accuracy nan"


def test_what_a_program_reads_is_not_mixed_with_progress(capsys, clock):
    """``--json`` goes to stdout, and how far it is to stderr."""
    with progress_module.shown(aside=True), task("scoring", 10, "answers") as scoring:
        clock[0] += 20
        scoring.advance()
        with progress_module.shown(aside=True), task("more") as more:
            clock[0] += 20
            more.advance()
    out, error = capsys.readouterr()
    assert out == ""
    assert error.splitlines() == [
        "scoring 1/10 answers (10 %)  3 min 0 s left",
        "more 1  20 s so far",
    ]


def test_ctrl_c_is_heard_below_the_bars_and_does_not_write_over_them(capfd):
    """Written past the bars, the sentence would be drawn over, and half a bar left behind."""
    progress = Progress(console(terminal=True, width=50))
    with progress, task("ppo", 4, lasting=True), Signals():
        os.kill(os.getpid(), signal.SIGTERM)
        shown = progress._console.render_lines(progress._drawn(), pad=False)
    assert len(shown) == 2
    assert "finishing this step" in "".join(segment.text for segment in shown[1])
    assert "finishing" not in capfd.readouterr().err


def test_without_bars_ctrl_c_is_heard_on_stderr(capfd):
    with Progress(console()), Signals():
        os.kill(os.getpid(), signal.SIGTERM)
    assert capfd.readouterr().err.strip().startswith("finishing this step")


def test_a_sentence_breaks_between_words_in_a_terminal_and_nowhere_else():
    said = "setting the scale of the scores on 64 answers"
    for terminal, lines in ((True, 2), (False, 1)):
        screen = console(terminal=terminal, width=30)
        Progress(screen).say(said)
        shown = screen.file.getvalue().splitlines()
        assert len(shown) == lines
        assert " ".join(line.strip() for line in shown) == said
    screen = console(terminal=True, width=30)
    Progress(screen).say("/a/path/that/is/longer/than/the/terminal is one")
    assert "/a/path/that/is/longer/than/the/terminal is one" in screen.file.getvalue()
