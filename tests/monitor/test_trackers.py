"""Metrics that go elsewhere, with the real packages and their files on this machine."""

import json
import math
import sqlite3
import sys
import types
import warnings

import pytest

from backflip.errors import UserError
from backflip.monitor.log import MetricsLog
from backflip.monitor.trackers import open_trackers

RECIPE = {"model": "tiny", "optimizer": {"lr": 1e-4}}


def trained_and_resumed(tracker, folder):
    """Two steps, an end, and a third step after resuming; one number is not finite."""
    log = MetricsLog(folder, trackers=open_trackers([tracker], folder, RECIPE))
    log.append(1, "dpo", {"loss": 0.75, "kl": math.nan})
    log.append(2, "dpo", {"loss": 0.5, "kl": 1.0})
    log.close()
    log = MetricsLog(folder, trackers=open_trackers([tracker], folder, RECIPE))
    log.append(3, "dpo", {"loss": 0.25, "odd (name)": 1.0})
    log.close()


def test_mlflow_has_one_run_with_its_settings_and_every_finite_number(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    mlflow.set_tracking_uri(None)
    trained_and_resumed("mlflow", tmp_path / "careful")
    trained_and_resumed("mlflow", tmp_path / "bold")
    client = mlflow.tracking.MlflowClient()
    experiment = client.get_experiment_by_name("backflip")
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.info.run_name for run in runs) == ["bold", "careful"]
    for run in runs:
        points = client.get_metric_history(run.info.run_id, "dpo/loss")
        assert [(p.step, p.value) for p in points] == [(1, 0.75), (2, 0.5), (3, 0.25)]
        assert [p.step for p in client.get_metric_history(run.info.run_id, "dpo/kl")] == [2]
        assert run.data.params["optimizer.lr"] == "0.0001"
        assert run.info.status == "FINISHED"


def test_trackio_has_one_run_with_every_finite_number(tmp_path, monkeypatch):
    pytest.importorskip("trackio")
    storage = pytest.importorskip("trackio.sqlite_storage").SQLiteStorage
    for name in ("trackio.utils", "trackio.sqlite_storage"):
        monkeypatch.setattr(f"{name}.TRACKIO_DIR", tmp_path / "trackio")
    trained_and_resumed("trackio", tmp_path / "careful")
    (run,) = storage.get_runs("backflip")
    assert run.startswith("careful-")
    rows = [r for r in storage.get_logs("backflip", run) if "dpo/loss" in r]
    assert [(r["step"], r["dpo/loss"]) for r in rows] == [(1, 0.75), (2, 0.5), (3, 0.25)]
    assert [r["step"] for r in rows if "dpo/kl" in r] == [2]


def test_a_tracker_that_fails_on_the_way_ends_its_record_and_not_the_run(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    log = MetricsLog(tmp_path, trackers=open_trackers(["mlflow"], tmp_path, RECIPE))
    log.append(1, "dpo", {"loss": 0.75})
    with sqlite3.connect(tmp_path / "mlflow.db") as base:
        base.execute("DROP TABLE metrics")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        log.append(2, "dpo", {"loss": 0.5})
        log.append(3, "dpo", {"loss": 0.25})
        log.close()
    ours = [str(w.message) for w in said if "mlflow takes no more metrics" in str(w.message)]
    assert len(ours) == 1
    assert "from step 2 on" in ours[0]
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").open()]
    assert steps == [1, 2, 3]


def test_a_tracker_that_cannot_be_opened_is_said_in_one_line(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    (tmp_path / "mlflow.db").write_text("no database")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(UserError, match="mlflow does not take the run: ") as said:
        open_trackers(["mlflow"], tmp_path / "run", RECIPE)
    assert "\n" not in str(said.value)


def test_tensorboard_gets_every_finite_number(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = MetricsLog(tmp_path, trackers=open_trackers(["tensorboard"], tmp_path, {"lr": 1e-4}))
    log.append(1, "ppo", {"reward": 0.25, "kl": math.nan})
    log.append(2, "ppo", {"reward": 0.5, "kl": 1.0})
    log.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("ppo/reward")] == [(1, 0.25), (2, 0.5)]
    assert [e.step for e in events.Scalars("ppo/kl")] == [2]


def test_wandb_gets_steps_of_each_stage_as_their_own_axis(tmp_path, monkeypatch):
    calls = []

    given = []

    class Run:
        def define_metric(self, name, step_metric=None):
            calls.append(("define", name, step_metric))

        def log(self, values):
            calls.append(("log", values))

        def finish(self):
            calls.append(("finish",))

    fake = types.ModuleType("wandb")
    fake.init = lambda **settings: given.append(settings) or Run()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    log = MetricsLog(tmp_path, trackers=open_trackers(["wandb"], tmp_path))
    log.append(3, "ppo", {"reward": 0.5, "kl": math.inf})
    log.close()
    assert ("define", "ppo/*", "ppo/step") in calls
    assert calls[-2:] == [("log", {"ppo/step": 3, "ppo/reward": 0.5}), ("finish",)]
    open_trackers(["wandb"], tmp_path)
    open_trackers(["wandb"], tmp_path / "other")
    ids = [settings["id"] for settings in given]
    assert ids[0] == ids[1] != ids[2], "a run that is resumed goes on as the same run there"
    assert all(settings["resume"] == "allow" for settings in given)


def test_a_tracker_that_is_missing_says_how_to_install_it(tmp_path, monkeypatch):
    for name in ("wandb", "mlflow", "trackio"):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(UserError, match=rf'pip install "backflip\[{name}\]"'):
            open_trackers([name], tmp_path)
    with pytest.raises(UserError, match="did you mean 'tensorboard'"):
        open_trackers(["tensorbord"], tmp_path)
