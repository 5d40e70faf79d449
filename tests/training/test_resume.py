"""Whatever happens to a run, it ends with the same bits."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import time
import warnings

import pytest
import torch

from backflip.errors import Interrupted, UserError
from backflip.training.checkpoints import CheckpointStore, restore
from backflip.training.driver import Best, load_best
from backflip.training.run_folder import RunFolder
from tests.training import little
from tests.training.little import EVERY, TOTAL, assert_same, child, go, logged, result

KINDS = ("sft", "ppo")


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What each kind of run gives when nothing happens to it."""
    found = {}

    def of(kind):
        if kind not in found:
            path = tmp_path_factory.mktemp("whole") / kind
            found[kind] = result(path, *go(kind, path))
        return found[kind]

    return of


@pytest.fixture(scope="module")
def apart():
    """Runs a little run in a process of its own and returns its exit code."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training.little"])

    def run(kind, path, plant, **settings):
        process = context.Process(target=child, args=(kind, path, plant), kwargs=settings)
        process.start()
        process.join(120)
        return process.exitcode

    return run


def steps(path):
    return CheckpointStore(path / "checkpoints").steps()


@pytest.mark.parametrize("kind", KINDS)
def test_killed_in_the_middle_of_a_step(kind, whole, apart, tmp_path):
    """Between the backward pass and the update of the step after a checkpoint, and of a first."""
    path = tmp_path / "run"
    inner = 4 if kind == "ppo" else 1
    for update in (1, inner * EVERY + 2):
        assert apart(kind, path, ("step", update)) == -signal.SIGKILL
    assert steps(path)[-1] >= EVERY - 1
    assert_same(result(path, *go(kind, path)), whole(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_every_call_to_the_disk_of_a_save(kind, whole, apart, tmp_path):
    """One process after the other dies one call later, until one survives the save.

    PPO, which takes longer, tries every fifth call.
    """
    kills = 0
    for call in range(0, 60, 1 if kind == "sft" else 5):
        path = tmp_path / str(call)
        code = apart(kind, path, ("save", 2 * EVERY, call))
        if code == 0:
            break
        assert code == -signal.SIGKILL
        before = [p.name for p in (path / "checkpoints").iterdir()]
        assert f"step_{EVERY:06d}" in before or f"step_{2 * EVERY:06d}" in before
        with warnings.catch_warnings():
            warnings.filterwarnings("error", ".* is damaged")
            assert_same(result(path, *go(kind, path)), whole(kind))
        assert not list((path / "checkpoints").glob(".tmp-*")), "a leftover stayed"
        kills += 1
    assert code == 0
    assert kills >= (8 if kind == "sft" else 2), "three files, two folders, folders made and moved"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_finishes_the_step_saves_and_says_how_to_go_on(kind, name, whole, tmp_path):
    path = tmp_path / "my run"
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(Interrupted, match=f"{name}: .* step 4 of 7.*backflip resume '.*my run'"):
        go(kind, path, ("signal", 4, name))
    assert steps(path)[-1] == 4
    assert handlers == [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    assert_same(result(path, *go(kind, path)), whole(kind))


def test_a_signal_in_every_single_step(whole, tmp_path):
    for _ in range(TOTAL):
        with pytest.raises(Interrupted):
            go("sft", tmp_path / "run", ("signal", 1, "SIGTERM"))
    end = go("sft", tmp_path / "run")
    assert_same(result(tmp_path / "run", *end), whole("sft"))


def test_a_second_sigint_leaves_at_once_and_is_still_safe(whole, tmp_path):
    path = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        go("sft", path, ("signal", 5, "SIGINT+SIGINT"))
    assert steps(path)[-1] == 4
    assert_same(result(path, *go("sft", path)), whole("sft"))


def test_a_second_sigterm_does_not_disturb_the_save(tmp_path):
    """Supervisors tend to send it more than once."""
    with pytest.raises(Interrupted):
        go("sft", tmp_path / "run", ("signal", 5, "SIGTERM+SIGTERM"))
    assert steps(tmp_path / "run")[-1] == 5


def test_works_off_the_main_thread(whole, tmp_path):
    """Where Python lets nobody set a signal handler."""
    ends = []
    thread = threading.Thread(target=lambda: ends.append(go("sft", tmp_path / "run")))
    thread.start()
    thread.join()
    assert_same(result(tmp_path / "run", *ends[0]), whole("sft"))


def test_every_random_generator_goes_on_where_it_stood(apart, tmp_path):
    """In other processes: here, the checker of types draws from Python's generator too."""
    assert apart("dice", tmp_path / "whole", None) == 0
    assert apart("dice", tmp_path / "run", ("signal", 4, "SIGTERM")) == 130
    assert len(logged(tmp_path / "run")) == 4
    assert apart("dice", tmp_path / "run", None) == 0
    assert logged(tmp_path / "run") == logged(tmp_path / "whole")
    assert len(logged(tmp_path / "run")) == TOTAL


def test_a_finished_drive_is_not_done_again(whole, tmp_path):
    """A run that dies while its model is written takes no step when it is resumed."""
    go("sft", tmp_path / "run")
    again = go("sft", tmp_path / "run", ("signal", 1, "SIGKILL"))
    assert_same(result(tmp_path / "run", *again), whole("sft"))


