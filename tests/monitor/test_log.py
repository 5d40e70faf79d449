import errno
import json
import math

import pytest
import torch

from backflip.errors import UserError
from backflip.monitor import log as log_module
from backflip.monitor.log import ALARMS, METRICS, SAMPLES, Alarm, MetricsLog, read_metrics


def test_what_is_written_is_read_back(tmp_path):
    log = MetricsLog(tmp_path)
    log.append(1, "sft", {"loss": 2.5, "val_loss": torch.tensor(3.5)})
    log.append(2, "sft", {"loss": 2.0})
    read = read_metrics(tmp_path)
    assert [(e.step, e.stage, dict(e.metrics)) for e in read] == [
        (1, "sft", {"loss": 2.5, "val_loss": 3.5}),
        (2, "sft", {"loss": 2.0}),
    ]
    assert [e.metrics for e in log.history] == [e.metrics for e in read]
    assert 0 <= read[0].time <= read[1].time


@pytest.mark.parametrize("bytes_lost", [1, 2, 20, 60])
def test_a_half_written_last_line_is_dropped_and_the_next_one_is_whole(tmp_path, bytes_lost):
    log = MetricsLog(tmp_path)
    for step in (1, 2, 3):
        log.append(step, "ppo", {"reward": float(step), "kl": 0.5})
    path = tmp_path / METRICS
    path.write_bytes(path.read_bytes()[:-bytes_lost])
    assert [e.step for e in read_metrics(tmp_path)] == [1, 2]
    MetricsLog(tmp_path).append(3, "ppo", {"reward": 7.0})
    assert [(e.step, e.metrics["reward"]) for e in read_metrics(tmp_path)] == [
        (1, 1.0),
        (2, 2.0),
        (3, 7.0),
    ]


def test_a_resumed_run_has_no_doubles(tmp_path):
    log = MetricsLog(tmp_path)
    for step in range(1, 7):
        log.append(step, "ppo", {"reward": float(step)})
        log.samples(step, [{"prompt": "p", "answer": "a", "score": 0.0}])
    log.alarms([Alarm(5, "kl_too_high", "warn", "far", "ppo")])
    resumed = MetricsLog(tmp_path)
    resumed.truncate_after(4)
    assert [e.step for e in resumed.history] == [1, 2, 3, 4]
    assert (tmp_path / ALARMS).read_text() == ""
    for step in range(5, 7):
        resumed.append(step, "ppo", {"reward": -1.0})
        resumed.samples(step, [{"prompt": "p", "answer": "a", "score": 0.0}])
    assert [e.step for e in read_metrics(tmp_path)] == [1, 2, 3, 4, 5, 6]
    lines = [json.loads(line) for line in (tmp_path / SAMPLES).read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]


def test_truncating_one_stage_leaves_the_others(tmp_path):
    log = MetricsLog(tmp_path)
    for stage in ("sft", "ppo"):
        for step in (1, 2, 3):
            log.append(step, stage, {"loss": 1.0})
    log.truncate_after(1, stage="ppo")
    kept = [(e.stage, e.step) for e in read_metrics(tmp_path)]
    assert kept == [("sft", 1), ("sft", 2), ("sft", 3), ("ppo", 1)]


def test_time_goes_on_where_the_checkpoint_left_it(tmp_path):
    line = {"step": 1, "stage": "ppo", "time": 1000.0, "metrics": {}}
    (tmp_path / METRICS).write_text(json.dumps(line) + "\n")
    assert 1000 <= MetricsLog(tmp_path).append(2, "ppo", {}).time < 1010


def test_numbers_that_are_not_finite_stay_valid_json_and_come_back_as_nan(tmp_path):
    MetricsLog(tmp_path).append(1, "ppo", {"loss": math.nan, "grad_norm": math.inf, "kl": 1.0})

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    json.loads((tmp_path / METRICS).read_text(), parse_constant=refuse)
    metrics = read_metrics(tmp_path)[0].metrics
    assert math.isnan(metrics["loss"])
    assert math.isnan(metrics["grad_norm"])
    assert metrics["kl"] == 1.0


def test_a_damaged_line_in_the_middle_is_named(tmp_path):
    good = '{"step": 1, "stage": "ppo", "time": 0, "metrics": {}}\n'
    (tmp_path / METRICS).write_text(good + '{"step": 2, "sta\n' + good)
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 2"):
        read_metrics(tmp_path)
    (tmp_path / METRICS).write_text(good + '{"stage": "ppo"}\n' + good)
    with pytest.raises(UserError, match=r"metrics\.jsonl, entry 2"):
        read_metrics(tmp_path)


def test_a_full_disk_loses_nothing_and_says_what_to_do(tmp_path, monkeypatch):
    log = MetricsLog(tmp_path)
    log.append(1, "ppo", {"reward": 1.0})
    before = (tmp_path / METRICS).read_bytes()
    real = type(tmp_path).open

    class Full:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, data):
            self.file.write(bytes(data[:10]))
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(
        log_module.Path, "open", lambda self, *a, **k: Full(real(self, *a, **k)), raising=True
    )
    with pytest.raises(UserError, match=r"disk is full.*backflip resume"):
        log.append(2, "ppo", {"reward": 2.0})
    monkeypatch.undo()
    assert (tmp_path / METRICS).read_bytes() == before
