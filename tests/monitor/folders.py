"""Small run folders for the tests of the monitor."""

from __future__ import annotations

import json

from backflip.monitor.log import Entry, MetricsLog


def entries(stage="ppo", **columns):
    """A history from columns of numbers; None where a step did not measure."""
    length = max(len(values) for values in columns.values())
    return [
        Entry(i + 1, stage, float(i), {k: v[i] for k, v in columns.items() if v[i] is not None})
        for i in range(length)
    ]


def reward_model_run(folder):
    log = MetricsLog(folder)
    for step in range(1, 6):
        log.append(step, "reward_model", {"loss": 0.7 - 0.05 * step, "accuracy": 0.5 + 0.05 * step})
    log.close()
    points = [{"confidence": 0.6, "accuracy": 0.55, "count": 10}]
    summary = {"accuracy": 0.7321, "accuracy_low": 0.62, "accuracy_high": 0.83, "ece": 0.061}
    summary |= {"prompts": 80, "baseline_longer": 0.5678}
    save(folder / "summary.json", summary | {"reliability": points})
    return folder


def ppo_run(folder, *, text="a plain answer", kl_coef=0.05, steps=30):
    log = MetricsLog(folder)
    for step in range(1, steps + 1):
        metrics = {"reward": step / 30, "kl": step / 4, "entropy": 2.0, "length": 30.0}
        log.append(step, "ppo", metrics | {"an_unforeseen_metric": 1.0 * step})
        log.samples(step, [{"prompt": "Why?", "answer": f"{text} {step}", "score": step / 30}])
    log.close()
    interval = {"low": -0.1, "high": 0.3, "units": 48}
    summary = {
        "reward_before": {"mean": 0.11, **interval},
        "reward_after": {"mean": 1.23, "low": 1.01, "high": 1.45, "units": 48},
        "kl_after": 7.65,
        "seconds": 200,
        "examples": [
            {
                "prompt": text,
                "before": text + " before",
                "after": text + " after",
                "score_before": -0.5,
                "score_after": 1.5,
            }
        ],
    }
    save(folder / "summary.json", summary)
    save(folder / "environment.json", {"torch": "2.13.0", "note": text})
    (folder / "recipe.yaml").write_text(f"method: ppo\nkl_coef: {kl_coef}\n", encoding="utf-8")
    return folder


def direct_metrics(p, fall):
    """Metrics of a step of the direct family, where ``p`` of the stage is over."""
    return {
        "loss": 0.69 - 0.2 * p,
        "accuracy": 0.5 + 0.25 * p,
        "margin": 0.9 * p,
        "separated": 0.3 * p,
        "reward_chosen": 0.1 * fall * p,
        "reward_rejected": 0.1 * fall * p - 0.9 * p,
        "logp_chosen": -120.0 + fall * p,
        "logp_rejected": -130.0 + fall * p - 9 * p,
        "logp_change_chosen": fall * p,
        "logp_change_rejected": fall * p - 9 * p,
        "length_chosen": 60.0,
        "length_rejected": 80.0,
        "length_reward_correlation": -0.3 * p,
        "grad_norm": 2.0,
    }


def direct_run(folder, *, steps=60, objective="dpo", fall=-3.1, **summary):
    """A run of the direct family, validated every tenth step; ``fall``: of the chosen, in nats."""
    log = MetricsLog(folder)
    for step in range(1, steps + 1):
        p = step / steps
        metrics = direct_metrics(p, fall)
        if step % 10 == 0:
            watched = ("loss", "accuracy", "margin", "separated", "logp_change_chosen")
            metrics |= {f"val_{name}": metrics[name] for name in watched}
            metrics |= {
                "val_units": 200.0,
                "val_sampled_kl": 4.0 * p,
                "val_sampled_kl_units": 32.0,
                "val_sampled_length": 50.0,
                "val_length_reward_correlation": -0.6 * p,
            }
        log.append(step, "direct", metrics)
    log.close()
    measured = {"accuracy": 0.632, "accuracy_low": 0.571, "accuracy_high": 0.69, "ece": 0.05}
    measured |= {"baseline_longer": 0.45, "baseline_shorter": 0.55, "seconds": 90}
    measured |= {"accuracy_units": 200}
    bins = [{"confidence": c, "accuracy": c - 0.05, "count": 40} for c in (0.55, 0.65, 0.8)]
    save(folder / "summary.json", measured | {"reliability": bins} | summary)
    recipe = f"stage: direct\nobjective:\n  name: {objective}\n  beta: 0.1\n"
    (folder / "recipe.yaml").write_text(recipe, encoding="utf-8")
    return folder


def save(path, value):
    path.write_text(json.dumps(value), encoding="utf-8")