def test_a_run_that_was_stopped_stays_stopped(tmp_path):
    outcome, _ = go("sft", tmp_path / "run", stop_at=5)
    assert (outcome.steps, outcome.stopped) == (5, "enough of it")
    assert "val_loss" in outcome.metrics, "validated at its end, though step 5 was not due"
    assert logged(tmp_path / "run")[-1] == (5, {"val_loss": outcome.metrics["val_loss"]})
    assert go("sft", tmp_path / "run")[0] == outcome


def test_validation_comes_every_so_often_and_at_the_end(whole):
    assert [step for step, m in whole("sft")[1] if "val_loss" in m] == [2, 4, 6, 7]


def test_a_cut_checkpoint_is_passed_over_with_a_warning(whole, tmp_path):
    path = tmp_path / "run"
    with pytest.raises(Interrupted):
        go("sft", path, ("signal", 5, "SIGTERM"))
    last = path / "checkpoints" / "step_000005" / "state.pt"
    os.truncate(last, last.stat().st_size - 7)
    with pytest.warns(UserWarning, match=r"step_000005 is damaged.*state.pt has .* bytes"):
        end = go("sft", path)
    assert_same(result(path, *end), whole("sft"))


def test_retention_keeps_the_newest_and_the_best(whole, tmp_path):
    """val_loss rises from step 2 on, so 2 is best; of 3, 4, 6 and 7 the newest two stay."""
    path, values = tmp_path / "run", iter([1.0, 2.0, 3.0, 4.0])
    outcome, modules = go("sft", path, assess=lambda step: {"val_loss": next(values)})
    assert steps(path) == [2, 6, 7]
    assert (outcome.best_step, outcome.best_value) == (2, 1.0)
    _, at_two = go("sft", tmp_path / "short", total=2, assess=None)
    assert load_best(RunFolder.open(path), modules) == 2
    for one, other in zip(
        modules["policy"].parameters(), at_two["policy"].parameters(), strict=True
    ):
        assert torch.equal(one, other)


def test_the_best_is_forgotten_when_a_better_one_comes(tmp_path):
    values = iter([float("nan"), 3.0, 1.0, 2.0])
    outcome, _ = go("sft", tmp_path / "run", assess=lambda step: {"val_loss": next(values)})
    assert outcome.best_step == 6
    assert steps(tmp_path / "run") == [6, 7]


def test_a_checkpoint_that_does_not_beat_the_start_is_not_the_best(tmp_path):
    values = iter([3.0, 2.0, 1.0, 4.0])
    best = Best("val_loss", higher=False, start=1.0)
    path = tmp_path / "run"
    outcome, modules = go("sft", path, best=best, assess=lambda step: {"val_loss": next(values)})
    assert outcome.best_step is None
    assert load_best(RunFolder.open(path), modules) is None
    assert not Best("x", start=1.0).improved({"x": 1.0}, None)
    assert Best("x", start=1.0).improved({"x": 1.1}, None)
    assert Best("x", start=float("nan")).improved({"x": 1.1}, None)


def test_without_a_best_checkpoint_the_weights_stay(tmp_path):
    outcome, modules = go("dice", tmp_path / "run")
    assert outcome.best_step is None
    assert load_best(RunFolder.open(tmp_path / "run"), modules) is None


def test_a_checkpoint_of_another_stage_or_model_is_refused(tmp_path):
    with pytest.raises(Interrupted):
        go("sft", tmp_path / "run", ("signal", 1, "SIGTERM"))
    with pytest.raises(UserError, match="of stage sft, this is dice"):
        go("dice", tmp_path / "run")
    run = RunFolder.open(tmp_path / "run")
    go("dice", tmp_path / "dice", total=1)
    latest = RunFolder.open(tmp_path / "dice").checkpoints.latest()
    with pytest.raises(UserError, match="of another model: 2 of 2 tensors differ"):
        restore(torch.nn.Linear(2, 3), latest.weights("nothing"), latest.path)
    assert run.latest_step() == 1


def test_data_that_ends_too_early_is_said(tmp_path):
    with pytest.raises(UserError, match="ended after 12 of 13 steps"):
        go("sft", tmp_path / "run", total=13)


def test_two_processes_cannot_train_in_one_folder(tmp_path):
    """The second is another process: a lock of this one would let itself in."""
    path = tmp_path / "run"
    RunFolder.create(path, "stage: x")
    context = multiprocessing.get_context("forkserver")
    ready, leave = context.Event(), context.Event()
    process = context.Process(target=little.hold, args=(path, ready, leave))
    process.start()
    assert ready.wait(60)
    with pytest.raises(UserError, match=f"in use by process {process.pid} .* run="):
        go("sft", path)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    go("sft", path, total=1)  # The lock died with its holder.


def test_another_environment_is_pointed_out(tmp_path):
    path = tmp_path / "run"
    go("sft", path, total=1)
    was = json.loads((path / "environment.json").read_text())
    assert was["torch"] == torch.__version__
    assert was["threads"] == 1
    (path / "environment.json").write_text(json.dumps(was | {"threads": 64}))
    with pytest.warns(UserWarning, match="threads was 64 and is 1 now.*not to the same bits"):
        go("sft", path, total=2)
    (path / "environment.json").write_text(json.dumps(was))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        go("sft", path, total=3)


def test_numbers_of_a_step_do_not_hold_up_time(tmp_path):
    """Steps done twice are written once, with the clock going on."""
    path = tmp_path / "run"
    with pytest.raises(Interrupted):
        go("sft", path, ("signal", 5, "SIGTERM"))
    time.sleep(0.01)
    go("sft", path)
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, TOTAL + 1))
    times = [line["time"] for line in lines]
    assert times == sorted(times)
