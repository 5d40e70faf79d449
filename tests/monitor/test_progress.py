import io

import pytest
from rich.console import Console

from backflip.monitor import progress as progress_module
from backflip.monitor.progress import Progress, duration, headline


def console(*, terminal=False):
    return Console(file=io.StringIO(), force_terminal=terminal, width=120, color_system=None)


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when told to."""
    now = [0.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    return now


def run(screen, clock, *, steps=10, seconds=4.0, every=10.0, metrics=None, name="ppo", done=0):
    with Progress(screen, every=every) as progress:
        stage = progress.stage(name, total=steps, done=done)
        for step in range(done, steps):
            clock[0] += seconds
            stage.advance(metrics or {"reward": step / 10, "kl": 1.5, "policy_loss": 0.123})
    return screen.file.getvalue()


def test_without_a_terminal_there_is_a_line_every_few_seconds_and_one_at_the_end(clock):
    lines = run(console(), clock).splitlines()
    assert [line.split()[1] for line in lines] == ["1/10", "4/10", "7/10", "10/10"]


def test_a_line_shows_reward_kl_and_time_left_but_no_policy_loss(clock):
    first = run(console(), clock).splitlines()[0]
    assert first == "ppo 1/10  reward 0  kl 1.5 nats  36 s left"


def test_time_left_of_a_resumed_run_is_judged_by_this_sessions_steps(clock):
    first = run(console(), clock, steps=10, done=8).splitlines()[0]
    assert first.startswith("ppo 9/10")
    assert first.endswith("4 s left")


def test_a_number_not_measured_now_keeps_its_last_value(clock):
    screen = console()
    with Progress(screen, every=0.0) as progress:
        stage = progress.stage("reward_model", total=2)
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
